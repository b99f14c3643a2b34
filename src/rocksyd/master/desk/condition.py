"""The news of ``health``: told to who asked for it, as soon as a turn has changed what keeps the daemon from doing its work.

What must live here: when that is looked at. What this file must not know: what makes a daemon healthy (``numbers``).

Nothing but a turn can change it, so an idle daemon is not woken for it; and while nobody asks, nobody looks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rocksyd.master.desk.methods import HEALTH
from rocksyd.master.desk.replies import Replies
from rocksyd.master.desk.waiters import Waiters
from rocksyd.master.turn import Turn

PAUSE = 0.25
"""Seconds between two looks: a busy daemon has thousands of turns in a second."""


class Condition:
    """What subscribers were told last."""

    now: Callable[[], dict[str, Any]]
    """How the daemon is."""

    def __init__(self, turn: Turn, waiters: Waiters, replies: Replies) -> None:
        self._turn = turn
        self._waiters = waiters
        self._replies = replies
        self._told: dict[int, Any] = {}
        """What each client was told, by its number."""
        self._next = 0.0
        """CLOCK_MONOTONIC seconds before which there is no other look."""
        self._wanted = False
        """Whether a turn has ended since the last look."""
        turn.due(lambda: self._next if self._wanted else None, lambda now: None)
        turn.says(self._look)

    def _look(self) -> None:
        clients = {one.client for one in self._waiters.subscribers if one.events is not None and HEALTH in one.events}
        if not clients:
            self._told, self._wanted = {}, False
            return
        now = self._turn.now.mono
        self._wanted = now < self._next and clients <= self._told.keys()
        if self._wanted:
            return
        self._next = now + PAUSE
        found = self.now()
        self._replies.notify([client for client in clients if self._told.get(client) != found], HEALTH, found)
        self._told = dict.fromkeys(clients, found)
