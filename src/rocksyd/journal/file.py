"""The journal's file: opened, synchronised, mended, and every error of SQLite with its cause and its cure.

What must live here: the connection, the write-ahead log, the layout that this version adds to a file.
What this file must not know: what the rows mean (``rows``), and the queries (``store``).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rocksyd.errors import JournalError, JournalLocked
from rocksyd.journal.tables import OLDEST_READER, TABLES

LOCK_WAIT = 5
"""Milliseconds that a lock of another program is waited for at once: everybody else waits as well. Who writes tries again."""
_DAMAGED = "it is damaged: `rocksyd journal repair` saves what can be read, or move it away to begin with an empty one"


class File:
    """An open journal, as far as it is a file. Every error of SQLite comes out as JournalError with its name and the cause."""

    def __init__(
        self, path: str, *, sync: str = "full", readonly: bool = False, tell: Callable[[str], None] = lambda text: None
    ) -> None:
        self.path = path
        self.readonly = readonly
        self._full = sync == "full"
        self._tell = tell
        """Told what happens to the file and to its rows, in a sentence."""
        self.reopen()

    def reopen(self) -> None:
        """Open the file (again, after ``close``). Raises JournalError."""
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
            db.execute(f"PRAGMA busy_timeout = {LOCK_WAIT}")
            db.execute("PRAGMA cache_size = -4096")
            if not version:  # a new file: nobody else's yet
                add_what_is_missing(db)
        except BaseException:
            db.close()
            raise
        return db

    def _check_version(self, db: sqlite3.Connection) -> int:
        """Additions are passed over; the number says when that stops being enough."""
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > OLDEST_READER:
            raise JournalError(
                f"{self.path}: written by a newer rocksyd (layout {version}, this one knows {OLDEST_READER}): "
                "start the newer version, or move the file away to begin with an empty journal"
            )
        return version

    def _trouble(self, error: sqlite3.Error) -> JournalError:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return JournalLocked(
                f"{self.path}: another program is writing to it ({error}); let it end its transaction, or end it (see fuser)"
            )
        cure = {
            "database or disk is full": "make room on that file system",
            "disk I/O error": "look for the cause in the kernel's log, and at limits on the size of files (ulimit -f)",
            "unable to open database file": "see that the folder exists and belongs to the daemon's user",
            "attempt to write a readonly database": "give the daemon's user the right to write there",
            "file is not a database": _DAMAGED,
            "database disk image is malformed": _DAMAGED,
        }.get(str(error), "the journal cannot do without it")
        return JournalError(f"{self.path}: {error}; {cure}")

    def sync(self) -> None:
        """Wait until what was committed is safe from a power failure, where the settings ask for it. Raises JournalError."""
        if not self._full:
            return None
        try:
            # SQLite does not lend its own. Nobody locks this file, so closing a descriptor of it takes no lock away (fcntl(2)).
            try:
                wal = os.open(f"{self.path}-wal", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return self.mend()
            try:
                os.fdatasync(wal)
            finally:
                os.close(wal)
        except OSError as error:
            raise JournalError(f"{self.path}-wal: {error.strerror}; look for the cause in the kernel's log") from error

    def mend(self) -> None:
        """Begin another write-ahead log where somebody has removed that of the open file.

        Nothing is lost: SQLite has the removed one open still, so what is in it can be brought into the file itself. Whoever
        opened the file before that would find the index of a log that is not there.

        Raises JournalError; may be tried again.
        """
        if self.readonly or os.path.exists(f"{self.path}-wal"):
            return
        try:
            busy, left, done = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise self._trouble(error) from error
        if busy or left != done:
            raise JournalLocked(f"{self.path}-wal was removed while the journal was open; let other programs that read it end")
        self.close()
        self.reopen()
        self._tell(f"{self.path}-wal was removed while the journal was open: what was in it is in the journal, nothing is lost")

    def query(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """The rows that a query finds. Raises JournalError."""
        return self._all(query, values)

    def _one(self, query: str, values: tuple[Any, ...]) -> Any:
        try:
            return self._db.execute(query, values).fetchone()
        except sqlite3.Error as error:
            raise self._trouble(error) from error

    def _each(self, query: str) -> Iterator[Any]:
        """The rows one after the other; a text that is none comes as bytes. Nothing else is read meanwhile."""
        self._db.text_factory = _text_or_bytes
        try:
            yield from self._db.execute(query)
        except sqlite3.Error as error:
            raise self._trouble(error) from error
        finally:
            self._db.text_factory = str

    def _all(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            if "decode to UTF-8" not in str(error):
                raise self._trouble(error) from error
        except sqlite3.Error as error:
            raise self._trouble(error) from error
        self._db.text_factory = _text_or_bytes
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._trouble(error) from error
        finally:
            self._db.text_factory = str

    def close(self) -> None:
        """Close the file. What was committed stays."""
        self._db.close()


def _make_private(path: str) -> None:
    """Parameters and results are nobody else's business. SQLite gives the files beside a database its mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError:
        return  # SQLite says what is wrong, in its own words


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _text_or_bytes(data: bytes) -> str | bytes:
    """A text, or the bytes that should have been one."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All that is done inside, or nothing. Raises sqlite3.Error."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def add_what_is_missing(db: sqlite3.Connection) -> None:
    """Tables, columns and indexes that this version declares and the file has not. At nearly every restart that is nothing."""
    if _has_everything(db):
        return
    with transaction(db):
        for table in TABLES.values():
            db.execute(f"CREATE TABLE IF NOT EXISTS {table.name} ({', '.join(table.columns)})")
            there = {row[1] for row in db.execute(f"PRAGMA table_info({table.name})")}
            for name, column in zip(table.names, table.columns, strict=True):
                if name not in there:
                    db.execute(f"ALTER TABLE {table.name} ADD COLUMN {column}")
            for index in table.indexes:
                db.execute(f"CREATE INDEX IF NOT EXISTS {index}")
        db.execute(f"PRAGMA user_version = {OLDEST_READER}")


def _has_everything(db: sqlite3.Connection) -> bool:
    of_tables = "SELECT t.name, c.name FROM sqlite_master AS t JOIN pragma_table_info(t.name) AS c WHERE t.type = 'table'"
    columns = set(db.execute(of_tables))
    indexes = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    return db.execute("PRAGMA user_version").fetchone() == (OLDEST_READER,) and all(
        {(table.name, name) for name in table.names} <= columns and {index.split()[0] for index in table.indexes} <= indexes
        for table in TABLES.values()
    )
