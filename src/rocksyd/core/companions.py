"""A companion's life, as far as it is decided: starting, ready, dead, started again.

What must live here: the states, how long a companion may take to become ready, the back-off.
What this file must not know: processes, channels, what a companion is for. Moments are CLOCK_MONOTONIC seconds, passed in.

The states::

    absent ─start─▶ starting ─ready─▶ ready
       ▲               ▲  │             │ condemned, or died by itself
       │               │  └────▶ failed ◀┘
       └──retire───────┴─(back-off)─┘
"""

from __future__ import annotations

STARTING, READY, FAILED, ABSENT = "starting", "ready", "failed", "absent"
DELAYS = (0.0, 1.0, 2.0, 5.0)
"""Seconds until a companion that died is started again: for the first death, the second in a row, and so on."""
CLEARED_AFTER = 10.0
"""Seconds for which a companion must have been ready for its next death to count as the first."""


class Life:
    """One configured companion. ``deadline`` says when to call ``due``."""

    def __init__(self, ready_timeout: float) -> None:
        self.ready_timeout = ready_timeout
        self.state = ABSENT
        self.reason = ""
        """Why it is not ready; "" while there is nothing to say."""
        self.restarts = 0
        """How often it was started again after it had died or failed."""
        self.deadline: float | None = None
        self._deaths = 0
        self._ready_at: float | None = None

    def start(self, now: float) -> None:
        """A process was started."""
        self.restarts += self._deaths > 0
        self.state, self._ready_at = STARTING, None
        self.deadline = now + self.ready_timeout

    def ready(self, now: float) -> None:
        """The process says that it can do its work."""
        self.state, self.reason = READY, ""
        self.deadline, self._ready_at = None, now

    def condemn(self, reason: str) -> None:
        """The process is to be killed: it was not ready in time, said that it cannot, or cannot be understood.

        One that is not wanted stays so: it would be started again otherwise, by a daemon that stops.
        """
        if self.state == ABSENT:
            return
        self.state, self.reason, self.deadline = FAILED, reason, None

    def ended(self, how: str, now: float) -> None:
        """The process is gone. ``how`` is a sentence, and the reason unless there was one before."""
        if self.state == ABSENT:
            return
        if self._ready_at is not None and now - self._ready_at >= CLEARED_AFTER:
            self._deaths = 0
        self.reason = self.reason if self.state == FAILED else how
        self.deadline = now + DELAYS[min(self._deaths, len(DELAYS) - 1)]
        self._deaths += 1
        self.state, self._ready_at = FAILED, None

    def retire(self, reason: str) -> None:
        """It is not wanted (for now): its end will not be a death."""
        self.state, self.reason, self.deadline = ABSENT, reason, None

    def due(self, now: float) -> str:
        """What is to be done now: ``start`` a process, ``give up`` on the one that is not ready in time, or "" for nothing."""
        if self.deadline is None or now < self.deadline:
            return ""
        self.deadline = None
        return "give up" if self.state == STARTING else "start"
