"""Moments at which something is due, the next one first.

What must live here: the order of moments, and dropping those that have lost their meaning.
What this file must not know: what is due.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple


class Reminder(NamedTuple):
    """At ``when`` (CLOCK_MONOTONIC seconds) ``what`` is due for ``who``."""

    when: float
    number: int
    what: str
    who: Any


class Reminders:
    """A heap. Nothing is ever taken back: ``current`` says whether a reminder still means anything when it comes up."""

    def __init__(self, current: Callable[[Reminder], bool]) -> None:
        self._current = current
        self._heap: list[Reminder] = []
        self._number = 0
        self._clean_at = 1000

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, what: str, who: Any) -> None:
        """Remind of this."""
        self._number += 1
        heappush(self._heap, Reminder(when, self._number, what, who))
        if len(self._heap) >= self._clean_at:
            self._heap = [reminder for reminder in self._heap if self._current(reminder)]
            heapify(self._heap)
            self._clean_at = 1000 + 2 * len(self._heap)

    def next(self) -> float | None:
        """The next moment; None for none. What is over is dropped, so that an idle daemon is not woken by it."""
        while self._heap and not self._current(self._heap[0]):
            heappop(self._heap)
        return self._heap[0].when if self._heap else None

    def pop(self, now: float) -> Reminder | None:
        """One that is due, None when none is (any more)."""
        when = self.next()
        return heappop(self._heap) if when is not None and when <= now else None
