"""How the keeper ends what is left: ask, wait a bounded time, kill, wait a bounded time, go.

A state, not a second loop: the keeper's own loop calls ``step`` after each turn. What this file must not know: the system.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

from rocksyd.keeper.effects import Stop

GRACE = 15.0
"""Seconds between TERM and KILL; longer than the ten that a zygote gives its workers."""
ORDERLY_GRACE = 10.0
INSISTENT_GRACE = 2.0
LAST_WAIT = 5.0
"""Seconds after KILL that processes which cannot die (a dead disk) are waited for."""


class Shutdown:
    """Why and how far. ``over`` when the keeper may exit."""

    def __init__(self, stop: Stop, now: float) -> None:
        self.stop = stop
        self.over = False
        self.killing = False
        grace = ORDERLY_GRACE if stop.orderly else INSISTENT_GRACE if stop.now else GRACE
        self.deadline = now + grace
        """CLOCK_MONOTONIC seconds at which ``step`` goes on even if nothing happens."""
        self._asked: set[int] = set()

    def insist(self, now: float) -> None:
        """A further order to stop: no more waiting."""
        if not self.killing:
            self.deadline = now

    def step(self, now: float, children: list[int], descendants: Callable[[], list[int]]) -> list[tuple[int, int]]:
        """Return (PID, signal) pairs to send, given the children there are; orphans become children, so it is asked again."""
        if not children:
            self.over = True
            return []
        if not self.killing and now >= self.deadline:
            self.killing = True
            self.deadline = now + LAST_WAIT
        if self.killing:
            self.over = now >= self.deadline
            return [(pid, signal.SIGKILL) for pid in descendants()]
        fresh = [pid for pid in children if pid not in self._asked]
        self._asked.update(fresh)
        return [(pid, signal.SIGTERM) for pid in fresh]
