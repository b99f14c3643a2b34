"""A SQLite file of a companion's own, which one process at a time has open for writing: the one that acts.

What must live here: the lock, opening, transactions. What this file must not know: which tables there are, and what for.

Which one acts a lock decides, which the kernel takes from a process that ends.
Source: flock(2): it belongs to the open file, so a second one of the same process would wait for the first for ever.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from rocksyd.errors import RocksydError
from rocksyd.journal.file import transaction


class StoreError(RocksydError):
    """The store cannot be read or written; the message names the file and the cause."""


class LockedFile:
    """The file. It is open only after ``acquire``."""

    def __init__(self, path: str, tables: str) -> None:
        self.path = path
        self._tables = tables
        self._lock = -1
        self._db: sqlite3.Connection | None = None

    def acquire(self, *, wait: bool = True) -> bool:
        """Open the file when the process before has ended; false where it has not and is not waited for. May be tried again.

        Raises:
            StoreError: it cannot be locked or opened.
        """
        try:
            if not self.lock(wait=wait):
                return False
            self.open()
        except (OSError, sqlite3.Error) as error:
            text = f"{self.path}: {error}; see that the folder belongs to the daemon's user and that the disk has room"
            raise StoreError(text) from error
        return True

    def lock(self, *, wait: bool = True) -> bool:
        """Become the one that acts. Raises OSError."""
        if self._lock < 0:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            fd = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                os.close(fd)
                return False
            except BaseException:
                os.close(fd)
                raise
            self._lock = fd
        return True

    def open(self) -> None:
        """Open the file, and make the tables that it has not. Raises OSError, sqlite3.Error."""
        self.shut()
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA busy_timeout = 30000")
            db.executescript(self._tables)
        except BaseException:
            db.close()
            raise
        self._db = db

    @property
    def db(self) -> sqlite3.Connection:
        """The open file."""
        assert self._db is not None
        return self._db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """All that is done inside, or nothing. Raises StoreError."""
        try:
            with transaction(self.db) as db:
                yield db
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}; make room on that file system") from error

    def shut(self) -> None:
        """Close the file, and stay the one that acts."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def close(self) -> None:
        """Let another one act."""
        self.shut()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
