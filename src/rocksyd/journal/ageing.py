"""Ended runs that may have to be forgotten, target by target, a bounded number at a time.

What must live here: how they are walked through along an index.
What this file must not know: which of them are to be forgotten (``core.retention``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rocksyd.journal.store import Journal
from rocksyd.model import ENDED, Run

Place = tuple[float, int]
"""Behind which run the walk goes on: its end, and its row."""
START: Place = (-1.0, 0)


class Aged(NamedTuple):
    """An ended run that may have to be forgotten."""

    ended_at: float
    row: int
    key: str
    outcome: str


def next_target(journal: Journal, target: str) -> str | None:
    """The next one, by name, that any ended run is of; None behind the last. Raises JournalError."""
    query = "SELECT min(target) FROM runs INDEXED BY runs_target WHERE ended = 1 AND target > ?"
    found = journal.query(query, (target,))[0][0]
    return None if found is None else str(found)


def aged(journal: Journal, target: str, behind: Place, before: float, most: int) -> list[Aged]:
    """Those of a target that ended before ``before`` (Unix seconds), the oldest first. Raises JournalError."""
    query = (
        "SELECT ended_at, rowid, key, outcome FROM runs INDEXED BY runs_target_at "
        "WHERE ended = 1 AND target = ? AND ended_at >= ? AND (ended_at > ? OR rowid > ?) AND ended_at < ? "
        "ORDER BY ended_at, rowid LIMIT ?"
    )
    at, row = behind
    return [Aged(*found) for found in journal.query(query, (target, at, at, row, before, most))]


def step_back(journal: Journal, before: float, number: int) -> float | None:
    """When the last of so many runs ended, going back from ``before`` (Unix seconds); None where there are fewer."""
    query = (
        "SELECT ended_at FROM runs INDEXED BY runs_ended WHERE ended = 1 AND ended_at < ? ORDER BY ended_at DESC LIMIT 1 OFFSET ?"
    )
    found = journal.query(query, (before, number - 1))
    return float(found[0][0]) if found else None


def forget(journal: Journal, keys: Iterable[str]) -> list[Run]:
    """Delete these runs, as far as they have ended. Raises JournalError."""
    found = [run for key in keys if (run := journal.get(key)) is not None and run.state == ENDED]
    if found:
        journal.commit((), [run.key for run in found])
    return found
