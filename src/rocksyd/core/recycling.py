"""Which workers have done their part, and that they are replaced a few at a time, the replacement first.

What must live here: ``max_jobs``, ``max_age``, their jitter, and who is replaced by whom.
What this file must not know: sizes, runs, clocks; how a worker is forked or sent away.

php-fpm's children that began together reach ``pm.max_requests`` together and are forked anew together: a sawtooth of forks, cold
caches and waiting. Here each worker has limits of its own (the jitter), and at most ``recycle`` workers of a pool are being
replaced at a time. A worker whose limit is reached goes on serving until its replacement is idle; so nobody waits for a
recycling, and a worker may serve somewhat longer than its limits say. Meanwhile there is one process more than
``max_workers``, never a job more.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from rocksyd.config import PoolConfig
from rocksyd.core.worker import Worker

_SPREAD = 2654435761
"""Knuth's multiplicative hash: numbers that follow each other come out far from each other."""


def share(number: int) -> float:
    """Which part of a jitter, from 0 to below 1, the worker with this number gets: spread evenly, and no dice."""
    return (number * _SPREAD & 0xFFFFFFFF) / 2**32


def jobs_limit(policy: PoolConfig, worker: Worker) -> int:
    """Jobs after which this worker is to be replaced; 0 for never."""
    return policy.max_jobs + int(share(worker.number) * (policy.max_jobs_jitter + 1)) if policy.max_jobs else 0


def age_limit(policy: PoolConfig, worker: Worker) -> float:
    """CLOCK_MONOTONIC seconds at which this worker is to be replaced; 0 for never."""
    if not policy.max_age or not worker.born:
        return 0.0
    return worker.born + policy.max_age + share(worker.number) * policy.max_age_jitter


class Recycling:
    """The workers of one pool that are due, those being replaced, and when the next is too old."""

    def __init__(self) -> None:
        self.replaced: dict[int, Worker] = {}
        """Those whose replacement has been ordered, by number; ``successor`` says which it is."""
        self.done = 0
        """How many were replaced."""
        self._due: dict[int, Worker] = {}
        """Those that have reached a limit, in that order, and are not being replaced yet."""
        self._ages: list[tuple[float, int]] = []
        """A heap: when each worker is too old. Those that left before stay until their turn comes."""
        self._members: dict[int, Worker] = {}

    # --- who is due ---------------------------------------------------------------------------------------------------
    def take_in(self, worker: Worker, policy: PoolConfig) -> None:
        """A worker of the code that serves; one that was handed over may be due, or half replaced."""
        self._members[worker.number] = worker
        if worker.successor:
            self.replaced[worker.number] = worker
            return
        moment = age_limit(policy, worker)
        if moment:
            heappush(self._ages, (moment, worker.number))
        self.worked(worker, policy)

    def worked(self, worker: Worker, policy: PoolConfig) -> None:
        """A worker may have done its last job but for those that come before its replacement does."""
        limit = jobs_limit(policy, worker)
        if limit and worker.jobs >= limit and worker.number in self._members and not worker.successor:
            self._due[worker.number] = worker

    def outdate(self, worker: Worker) -> None:
        """It is to be replaced whatever it has done: workers are forked from elsewhere now."""
        if worker.number in self._members and not worker.successor:
            self._due[worker.number] = worker

    def grow_old(self, now: float) -> None:
        """Note whom time has made due."""
        while self._ages and self._ages[0][0] <= now:
            worker = self._members.get(heappop(self._ages)[1])
            if worker is not None and not worker.successor:
                self._due[worker.number] = worker

    def next_age(self) -> float:
        """When the next worker is too old; 0 for never."""
        while self._ages and (self._ages[0][1] not in self._members):
            heappop(self._ages)
        return self._ages[0][0] if self._ages else 0.0

    @property
    def members(self) -> tuple[Worker, ...]:
        """All that are looked after."""
        return tuple(self._members.values())

    @property
    def waiting(self) -> bool:
        """Whether somebody is due whose replacement has not been ordered."""
        return bool(self._due)

    # --- replacing ----------------------------------------------------------------------------------------------------
    def candidates(self, policy: PoolConfig) -> Iterator[Worker]:
        """Whose replacement is to be ordered now: the idle before the busy, who may be so for long; then by who was due first."""
        if len(self.replaced) >= policy.recycle:
            return
        for worker in sorted(self._due.values(), key=lambda worker: worker.state != "idle"):
            if len(self.replaced) >= policy.recycle:
                return
            if worker.state in ("idle", "busy"):
                yield worker

    def order(self, worker: Worker, successor: int) -> None:
        """A replacement for ``worker`` has been ordered."""
        del self._due[worker.number]
        worker.successor = successor
        self.replaced[worker.number] = worker

    def came(self, successor: int) -> Worker | None:
        """The worker that this one replaces, which is over now; None when it replaces nobody."""
        worker = self._predecessor(successor)
        if worker is not None and not worker.over:
            worker.over = True
            self.done += 1
        return worker

    def failed(self, successor: int) -> None:
        """A replacement never came, or is gone before it did: its predecessor is due as before."""
        worker = self._predecessor(successor)
        if worker is not None and not worker.over:
            worker.successor = 0
            del self.replaced[worker.number]
            self._due[worker.number] = worker

    def _predecessor(self, successor: int) -> Worker | None:
        return next((worker for worker in self.replaced.values() if worker.successor == successor), None)

    # --- leaving ------------------------------------------------------------------------------------------------------
    def forget(self, worker: Worker) -> None:
        """It leaves, for whatever reason, or its code is not what serves any more."""
        for table in (self._members, self._due, self.replaced):
            table.pop(worker.number, None)
        if len(self._ages) > 64 + 4 * len(self._members):
            self._ages = [entry for entry in self._ages if entry[1] in self._members]
            heapify(self._ages)
