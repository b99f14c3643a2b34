"""The end of a run's time, inside of the process that runs it: ``JobTimeout``, raised in the job.

What must live here: the handler, and when it raises. What this file must not know: who sends the signal (``zygote.server``).

The master keeps the deadline, so there is one clock for it however often the master is replaced; the worker gets a signal of
the daemon's own. A timer here (``setitimer``) would be the job's as well, which may use SIGALRM itself. Code in C is not cut
short by it: the exception is raised when that code returns, and KILL comes after the grace.
"""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

from rocksyd.errors import JobTimeout
from rocksyd.posix import signals
from rocksyd.units import format_duration

TERMINATED = int(signal.SIGTERM)
"""The signal that a run which does not catch ``JobTimeout`` counts as ended by: that is what ends one that cannot be told, and
who reads its record need not know which of the two it was."""


class Deadline:
    """A ``with`` block around a job's code: JobTimeout is raised within it, once, and nowhere else.

    Args:
        at: CLOCK_MONOTONIC seconds; 0 for a run that may take as long as it likes.
        timeout: seconds, for the message.
    """

    def __init__(self, at: float, timeout: float = 0.0) -> None:
        self._at = at
        self._timeout = timeout
        self._pid = os.getpid()
        self._inside = False
        self.told = False
        """Whether the time is up."""

    def __enter__(self) -> None:
        global _deadline
        _deadline = self
        self._inside = True
        if self._at and time.monotonic() >= self._at:
            self.ring()

    def __exit__(self, *_: object) -> None:
        self._inside = False

    def left(self, grace: float) -> float:
        """Seconds of the ``grace`` that a run which has been told still has, less what it needs to say its result."""
        return min(grace, max(0.0, 0.75 * (self._at + grace - time.monotonic()))) if self.told else grace

    def ring(self) -> None:
        """The time is up. A job that deals with TERM itself (or by ``current().stopping``) is told in that way."""
        if self.told or os.getpid() != self._pid:
            return
        if not self._inside or signal.getsignal(TERMINATED) is not signal.SIG_DFL:
            self.told = self._inside
            # Only a group of its own: one that the job has joined may be anybody's, also the daemon's.
            os.kill(0 if os.getpgrp() == self._pid else self._pid, TERMINATED)
            return
        self.told, self._inside = True, False
        raise reached(self._timeout)


_deadline = Deadline(0.0)


def reached(timeout: float) -> JobTimeout:
    """What a run gets that has taken ``timeout`` seconds."""
    return JobTimeout(f"the run has reached its timeout of {format_duration(timeout)}")


def without_handler(error: JobTimeout) -> JobTimeout:
    """``error`` with its traceback ending where the job was when its time was up."""
    entry = error.__traceback__
    while entry is not None:
        after = entry.tb_next
        if after is not None and after.tb_frame.f_globals is globals():
            entry.tb_next = None
            break
        entry = after
    return error


def prepare() -> None:
    """In the zygote: every worker is forked with the handler, so that no job has to wait for it to be installed."""
    signals.handle(signals.TIME_UP, _ring)


def forget() -> None:
    """For a script that is run as if by a fresh Python: at its deadline it gets TERM."""
    signals.handle(signals.TIME_UP, signals.SIG_DFL)


def _ring(_number: int, _frame: FrameType | None) -> None:
    _deadline.ring()
