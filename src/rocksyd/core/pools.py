"""A pool: its workers, and how many there should be.

What must live here: the bookkeeping of workers, the size policies.
What this file must not know: how a process is made or ended; it never forks.

The policies are php-fpm's (``pm = static | dynamic | ondemand``): https://www.php.net/manual/en/install.fpm.configuration.php
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rocksyd.config import PoolConfig
from rocksyd.core import lifecycle

STARTING, IDLE, BUSY, LEAVING, GONE = "starting", "idle", "busy", "leaving", "gone"

SHRINK_INTERVAL = 1.0
"""Seconds between two idle workers sent away, as in php-fpm: sizes follow the load down slowly."""
SPAWN_LIMIT = 32
"""Most workers asked for and not there yet."""


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
    """False after a crash of the master, until the worker itself has said whether it got its job."""

    def step(self, action: str, now: float) -> None:
        """Take one step of the worker's lifecycle."""
        self.state = lifecycle.step(lifecycle.WORKER, self.state, action)
        self.since = now

    def dump(self) -> dict[str, Any]:
        """Plain data for a snapshot."""
        return asdict(self)


class Pool:
    """The workers of one pool of one application."""

    def __init__(self, name: str, policy: PoolConfig) -> None:
        self.name = name
        self.policy = policy
        self.workers: dict[int, Worker] = {}
        self.idle: dict[int, Worker] = {}
        """Idle workers of the generation that serves, oldest first."""
        self.starting = 0
        self.busy = 0
        self.leaving = 0
        self.shrink_at = 0.0
        self.reminded = 0.0
        """The moment at which the engine looks at this pool again; 0 for none."""
        self.fork_after = 0.0
        """No fork before this moment: the last one failed."""
        self.failures = 0
        self.max_reached = 0
        self.peak_busy = 0
        self.served = 0

    @property
    def live(self) -> int:
        """Workers that count against ``max_workers``: a leaving one has answered and does not."""
        return self.starting + self.busy + len(self.idle)

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
        else:
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
            case "idle" if by > 0:
                self.idle[worker.number] = worker
            case "idle":
                self.idle.pop(worker.number, None)

    def missing(self, waiting: int, now: float) -> int:
        """How many workers to ask for now, with ``waiting`` runs that could start.

        A worker that is leaving keeps its memory for a few milliseconds more; at most ``max_workers`` of them are
        left out of the count, so a pool never has more than twice its processes.
        """
        policy = self.policy
        if now < self.fork_after:
            return 0
        room = policy.max_workers - self.live - max(0, self.leaving - policy.max_workers)
        if policy.pm == "static":
            wanted = policy.max_workers - self.live
        else:
            spare = policy.min_spare if policy.pm == "dynamic" else 0
            wanted = spare + waiting - self.starting - len(self.idle)
            if wanted > room and waiting > self.starting + len(self.idle):
                self.max_reached += 1
        return max(0, min(wanted, room, SPAWN_LIMIT - self.starting))

    def surplus(self, waiting: int, now: float) -> Worker | None:
        """An idle worker that should leave now, if any: at most one a ``SHRINK_INTERVAL``."""
        if waiting or not self.idle:
            return None
        oldest = next(iter(self.idle.values()))
        policy = self.policy
        if policy.pm == "ondemand":
            return oldest if now >= oldest.since + policy.idle_timeout else None
        limit = policy.max_workers if policy.pm == "static" else policy.max_spare
        if len(self.idle) <= limit or now < self.shrink_at:
            return None
        self.shrink_at = now + SHRINK_INTERVAL
        return oldest

    def shrink_due(self, waiting: int) -> float:
        """When ``surplus`` wants to be asked again; 0 for never (so that an idle pool does not wake anybody)."""
        if waiting or not self.idle:
            return 0.0
        if self.policy.pm == "ondemand":
            return next(iter(self.idle.values())).since + self.policy.idle_timeout
        if self.policy.pm == "dynamic" and len(self.idle) > self.policy.max_spare:
            return self.shrink_at
        return 0.0

    def fork_failed(self, now: float) -> float:
        """Note a failed fork; returns the moment of the next try (0.1 s doubling to 10 s)."""
        self.failures += 1
        self.fork_after = now + min(10.0, 0.1 * 2 ** min(self.failures - 1, 10))
        return self.fork_after
