"""A worker's seat on the scoreboard: it says there what it is at, and beside it what it leaves behind.

What must live here: what is written at which stage. What this file must not know: who reads it.
"""

from __future__ import annotations

import os
import resource
import time

from rocksyd import messages
from rocksyd.posix.scoreboard import Entry, Scoreboard
from rocksyd.worker.leftover import Leftovers


class Seat:
    """The slot that the master gave this worker; without a scoreboard it writes nowhere."""

    def __init__(
        self, board: Scoreboard | None, order: messages.Fork, generation: int, leftovers: tuple[Leftovers, int] | None = None
    ) -> None:
        self._leftovers = leftovers
        self._slot = board.slot(order.slot) if board is not None else None
        now = time.monotonic()
        self._entry = Entry(
            pid=os.getpid(), worker=order.worker, generation=generation, stage="starting", since=now, born=now, pool=order.pool
        )
        self._write()

    def at(self, stage: str, key: str = "", deadline: float | None = None) -> None:
        """The worker is at ``stage`` from now on, with the run ``key`` if it has one; its ``deadline`` is said once, at first."""
        entry = self._entry
        deadline = entry.deadline if deadline is None else deadline
        self._entry = entry._replace(stage=stage, since=time.monotonic(), key=key, deadline=deadline)
        self._write()

    def leaves(self, leftover: str, grace: float) -> None:
        """A run begins: what is to become of the processes that it leaves in its group, for the zygote."""
        if self._leftovers is not None:
            page, place = self._leftovers
            page.say(place, leftover, grace)

    def shares(self, capacity: int, running: int, *, unheard: bool = False) -> None:
        """The worker can be at ``capacity`` runs at the same time, and is at so many; some may have ended ``unheard``."""
        stage = "running" if running else "finishing" if unheard else "idle"
        since = self._entry.since if stage == self._entry.stage else time.monotonic()
        self._entry = self._entry._replace(stage=stage, since=since, key="", capacity=capacity, running=running)
        self._write()

    def done(self, key: str) -> None:
        """The job's code has ended: count it, and what the process has used so far."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._entry = self._entry._replace(
            stage="finishing",
            since=time.monotonic(),
            key=key,
            jobs=self._entry.jobs + 1,
            cpu=usage.ru_utime + usage.ru_stime,
            memory=usage.ru_maxrss * 1024,
        )
        self._write()

    def _write(self) -> None:
        if self._slot is not None:
            self._slot.write(self._entry)


def cpu_used() -> float:
    """Seconds of user and system time of this process and the children it has waited for."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
