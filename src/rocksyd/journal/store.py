"""The journal: every run, in SQLite (WAL), one transaction a turn of the master's loop.

What must live here: the schema, its versions, the queries.
What this file must not know: sockets, processes, why a run changed.

One writer (the serving master), any number of readers. What is committed survives the end of any process at once
(``synchronous=NORMAL``), and with ``sync="full"`` a power failure after ``sync``: one fdatasync of the write-ahead log, which is
all that ``synchronous=FULL`` would add to a commit, but at the moment that the caller chooses.
Source: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous, fdatasync(2)
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

from rocksyd.errors import JournalError
from rocksyd.model import ENDED, OK, Run

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    key TEXT PRIMARY KEY, rev INTEGER NOT NULL, ended INTEGER NOT NULL, app TEXT NOT NULL, target TEXT NOT NULL,
    outcome TEXT NOT NULL, sequence INTEGER NOT NULL, ended_at REAL NOT NULL, data TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS runs_changed ON runs (ended, rev);
CREATE INDEX IF NOT EXISTS runs_sequence ON runs (sequence);
CREATE INDEX IF NOT EXISTS runs_ended ON runs (ended_at) WHERE ended = 1;
CREATE INDEX IF NOT EXISTS runs_target ON runs (target, sequence) WHERE ended = 1;
CREATE INDEX IF NOT EXISTS runs_trouble ON runs (outcome, sequence) WHERE ended = 1 AND outcome <> 'ok';
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS restarts (number INTEGER PRIMARY KEY, data TEXT NOT NULL);
"""
_PUT = "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
RESTARTS_KEPT = 1000

# ASCII only: a job may return half of a surrogate pair, which SQLite could not store as it is.
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Filter(NamedTuple):
    """Which runs ``list`` wants."""

    app: str | None = None
    target: str | None = None
    outcome: str | None = None
    limit: int = 100
    after: int = 0
    """Only runs that arrived before this one (``sequence``); 0 for the latest."""
    names: tuple[str, ...] = ()
    """What else callers write for ``target``."""


