"""A pool: its workers, and how many there should be.

What must live here: the bookkeeping of workers, the size policies.
What this file must not know: how a process is made or ended; it never forks.

The policies are php-fpm's (``pm = static | dynamic | ondemand``): https://www.php.net/manual/en/install.fpm.configuration.php
So is the spawn rate that doubles as long as spares are short (fpm_process_ctl.c, ``idle_spawn_rate``), but it doubles when the
last ones have come, not every second; and who is needed for a run that waits is forked at once, at most ``spawn_rate`` at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from rocksyd.config import PoolConfig
from rocksyd.core import lifecycle
from rocksyd.core.admission import Admission
from rocksyd.core.memory import Memory
from rocksyd.core.recycling import Recycling
from rocksyd.core.refork import Refork
from rocksyd.core.trouble import Trouble

STARTING, IDLE, BUSY, LEAVING, GONE = "starting", "idle", "busy", "leaving", "gone"

SHRINK_INTERVAL = 1.0
"""Seconds between two idle workers sent away, as in php-fpm: sizes follow the load down slowly."""
REFILL_DELAY = 0.005
"""Seconds that the replacement of a spare waits for the end of the job that took it: most that anybody waits for are short."""
CALM = 1.0
"""Seconds without being full after which a pool that becomes full again is full for another time."""
_CARRIED = ("served", "max_reached", "full", "left_full", "peak_busy", "peak_waiting", "shrink_at", "refill_at", "rate")


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
    runs: dict[str, None] = field(default_factory=dict)
    """Keys of the runs it is at, the oldest first; more than one only where ``capacity`` is."""
    jobs: int = 0
    since: float = 0.0
    """CLOCK_MONOTONIC seconds of the last change of state."""
    sure: bool = True
    """False after a crash of the master, until the worker itself has said that it has nothing to do."""
    last: bool = False
    """It has been told to leave after the run it has."""
    born: float = 0.0
    """CLOCK_MONOTONIC seconds at which it was ordered; 0 where nobody knows any more."""
    successor: int = 0
    """The number of the worker that was ordered to take its place."""
    over: bool = False
    """Its successor is there, or it has grown too large: it gets no more runs, and leaves when it has none any more."""
    template: int = 0
    """Who forked it: a template, by its number; 0 for the zygote, negative when that is gone."""
    capacity: int = 1
    """Runs that it can be at at the same time, as it was forked for (``concurrency``)."""

    @property
    def run(self) -> str:
        """The key of the run it is at, of several the oldest; "" for none."""
        return next(iter(self.runs), "")

    @property
    def shared(self) -> bool:
        """Whether runs share it: then nothing may be done to its process because of one of them."""
        return self.capacity > 1

    def step(self, action: str, now: float) -> None:
        """Take one step of the worker's lifecycle."""
        self.state = lifecycle.step(lifecycle.WORKER, self.state, action)
        self.since = now

    def dump(self) -> dict[str, Any]:
        """Plain data for a snapshot; ``run`` is for a version that knows of one at a time."""
        return asdict(self) | {"runs": list(self.runs), "run": self.run}

    @classmethod
    def load(cls, data: dict[str, Any]) -> Worker:
        """The worker that ``dump`` wrote, by this version or another: unknown keys are ignored."""
        runs = data.get("runs") or [key for key in (data.get("run"),) if key]
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data} | {"runs": dict.fromkeys(runs)})


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

    def _places(self, waiting: int) -> int:
        """Workers that ``waiting`` runs need."""
        return -(-waiting // self.policy.concurrency)

    def gave_job(self, now: float) -> None:
        """An idle worker has been given a job: forking another one would be in its way, and can wait while there are more."""
        self.refill_at = now + REFILL_DELAY

    # --- size ---------------------------------------------------------------------------------------------------------
    def missing(self, waiting: int, now: float, *, ready: bool = True) -> int:
        """How many workers to ask for now, with ``waiting`` runs that could start; none while there is no zygote to ask.

        A worker that is leaving keeps its memory for a few milliseconds more; at most ``max_workers`` of them are
        left out of the count, so a pool never has more than twice its processes.
        """
        self.peak_waiting = max(self.peak_waiting, waiting)
        waiting = self._places(waiting)
        ending = self.leaving + len(self.draining)
        room = self.policy.max_workers - self._counted - max(0, ending - self.policy.max_workers)
        wanted = self._wanted(waiting)
        self._note_full(waiting > 0 and waiting - self._coming > room, now)
        if wanted <= 0 and not self.starting:
            self.rate = 1
        if self.trouble.stops(now) or not ready:
            return 0
        if self._counted >= self.warm:
            self.warm = 0
        if self._may_wait(waiting, now):
            return 0
        self.memory.full = min(wanted, room) > self._affordable
        possible = min(wanted, room, self.policy.spawn_rate - self.starting, self._affordable)
        return max(0, self._paced(possible, waiting))

    @property
    def _affordable(self) -> int:
        """Workers that there is memory for, beside those there are."""
        return self.memory.room(self.policy, len(self.workers))

    def _note_full(self, full: bool, now: float) -> None:
        if full and not self.full:
            self.max_reached += not self.left_full or now - self.left_full >= CALM
        elif self.full and not full:
            self.left_full = now
        self.full = full

    def _paced(self, possible: int, waiting: int) -> int:
        """Of the possible, all that runs or the start wait for; of mere spares 1, then 2, 4 ... as those before have come."""
        if self.policy.pm != "dynamic":
            return possible
        at_once = max(waiting - self._coming, self.warm - self._counted, 0)
        if possible <= at_once or self.starting:
            return min(possible, at_once)
        spares = min(possible - at_once, self.rate)
        self.rate = min(2 * self.rate, self.policy.spawn_rate)
        return at_once + spares

    def _may_wait(self, waiting: int, now: float) -> bool:
        return not waiting and now < self.refill_at and len(self.idle) > 0

    @property
    def _counted(self) -> int:
        """Live workers, one that is being replaced and its replacement counting as one."""
        draining = sum(worker.number not in self.recycling.replaced for worker in self.draining)
        return self.live - len(self.recycling.replaced) - draining

    @property
    def _coming(self) -> int:
        """Workers that a run could get, now or in a moment."""
        twice = sum(worker.state == IDLE for worker in self.recycling.replaced.values())
        return self.starting + len(self.idle) + self.unsure - twice

    def _wanted(self, waiting: int) -> int:
        match self.policy.pm:
            case "static":
                return self.policy.max_workers - self._counted
            case "dynamic":
                return max(self.policy.min_spare + waiting - self._coming, self.warm - self._counted)
            case _:
                return waiting - self._coming

    def to_replace(self, now: float) -> Iterator[Worker]:
        """Workers to be replaced, one after another: what is done about one decides whether there is a next."""
        self.recycling.grow_old(now)
        if self.recycling.waiting and not self.trouble.stops(now):
            yield from self.recycling.candidates(self.policy)

    def can_replace(self, worker: Worker, now: float) -> bool:
        """Whether a replacement makes sense: not of an idle worker that nobody has just used where no spares are kept.

        Nor where there are too many already, as after a crash in the middle of a replacement.
        """
        needed = self.policy.pm != "ondemand" or worker.state != IDLE or worker.since >= now
        return needed and self._affordable > 0 and self._counted <= self.policy.max_workers

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
        twice = len(self.recycling.replaced)
        return len(self.idle) - twice > most_idle or self._counted > self.policy.max_workers

    def look_again(self, waiting: int, now: float) -> float:
        """When the pool wants to be looked at without an event; 0 for never (so that an idle pool does not wake anybody)."""
        waiting = self._places(waiting)
        moments = []
        if self.idle and not waiting:
            if self.policy.pm == "ondemand":
                moments.append(next(iter(self.idle.values())).since + self.policy.idle_timeout)
            if self._too_many:
                moments.append(self.shrink_at)
        recycling = self.recycling
        recycling.grow_old(now)
        if len(recycling.replaced) < self.policy.recycle and recycling.next_age():
            moments.append(recycling.next_age())
        if self.trouble.stops(now):
            if not self.trouble.parked and (self._wanted(waiting) > 0 or recycling.waiting):
                moments.append(self.trouble.after)
        elif self._may_wait(waiting, now) and self._wanted(waiting) > 0:
            moments.append(self.refill_at)
        return min(moments, default=0.0)

    def begin(self, generation: int = 0) -> None:
        """There is a zygote to fork from: workers of another are not replaced one by one."""
        self.trouble.over()
        self.rate = 1
        for worker in self.workers.values():
            if worker.generation != generation:
                worker.successor, worker.over = 0, False
                self.recycling.forget(worker)
        self.warm = min(self.policy.start_workers, self.policy.max_workers) if self.policy.pm == "dynamic" else 0

    def served_one(self) -> None:
        """A worker has brought a result: workers can be had, and are of use."""
        self.served += 1
        self.trouble.over()
        self.refill_at = 0.0

    # --- hand-over ----------------------------------------------------------------------------------------------------
    def dump(self) -> dict[str, Any]:
        """Plain data for a snapshot: what does not follow from the workers."""
        return {**{name: getattr(self, name) for name in _CARRIED}, **self.trouble.dump(), "recycled": self.recycling.done} | {
            "admission": self.admission.dump()
        }

    def load(self, data: dict[str, Any]) -> None:
        """Take over what ``dump`` wrote, in this version or another."""
        for name in _CARRIED:
            if name in data:
                setattr(self, name, data[name])
        self.trouble.load(data)
        self.recycling.done = int(data.get("recycled", 0))
        self.admission.load(data.get("admission", {}))
