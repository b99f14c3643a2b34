"""How long and how often a lost connection is tried again. No clock here: time comes in as an argument.

A restart keeps the listening socket, so a client that lost its connection (it was busy when the master died) connects again
at once; after a crash loop or a stop-and-start it may take seconds. A daemon that was never reached is not waited for.
"""

from __future__ import annotations

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0


class Patience:
    """Counts one command's failures. ``limit`` is the seconds without success after which it gives up."""

    __slots__ = ("_pause", "_since", "limit")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._pause = 0.0
        self._since: float | None = None

    def success(self) -> None:
        """Something was answered: the next failure is the first of a new row."""
        self._pause = 0.0
        self._since = None

    def failure(self, now: float, connected_at: float | None = None) -> float | None:
        """The connection failed at ``now``: seconds to pause before the next try, or None to give up.

        A connection that held (``connected_at``) longer than the limit before it was lost begins a new row too: a wait may
        last for days without a word.
        """
        if connected_at is not None and now - connected_at > self.limit:
            self.success()
        if self._since is None:
            self._since = now
            self._pause = FIRST_PAUSE
            return 0.0
        if now - self._since >= self.limit:
            return None
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause
