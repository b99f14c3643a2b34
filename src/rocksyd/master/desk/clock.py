"""Noticing that the wall clock was set, or that the machine has slept, while a run waits for a time of it.

What must live here: the alarm, and the look at each turn. What this file must not know: what is due (the engine does).

The system's alarm goes off early when the clock is set (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET), also at the end of a sleep,
which CLOCK_MONOTONIC does not count. It is there only from the first run on that waits so, and an idle daemon is not woken by it.
"""

from __future__ import annotations

import os
import select

from rocksyd.core import events as ev
from rocksyd.master.turn import Turn
from rocksyd.posix import libc
from rocksyd.posix.loop import Loop

FAR = 1 << 33
"""When the alarm would go off by itself, in Unix seconds."""
STEP = 0.5
"""Seconds by which both clocks have to differ from before: less is adjusted all the time."""


class Clock:
    """One master's."""

    def __init__(self, turn: Turn, loop: Loop) -> None:
        self._turn = turn
        self._loop = loop
        self._alarm = -1
        self._tried = False
        self._ahead = turn.now.wall - turn.now.mono
        turn.begins(self._look)

    def _look(self) -> None:
        """In each turn."""
        now, before = self._turn.now, self._ahead
        self._ahead = now.wall - now.mono
        if self._turn.engine.awaits_clock:
            if not self._tried:
                self._begin()
            if abs(self._ahead - before) > STEP:
                self._turn.step(ev.ClockSet())

    def _begin(self) -> None:
        self._tried = True
        self._alarm = libc.alarm()
        if self._alarm >= 0:
            libc.set_alarm(self._alarm, FAR)
            self._loop.register(self._alarm, self, select.EPOLLIN)

    def handle(self, events: int) -> None:
        """Being awake is enough: the turn looks."""
        try:
            os.read(self._alarm, 8)
        except OSError:  # ECANCELED: the clock was set
            libc.set_alarm(self._alarm, FAR)
