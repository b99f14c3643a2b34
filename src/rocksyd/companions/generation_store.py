"""What the scheduler keeps of generations, in ``schedule.sqlite``: how far each has come, their jobs, and how those ended.

What must live here: one transaction for each thing that has happened (the tables are in ``schedule_store``).
What this file must not know: which stage follows which, how a run is ordered.

A generation is put here with the position of its script, in one transaction (``schedule_store``), so a tick has one. That a job
was ordered is not written down: whoever goes on orders all that have not ended, and the daemon knows those that it has.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from rocksyd.companions.locked_file import StoreError
from rocksyd.companions.schedule_store import BEGIN_GENERATION, WHOLE
from rocksyd.journal.file import transaction
from rocksyd.schedule import generation
from rocksyd.schedule.generation import CANCELLED, ENDED, JOBS_MOST, OK, Generation
from rocksyd.ticks import moment

GOING_OF = "SELECT data FROM generations WHERE script = ? AND over = 0 ORDER BY number"
NEW = "SELECT number, data FROM generations WHERE number > ? AND over = 0 ORDER BY number"
KEPT, KEPT_JOBS = 100, 3
"""Generations of a script that are kept when they have ended, and those of them whose jobs are."""
RESULT_MOST = 64 << 10
"""Bytes of a job's result that are kept here; a longer one is read from its run as long as the daemon has that."""
PAGE_BYTES = 1 << 20
"""Bytes of jobs in one page, about."""
_ERASED_AT_ONCE = 5000


class Job(NamedTuple):
    """A job of a list."""

    n: int
    digest: bytes
    data: Any
    outcome: str = ""
    result: str = ""
    """As JSON; "" for none, or one that is too long to be kept here."""


class Full(ValueError):
    """A generation may not have so many jobs."""


def row(one: Generation) -> tuple[Any, ...]:
    """What the table has of one."""
    return one.key, one.script, int(one.stage == ENDED), json.dumps(vars(one))


