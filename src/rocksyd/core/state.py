"""The table of runs, workers and pools, and the few acts that every decision about them is made of.

What must live here: what the engine knows, and the one way in which a run waits, ends or is given back (a worker comes and
leaves in ``workforce``).
What this file must not know: why any of it happens (callers say so, ``callers``; zygotes and workers, ``supervision``; the sizes
of pools, ``balance``; time, ``engine``), sockets, processes, files, clocks.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

from rocksyd import bounds, codes
from rocksyd.config import Config, PoolConfig
from rocksyd.core import costs, lifecycle, outcome, targets
from rocksyd.core import events as ev
from rocksyd.core.durations import Durations
from rocksyd.core.following import Following
from rocksyd.core.pools import Pool
from rocksyd.core.queue import Queue, Subject
from rocksyd.core.reminders import Reminders
from rocksyd.core.worker import Worker
from rocksyd.errors import RequestError
from rocksyd.kinds import kind_of, unknown
from rocksyd.model import CANCELLED, INTERRUPTED, LOST, RUNNING, TIMEOUT, WAITING, Attempt, Now, Run

SIGKILL, SIGTERM = 9, 15
ENDED_CACHE = 2000
"""Ended runs kept in memory; the journal has all of them."""
INTERRUPTIONS = 10
"""How often a run with ``on_stop = "requeue"`` waits again as the same attempt: not for ever, if it ends the machine."""
LEAVE_TIMEOUT = 30.0
"""Seconds a worker that has answered may take to leave before it is killed."""

Effects = list[Any]


class State:
    """Runs, pools and workers of one daemon."""

    def __init__(self, config: Config, generation: int, reminders: Reminders) -> None:
        self.generation = generation
        self.runs: dict[str, Run] = {}
        """Every run that waits or runs."""
        self.ended: OrderedDict[str, Run] = OrderedDict()
        """The latest that ended; older ones are in the journal, ``admit`` brings them back."""
        self._large: OrderedDict[str, int] = OrderedDict()
        """Those of them that are large, with the bytes of their params and results."""
        self.workers: dict[int, Worker] = {}
        self.applications: dict[str, targets.Application] = {}
        self.pools: dict[str, Pool] = {}
        """By pool id. One that the configuration no longer has is kept until its last worker is gone."""
        self.queues: dict[str, Queue] = {}
        """By pool id, of the pools that the configuration has."""
        self.draining = self.stopping = False
        self.rev = 0
        self.sequence = 0
        self.worker_number = 0
        self.epoch = 0
        """What no master since boot has had: when this one took over from nobody (0.001 ms). Handed over to the next."""
        self.counters: Counter[str] = Counter()
        self.ticket = 0
        """Of the caller whose order this step is: the answer has it."""
        self.effects: Effects = []
        """What this step has decided so far."""
        self.floors: dict[str, str] = {}
        """The latest time of each script's ticks, of scripts that have had one since this master serves."""
        self.starts: dict[tuple[str, Subject], deque[float]] = {}
        """Of what begins at a limited rate, by pool: CLOCK_MONOTONIC seconds at which each beginning counts no longer."""
        self.gauges: dict[str, dict[str, float]] = {}
        """What jobs have said of their applications: application -> name -> the last value."""
        self.never_began: Callable[[int], bool] = lambda number: False
        """What else is known of the run that this worker was given last: whether it has not begun it."""
        self.durations: Durations | None = None
        """Histograms of how long runs take; None as long as nobody has asked for them."""
        self.touched: dict[str, None] = {}
        """Pools to be balanced at the end of the step; a dict, so that their order does not depend on hashes."""
        self.reminders = reminders
        self.awaits_clock = False
        """Whether a run may wait for a time of the wall clock (``eta``), or a flag end at one."""
        self.flags: dict[str, Any] = {}
        """What holds for a while for a target or a script (``flags.Flag``), by its name."""
        self.following = Following()
        """The runs that wait for others to end."""
        self.costs = costs.Costs()
        """What runs have cost."""
        self.short: dict[str, Any] = {}
        """Runs that wait until the machine has the memory for them (``room.Short``), by key."""
        self.holders: dict[int, list[str]] = {}
        """Worker -> runs, as the journal had it at the take-over: for workers that nobody has named yet."""
        self.equip(config)

    def equip(self, config: Config) -> None:
        """Have an application, a pool and a queue for everything that ``config`` names."""
        self.config = config
        for name, app in config.apps.items():
            self.applications.setdefault(name, targets.Application(name))
            for pool, policy in app.job_pools().items():
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
            for (pool, subject), ends in self.starts.items():
                if pool == name:
                    queue.count(subject, len(ends))
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
        return [run for run in found if run is not None and run.state == RUNNING and run.attempt.worker == number]

    def held_by(self, number: int) -> Run | None:
        """The run that this worker runs as far as anybody knows; of several the oldest."""
        return next(iter(self.runs_of(number)), None)

    def slots_of_strangers(self) -> Iterator[int]:
        """Slots of workers that run something and that nobody has named since the take-over: what stands there is evidence."""
        for number in self.holders:
            if number not in self.workers:
                yield from (run.attempt.slot for run in self.runs_of(number))

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
            run.pool = run.order.app  # the configuration no longer has its own
            self.persist(run)  # or a later configuration that has it again would find the run in another queue than this one
        if run.start_by:
            self.reminders.add(run.start_by, "start_by", run.key)
        if run.key in self.following:
            self.queues[run.pool].expect(run)
        elif run.not_before:
            self.awaits_clock |= run.order.eta > 0
            self.reminders.add(run.not_before, "due", run.key)
            self.queues[run.pool].expect(run)
        else:
            self.queues[run.pool].push(run)
            self.touched[run.pool] = None

    def end_early(self, run: Run, reason: str, now: Now) -> None:
        """End a run that waits at once, one that runs by TERM (or its cancellation) and, after its grace, KILL."""
        if run.state == WAITING:
            self.end(run, outcome.never_started(reason), now)
        elif not run.attempt.kill_reason:
            run.attempt.kill_reason = reason
            run.attempt.kill_at = now.mono + run.order.grace
            self.reminders.add(run.attempt.kill_at, "kill", run.key)
            worker = self.workers.get(run.attempt.worker)
            if worker is not None and worker.shared:
                self.effects.append(ev.CancelRun(run.attempt.worker, run))
            else:
                self.effects.append(term(run))
            self.persist(run)

    def give_back(self, run: Run, now: Now) -> None:
        """The worker never got the order (it or the master died between the journal and the datagram): nothing has run."""
        self._forget_running(run)
        run.state = lifecycle.step(lifecycle.RUN, run.state, "return")
        attempt = run.attempt
        attempt.worker = attempt.pid = 0
        attempt.started = attempt.deadline = attempt.started_at = attempt.slow_at = 0.0
        if attempt.kill_reason:
            self.end(run, outcome.never_started(attempt.kill_reason), now)
        else:
            self.wait_again(run, now)

    def wait_again(self, run: Run, now: Now) -> None:
        """Line a run up that was accepted before, or end it if it can no longer be served."""
        ending = unservable(self, run)
        if ending is None:
            self.wait(run)
            self.persist(run)
        else:
            self.end(run, ending, now)

    def end(self, run: Run, ending: outcome.Ending, now: Now) -> None:
        """The run has ended; if it is to be tried again, it waits."""
        if run.state == RUNNING:
            self._forget_running(run)
        else:
            queue = self.queues.get(run.pool)
            if queue is not None:
                queue.discard(run)
                self.touched[run.pool] = None  # with fewer that wait it may be full no more, or have a worker too many
        if ending.outcome in (INTERRUPTED, LOST) and run.state == RUNNING and _waits_for_next_start(self, run):
            return
        if ending.outcome == INTERRUPTED:
            ending = ending._replace(outcome=CANCELLED)
        if self.durations is not None:
            self.durations.ended(run, now)
        outcome.apply(run.attempt, ending)
        run.attempt.ended_at = now.wall
        again = outcome.try_again_after(run, ending)
        if again is not None and not self.stopping and run.order.app in self.applications:
            self._try_again(run, ending, now.mono + again)
            return
        run.state = lifecycle.step(lifecycle.RUN, run.state, "end")
        self.counters[f"ended_{run.attempt.outcome}"] += 1
        del self.runs[run.key]
        self.following.ended(run)
        self.persist(run)
        self.remember(run)
        self.short.pop(run.key, None)
        if (name := self.costs.learn(run, now)) is not None:
            self.effects.append(ev.PersistRow(costs.TABLE, name, self.costs.written(name)))
        self.effects.append(ev.Ended(run))

    def _try_again(self, run: Run, ending: outcome.Ending, when: float) -> None:
        run.state = lifecycle.step(lifecycle.RUN, run.state, "return")
        run.next_attempt()
        run.attempt.error = ending.error  # tells why it waits again, until it runs again
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
        weight = run.weight + bounds.weight(run.attempt.result)
        self._large.pop(run.key, None)
        if weight > bounds.LARGE:
            self._large[run.key] = weight
            while sum(self._large.values()) > bounds.LARGE_ENDED:
                self.ended.pop(self._large.popitem(last=False)[0], None)

    def persist(self, run: Run) -> None:
        """The journal is to have the run as it will be at the end of the turn."""
        self.rev += 1
        run.rev = self.rev
        self.effects.append(ev.Persist(run))

    def refuse(self, error: RequestError) -> None:
        """Tell a caller why not."""
        self.effects.append(ev.Answer(self.ticket, error=error))


