"""A damaged journal made good: every row that can still be read goes into a new file, and the damaged one is kept beside it.

What must live here: the order of the steps, so that an end at any of them loses nothing, and reading round what is damaged.
What this file must not know: who asks for it; whether a daemon is there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from rocksyd.errors import JournalError
from rocksyd.journal import rows
from rocksyd.journal.store import Journal
from rocksyd.journal.tables import META, RESTARTS, RUNS
from rocksyd.model import Run

_BATCH = 100
MOST_BETWEEN = 1_000_000
"""Rows that are looked for one by one between what is damaged: some seconds."""


class Repaired(NamedTuple):
    """What came of it."""

    kept: str
    """The damaged file's name from now on."""
    runs: int
    """Runs that were read and are in the new file."""
    bad: int
    """Rows that were found and could not be made sense of. What was not even found is not in it."""


def repair(path: str) -> Repaired:
    """Make a journal that can be read out of the one at ``path``, which nobody may have open. Raises JournalError."""
    kept = f"{path}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    copy, fresh = f"{path}.copy", f"{path}.repaired"
    try:
        _remove(copy, fresh)
        for end in ("", "-wal"):  # of a copy, because to read it brings its log into it
            if os.path.exists(path + end):
                shutil.copyfile(path + end, copy + end)
        with contextlib.closing(sqlite3.connect(copy)) as damaged:
            runs, bad = _bring_over(damaged, fresh)
        for end in ("-wal", "-shm", ""):
            if os.path.exists(path + end):
                os.rename(path + end, kept + end)
        os.rename(fresh, path)
        _remove(copy)
    except OSError as error:
        raise JournalError(
            f"{path} cannot be repaired: {error.strerror} ({error.filename}); nothing is lost by trying"
        ) from error
    return Repaired(kept, runs, bad)


def _bring_over(damaged: sqlite3.Connection, path: str) -> tuple[int, int]:
    fresh = Journal(path)
    runs: list[Run] = []
    count = bad = 0
    try:
        for key, ended, data in _rows(damaged, RUNS.name, "key, ended, data"):
            try:
                runs.append(rows.run_of(key, ended, data))
                count += 1
            except rows.BadRow:
                bad += 1
            if len(runs) == _BATCH:
                fresh.commit(runs, ())
                runs = []
        others: dict[tuple[str, str], Any] = {}
        for name, value in _rows(damaged, META.name, "name, value"):
            try:
                others[META.name, name] = rows.meta_of(name, value)
            except rows.BadRow:
                bad += 1
        fresh.commit(runs, (), others)
        for (data,) in _rows(damaged, RESTARTS.name, "data"):
            try:
                fresh.add_restart(rows.document(data))
            except rows.BadRow:
                bad += 1
    finally:
        fresh.close()
    return count, bad


def _rows(db: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a table from its beginning up to what is damaged, those from its end, and what is sound in between."""
    db.text_factory = lambda data: data.decode(errors="replace")
    query = f"SELECT rowid, {columns} FROM {table} NOT INDEXED"
    last, first = 0, 2**63 - 1
    try:
        for rowid, *found in db.execute(f"{query} ORDER BY rowid"):
            last = rowid
            yield tuple(found)
    except sqlite3.Error:
        try:
            for rowid, *found in db.execute(f"{query} WHERE rowid > ? ORDER BY rowid DESC", (last,)):
                first = rowid
                yield tuple(found)
        except sqlite3.Error:
            for rowid in range(last + 1, min(first, last + MOST_BETWEEN)):
                with contextlib.suppress(sqlite3.Error):
                    for _, *found in db.execute(f"{query} WHERE rowid = ?", (rowid,)):
                        yield tuple(found)


def _remove(*paths: str) -> None:
    for path in paths:
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + end)
