"""Threads that a job has started and that are still at work when it has ended: no other job may run beside them.

What must live here: which threads those are. What this file must not know: jobs, messages, what is done about it.

A thread cannot be ended from outside. It prints on, changing what the process has, and speaking for a run that is over, and
all of it would happen to the next one. In a process that a job has for itself, Python waits for such threads at the end; one that
would be used again ends instead. Daemon threads are those that nobody waits for. Libraries have them (monitors of connections,
senders of telemetry) and keep them from job to job. So they do with a thread of an executor that has nothing to do.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

_SETTLE = 0.1
"""Seconds that a thread gets to end, or to come to rest in its executor: what it was asked for may have been done just now."""
_PAUSE = 0.002


class Watch:
    """The threads that are known when the first job begins (hooks have started them), against those that are there after each."""

    def __init__(self) -> None:
        self._known = frozenset(threading.enumerate())

    def at_work(self) -> list[str]:
        """Names of threads that somebody would wait for at the end of a program, and that were not there at first."""
        if not any(self._new()):
            return []  # nearly always, and so it is cheap
        give_up = time.monotonic() + _SETTLE
        while (found := [thread.name for thread in self._new() if not _rests(thread)]) and time.monotonic() < give_up:
            time.sleep(_PAUSE)
        return found

    def _new(self) -> Iterator[threading.Thread]:
        return (thread for thread in threading.enumerate() if not thread.daemon and thread not in self._known)


def _rests(thread: threading.Thread) -> bool:
    """Whether it is one of ``concurrent.futures`` that waits to be given something."""
    module = sys.modules.get("concurrent.futures.thread")
    frame = sys._current_frames().get(thread.ident or 0)
    return module is not None and frame is not None and frame.f_code is module._worker.__code__
