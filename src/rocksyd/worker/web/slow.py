"""Slow requests: where each of them is, told once to the master, which has the slow log.

What must live here: watching for requests that take longer than ``slow_after``, and finding the code that they are in.
What this file must not know: HTTP, files.

A thread watches, because the code of a request may be what never lets the loop look (a blocking call in ``async def``, a WSGI
application in the main thread), and that is the code one wants to see. It sleeps while no request is in flight, and there is none
where ``slow_after`` is not set.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from types import FrameType
from typing import Any, Protocol

from rocksyd.units import format_duration, rough_duration
from rocksyd.worker.web.request import Request

MOST_AT_ONCE = 5
"""Stacks that are told at one look; the others' turn comes with the next one, if they are still there."""
_LOOK = 0.1
"""Seconds between two looks, at least."""
_IDLE = ("queue.py", "threading.py", os.path.join("futures", "thread.py"))
"""Ends of the names of files in which a thread waits for work."""


class Watched(Protocol):
    """A request that is being answered."""

    began: float
    request: Request
    task: Any


class Slow:
    """Watches the requests of one worker."""

    def __init__(self, after: float, in_flight: Collection[Watched], loop: asyncio.AbstractEventLoop) -> None:
        self._after = after
        self._in_flight = in_flight
        self._loop = loop
        self.say: Callable[[str, str], None] = lambda what, where: None
        """Says a sentence and stacks to the master. Called in any thread."""
        self._busy = threading.Event()
        self._told: set[Watched] = set()
        """Requests in flight that have been told."""
        if after:
            threading.Thread(target=self._watch, name="rocksyd slow requests", daemon=True).start()

    def began(self) -> None:
        """A request has begun."""
        if self._after and not self._busy.is_set():
            self._busy.set()

    def tell(self, one: Watched, why: str) -> None:
        """Tell where a request is, for another reason than that it is slow."""
        request = one.request
        what = f"request {request.request_id} ({request.method} {request.url.decode('latin-1')}) {why}"
        self.say(what, stacks(one.task, request.thread, self._loop))

    def _watch(self) -> None:
        while True:
            self._busy.wait()
            pause = self._look(time.monotonic())
            if pause:
                time.sleep(pause)
            else:
                self._busy.clear()
                if self._in_flight:  # one has begun in between
                    self._busy.set()

    def _look(self, now: float) -> float:
        """Tell of those that are due; seconds until the next is, 0.0 where nothing is in flight."""
        flying = list(self._in_flight)
        self._told &= set(flying)
        untold = [one for one in flying if one.began and one not in self._told]
        due = sorted((one for one in untold if now - one.began >= self._after), key=lambda one: one.began)
        for one in due[:MOST_AT_ONCE]:
            self._told.add(one)
            took = rough_duration(now - one.began)
            self.tell(one, f"has been going on for {took} (slow_after = {format_duration(self._after)})")
        if not flying:
            return 0.0
        if len(due) > MOST_AT_ONCE:
            return _LOOK
        oldest = min((one.began for one in untold if one not in due), default=now)
        return max(_LOOK, oldest + self._after - now)


def stacks(task: Any, thread: int | None, loop: asyncio.AbstractEventLoop) -> str:
    """The code that a request is in: of its thread, of its task, and of threads that may be at work for it."""
    frames = sys._current_frames()
    main = threading.main_thread().ident or 0
    if thread is not None and thread != main:
        return _of_thread("Thread", frames.get(thread))
    if task is None or asyncio.current_task(loop) is task:
        return _of_thread("Main thread", frames.get(main))
    text = _written("Task", list(_awaited(task)))
    for number, frame in frames.items():
        if number not in (main, threading.get_ident()) and not frame.f_code.co_filename.endswith(_IDLE):
            text += _of_thread("Thread, perhaps of this request,", frame)
    return text


def _of_thread(what: str, frame: FrameType | None) -> str:
    found = [(one.filename, one.lineno, one.name) for one in traceback.extract_stack(frame)] if frame is not None else []
    return _written(what, found)


def _written(what: str, found: list[tuple[str, int | None, str]]) -> str:
    lines = [f'  File "{name}", line {line} in {function}\n' for name, line, function in reversed(found)]
    return f"{what} (most recent call first):\n" + "".join(lines or ["  it has just ended\n"])


def _awaited(task: Any) -> Iterator[tuple[str, int | None, str]]:
    """From a task's outermost coroutine to what it waits in, over the tasks that it waits for.

    ``Task.get_stack`` gives only the first of them.
    """
    step: Any = task.get_coro()
    while step is not None:
        for prefix, awaited in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            frame = getattr(step, f"{prefix}_frame", None)
            if frame is not None:
                yield frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
                step = getattr(step, awaited)
                break
        else:
            task = getattr(task, "_fut_waiter", None)
            step = task.get_coro() if isinstance(task, asyncio.Task) else None