def _waits_for_next_start(state: State, run: Run) -> bool:
    """Whether a run that was ended by us, or with us, may be run again: then it waits, as the attempt that it is."""
    again = run.order.on_stop == "requeue" and not run.order.unnamed and run.attempt.interrupted < INTERRUPTIONS
    if not again or run.attempt.answered_at or unservable(state, run) is not None:
        return False
    run.state = lifecycle.step(lifecycle.RUN, run.state, "return")
    run.attempt = Attempt(run.attempt.number, run.attempt.generation, interrupted=run.attempt.interrupted + 1)
    state.counters["interrupted"] += 1
    state.wait(run)
    state.persist(run)
    return True


def unservable(state: State, run: Run) -> outcome.Ending | None:
    """How a run ends that nothing here can run, because of a change of configuration or version; None for all others."""
    if run.order.app not in state.applications:
        return outcome.application_gone(run.order.app)
    return outcome.unknown_kind(run.order.kind) if unknown(run.order.kind) else None


def term(run: Run) -> ev.KillWorker:
    """TERM to the process of a run that is to end; where its kind of work knows it, a timeout is raised in its code instead."""
    soft = run.attempt.kill_reason == TIMEOUT and kind_of(run.order.kind).soft_timeout
    return ev.KillWorker(run.attempt.worker, SIGTERM, run.order.grace, soft)


def not_found(key: str) -> RequestError:
    """Nobody knows this key."""
    return RequestError(codes.NOT_FOUND, f"no run has the key {key!r}", classic="Hash not found")
