"""The generations that go on, in a thread with a loop of their own.

What must live here: the thread, and what other threads ask of it. What this file must not know: how one goes on
(``generation_course``).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from rocksyd import codes
from rocksyd.client import AsyncClient
from rocksyd.companions.generation_asking import Asking
from rocksyd.companions.generation_course import TROUBLE, Course, Shared
from rocksyd.companions.generation_store import GenerationStore
from rocksyd.companions.locked_file import StoreError
from rocksyd.errors import RequestError
from rocksyd.posix.log import log
from rocksyd.schedule.generation import INIT, JOBS, QUEUED, Generation

T = TypeVar("T")


class Generations:
    """All generations of the scheduler that acts."""

    def __init__(self, path: str, address: str, token: str, paused: Callable[[str], bool]) -> None:
        self._path = path
        asking = Asking(AsyncClient(address, token or None, patience=30.0))
        self._shared = Shared(asking, time.time, self._start, paused=paused)
        self._loop = asyncio.new_event_loop()
        self._known = 0
        """The number of the last one in the store that goes on here, or has."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="generations", daemon=True)

    @property
    def store(self) -> GenerationStore:
        """What is kept of them; there from when this scheduler acts."""
        assert self._shared.store is not None
        return self._shared.store

    # --- for other threads --------------------------------------------------------------------------------------------
    def tell(self, ended: Callable[[], object]) -> None:
        """Have this called whenever one has ended; before ``start``."""
        self._shared.ended = ended

    def start(self) -> None:
        """Go on with what has not ended. The store is this scheduler's from now on."""
        if self._shared.store is not None:
            return
        self._shared.store = GenerationStore(self._path)
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Leave all of it to the next scheduler."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        self.store.close()

    def look(self) -> None:
        """There are new ones in the store."""
        self._loop.call_soon_threadsafe(self._begin_new)

    def resumed(self, script: str) -> None:
        """A script is paused no longer."""
        self._loop.call_soon_threadsafe(self._shared.wake, script)

    def going_of(self, script: str) -> list[Generation]:
        """Those of a script that have not ended."""
        return self.store.going_of(script)

    def add(self, key: str, jobs: list[Any]) -> dict[str, int]:
        """Add jobs to a generation whose jobs are not over. Raises RequestError, StoreError, Full."""
        return self._within(self._add(key, jobs))

    def kill(self, key: str, who: str) -> list[str]:
        """End a generation: what waits is not run, what runs gets TERM. Answers the keys of these."""
        return self._within(self._kill(key, who))

    def _within(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # --- in the thread ------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        async def main() -> None:
            self._begin_new()
            self._ready.set()
            await self._stopped.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for course in self._shared.courses.values():
                course.flush()
            await self._shared.asking.close()

        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(main())

    def _begin_new(self) -> None:
        try:
            found = self.store.going(self._known)
        except StoreError as error:
            log("scheduler", f"generations wait: {error}")
            self._loop.call_later(TROUBLE, self._begin_new)
            return
        for number, one in found:
            self._known = number
            course = Course(one, self._shared)
            self._shared.add(course)
            self._start(self._serve(course))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, course: Course) -> None:
        await course.go()
        self._shared.drop(course)

    async def _add(self, key: str, jobs: list[Any]) -> dict[str, int]:
        course = self._shared.courses.get(key)
        if course is None or course.one.stage not in (INIT, JOBS) or course.one.killed:
            known = self.store.get(key)
            if known is None:
                advice = "rocksyd schedule show has the keys of a script's generations"
                raise RequestError(codes.NOT_FOUND, f"there is no generation {key!r}", data={"advice": advice})
            text = f"{key} has not begun" if known.stage == QUEUED else f"the jobs of {key} are over"
            data = {"over": known.stage != QUEUED, "advice": "add jobs in its init hook, or in one of its jobs"}
            raise RequestError(codes.NOT_NOW, text, data=data)
        added = self.store.add(course.one, jobs)
        course.change()
        return {"added": added, "known": len(jobs) - added, "total": course.one.total}

    async def _kill(self, key: str, who: str) -> list[str]:
        course = self._shared.courses.get(key)
        return await course.kill(who) if course is not None else []