class GenerationStore:
    """The open tables, on a connection of their own: for any thread, one at a time."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30.0)
        self._db.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        """Nothing more is kept."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """All of this or nothing. Raises StoreError."""
        with self._lock:
            try:
                with transaction(self._db) as db:
                    yield db
            except sqlite3.Error as error:
                raise StoreError(f"{self.path}: {error}; make room on that file system") from error

    def _all(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    # --- generations --------------------------------------------------------------------------------------------------
    def going(self, after: int = 0) -> list[tuple[int, Generation]]:
        """Those that have not ended and have come behind the one with this number, with theirs, in their order."""
        return [(number, _read(data)) for number, data in self._all(NEW, (after,))]

    def going_of(self, script: str) -> list[Generation]:
        """Those of a script that have not ended, in their order."""
        return [_read(data) for (data,) in self._all(GOING_OF, (script,))]

    def get(self, key: str) -> Generation | None:
        """The one with this key."""
        found = self._all("SELECT data FROM generations WHERE key = ?", (key,))
        return _read(found[0][0]) if found else None

    def put(self, one: Generation) -> bool:
        """A new one; false where there is one of its key."""
        with self._writing() as db:
            return db.execute(BEGIN_GENERATION, row(one)).rowcount == 1

    def save(self, one: Generation) -> None:
        """How far it has come."""
        with self._writing() as db:
            _update(db, one)

    def end(self, one: Generation) -> None:
        """It has ended; what is older than is kept goes."""
        jobs = "SELECT key FROM generations WHERE script = ? AND over = 1 ORDER BY number DESC LIMIT -1 OFFSET ?"
        with self._writing() as db:
            _update(db, one)
            if not one.killed:
                nominal = int(moment({"time": one.time}).timestamp())
                row = (one.script, WHOLE, nominal, nominal, 0, one.reason, one.key, one.over)
                db.execute("INSERT INTO accounts VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            old = [key for (key,) in db.execute(jobs, (one.script, KEPT_JOBS))]
            gone = [key for (key,) in db.execute(jobs, (one.script, KEPT))]
            db.executemany("DELETE FROM generations WHERE key = ?", [(key,) for key in gone])
        for key in old:
            self._erase_jobs(key)

    def _erase_jobs(self, key: str) -> None:
        some = "DELETE FROM jobs WHERE generation = ? AND n IN (SELECT n FROM jobs WHERE generation = ? LIMIT ?)"
        erased = _ERASED_AT_ONCE
        while erased == _ERASED_AT_ONCE:
            with self._writing() as db:
                erased = db.execute(some, (key, key, _ERASED_AT_ONCE)).rowcount

    # --- jobs ---------------------------------------------------------------------------------------------------------
    def add(self, one: Generation, jobs: Iterable[Any]) -> int:
        """Add a job for each of these data that is not in the list yet; returns how many. Raises Full, StoreError."""
        before, total = one.total, one.total
        put = "INSERT OR IGNORE INTO jobs (generation, n, digest, data) VALUES (?, ?, ?, ?)"
        try:
            with self._writing() as db:
                for data in jobs:
                    text = json.dumps(data, separators=(",", ":"))
                    total += db.execute(put, (one.key, total, generation.digest(total, data), text)).rowcount
                if total > JOBS_MOST:
                    raise Full(f"a generation may have {JOBS_MOST:,} jobs")
                one.total = total
                _update(db, one)
        except BaseException:
            one.total = before
            raise
        return total - before

    def to_do(self, key: str, after: int, limit: int) -> list[Job]:
        """Jobs behind the number ``after`` that have not ended, in their order."""
        query = "SELECT n, digest, data FROM jobs WHERE generation = ? AND n > ? AND outcome IS NULL ORDER BY n LIMIT ?"
        return [Job(n, digest, json.loads(data)) for n, digest, data in self._all(query, (key, after, limit))]

    def ended(self, one: Generation, ends: list[tuple[int, str, str | None]]) -> None:
        """How jobs ended: number, outcome, the result as JSON."""
        put = "UPDATE jobs SET outcome = ?, result = ? WHERE generation = ? AND n = ? AND outcome IS NULL"
        before = one.ended, one.failed
        try:
            with self._writing() as db:
                for n, outcome, result in ends:
                    kept = result if result is not None and len(result) <= RESULT_MOST else None
                    changed = db.execute(put, (outcome, kept, one.key, n)).rowcount
                    one.ended += changed
                    one.failed += changed * (outcome != OK)
                _update(db, one)
        except BaseException:
            one.ended, one.failed = before
            raise

    def cancel_rest(self, one: Generation) -> None:
        """The jobs that have not ended never will."""
        with self._writing() as db:
            query = "UPDATE jobs SET outcome = ? WHERE generation = ? AND outcome IS NULL"
            changed = db.execute(query, (CANCELLED, one.key)).rowcount
            one.ended += changed
            one.failed += changed
            _update(db, one)

    def page(self, key: str, after: int, limit: int) -> tuple[list[Job], int | None]:
        """Jobs behind the number ``after``, however they are; and the number behind which the next page begins, None for none."""
        query = "SELECT n, digest, data, outcome, result FROM jobs WHERE generation = ? AND n > ? ORDER BY n LIMIT ?"
        found: list[Job] = []
        size = 0
        for n, digest, data, outcome, result in self._all(query, (key, after, limit)):
            size += len(data) + len(result or "")
            if found and size > PAGE_BYTES:
                return found, found[-1].n
            found.append(Job(n, digest, json.loads(data), outcome or "", result or ""))
        return found, found[-1].n if len(found) == limit else None


def _update(db: sqlite3.Connection, one: Generation) -> None:
    key, _, over, data = row(one)
    db.execute("UPDATE generations SET over = ?, data = ? WHERE key = ?", (over, data, key))


def _read(data: str) -> Generation:
    known = Generation.__dataclass_fields__
    return Generation(**{name: value for name, value in json.loads(data).items() if name in known})
