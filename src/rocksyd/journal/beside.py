"""The journal as somebody beside the master reads it, who goes through all that has ended.

What must live here: what only such a reader asks.
What this file must not know: who that is, what becomes of the runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from rocksyd.journal.store import Journal
from rocksyd.model import Run

_LAST = 2**63 - 1
"""What SQLite sorts behind every number that is written: text and bytes, which only damage can have put there."""

_AT_ONCE = 500
"""Keys that are asked for together."""


class Beside(Journal):
    """The journal, opened to read only."""

    def __init__(self, path: str) -> None:
        super().__init__(path, readonly=True)

    def has(self, key: str) -> bool:
        """Whether there is a run under this key."""
        return self._one("SELECT 1 FROM runs WHERE key = ?", (key,)) is not None

    def revisions(self, keys: Sequence[str]) -> dict[str, int]:
        """The revision of each of these runs that is there, by its key."""
        found: dict[str, int] = {}
        for begin in range(0, len(keys), _AT_ONCE):
            some = tuple(keys[begin : begin + _AT_ONCE])
            found.update(self._all(f"SELECT key, rev FROM runs WHERE key IN ({', '.join('?' * len(some))})", some))
        return found

    def ended_after(self, rev: int, most: int) -> list[Run]:
        """The runs that have ended and changed after this revision, at most so many, in that order."""
        return self._runs("INDEXED BY runs_changed WHERE ended = 1 AND rev > ? ORDER BY rev LIMIT ?", (rev, most))

    def latest_ended(self, back: int) -> int:
        """The revision of the run that was the last but so many to end; 0 where there are fewer."""
        query = "SELECT rev FROM runs INDEXED BY runs_changed WHERE ended = 1 AND rev < ? ORDER BY rev DESC LIMIT 1 OFFSET ?"
        found = self._one(query, (_LAST, back))
        return found[0] if found is not None else 0

    def live_outputs(self) -> set[str]:
        """Where the runs that have not ended print to."""
        return {run.order.log for run in self.live() if run.order.log}