class Journal:
    """An open journal. Every error of SQLite comes out as JournalError with the file's name and the cause."""

    def __init__(self, path: str, *, sync: str = "full", readonly: bool = False) -> None:
        self.path = path
        self.readonly = readonly
        self._full = sync == "full"
        try:
            self._db = self._open()
        except sqlite3.Error as error:
            raise self._trouble(error) from error

    def _open(self) -> sqlite3.Connection:
        if self.readonly:
            db = sqlite3.connect(f"file:{_quoted(self.path)}?mode=ro", uri=True, isolation_level=None)
        else:
            _make_private(self.path)
            db = sqlite3.connect(self.path, isolation_level=None, cached_statements=64)
        try:
            version = self._check_version(db)
            if self.readonly:
                return db
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA busy_timeout = 5000")
            db.execute("PRAGMA cache_size = -4096")
            if (
                version != SCHEMA_VERSION
            ):  # a master that prepares to take over opens the file of one that serves: nothing is written
                db.executescript(_SCHEMA)
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except BaseException:
            db.close()
            raise
        return db

    def _check_version(self, db: sqlite3.Connection) -> int:
        """A newer minor layout only adds, so it is read; the number says when that stops being true."""
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise JournalError(
                f"{self.path}: written by a newer rocksyd (layout {version}, this one knows {SCHEMA_VERSION}): "
                "start the newer version, or move the file away to begin with an empty journal"
            )
        return version

    def _trouble(self, error: sqlite3.Error) -> JournalError:
        cure = {
            "database or disk is full": "make room on that file system",
            "disk I/O error": "look for the cause in the kernel's log, and at limits on the size of files (ulimit -f)",
            "unable to open database file": "see that the folder exists and belongs to the daemon's user",
            "attempt to write a readonly database": "give the daemon's user the right to write there",
            "file is not a database": "it is damaged: move it away to begin with an empty journal, and look into it with sqlite3",
            "database disk image is malformed": "it is damaged: move it away to begin with an empty journal (sqlite3 .recover)",
        }.get(str(error), "the journal cannot do without it")
        return JournalError(f"{self.path}: {error}; {cure}")

    # --- writing ------------------------------------------------------------------------------------------------------
    def commit(self, runs: Iterable[Run], erased: Iterable[str], meta: dict[str, Any] | None = None) -> None:
        """All of this or nothing, safe from the end of any process on return. Raises JournalError; may be tried again.

        A key that is both erased and written is that of a new run.
        """
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                for key in erased:
                    db.execute("DELETE FROM runs WHERE key = ?", (key,))
                for run in runs:
                    db.execute(_PUT, _row(run))
                for name, value in (meta or {}).items():
                    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, _encode(value)))
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._trouble(error) from error

    def sync(self) -> None:
        """Wait until what was committed is safe from a power failure, where the settings ask for it. Raises JournalError."""
        if not self._full:
            return
        try:
            # SQLite does not lend its own. Nobody locks this file, so closing a descriptor of it takes no lock away (fcntl(2)).
            wal = os.open(f"{self.path}-wal", os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(wal)
            finally:
                os.close(wal)
        except OSError as error:
            raise JournalError(f"{self.path}-wal: {error.strerror}; look for the cause in the kernel's log") from error

    def add_restart(self, record: dict[str, Any]) -> None:
        """Append to the audit of restarts; the oldest beyond RESTARTS_KEPT go."""
        try:
            self._db.execute("INSERT INTO restarts (data) VALUES (?)", (_encode(record),))
            self._db.execute("DELETE FROM restarts WHERE number <= (SELECT max(number) FROM restarts) - ?", (RESTARTS_KEPT,))
        except sqlite3.Error as error:
            raise self._trouble(error) from error

    def forget(self, before: float, most: int, batch: int = 500) -> list[Run]:
        """Delete up to ``batch`` ended runs that ended before ``before`` (Unix s) or are beyond the ``most`` latest."""
        try:
            rows = self._db.execute(
                "SELECT data FROM runs INDEXED BY runs_ended WHERE ended = 1 AND ended_at < ? ORDER BY ended_at LIMIT ?",
                (before, batch),
            ).fetchall()
            if not rows and most:
                beyond = self._db.execute("SELECT count(*) FROM runs WHERE ended = 1").fetchone()[0] - most
                if beyond > 0:
                    rows = self._db.execute(
                        "SELECT data FROM runs INDEXED BY runs_ended WHERE ended = 1 ORDER BY ended_at LIMIT ?",
                        (min(beyond, batch),),
                    ).fetchall()
        except sqlite3.Error as error:
            raise self._trouble(error) from error
        runs = [_run(row[0]) for row in rows]
        if runs:
            self.commit((), [run.key for run in runs])
        return runs

    # --- reading ------------------------------------------------------------------------------------------------------
    def get(self, key: str) -> Run | None:
        """The run under this key."""
        row = self._one("SELECT data FROM runs WHERE key = ?", (key,))
        return _run(row[0]) if row else None

    def live(self) -> list[Run]:
        """The runs that have not ended, oldest first."""
        return [_run(row[0]) for row in self._all("SELECT data FROM runs WHERE ended = 0 ORDER BY sequence")]

    def live_revisions(self) -> dict[str, int]:
        """Key and revision of the runs that have not ended: cheap enough while clients wait for a hand-over."""
        return dict(self._all("SELECT key, rev FROM runs WHERE ended = 0"))

    def refresh(self, known: Iterable[Run]) -> list[Run]:
        """The live runs, taking from ``known`` (read earlier) what has not changed since."""
        revisions = self.live_revisions()
        same = {run.key: run for run in known if revisions.get(run.key) == run.rev}
        if 2 * len(same) < len(revisions):
            return self.live()  # in one go it is faster than one by one
        runs = [same.get(key) or self.get(key) for key in revisions]
        return sorted((run for run in runs if run is not None), key=lambda run: run.sequence)

    def changed_since(self, rev: int, most: int = 10_000) -> list[Run]:
        """The runs that have changed after this revision, in that order; of those that have ended the ``most`` latest."""
        found = self._all("SELECT rev, data FROM runs WHERE ended = 0 AND rev > ?", (rev,))
        found += self._all("SELECT rev, data FROM runs WHERE ended = 1 AND rev > ? ORDER BY rev DESC LIMIT ?", (rev, most))
        return [_run(data) for _, data in sorted(found)]

    def counters(self) -> tuple[int, int]:
        """The highest revision and the highest sequence that are here, each from the end of an index: clients wait meanwhile."""
        live = self._one("SELECT max(rev) FROM runs WHERE ended = 0", ())[0]
        ended = self._one("SELECT max(rev) FROM runs WHERE ended = 1", ())[0]
        sequence = self._one("SELECT max(sequence) FROM runs", ())[0]
        return max(live or 0, ended or 0), sequence or 0

    def ended(self, wanted: Filter) -> list[Run]:
        """Ended runs, latest arrival first."""
        if wanted.target is None:
            return self._ended(wanted, None)
        names = dict.fromkeys((wanted.target, *wanted.names))
        found = [run for name in names for run in self._ended(wanted, name)]
        return sorted(found, key=lambda run: -run.sequence)[: wanted.limit]

    def _ended(self, wanted: Filter, name: str | None) -> list[Run]:
        """By an index each, so that what nobody finds is not looked for in all that ever ended."""
        values: list[Any] = []
        if name is not None:
            conditions, index = ["ended = 1", "target = ?"], "runs_target"
            values.append(name)
        elif wanted.outcome not in (None, OK):
            conditions, index = ["ended = 1", "outcome <> 'ok'"], "runs_trouble"
        else:
            conditions, index = ["+ended = 1"], "runs_sequence"
        for column in ("app", "outcome"):
            value = getattr(wanted, column)
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(value)
        if wanted.after:
            conditions.append("sequence < ?")
            values.append(wanted.after)
        where = " AND ".join(conditions)
        query = f"SELECT data FROM runs INDEXED BY {index} WHERE {where} ORDER BY sequence DESC LIMIT ?"
        return [_run(row[0]) for row in self._all(query, (*values, wanted.limit))]

    def has_ended(self) -> bool:
        """Whether there is anything that ``forget`` will have to look at one day."""
        return self._one("SELECT 1 FROM runs WHERE ended = 1 LIMIT 1", ()) is not None

    def meta(self, name: str, default: Any = None) -> Any:
        """A value that ``commit`` was given."""
        row = self._one("SELECT value FROM meta WHERE name = ?", (name,))
        return json.loads(row[0]) if row else default

    def restarts(self, limit: int = 20) -> list[dict[str, Any]]:
        """The latest records of the audit, newest first."""
        return [json.loads(row[0]) for row in self._all("SELECT data FROM restarts ORDER BY number DESC LIMIT ?", (limit,))]

    def _one(self, query: str, values: tuple[Any, ...]) -> Any:
        try:
            return self._db.execute(query, values).fetchone()
        except sqlite3.Error as error:
            raise self._trouble(error) from error

    def _all(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._trouble(error) from error

    def close(self) -> None:
        """Close the file. What was committed stays."""
        self._db.close()


def _make_private(path: str) -> None:
    """Parameters and results are nobody else's business. SQLite gives the files beside a database its mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError:
        return  # SQLite says what is wrong, in its own words


def exists(path: str) -> bool:
    """Whether there is a journal to read."""
    return os.path.exists(path)


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _row(run: Run) -> tuple[Any, ...]:
    ended = run.state == ENDED
    return (run.key, run.rev, int(ended), run.app, run.name, run.outcome, run.sequence, run.ended_at, _encode(run.dump()))


def _run(data: str) -> Run:
    return Run.load(json.loads(data))
