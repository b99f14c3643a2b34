"""How often a crashed master is started again, how soon, and with what.

What this file must not know: clocks and processes. Counting only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


YOUNG = 10.0
"""Seconds a master must have served for its death not to count as young."""
FIRST_DELAY = 0.25
LAST_DELAY = 5.0
BARE_FROM = 4
"""From this many young deaths in a row the next master starts without the busy connections: one may be what kills it.

A quiet one cannot be: nothing of it had been read.
"""
LIMIT = 8
"""After this many young deaths in a row the keeper gives up."""


class Ladder:
    """Rungs: at once; then 0.25 s, doubling up to 5 s; without busy connections; the end."""

    def __init__(self) -> None:
        self.young = 0
        """Masters in a row that died young."""
        self.row = 0
        """Deaths in a row, with the one of a master that was not young before them."""
        self.last = ""
        """How the last master died."""

    def fell(self, how: str, served: float) -> None:
        """A master died after it had served for ``served`` seconds."""
        if served >= YOUNG:
            self.young, self.row = 0, 1
        else:
            self.young += 1
            self.row += 1
        self.last = how

    @property
    def delay(self) -> float:
        """Seconds until the next master is started."""
        return 0.0 if self.row <= 1 else min(LAST_DELAY, FIRST_DELAY * 2.0 ** (self.row - 2))

    @property
    def without_busy_connections(self) -> bool:
        """Whether the next master starts without the connections that were in the middle of something."""
        return self.young >= BARE_FROM

    @property
    def exhausted(self) -> bool:
        """Whether there is to be no next master."""
        return self.young >= LIMIT

    def dump(self) -> dict[str, Any]:
        """Plain data for ``load``."""
        return {"young": self.young, "row": self.row, "last": self.last}

    @classmethod
    def load(cls, state: dict[str, Any]) -> Ladder:
        """The ladder that ``dump`` described."""
        self = cls()
        self.young = int(state.get("young", 0))
        self.row = int(state.get("row", 0))
        self.last = str(state.get("last", ""))
        return self
