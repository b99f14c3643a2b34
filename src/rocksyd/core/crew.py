"""The workers of a pool and how many of them are in which state.

What must live here: the bookkeeping, and who is given the next run.
What this file must not know: how many workers there should be (``pools``); how a process is made or ended.
"""

from __future__ import annotations

from rocksyd.config import PoolConfig
from rocksyd.core.admission import Admission
from rocksyd.core.memory import Memory
from rocksyd.core.recycling import Recycling
from rocksyd.core.refork import Refork
from rocksyd.core.trouble import Trouble
from rocksyd.core.worker import BUSY, GONE, LEAVING, Worker

REFILL_DELAY = 0.005
"""Seconds that the replacement of a spare waits for the end of the job that took it: most that anybody waits for are short."""


class Crew:
    """The workers of one pool of one application, counted."""

    def __init__(self, name: str, policy: PoolConfig) -> None:
        self.name = name
        """The pool id: ``app`` for an application's own pool, ``app/name`` for another of its pools."""
        self.app = name.partition("/")[0]
        self.policy = policy
        self.workers: dict[int, Worker] = {}
        self.idle: dict[int, Worker] = {}
        """Idle workers that may be given a job, longest idle first."""
        self.generation = 0
        """Of the code that serves, as of the last time the pool was balanced; a busy worker of another gets no more runs."""
        self.unsure = 0
        """Idle workers that have not said so themselves yet."""
        self.starting = 0
        self.busy = 0
        self.leaving = 0
        self.warm = 0
        """As many workers to begin with (``start_workers``); 0 once they were there."""
        self.rate = 1
        """As many spares may be forked next; doubled as long as they are short."""
        self.recycling = Recycling()
        self.trouble = Trouble()
        self.refork = Refork()
        self.shrink_at = 0.0
        self.reminded = 0.0
        """The moment at which the engine looks at this pool again; 0 for none."""
        self.refill_at = 0.0
        """The spare that was taken last is replaced at this moment, or when a job has ended; at once when no other is there."""
        self.full = False
        """Whether more workers are wanted than ``max_workers`` allows."""
        self.left_full = 0.0
        """When it was full last; 0 for never."""
        self.max_reached = 0
        """How often it has become full, after at least CALM seconds of not being so."""
        self.peak_busy = 0
        self.peak_waiting = 0
        self.served = 0
        self.memory = Memory()
        self.admission = Admission()

    # --- bookkeeping --------------------------------------------------------------------------------------------------
    @property
    def live(self) -> int:
        """Workers that count against ``max_workers``: a leaving one has answered and does not."""
        return self.starting + self.busy + len(self.idle) + self.unsure

    def use(self, policy: PoolConfig) -> None:
        """From now on another policy holds, also for the workers there are."""
        self.policy = policy
        before, self.recycling = self.recycling, Recycling()
        self.recycling.done = before.done
        for worker in before.members:
            self.recycling.take_in(worker, policy)

    def add(self, worker: Worker) -> None:
        """Take a worker in, in whatever state it is."""
        self.workers[worker.number] = worker
        self._count(worker, 1)
        if worker.state != LEAVING:
            self.recycling.take_in(worker, self.policy)

    def move(self, worker: Worker, action: str, now: float) -> None:
        """One step of a worker's lifecycle, with the counters following."""
        self._count(worker, -1)
        worker.step(action, now)
        if worker.state in (LEAVING, GONE):
            self.recycling.forget(worker)
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

        Where a worker runs one job only, it is the oldest: the youngest may still be busy getting ready. Nobody gets one while
        ``max_workers`` are busy: then the idle one is there to replace one of them.

        Where runs share workers it is the fullest that has room, so that those that are not needed become idle and can leave.
        """
        if self.policy.concurrency > 1 and (worker := self._fullest()) is not None:
            return worker
        if self.busy - len(self.draining) >= self.policy.max_workers:
            return None
        idle = self.idle.values()
        return next(iter(idle) if self.policy.max_jobs == 1 else reversed(idle), None)

    def _fullest(self) -> Worker | None:
        most = self.policy.concurrency
        room = (w for w in self.workers.values() if w.state == BUSY and w.sure and len(w.runs) < min(w.capacity, most))
        return max((w for w in room if self._takes_more(w)), key=lambda worker: len(worker.runs), default=None)

    def _takes_more(self, worker: Worker) -> bool:
        return not worker.over and worker.generation == self.generation

    @property
    def draining(self) -> list[Worker]:
        """Busy workers whose runs go on while no more are given to them: others take their place meanwhile.

        None where a worker is at one run only: it has no place to give, and never a run more than ``max_workers`` is begun.
        """
        if self.policy.concurrency == 1:
            return []
        return [worker for worker in self.workers.values() if worker.state == BUSY and not self._takes_more(worker)]

    @property
    def has_room(self) -> bool:
        """Whether there is a worker that could be given a run."""
        return bool(self.idle) or (self.policy.concurrency > 1 and self._fullest() is not None)

    def died(self, reason: str, now: float) -> str:
        """One of its workers died before it had done anything. Returns what to write into the log, "" for nothing."""
        return self.trouble.died(reason, now, self.policy.park_after)

    def gave_job(self, now: float) -> None:
        """An idle worker has been given a job: forking another one would be in its way, and can wait while there are more."""
        self.refill_at = now + REFILL_DELAY
