"""Looking after the state: checking it, making it small, copying it while a daemon writes, reading all of it.

What must live here: what is done to the files of a state folder, each whole or not at all.
What this file must not know: who asks for it, how it is shown.

Source: https://www.sqlite.org/lang_vacuum.html (``VACUUM INTO``: one consistent state, while others write), pragma.html
(``integrity_check``).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from rocksyd.errors import JournalError
from rocksyd.journal import rows
from rocksyd.journal.tables import META, RESTARTS, RUNS, SET_ASIDE, encode
from rocksyd.model import ENDED, Run

STORES = ("schedule.sqlite", "notify.sqlite")
"""Of companions. What they say that they have done is in the journal already, so a copy of them must not be younger than its."""
JOURNAL = "journal.sqlite"
MOST = 20
"""Problems of one sort that are named."""


def _reader(path: str) -> sqlite3.Connection:
    """A connection that changes nothing. Raises JournalError."""
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    try:
        db = sqlite3.connect(f"file:{quoted}?mode=ro", uri=True, isolation_level=None)
        db.text_factory = _text
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        raise JournalError(f"{path}: {error}; see that it is there and whole (rocksyd journal check)") from error
    return db


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


# --- checking ---------------------------------------------------------------------------------------------------------
class Checked(NamedTuple):
    """What was found."""

    problems: list[str]
    runs: dict[str, int]
    """How many there are of each outcome; those that have not ended by their state."""
    set_aside: int
    size: int
    """Bytes of the journal's files."""
    free: int
    """Of them those that nothing is in, which ``compact`` would give back."""
    outputs: int
    """Files of output."""


def check(folder: str) -> Checked:
    """Look at everything in a state folder, beside a daemon or without one. Raises JournalError where there is no journal."""
    problems: list[str] = []
    counts: dict[str, int] = {}
    path = f"{folder}/{JOURNAL}"
    with contextlib.closing(_reader(path)) as db:
        db.execute("BEGIN")  # one state of it, whatever is written meanwhile
        problems += _whole(db, path)
        for run in _runs(db, problems):
            name = run.attempt.outcome if run.state == ENDED else run.state
            counts[name] = counts.get(name, 0) + 1
        names = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
        aside = db.execute(f"SELECT count(*) FROM {SET_ASIDE.name}").fetchone()[0] if SET_ASIDE.name in names else 0
        for table in (META, RESTARTS):
            for row in db.execute(f"SELECT {', '.join(table.names)} FROM {table.name}") if table.name in names else ():
                try:
                    if table is META:
                        rows.meta_of(*row)
                    else:
                        rows.document(row[1])
                except rows.BadRow as bad:
                    problems.append(f"{path}: row {row[0]!r} of table {table.name} cannot be read: {bad}")
        page, free = (db.execute(f"PRAGMA {word}").fetchone()[0] for word in ("page_size", "freelist_count"))
    for name in STORES:
        if os.path.exists(f"{folder}/{name}"):
            with contextlib.closing(_reader(f"{folder}/{name}")) as db:
                problems += _whole(db, f"{folder}/{name}")
    outputs = sum(len(files) for _, _, files in os.walk(f"{folder}/output"))
    size = sum(os.path.getsize(path + end) for end in ("", "-wal") if os.path.exists(path + end))
    return Checked(problems, counts, aside, size, page * free, outputs)


def _whole(db: sqlite3.Connection, path: str) -> list[str]:
    try:
        found = [row[0] for row in db.execute(f"PRAGMA integrity_check({MOST})")]
    except sqlite3.Error as error:
        found = [str(error)]
    cure = "stop the daemon, then `rocksyd journal repair` saves what can be read" if path.endswith(JOURNAL) else (
        "move it away while the daemon is stopped: it is made anew")  # fmt: skip
    return [f"{path}: {text}; {cure}" for text in found if text != "ok"]


def _runs(db: sqlite3.Connection, problems: list[str]) -> Iterator[Run]:
    bad = 0
    try:
        for key, ended, data in db.execute(f"SELECT key, ended, data FROM {RUNS.name}"):
            try:
                yield rows.run_of(key, ended, data)
            except rows.BadRow as error:
                bad += 1
                if bad <= MOST:
                    problems.append(f"run {key!r} cannot be read: {error}; the daemon sets it aside when it meets it")
    except sqlite3.Error as error:
        problems.append(f"the runs cannot all be read: {error}")
    if bad > MOST:
        problems.append(f"{bad - MOST} further runs cannot be read")


