"""The table of runs, workers and pools, and the few acts that every decision about them is made of.

What must live here: what the engine knows, and the one way in which a run waits, ends or is given back, a worker comes or leaves.
What this file must not know: why any of it happens (callers say so, ``callers``; zygotes and workers, ``staff``; the sizes of
pools, ``balance``; time, ``engine``), sockets, processes, files, clocks.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any

from rocksyd.config import Config, PoolConfig
from rocksyd.core import events as ev
from rocksyd.core import lifecycle, outcome, targets
from rocksyd.core.pools import LEAVING, STARTING, Pool, Worker
from rocksyd.core.queue import Queue
from rocksyd.core.reminders import Reminder, Reminders
from rocksyd.errors import RequestError
from rocksyd.model import RUNNING, WAITING, Now, Run

SIGKILL, SIGTERM = 9, 15
ENDED_CACHE = 2000
"""Ended runs kept in memory; the journal has all of them."""
LEAVE_TIMEOUT = 30.0
"""Seconds a worker that has answered may take to leave before it is killed."""

Effects = list[Any]


class State:
    """Runs, pools and workers of one daemon."""

    def __init__(self, config: Config, generation: int = 1) -> None:
        self.generation = generation
        self.runs: dict[str, Run] = {}
        """Every run that waits or runs."""
        self.ended: OrderedDict[str, Run] = OrderedDict()
        """The latest that ended; older ones are in the journal, ``admit`` brings them back."""
        self.workers: dict[int, Worker] = {}
        self.applications: dict[str, targets.Application] = {}
        self.pools: dict[str, Pool] = {}
        """By pool id. One that the configuration no longer has is kept until its last worker is gone."""
        self.queues: dict[str, Queue] = {}
        """By pool id, of the pools that the configuration has."""
        self.draining = False
        self.stopping = False
        self.rev = 0
        self.sequence = 0
        self.worker_number = 0
        self.epoch = 0
        """What no master since boot has had: when this one took over from nobody (0.001 ms). Handed over to the next."""
        self.counters: Counter[str] = Counter()
        self.effects: Effects = []
        """What this step has decided so far."""
        self.touched: dict[str, None] = {}
        """Pools to be balanced at the end of the step; a dict, so that their order does not depend on hashes."""
        self.reminders = Reminders(self._current)
        self.holders: dict[int, list[str]] = {}
        """Worker -> runs, as the journal had it at the take-over: for workers that nobody has named yet."""
        self.equip(config)

    def equip(self, config: Config) -> None:
        """Have an application, a pool and a queue for everything that ``config`` names."""
        self.config = config
        for name, app in config.apps.items():
            self.applications.setdefault(name, targets.Application(name))
            for pool, policy in app.every_pool().items():
                self._equip_pool(pool, policy)

    def _equip_pool(self, name: str, policy: PoolConfig) -> None:
        if name in self.pools:
            self.pools[name].use(policy)
        else:
            self.pools[name] = Pool(name, policy)
        if name not in self.queues:
            queue = self.queues[name] = Queue()
            for run in self.runs.values():
                if run.pool == name and run.state == RUNNING:
                    queue.begin(run)
        self.touched[name] = None

    # --- questions ----------------------------------------------------------------------------------------------------
    def find(self, key: str) -> Run | None:
        """The run under this key if it is in memory."""
        return self.runs.get(key) or self.ended.get(key)

    def names_of(self, target: str) -> tuple[str, ...]:
        """The short names that the applications offer ``target`` (in full) by."""
        jobs = (job for app in self.applications.values() for job in app.jobs.items())
        return tuple(name for name, job in jobs if job["target"] == target)

    def runs_of(self, number: int) -> list[Run]:
        """The runs that this worker runs as far as anybody knows."""
        worker = self.workers.get(number)
        found = [self.runs.get(key) for key in (worker.runs if worker is not None else self.holders.get(number, ()))]
        return [run for run in found if run is not None and run.state == RUNNING and run.worker == number]

    def held_by(self, number: int) -> Run | None:
        """The run that this worker runs as far as anybody knows; of several the oldest."""
        return next(iter(self.runs_of(number)), None)

    def slots_of_strangers(self) -> Iterator[int]:
        """Slots of workers that run something and that nobody has named since the take-over: what stands there is evidence."""
        for number in self.holders:
            if number not in self.workers:
                yield from (run.slot for run in self.runs_of(number))

    def pools_of(self, app: str) -> Iterator[Pool]:
        """The application's pools that the configuration has."""
        return (pool for pool in self.pools.values() if pool.app == app and pool.name in self.queues)

    def pool_of(self, worker: Worker) -> Pool:
        """The worker's pool, also one that the configuration no longer has."""
        pool = self.pools.get(worker.pool)
        if pool is None:
            pool = self.pools[worker.pool] = Pool(worker.pool, PoolConfig())
        return pool

    # --- runs ---------------------------------------------------------------------------------------------------------
    def wait(self, run: Run) -> None:
        """Line a waiting run up, now or when its delay is over."""
        if run.pool not in self.queues:
            run.pool = run.app  # the configuration no longer has its own
        if run.start_by:
            self.reminders.add(run.start_by, "start_by", run.key)
        if run.not_before:
            self.reminders.add(run.not_before, "due", run.key)
            self.queues[run.pool].expect(run)
        else:
            self.queues[run.pool].push(run)
            self.touched[run.pool] = None

    def end_early(self, run: Run, reason: str, now: Now) -> None:
        """End a run that waits at once, one that runs by TERM (or its cancellation) and, after its grace, KILL."""
        if run.state == WAITING:
            self.end(run, outcome.never_started(reason), now)
        elif not run.kill_reason:
            run.kill_reason = reason
            run.kill_at = now.mono + run.grace
            self.reminders.add(run.kill_at, "kill", run.key)
            worker = self.workers.get(run.worker)
            if worker is not None and worker.shared:
                self.effects.append(ev.CancelRun(run.worker, run))
            else:
                self.effects.append(ev.KillWorker(run.worker, SIGTERM, run.grace))
            self.persist(run)

    def give_back(self, run: Run, now: Now) -> None:
        """The worker never got the order (it or the master died between the journal and the datagram): nothing has run."""
        self._forget_running(run)
        run.state = lifecycle.step(lifecycle.RUN, run.state, "return")
        run.worker = run.pid = 0
        run.started = run.deadline = run.started_at = run.slow_at = 0.0
        if run.kill_reason:
            self.end(run, outcome.never_started(run.kill_reason), now)
        elif run.app not in self.applications:
            self.end(run, outcome.application_gone(run.app), now)
        else:
            self.wait(run)
            self.persist(run)

    def end(self, run: Run, ending: outcome.Ending, now: Now) -> None:
        """The run has ended; if it is to be tried again, it waits."""
        if run.state == RUNNING:
            self._forget_running(run)
        else:
            queue = self.queues.get(run.pool)
            if queue is not None:
                queue.discard(run)
                self.touched[run.pool] = None  # with fewer that wait it may be full no more, or have a worker too many
        outcome.apply(run, ending)
        again = outcome.try_again_after(run, ending)
        if again is not None and not self.stopping and run.app in self.applications:
            self._try_again(run, ending, now.mono + again)
            return
        run.state = lifecycle.step(lifecycle.RUN, run.state, "end")
        run.ended_at = now.wall
        self.counters[f"ended_{run.outcome}"] += 1
        del self.runs[run.key]
        self.persist(run)
        self.remember(run)
        self.effects.append(ev.Ended(run))

    def _try_again(self, run: Run, ending: outcome.Ending, when: float) -> None:
        run.state = lifecycle.step(lifecycle.RUN, run.state, "return")
        outcome.clear(run)
        run.error = ending.error  # tells why it waits again, until it runs again
        run.attempt += 1
        run.start_by = 0.0
        run.not_before = when
        self.counters["retried"] += 1
        self.wait(run)
        self.persist(run)

    def _forget_running(self, run: Run) -> None:
        queue = self.queues.get(run.pool)
        if queue is not None:
            queue.end(run)
            self.touched[run.pool] = None

    def remember(self, run: Run) -> None:
        """Keep an ended run in memory, for a while."""
        self.ended[run.key] = run
        self.ended.move_to_end(run.key)
        while len(self.ended) > ENDED_CACHE:
            self.ended.popitem(last=False)

    def persist(self, run: Run) -> None:
        """The journal is to have the run as it will be at the end of the turn."""
        self.rev += 1
        run.rev = self.rev
        self.effects.append(ev.Persist(run))

    def refuse(self, ticket: int, error: RequestError) -> None:
        """Tell a caller why not."""
        self.effects.append(ev.Answer(ticket, error=error))

    # --- workers ------------------------------------------------------------------------------------------------------
    def enlist(self, worker: Worker) -> None:
        """A worker that lives already."""
        self.workers[worker.number] = worker
        self.worker_number = max(self.worker_number, worker.number)
        pool, app = self.pool_of(worker), self.applications.get(worker.app)
        pool.add(worker)
        if app is not None and app.generation and app.generation != worker.generation:
            pool.recycling.forget(worker)

    def send_away(self, worker: Worker, now: Now) -> None:
        """An idle worker is to leave."""
        self.leaves(worker, now)
        self.effects.append(ev.DrainWorker(worker.number))

    def leaves(self, worker: Worker, now: Now) -> None:
        """The worker is on its way out; it is not waited for for ever."""
        self.pool_of(worker).move(worker, "leave", now.mono)
        self.reminders.add(worker.since + LEAVE_TIMEOUT, "leave", worker.number)
        self.touched[worker.pool] = None

    def remove(self, worker: Worker, now: Now) -> None:
        """The worker is no more."""
        if worker.state == STARTING:
            self.pool_of(worker).recycling.failed(worker.number)
        self.pool_of(worker).move(worker, "exit", now.mono)
        del self.workers[worker.number]
        self.touched[worker.pool] = None
        self.drop_if_over(self.pools[worker.pool])

    def drop_if_over(self, pool: Pool) -> None:
        """A pool that the configuration no longer has goes with its last worker."""
        if pool.name not in self.queues and not pool.workers:
            del self.pools[pool.name]

    # --- time ---------------------------------------------------------------------------------------------------------
    def _current(self, reminder: Reminder) -> bool:
        """Whether a reminder still speaks of a moment that is to come; a run's own moments are part of the run."""
        when, _, what, who = reminder
        if what == "pool":
            return who in self.pools and self.pools[who].reminded == when
        if what == "memory":
            return who in self.pools and self.pools[who].memory.look_at == when
        if what == "leave":
            worker = self.workers.get(who)
            return worker is not None and worker.state == LEAVING
        run = self.runs.get(who)
        if run is None:
            return False
        waits = {"due": run.not_before, "start_by": run.start_by}
        moment = {**waits, "timeout": run.deadline, "kill": run.kill_at, "slow": run.slow_at}[what]
        return moment == when and run.state == (WAITING if what in waits else RUNNING)


def not_found(key: str) -> RequestError:
    """Nobody knows this key."""
    return RequestError(targets.NOT_FOUND, f"no run has the key {key!r}", classic="Hash not found")
