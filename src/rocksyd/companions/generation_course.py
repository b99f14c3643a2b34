"""One generation on its way: hooks and jobs are ordered, their ends are waited for and written down, the next stage begins.

What must live here: the order of these steps. What this file must not know: which stage follows which and what an order is
(``schedule.generation``), the daemon's answers (``generation_asking``), SQL, threads.

Nothing hangs on news, which may have been missed: each job is asked for by its key.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from rocksyd.companions.generation_asking import UNKNOWN, Asking
from rocksyd.companions.generation_store import GenerationStore, Job
from rocksyd.companions.locked_file import StoreError
from rocksyd.posix.log import log
from rocksyd.schedule import generation
from rocksyd.schedule.generation import CANCELLED, ENDED, FAILED, FINISH, INIT, JOBS, OK, QUEUED, Generation
from rocksyd.ticks import JOB_MOST

TROUBLE = 5.0
"""Seconds until anything is tried again after the store could not be written."""
FLUSH, FLUSHED = 200, 0.2
"""Ends that are written down together, at most, and the seconds that they wait for others."""
PAGE = 500
"""Jobs that are read ahead."""


@dataclass
class Shared:
    """What all generations that go on have in common, in the loop's thread."""

    asking: Asking
    clock: Callable[[], float]
    start: Callable[[Coroutine[Any, Any, None]], None]
    store: GenerationStore | None = None
    """There before any of them goes on."""
    paused: Callable[[str], bool] = lambda name: False
    """Whether a script is paused: what it has not begun waits."""
    ended: Callable[[], object] = lambda: None
    """Called when one has ended."""
    courses: dict[str, Course] = field(default_factory=dict)
    """Those that have not ended, by key."""
    of_script: dict[str, dict[str, Course]] = field(default_factory=dict)
    """The same by script, in the order in which they began."""
    waiting: dict[str, set[Course]] = field(default_factory=dict)
    """Those that wait for another to end, by its key."""
    holding: set[Course] = field(default_factory=set)
    """Those that hold a job back, or have, because another is at its data."""
    at: Counter[tuple[str, bytes]] = field(default_factory=Counter)
    """Script and digest of the jobs that are ordered and have not ended."""

    def add(self, course: Course) -> None:
        """Another one goes on."""
        self.courses[course.one.key] = course
        self.of_script.setdefault(course.one.script, {})[course.one.key] = course

    def drop(self, course: Course) -> None:
        """One has ended. Whoever may go on for that is woken, and nobody else: thousands may wait."""
        one = course.one
        del self.courses[one.key], self.of_script[one.script][one.key]
        self.holding.discard(course)
        for other in self.waiting.pop(one.key, ()):
            other.change()
        if (first := next(iter(self.of_script[one.script].values()), None)) is not None:
            first.change()
        else:
            del self.of_script[one.script]

    def wake(self, script: str) -> None:
        """Those of a script look again whether they may begin."""
        for course in self.of_script.get(script, {}).values():
            course.change()