def records(folder: str, since: float | None = None, until: float | None = None) -> Iterator[dict[str, Any]]:
    """The records of all runs, as they were at one moment, in the order in which they were accepted. Raises JournalError.

    ``since``, ``until``: Unix seconds; only those that ended then or later, or then or earlier.
    """
    with contextlib.closing(_reader(f"{folder}/{JOURNAL}")) as db:
        try:
            db.execute("BEGIN")
            for key, ended, data in db.execute(f"SELECT key, ended, data FROM {RUNS.name} ORDER BY sequence"):
                try:
                    run = rows.run_of(key, ended, data)
                except rows.BadRow:
                    continue  # `check` says so
                at = run.attempt.ended_at
                if (since is None or at >= since) and (until is None or (run.state == ENDED and at <= until)):
                    yield {**run.record(), "labels": run.order.labels}
        except sqlite3.Error as error:
            raise JournalError(f"{folder}/{JOURNAL}: {error}; `rocksyd journal check` says what is wrong") from error


# --- changing ---------------------------------------------------------------------------------------------------------
def compact(folder: str) -> tuple[int, int]:
    """Give back what nothing is in; nobody may have the files open. Bytes of the journal before and afterwards.

    It needs as much room again for as long as it takes. Raises JournalError; nothing is lost by trying.
    """
    path = f"{folder}/{JOURNAL}"
    before = os.path.getsize(path)
    for name in (JOURNAL, *STORES):
        if os.path.exists(f"{folder}/{name}"):
            try:
                with contextlib.closing(sqlite3.connect(f"{folder}/{name}", isolation_level=None)) as db:
                    db.execute("VACUUM")
                    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                raise JournalError(f"{folder}/{name}: {error}; it is as it was: make as much room as it has") from error
    return before, os.path.getsize(path)


def copy(folder: str, to: str) -> int:
    """Copy the stores, the journal and the outputs into the empty folder ``to``; how many outputs that were.

    The daemon may run. In this order: a store that is older than the journal does again what the journal knows, which is
    nothing; an output that is younger than it is merely longer. Raises JournalError.
    """
    try:
        for name in (*STORES, JOURNAL):
            if name == JOURNAL or os.path.exists(f"{folder}/{name}"):
                with contextlib.closing(_reader(f"{folder}/{name}")) as db:
                    db.execute("VACUUM INTO ?", (f"{to}/{name}",))
                _to_disk(f"{to}/{name}")
        number = _copy_outputs(f"{folder}/output", f"{to}/output")
        _to_disk(to)
    except sqlite3.Error as error:
        raise JournalError(f"{folder} cannot be copied to {to}: {error}; see that there is room, and that it is whole") from error
    except OSError as error:
        raise JournalError(f"{folder} cannot be copied to {to}: {error.strerror} ({error.filename})") from error
    return number


def _copy_outputs(source: str, to: str) -> int:
    number = 0
    for place, _, files in os.walk(source):
        below = os.path.join(to, os.path.relpath(place, source)) if place != source else to
        os.makedirs(below, mode=0o700, exist_ok=True)
        for name in files:
            try:
                shutil.copy2(os.path.join(place, name), os.path.join(below, name))
                number += 1
            except FileNotFoundError:
                continue  # its run was forgotten meanwhile
    return number


def _to_disk(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def move_outputs(folder: str, to: str) -> int:
    """Let the runs of a journal that nobody has open name their outputs below the state folder ``to``; how many did not."""
    number, last = 0, -(2**63)
    with contextlib.closing(sqlite3.connect(f"{folder}/{JOURNAL}", isolation_level=None)) as db:
        db.text_factory = _text
        db.execute("BEGIN IMMEDIATE")
        query = f"SELECT rowid, data FROM {RUNS.name} WHERE rowid > ? ORDER BY rowid LIMIT 1000"
        while found := db.execute(query, (last,)).fetchall():
            last = found[-1][0]
            moved = [(data, rowid) for rowid, old in found if (data := _moved(old, to)) is not None]
            db.executemany(f"UPDATE {RUNS.name} SET data = ? WHERE rowid = ?", moved)
            number += len(moved)
        db.execute("COMMIT")
    return number


def _moved(data: str, to: str) -> str | None:
    """A row whose output is below another folder; None for one whose is there, or that cannot be read."""
    try:
        value = rows.document(data)
    except rows.BadRow:
        return None
    log = value.get("log")
    place = f"{to}/output/{'/'.join(log.split('/')[-2:])}" if isinstance(log, str) and "/output/" in log else log
    return None if place == log else encode({**value, "log": place})
