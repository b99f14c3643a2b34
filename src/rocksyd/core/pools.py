"""A pool: its workers, and how many there should be.

What must live here: the bookkeeping of workers, the size policies.
What this file must not know: how a process is made or ended; it never forks.

The policies are php-fpm's (``pm = static | dynamic | ondemand``): https://www.php.net/manual/en/install.fpm.configuration.php
Its spawn rate that doubles every second is not: forks here come one after another from one zygote and are asked for by events,
so ``spawn_rate`` only limits how many may be on their way.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rocksyd.config import PoolConfig
from rocksyd.core import lifecycle
from rocksyd.core.memory import Memory

STARTING, IDLE, BUSY, LEAVING, GONE = "starting", "idle", "busy", "leaving", "gone"

SHRINK_INTERVAL = 1.0
"""Seconds between two idle workers sent away, as in php-fpm: sizes follow the load down slowly."""
REFILL_DELAY = 0.005
"""Seconds that the replacement of a spare waits for the end of the job that took it: most that anybody waits for are short."""
FORK_RETRY_FIRST, FORK_RETRY_MOST = 0.1, 10.0
"""Seconds to the next try after a fork that failed."""
_SPREAD = 2654435761
"""Knuth's multiplicative hash: numbers that follow each other come out far from each other."""
_CARRIED = ("served", "max_reached", "full", "peak_busy", "failures", "fork_after", "shrink_at", "refill_at")


@dataclass(slots=True)
class Worker:
    """One worker process, as the master knows it."""

    number: int
    app: str
    pool: str
    generation: int
    slot: int
    state: str = STARTING
    pid: int = 0
    run: str = ""
    jobs: int = 0
    since: float = 0.0
    """CLOCK_MONOTONIC seconds of the last change of state."""
    sure: bool = True
    """False after a crash of the master, until the worker itself has said that it has nothing to do."""
    last: bool = False
    """It has been told to leave after the run it has."""

    def step(self, action: str, now: float) -> None:
        """Take one step of the worker's lifecycle."""
        self.state = lifecycle.step(lifecycle.WORKER, self.state, action)
        self.since = now

    def dump(self) -> dict[str, Any]:
        """Plain data for a snapshot."""
        return asdict(self)

    @classmethod
    def load(cls, data: dict[str, Any]) -> Worker:
        """The worker that ``dump`` wrote, by this version or another: unknown keys are ignored."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


class Pool:
    """The workers of one pool of one application."""

    def __init__(self, name: str, policy: PoolConfig) -> None:
        self.name = name
        """The pool id: ``app`` for an application's own pool, ``app/name`` for another of its pools."""
        self.app = name.partition("/")[0]
        self.policy = policy
        self.workers: dict[int, Worker] = {}
        self.idle: dict[int, Worker] = {}
        """Idle workers that may be given a job, longest idle first."""
        self.unsure = 0
        """Idle workers that have not said so themselves yet."""
        self.starting = 0
        self.busy = 0
        self.leaving = 0
        self.warm = 0
        """As many workers to begin with (``start_workers``); 0 once they were there."""
        self.shrink_at = 0.0
        self.reminded = 0.0
        """The moment at which the engine looks at this pool again; 0 for none."""
        self.fork_after = 0.0
        """No fork before this moment: the last one failed."""
        self.refill_at = 0.0
        """The spare that was taken last is replaced at this moment, or when a job has ended; at once when no other is there."""
        self.failures = 0
        self.full = False
        """Whether more workers are wanted than ``max_workers`` allows."""
        self.max_reached = 0
        """How often it has become full."""
        self.peak_busy = 0
        self.served = 0
        self.memory = Memory()

    # --- bookkeeping --------------------------------------------------------------------------------------------------
    @property
    def live(self) -> int:
        """Workers that count against ``max_workers``: a leaving one has answered and does not."""
        return self.starting + self.busy + len(self.idle) + self.unsure

    def add(self, worker: Worker) -> None:
        """Take a worker in, in whatever state it is."""
        self.workers[worker.number] = worker
        self._count(worker, 1)

    def move(self, worker: Worker, action: str, now: float) -> None:
        """One step of a worker's lifecycle, with the counters following."""
        self._count(worker, -1)
        worker.step(action, now)
        if worker.state == GONE:
            del self.workers[worker.number]
            self.memory.forget(worker.number)
        else:
            self._count(worker, 1)

    def settle(self, worker: Worker) -> None:
        """The worker has said itself that it has nothing to do."""
        self._count(worker, -1)
        worker.sure = True
        self._count(worker, 1)

    def _count(self, worker: Worker, by: int) -> None:
        match worker.state:
            case "starting":
                self.starting += by
            case "busy":
                self.busy += by
                self.peak_busy = max(self.peak_busy, self.busy)
            case "leaving":
                self.leaving += by
            case "idle" if not worker.sure:
                self.unsure += by
            case "idle" if by > 0:
                self.idle[worker.number] = worker
            case "idle":
                del self.idle[worker.number]

    def next_worker(self) -> Worker | None:
        """Who gets the next job: who has been idle for the shortest time, so that those that are not needed stay idle.

        Where a worker runs one job only, it is the oldest: the youngest may still be busy getting ready.
        """
        idle = self.idle.values()
        return next(iter(idle) if self.policy.max_jobs == 1 else reversed(idle), None)

    def gave_job(self, now: float) -> None:
        """An idle worker has been given a job: forking another one would be in its way, and can wait while there are more."""
        self.refill_at = now + REFILL_DELAY

    def next_is_last(self, worker: Worker) -> bool:
        """Whether the worker leaves after its next job. The jitter follows from its number: spread evenly, and no dice."""
        policy = self.policy
        jitter = (worker.number * _SPREAD & 0xFFFFFFFF) * (policy.max_jobs_jitter + 1) >> 32
        return bool(policy.max_jobs) and worker.jobs + 1 >= policy.max_jobs + jitter

    # --- size ---------------------------------------------------------------------------------------------------------
    def missing(self, waiting: int, now: float) -> int:
        """How many workers to ask for now, with ``waiting`` runs that could start.

        A worker that is leaving keeps its memory for a few milliseconds more; at most ``max_workers`` of them are
        left out of the count, so a pool never has more than twice its processes.
        """
        room = self.policy.max_workers - self.live - max(0, self.leaving - self.policy.max_workers)
        wanted = self._wanted(waiting)
        full = self.policy.pm != "static" and waiting > 0 and wanted > room
        self.max_reached += full and not self.full
        self.full = full
        if now < self.fork_after:
            return 0
        if self.live >= self.warm:
            self.warm = 0
        if self._may_wait(waiting, now):
            return 0
        afford = self.memory.room(self.policy, len(self.workers))
        self.memory.full = min(wanted, room) > afford
        return max(0, min(wanted, room, self.policy.spawn_rate - self.starting, afford))

    def _may_wait(self, waiting: int, now: float) -> bool:
        return not waiting and now < self.refill_at and len(self.idle) > 0

    def _wanted(self, waiting: int) -> int:
        coming = self.starting + len(self.idle) + self.unsure
        match self.policy.pm:
            case "static":
                return self.policy.max_workers - self.live
            case "dynamic":
                return max(self.policy.min_spare + waiting - coming, self.warm - self.live)
            case _:
                return waiting - coming

    def surplus(self, waiting: int, now: float) -> Worker | None:
        """An idle worker that should leave now, if any: at most one a ``SHRINK_INTERVAL`` but for ``idle_timeout``."""
        if waiting or not self.idle:
            return None
        oldest = next(iter(self.idle.values()))
        if self.policy.pm == "ondemand" and now >= oldest.since + self.policy.idle_timeout:
            return oldest
        if not self._too_many or now < self.shrink_at:
            return None
        self.shrink_at = now + SHRINK_INTERVAL
        return oldest

    @property
    def _too_many(self) -> bool:
        most_idle = self.policy.max_spare if self.policy.pm == "dynamic" else self.policy.max_workers
        return len(self.idle) > most_idle or self.live > self.policy.max_workers

    def look_again(self, waiting: int, now: float) -> float:
        """When the pool wants to be looked at without an event; 0 for never (so that an idle pool does not wake anybody)."""
        moments = []
        if self.idle and not waiting:
            if self.policy.pm == "ondemand":
                moments.append(next(iter(self.idle.values())).since + self.policy.idle_timeout)
            if self._too_many:
                moments.append(self.shrink_at)
        if now < self.fork_after and self._wanted(waiting) > 0:
            moments.append(self.fork_after)
        elif self._may_wait(waiting, now) and self._wanted(waiting) > 0:
            moments.append(self.refill_at)
        return min(moments, default=0.0)

    def begin(self) -> None:
        """There is a new zygote to fork from."""
        self.failures, self.fork_after = 0, 0.0
        self.warm = min(self.policy.start_workers, self.policy.max_workers) if self.policy.pm == "dynamic" else 0

    def served_one(self) -> None:
        """A worker has brought a result: workers can be had, and are of use."""
        self.served += 1
        self.failures = 0
        self.refill_at = 0.0

    def fork_failed(self, now: float) -> float:
        """Note a fork that failed, or a worker that did not live to its first job; returns the moment of the next try."""
        self.failures += 1
        self.fork_after = now + min(FORK_RETRY_MOST, FORK_RETRY_FIRST * 2 ** min(self.failures - 1, 10))
        return self.fork_after

    # --- hand-over ----------------------------------------------------------------------------------------------------
    def dump(self) -> dict[str, Any]:
        """Plain data for a snapshot: what does not follow from the workers."""
        return {name: getattr(self, name) for name in _CARRIED}

    def load(self, data: dict[str, Any]) -> None:
        """Take over what ``dump`` wrote, in this version or another."""
        for name in _CARRIED:
            if name in data:
                setattr(self, name, data[name])
