"""What is done about workers that cannot be forked, that die before they have done anything, or that crash the interpreter.

What must live here: how long the next try waits, when a pool is parked, when an application is to be loaded afresh.
What this file must not know: why a worker died, clocks; who acts on it.

Three kinds of trouble, three answers. A fork that the system refuses (no processes, no memory) may go well the next time: it is
tried again after twice the time, without end. A worker that dies before its first job would die again: it is tried the same
way, but ``park_after`` such deaths in a row park the pool, which then forks nothing until other code or another configuration
comes; runs wait, other pools do not notice. Workers that die by SIGSEGV or SIGBUS in numbers say that the memory they
are forked from may be spoilt: the application is loaded afresh (php-fpm's ``emergency_restart_threshold``).
"""

from __future__ import annotations

from collections import deque
from typing import Any

from rocksyd.config import EmergencyRestart
from rocksyd.units import rough_duration

RETRY_FIRST, REFUSED_MOST, DIED_MOST = 0.1, 10.0, 30.0
"""Seconds to the next try; doubled each time up to these."""
_CRASHES = {7: "SIGBUS", 11: "SIGSEGV"}
_CARRIED = {"failures": "failures", "fork_after": "after", "trouble": "reason", "parked": "parked"}
"""Key in a snapshot -> attribute."""


class Trouble:
    """The trouble that one pool has in getting workers."""

    def __init__(self) -> None:
        self.failures = 0
        """Tries in a row that went wrong. Those that were on their way when one went wrong belong to the same."""
        self.after = 0.0
        """CLOCK_MONOTONIC seconds before which nothing is forked."""
        self.reason = ""
        self.parked = False
        """Nothing is forked until other code or another configuration comes."""

    def stops(self, now: float) -> bool:
        """Whether nothing may be forked now."""
        return self.parked or now < self.after

    def refused(self, reason: str, now: float) -> str:
        """The system would not fork. Returns what to write into the log, "" for nothing."""
        return self._wait(reason, now, REFUSED_MOST)

    def died(self, reason: str, now: float, park_after: int) -> str:
        """A worker died before it had done anything. Returns what to write into the log, "" for nothing."""
        said = self._wait(reason, now, DIED_MOST)
        if said and park_after and self.failures >= park_after and not self.parked:
            self.parked = True
            return f"{reason}; that was so {self.failures} times in a row, so the pool is parked: reload or restart tries again"
        return said

    def _wait(self, reason: str, now: float, most: float) -> str:
        if self.stops(now):
            return ""
        self.failures += 1
        self.reason = reason
        pause = min(most, RETRY_FIRST * 2 ** min(self.failures - 1, 20))
        self.after = now + pause
        return f"{reason}; next try in {rough_duration(pause)}"

    def over(self) -> None:
        """A worker has brought a result, or there is other code to fork from."""
        self.failures, self.after, self.reason, self.parked = 0, 0.0, "", False

    def dump(self) -> dict[str, Any]:
        """Plain data for a snapshot."""
        return {key: getattr(self, name) for key, name in _CARRIED.items()}

    def load(self, data: dict[str, Any]) -> None:
        """Take over what ``dump`` wrote, in this version or another."""
        for key, name in _CARRIED.items():
            if key in data:
                setattr(self, name, data[key])


def crash_of(status: int | None) -> str:
    """The signal by which the interpreter itself has crashed, "" for any other end; ``status`` as waitpid gives it."""
    return _CRASHES.get(status & 0x7F, "") if status is not None else ""


def wants_fresh_memory(crashes: deque[float], policy: EmergencyRestart, now: float) -> bool:
    """Note a crash in ``crashes`` (moments, oldest first); whether it makes the application due for loading afresh.

    Afterwards counting begins anew, so that a fresh application gets its chance.
    """
    if not policy.workers:
        return False
    crashes.append(now)
    while crashes and crashes[0] < now - policy.within:
        crashes.popleft()
    if len(crashes) < policy.workers:
        return False
    crashes.clear()
    return True
