"""The scheduler's thread: it sleeps until something is due, looks, and carries out changes of what the scripts are in between.

What must live here: when it begins to act, its alarm, the order of changes and looks.
What this file must not know: which tick is due and what becomes of it, what clients ask.

It acts from when its master serves (which the master's word on the code says) and the scheduler before has ended.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import NamedTuple

from rocksyd import codes
from rocksyd.companions.companion import Code
from rocksyd.companions.generations import Generations
from rocksyd.companions.locked_file import StoreError
from rocksyd.companions.schedule_sources import Sources
from rocksyd.companions.schedule_store import Store
from rocksyd.companions.ticking import Ticking
from rocksyd.errors import RequestError
from rocksyd.posix import libc
from rocksyd.posix.log import log

LONGEST = 60.0
"""Seconds for which it sleeps where the system has no alarm that notices a change of the clock."""
TROUBLE = 5.0
"""Seconds until it looks again after the store could not be written."""
ACTING = 25.0
"""Seconds for which a request waits until the scheduler of the generation before has left."""


class Change(NamedTuple):
    """What the scripts are is to be changed."""

    make: Callable[[], None]
    author: str
    done: threading.Event
    errors: list[Exception]
    """What it raised."""


class Acting:
    """The thread."""

    def __init__(self, sources: Sources, store: Store, ticking: Ticking, generations: Generations) -> None:
        self._generations = generations
        self._sources = sources
        self._store = store
        self._ticking = ticking
        self._serving = threading.Event()
        self.acting = threading.Event()
        self.begins: Callable[[], object] = lambda: None
        """Called when it begins to act: the scheduler before has left."""
        self._changes: SimpleQueue[Change] = SimpleQueue()
        self._author = ""
        self._begun = self._leaving = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._alarm = libc.alarm()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    # --- for other threads --------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to wait for the moment to act."""
        self._thread.start()

    def hear(self, code: Code) -> None:
        """The master's word on the applications' code. Raises RequestError for code that must not serve."""
        if not code.serves:
            self._sources.of_code(code.apps)
            return

        def tell() -> None:
            try:
                self._sources.tell(code.apps)
            except RequestError as error:
                log("scheduler", f"what the code declares does not hold, and what it declared before does: {error}")

        self._changes.put(Change(tell, code.author, threading.Event(), []))
        self._serving.set()
        self.wake()

    def carry_out(self, make: Callable[[], None], author: str) -> None:
        """Have a change made between two looks; returns when it holds. Raises what it raises, or RequestError."""
        change = Change(make, author, threading.Event(), [])
        self._changes.put(change)
        self.wake()
        if not change.done.wait(ACTING):
            raise RequestError(
                codes.NOT_NOW, "the scheduler cannot carry that out now", data="its log says why; look whether it came"
            )
        for error in change.errors:
            raise error

    def wake(self) -> None:
        """Let it look what is due now."""
        os.eventfd_write(self._wake, 1)

    def leave(self) -> None:
        """End the thread, and let the next scheduler act."""
        self._leaving = True
        self._serving.set()
        self.wake()
        if self.acting.is_set():
            self._thread.join()
            self._generations.stop()
            self._store.close()

    # --- the thread ---------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        self._serving.wait()
        while not self._leaving:
            try:
                if not self.acting.is_set():
                    self._begin()
                elif not self._changes.empty():
                    self._redefine()
                due = self._ticking.next()
                if due is not None and due <= time.time():
                    self._ticking.look()
                elif self._changes.empty():
                    self._sleep(due)
            except StoreError as error:
                log("scheduler", f"ticks wait: {error}")
                self._sleep(time.time() + TROUBLE)

    def _begin(self) -> None:
        if not self._begun:
            self._store.acquire()
            self._begun = True
        before = self._sources.begin(self._store)
        made = self._make_changes()
        with self._ticking.lock:
            scripts = self._sources.keep(self._store, self._author)
        self._ticking.begin(scripts, before)
        self._generations.start()  # it is known by now which scripts are paused
        self.acting.set()
        self.begins()
        _tell(made)

    def _redefine(self) -> None:
        made = self._make_changes()
        try:
            with self._ticking.lock:
                scripts = self._sources.keep(self._store, self._author)
            self._ticking.define(scripts)
        except StoreError as error:
            for change in made:
                change.errors.append(RequestError(codes.INTERNAL_ERROR, f"it holds, and could not be written down: {error}"))
            raise
        finally:
            _tell(made)

    def _make_changes(self) -> list[Change]:
        made: list[Change] = []
        while True:
            try:
                change = self._changes.get_nowait()
            except Empty:
                return made
            made.append(change)
            self._author = change.author
            try:
                change.make()
            except RequestError as error:
                change.errors.append(error)

    def _sleep(self, due: float | None) -> None:
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if self._alarm < 0:
            longest = LONGEST if due is None else min(LONGEST, max(0.0, due - time.time()))
            if not poller.poll(longest * 1000):
                self._ticking.look_at_all()
        else:
            libc.set_alarm(self._alarm, due or 0.0)
            poller.register(self._alarm, select.POLLIN)
            woken = {fd for fd, _ in poller.poll()}
            if self._alarm in woken and not _rang(self._alarm):
                self._ticking.look_at_all()
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass


def _tell(made: list[Change]) -> None:
    for change in made:
        change.done.set()


def _rang(alarm: int) -> bool:
    """Whether the alarm has gone off; false when the clock was set instead."""
    try:
        os.read(alarm, 8)
    except BlockingIOError:
        return True
    except OSError:  # ECANCELED
        return False
    return True
