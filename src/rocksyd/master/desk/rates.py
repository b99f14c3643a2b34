"""Requests a second, over the last seconds: counted as they come, so that nobody has to wake for it.

What must live here: the counts of the last minute.
What this file must not know: what a request is.
"""

from __future__ import annotations

SECONDS = 60
"""The longest time that is asked for."""


class Rates:
    """Counts of the last SECONDS whole seconds, and of the one that goes on."""

    def __init__(self) -> None:
        self._counts = [0] * (SECONDS + 1)
        self._second = 0
        self._seen = 0

    def note(self, total: int, now: float) -> None:
        """So many there have been by CLOCK_MONOTONIC ``now``."""
        self._go_to(int(now))
        self._counts[self._second % len(self._counts)] += max(total - self._seen, 0)
        self._seen = total

    def over(self, seconds: int, now: float) -> float:
        """A second, over the last whole ``seconds`` (at most SECONDS)."""
        self._go_to(int(now))
        return sum(self._counts[(self._second - back) % len(self._counts)] for back in range(1, seconds + 1)) / seconds

    def _go_to(self, second: int) -> None:
        for passed in range(max(self._second + 1, second - SECONDS), second + 1):
            self._counts[passed % len(self._counts)] = 0
        self._second = max(self._second, second)
