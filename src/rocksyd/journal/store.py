"""The journal: every run, in SQLite (WAL), one transaction a turn of the master's loop.

What must live here: transactions and queries (the file is in ``file``, the tables in ``tables``, a good row in ``rows``,
what has ended and fits a filter in ``search``).
What this file must not know: sockets, processes, why a run changed.

One writer (the serving master), any number of readers. What is committed survives the end of any process at once
(``synchronous=NORMAL``), and with ``sync="full"`` a power failure after ``sync``: one fdatasync of the write-ahead log, which is
all that ``synchronous=FULL`` would add to a commit, but at the moment that the caller chooses.
Source: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous, fdatasync(2)
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from rocksyd import bounds, ticks
from rocksyd.errors import JournalError, JournalLocked
from rocksyd.journal import rows
from rocksyd.journal.file import File, add_what_is_missing
from rocksyd.journal.search import Filter, search
from rocksyd.journal.tables import META, RESTARTS, RUNS, SET_ASIDE, STARTS, TABLES, TICKS, Table, encode
from rocksyd.model import Elsewhere, Run

RESTARTS_KEPT = 1000
TICKS_KEPT, TICKS_AT_ONCE, TICKS_ERASED = 10_000, 1000, 3000
"""Ticks that are remembered of each script, after how many new ones the oldest are forgotten, and how many of these at once."""
_PUT_RUN, _ERASE_RUN = RUNS.put, RUNS.erase
_RUN = "SELECT rowid, key, ended, data FROM runs"
_CHANGED = _RUN.replace("rowid", "rev, rowid", 1)
_SET_ASIDE = """
INSERT INTO set_aside (source, key, data, why, at)
SELECT ?, {0}, {1}, ?, (julianday('now') - 2440587.5) * 86400.0 FROM {2} WHERE rowid = ?"""
_LAST = 2**63 - 1
"""What SQLite sorts behind every number that is written: text and bytes, which only damage can have put there."""


class Changed(NamedTuple):
    """Some of the runs that have changed."""

    runs: list[Run]
    rev: int
    """Up to which nothing has changed but these, and those before them."""
    more: bool
    """Whether there may be more behind it."""


class Journal(File):
    """An open journal: the runs, and what else is kept of them."""

    def __init__(
        self, path: str, *, sync: str = "full", readonly: bool = False, tell: Callable[[str], None] = lambda text: None
    ) -> None:
        self._bad: set[tuple[str, int]] = set()
        """Rows that cannot be read, while the file belongs to another master: table and rowid."""
        self._ours = self._own_later = False
        self._ticks: Counter[str] = Counter()
        """Ticks that were added since this file was opened, by script."""
        super().__init__(path, sync=sync, readonly=readonly, tell=tell)

    def own(self) -> None:
        """The master that has this file open serves from now on: what its version has added to the layout is added to the file,
        and what cannot be read is set aside. Until now the file was another's, who may have had to go on with it.

        Raises JournalError; may be tried again, and is by the next ``commit`` where the file is only locked.
        """
        try:
            add_what_is_missing(self._db)
        except sqlite3.Error as error:
            trouble = self._trouble(error)
            self._own_later = isinstance(trouble, JournalLocked)
            raise trouble from error
        self._ours, self._own_later = True, False
        for table, rowid in sorted(self._bad):
            if table == RUNS.name:
                self._runs("WHERE rowid = ?", (rowid,))
        self._bad.clear()

    # --- writing ------------------------------------------------------------------------------------------------------
    def commit(self, runs: Iterable[Run], erased: Iterable[str], others: Mapping[tuple[str, str], Any] | None = None) -> None:
        """All of this or nothing, safe from the end of any process on return. Raises JournalError; may be tried again.

        A key that is both erased and written is that of a new run. ``others`` are rows of other tables by table and key; None
        erases one.
        """
        db = self._db
        if self._own_later:
            self.own()
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                db.executemany(_ERASE_RUN, [(key,) for key in erased])
                for run in runs:
                    db.execute(_PUT_RUN, RUNS.row(run.key, run))
                for (table, key), value in (others or {}).items():
                    if value is None:
                        db.execute(TABLES[table].erase, (key,))
                    else:
                        db.execute(TABLES[table].put, TABLES[table].row(key, value))
                        if table == TICKS.name:
                            self._ticks[value[0]] += 1
                            if self._ticks[value[0]] % TICKS_AT_ONCE == 0:
                                _forget_ticks(db, value[0])
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._trouble(error) from error

    def add_restart(self, record: dict[str, Any]) -> None:
        """Append to the audit of restarts; the oldest beyond RESTARTS_KEPT go."""
        try:
            self._db.execute("INSERT INTO restarts (data) VALUES (?)", (encode(record),))
            self._db.execute("DELETE FROM restarts WHERE number <= (SELECT max(number) FROM restarts) - ?", (RESTARTS_KEPT,))
        except sqlite3.Error as error:
            raise self._trouble(error) from error

    def forget(self, before: float, most: int, batch: int = 500) -> list[Run]:
        """Delete up to ``batch`` ended runs that ended before ``before`` (Unix s) or are beyond the ``most`` latest."""
        oldest = "INDEXED BY runs_ended WHERE ended = 1"
        runs = self._runs(f"{oldest} AND ended_at < ? ORDER BY ended_at LIMIT ?", (before, batch))
        if not runs and most:
            counted = "SELECT 1 FROM runs INDEXED BY runs_ended WHERE ended = 1 LIMIT ?"
            beyond = self._one(f"SELECT count(*) FROM ({counted})", (most + batch,))[0] - most
            if beyond > 0:
                runs = self._runs(f"{oldest} ORDER BY ended_at LIMIT ?", (min(beyond, batch),))
        if runs:
            self.commit((), [run.key for run in runs])
        return runs

    # --- reading ------------------------------------------------------------------------------------------------------
    def get(self, key: str) -> Run | None:
        """The run under this key."""
        found = self._runs("WHERE key = ?", (key,))
        return found[0] if found else None

    def live(self) -> list[Run]:
        """The runs that have not ended, oldest first. Those with large params are in memory one after the other only."""
        found = []
        for rowid, *columns in self._each(f"{_RUN} WHERE ended = 0"):
            try:
                run = rows.run_of(*columns)
            except rows.BadRow as bad:
                self._set_aside(RUNS.name, rowid, str(bad))
            else:
                park(run, self)
                found.append(run)
        return sorted(found, key=lambda run: run.sequence)

    def refresh(self, known: Iterable[Run]) -> list[Run]:
        """The live runs, taking from ``known`` (read earlier) what has not changed since: cheap while clients wait."""
        revisions: dict[str, int] = dict(self._all("SELECT key, rev FROM runs WHERE ended = 0"))
        same = {run.key: run for run in known if revisions.get(run.key) == run.rev}
        if 2 * len(same) < len(revisions):
            return self.live()  # in one go it is faster than one by one
        runs = []
        for key in revisions:
            run = same.get(key) or self.get(key)
            if run is not None:
                park(run, self)
                runs.append(run)
        return sorted(runs, key=lambda run: run.sequence)

    def changed_since(self, rev: int, most: int, ended: int = 0) -> Changed:
        """The first ``most`` runs that have changed after this revision, in that order; those that have ended only if they have
        changed after the revision ``ended`` as well."""
        found = [
            row
            for what, after in ((0, rev), (1, max(rev, ended)))
            for row in self._all(f"{_CHANGED} WHERE ended = {what} AND rev > ? ORDER BY rev LIMIT ?", (after, most))
        ]
        found = sorted(found, key=_revision)[:most]
        runs = []
        for _, rowid, *columns in found:
            try:
                runs.append(rows.run_of(*columns))
            except rows.BadRow as bad:
                self._set_aside(RUNS.name, rowid, str(bad))
        return Changed(runs, _revision(found[-1]) if found else rev, len(found) == most)

    def counters(self) -> tuple[int, int]:
        """The highest revision and the highest sequence that are here, each from the end of an index: clients wait meanwhile."""
        live = self._one("SELECT max(rev) FROM runs WHERE ended = 0 AND rev < ?", (_LAST,))[0]
        ended = self._one("SELECT max(rev) FROM runs WHERE ended = 1 AND rev < ?", (_LAST,))[0]
        sequence = self._one("SELECT max(sequence) FROM runs WHERE sequence < ?", (_LAST,))[0]
        return max(live or 0, ended or 0), sequence or 0

    def search(self, wanted: Filter) -> Iterator[list[str]]:
        """Keys of ended runs that fit, piece by piece (``journal.search``). Raises JournalError at any of the pieces."""
        return search(self._all, wanted)

    def has_ended(self) -> bool:
        """Whether there is anything that ``forget`` will have to look at one day."""
        return self._one("SELECT 1 FROM runs WHERE ended = 1 LIMIT 1", ()) is not None

    def meta(self, name: str, default: Any = None) -> Any:
        """A value of the table ``meta`` that ``commit`` was given."""
        query = "SELECT rowid, value FROM meta WHERE name = ?"
        found = self._read(META.name, query, (name,), lambda value: rows.meta_of(name, value))
        return found[0] if found else default

    def tick(self, key: str, script: str) -> tuple[bool, str, str]:
        """Whether the tick whose run has this key was accepted; the latest time of its script's ticks; and the time before which
        nothing of them is remembered. "" for none."""
        if self._own_later:
            self.own()
        known = self._one("SELECT 1 FROM ticks WHERE key = ?", (key,)) is not None
        latest = self._one("SELECT max(time) FROM ticks WHERE script = ?", (script,))[0]
        oldest = self._one("SELECT time, first FROM ticks WHERE script = ? ORDER BY time, rowid LIMIT 1", (script,))
        return known, latest or "", _forgotten(*oldest) if oldest is not None and oldest[1] else ""

    def starts(self) -> dict[str, dict[str, Any]]:
        """What is remembered of beginnings at a limited rate; nothing where a version that has no rates has made the file."""
        if self._one("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (STARTS.name,)) is None:
            return {}
        query = "SELECT rowid, subject, ends FROM starts"
        found = self._read(STARTS.name, query, (), lambda name, row: (name, rows.document(row)))
        return {str(name): row for name, row in found}

    def restarts(self, limit: int = 20, skip: int = 0) -> list[dict[str, Any]]:
        """The latest records of the audit, newest first; without the first ``skip`` of them."""
        query = "SELECT rowid, data FROM restarts ORDER BY number DESC LIMIT ? OFFSET ?"
        return self._read(RESTARTS.name, query, (limit, skip), rows.document)

    def set_aside(self) -> int:
        """How many rows could not be read and were set aside."""
        return int(self._one("SELECT count(*) FROM set_aside", ())[0]) if self._ours else len(self._bad)

    def _runs(self, which: str, values: tuple[Any, ...] = ()) -> list[Run]:
        return self._read(RUNS.name, f"{_RUN} {which}", values, rows.run_of)

    def _read(self, table: str, query: str, values: tuple[Any, ...], read: Callable[..., Any]) -> list[Any]:
        """What is in the rows that a query finds; rows that cannot be read are set aside, and the others are as they were."""
        found = []
        for rowid, *columns in self._all(query, values):
            try:
                found.append(read(*columns))
            except rows.BadRow as bad:
                self._set_aside(table, rowid, str(bad))
        return found

    def _set_aside(self, table: str, rowid: int, why: str) -> None:
        if not self._ours:
            self._bad.add((table, rowid))
            return
        key, data = TABLES[table].names[0], TABLES[table].names[-1]
        try:
            name = self._db.execute(f"SELECT {key} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()[0]
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute(_SET_ASIDE.format(key, data, table), (table, why, rowid))
                self._db.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error:
            return  # the disk is full, say: the row is passed over again next time
        self._tell(f"{self.path}: row {name!r} of table {table} cannot be read ({why}); it is in table {SET_ASIDE.name} now")


def _revision(row: Sequence[Any]) -> int:
    return row[0] if isinstance(row[0], int) else _LAST  # nothing but damage


def park(run: Run, journal: Journal) -> None:
    """The journal holds the run as it is now: if its params are large, they need not be in memory as well."""
    if run.weight > bounds.LARGE and type(run.order.params) is not Elsewhere:
        run.keep_params(Elsewhere(partial(_params, journal, run.key)))


def _params(journal: Journal, key: str) -> Any:
    run = journal.get(key)
    if run is None:
        raise JournalError(f"{journal.path}: the params of run {key!r} are no longer there")
    return run.order.params


def remembered(journal: Journal, table: Table) -> dict[str, dict[str, Any]]:
    """All rows of a table of documents, by their keys; those that cannot be read are left out. Raises JournalError."""
    if not journal.query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table.name,)):
        return {}
    found = {}
    for name, data in journal.query(f"SELECT {', '.join(table.names)} FROM {table.name}"):
        try:
            found[str(name)] = rows.document(data)
        except rows.BadRow:
            continue
    return found


def latest(journal: Journal, number: int) -> int:
    """The revision after which as many of the runs that have ended have changed last; 0 where there are not so many."""
    query = "SELECT rev FROM runs WHERE ended = 1 AND rev < ? ORDER BY rev DESC LIMIT 1 OFFSET ?"
    found = journal.query(query, (_LAST, number))
    return int(found[0][0]) if found else 0


def exists(path: str) -> bool:
    """Whether there is a journal to read."""
    return os.path.exists(path)


def _forgotten(oldest: str, first: int) -> str:
    """The time before which nothing is remembered: that of the oldest row, or a later one where not all of its time are left."""
    return oldest if first == 1 else max(oldest, f"{datetime.fromtimestamp(first, UTC):{ticks.FORMAT}}")


def _forget_ticks(db: sqlite3.Connection, script: str) -> None:
    """Keep the latest ones of a script. Within a transaction."""
    query = "SELECT time FROM ticks WHERE script = ? ORDER BY time DESC LIMIT 1 OFFSET ?"
    oldest = db.execute(query, (script, TICKS_KEPT)).fetchone()
    if oldest is not None:
        # A list of jobs has as many ticks of one time: some at a time, because clients wait meanwhile.
        some = "SELECT rowid FROM ticks WHERE script = ? AND time < ? ORDER BY time, rowid LIMIT ?"
        db.execute(f"DELETE FROM ticks WHERE rowid IN ({some})", (script, *oldest, TICKS_ERASED))
        first = "SELECT rowid FROM ticks WHERE script = ? ORDER BY time, rowid LIMIT 1"
        moment = int(datetime.strptime(oldest[0], ticks.FORMAT).replace(tzinfo=UTC).timestamp())
        db.execute(f"UPDATE ticks SET first = max(first, ?) WHERE rowid = ({first})", (max(1, moment), script))