class Course:
    """A generation that has not ended."""

    def __init__(self, one: Generation, shared: Shared) -> None:
        assert shared.store is not None
        self.one = one
        self._shared = shared
        self._store = shared.store
        self._changed = asyncio.Event()
        self._live: dict[int, Job] = {}
        """Jobs that are ordered and have not ended."""
        self._ends: list[tuple[int, str, str | None]] = []
        """How jobs have ended: what is not written down yet."""
        self._held: deque[Job] = deque()
        """Jobs whose data another generation of the script is at."""

    async def go(self) -> None:
        """From where it is to its end. A store that cannot be written is waited for."""
        while self.one.stage != ENDED:
            try:
                await self._stage()
            except StoreError as error:
                log("scheduler", f"generation {self.one.key} waits: {error}")
                await asyncio.sleep(TROUBLE)
            except Exception as error:  # noqa: BLE001  (a fault of ours is one generation's matter, and it is tried again)
                log("scheduler", f"generation {self.one.key} waits after a fault: {type(error).__name__}: {error}")
                await asyncio.sleep(TROUBLE)

    def change(self) -> None:
        """Something has ended, or was added, or somebody ends all of it."""
        self._changed.set()

    async def _change(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    async def _stage(self) -> None:
        if self._killed():
            return await self._cancel()
        if self.one.stage == QUEUED:
            return await self._begin()
        if self.one.stage == INIT:
            return await self._init()
        if self.one.stage == JOBS:
            await self._jobs()
            return None if self._killed() else self._next(FINISH)
        ended = await self._shared.asking.call(generation.hook_order(self.one, FINISH)) if self.one.finish else ("", None)
        return None if self._killed() else self._end(*generation.verdict(self.one, ended[0]))

    def _killed(self) -> bool:
        return bool(self.one.killed)

    def _next(self, stage: str) -> None:
        before, self.one.stage = self.one.stage, stage
        try:
            self._store.save(self.one)
        except StoreError:
            self.one.stage = before
            raise

    def _end(self, outcome: str, reason: str) -> None:
        one = self.one
        before, one.stage = one.stage, ENDED
        one.outcome, one.reason, one.over = outcome, reason, self._shared.clock()
        try:
            self._store.end(one)
        except StoreError:
            one.stage = before
            raise
        self._shared.ended()

    # --- its turn -----------------------------------------------------------------------------------------------------
    async def _begin(self) -> None:
        one = self.one
        while not self._killed() and not self._may_begin():
            await self._change()
        for key in one.needs:
            outcome = await self._outcome_of(key)
            if self._killed():
                return None
            if outcome not in (OK, UNKNOWN):
                return self._end(CANCELLED, f"{key} ended as {outcome}, and it depends on that")
        if self._killed():
            return None
        data = generation.listed(one)
        if data is not None and not one.total:
            self._store.add(one, data)
        one.began = one.began or self._shared.clock()
        return self._next(generation.after_waiting(one))

    def _may_begin(self) -> bool:
        """Whether it is its turn: the first of its script's, which is not paused."""
        first = next(iter(self._shared.of_script[self.one.script]))
        paused = not self.one.by_hand and self._shared.paused(self.one.script)
        return not paused and (not self.one.alone or first == self.one.key)

    async def _outcome_of(self, key: str) -> str:
        """How a run, or a generation, ended; waited for."""
        while not self._killed() and key in self._shared.courses:
            self._shared.waiting.setdefault(key, set()).add(self)
            await self._change()
        found = self._store.get(key)
        return found.outcome if found is not None else (await self._shared.asking.wait(key))[0]

    # --- the hook before ----------------------------------------------------------------------------------------------
    async def _init(self) -> None:
        one = self.one
        outcome, value = await self._shared.asking.call(generation.hook_order(one, INIT))
        if self._killed():
            return None
        if outcome not in (OK, UNKNOWN):
            return self._end(FAILED, f"{one.key}.init ended as {outcome}: no job was begun")
        try:
            if isinstance(value, list) or (value is not None and not one.total):  # who has added jobs may return anything
                self._store.add(one, checked(value))
        except ValueError as error:
            return self._end(FAILED, f"what {one.key}.init has returned is no list of jobs: {error}")
        return self._next(JOBS)

    # --- the jobs -----------------------------------------------------------------------------------------------------
    async def _jobs(self) -> None:
        one = self.one
        places = generation.window(one, 0 if one.instances else await self._shared.asking.workers(one))
        read: deque[Job] = deque()
        last = -1
        while not self._killed():
            while len(self._live) < places:
                if not read and last < one.total - 1:
                    read.extend(self._store.to_do(one.key, last, PAGE))
                    last = read[-1].n if read else one.total - 1
                job = self._one_of(self._held) or self._one_of(read)
                if job is None:
                    break
                self._live[job.n] = job
                self._shared.at[one.script, job.digest] += 1
                self._shared.start(self._job(job))
            if not (self._live or read or self._held) and last >= one.total - 1:
                break
            await self._change()
        while self._ends and not self._killed():
            self.flush()
            if self._ends:
                await asyncio.sleep(TROUBLE)

    def _one_of(self, jobs: deque[Job]) -> Job | None:
        """The next job whose data no other generation of the script is at."""
        for _ in range(len(jobs)):
            job = jobs.popleft()
            if not self._shared.at[self.one.script, job.digest]:
                return job
            self._held.append(job)
            self._shared.holding.add(self)
        return None

    async def _job(self, job: Job) -> None:
        one, at = self.one, (self.one.script, job.digest)
        outcome, value = await self._shared.asking.call(generation.job_order(one, job.n, job.data))
        self._ends.append((job.n, outcome, None if value is None else json.dumps(value)))
        del self._live[job.n]
        self._shared.at[at] -= 1
        if not self._shared.at[at]:
            del self._shared.at[at]
        if len(self._ends) >= FLUSH:
            self.flush()
        elif len(self._ends) == 1:
            asyncio.get_running_loop().call_later(FLUSHED, self.flush)
        self.change()
        for other in self._shared.holding:
            if other._held and other.one.script == one.script:
                other.change()

    def flush(self) -> None:
        """Write down what has ended. What cannot be written now is with the next; after a crash the daemon is asked again."""
        if self._ends:
            try:
                self._store.ended(self.one, self._ends)
            except StoreError as error:
                log("scheduler", f"generation {self.one.key}: ends wait to be written: {error}")
            else:
                self._ends = []

    # --- ended by somebody --------------------------------------------------------------------------------------------
    async def kill(self, who: str) -> list[str]:
        """End it; answers the keys of the runs that had begun."""
        self.one.killed = self.one.killed or who
        self._store.save(self.one)
        self.change()
        return await self._terminate()

    async def _terminate(self) -> list[str]:
        numbers = list(self._live) or [job.n for job in self._store.to_do(self.one.key, -1, PAGE)]
        return await self._shared.asking.terminate(list(generation.keys(self.one, numbers)))

    async def _cancel(self) -> None:
        """What runs is ended and waited for, the rest is not begun."""
        await self._terminate()
        while self._live:
            await self._change()
        self.flush()
        self._store.cancel_rest(self.one)
        self._end(*generation.verdict(self.one, ""))


def checked(jobs: Any) -> list[Any]:
    """The data of jobs. Raises ValueError, which says what is wrong with them."""
    if not isinstance(jobs, list):
        raise ValueError(f"expected an array of the jobs' data, got {type(jobs).__name__}")
    if any(len(json.dumps(one)) > JOB_MOST for one in jobs):
        raise ValueError(f"the data of a job may have {JOB_MOST:,} bytes of JSON; let the job read from a file what is larger")
    return jobs
