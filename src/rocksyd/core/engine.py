"""The engine: the only writer of the table of runs. ``step(event, now)`` returns what is to be done.

What must live here: every decision about runs and workers.
What this file must not know: sockets, processes, files, clocks; time comes in as an argument. So hypothesis can drive it
with a hand-over after any step, and a replay of its events is exact.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from rocksyd.config import Config, PoolConfig
from rocksyd.core import events as ev
from rocksyd.core import lifecycle, outcome, targets
from rocksyd.core.pools import BUSY, IDLE, LEAVING, STARTING, Pool, Worker
from rocksyd.core.queue import Queue
from rocksyd.core.reminders import Reminder, Reminders
from rocksyd.core.submission import new_run, same_order
from rocksyd.errors import RequestError
from rocksyd.messages import NOTHING_RUN
from rocksyd.model import CANCELLED, ENDED, RUNNING, SCRIPT, TIMEOUT, WAITING, Now, Run

SIGKILL, SIGTERM = 9, 15
ENDED_CACHE = 2000
"""Ended runs kept in memory; the journal has all of them."""
LEAVE_TIMEOUT = 30.0
"""Seconds a worker that has answered may take to leave before it is killed."""
SNAPSHOT_VERSION = 1
_GONE = "the configuration has no application {!r} any more"

Effects = list[Any]


class Engine:
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
        self.queues: dict[str, Queue] = {}
        self.draining = False
        self.stopping = False
        self.rev = 0
        self.sequence = 0
        self.worker_number = 0
        self.epoch = 0
        """What no master since boot has had: when this one took over from nobody (0.001 ms). Handed over to the next."""
        self.counters: Counter[str] = Counter()
        self._reminders = Reminders(self._current)
        self._touched: dict[str, None] = {}
        """Pools to be balanced at the end of the step; a dict, so that their order does not depend on hashes."""
        self._holders: dict[int, str] = {}
        """Worker -> run, as the journal had it at the take-over: for workers that nobody has named yet."""
        self._effects: Effects = []
        self._handlers: dict[type[Any], Callable[[Any, Now], None]] = {
            ev.Submit: self._submit,
            ev.Terminate: self._terminate,
            ev.Free: self._free,
            ev.Retry: self._retry,
            ev.ZygoteReady: self._zygote_ready,
            ev.ZygoteGone: self._zygote_gone,
            ev.WorkerForked: self._worker_forked,
            ev.WorkerRefused: self._worker_refused,
            ev.WorkerFound: self._worker_found,
            ev.InventoryDone: self._inventory_done,
            ev.WorkerIdle: self._worker_idle,
            ev.WorkerProgress: self._worker_progress,
            ev.WorkerResult: self._worker_result,
            ev.WorkerExited: self._worker_exited,
            ev.Tick: self._tick,
            ev.Drain: self._drain,
            ev.Undrain: self._undrain,
            ev.Configure: self._configure,
        }
        self._equip(config)

    def _equip(self, config: Config) -> None:
        self.config = config
        for name, app in config.apps.items():
            if name in self.pools:
                self.pools[name].policy = app.pool
            else:
                self.pools[name] = Pool(name, app.pool)
            self.applications.setdefault(name, targets.Application(name))
            if name not in self.queues:
                queue = self.queues[name] = Queue()
                for run in self.runs.values():
                    if run.pool == name and run.state == RUNNING:
                        queue.begin(run)
            self._touched[name] = None

    # --- the one way in -----------------------------------------------------------------------------------------------
    def step(self, event: Any, now: Now) -> Effects:
        """Take one event in and return what is to be done about it, in this order."""
        effects = self._effects = _no_effects()
        self._handlers[type(event)](event, now)
        self._balance_touched(now)
        return effects

    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which ``Tick`` is wanted; None when nothing is due."""
        return self._reminders.next()

    # --- questions ----------------------------------------------------------------------------------------------------
    def find(self, key: str) -> Run | None:
        """The run under this key if it is in memory."""
        return self.runs.get(key) or self.ended.get(key)

    def admit(self, run: Run) -> None:
        """Put an ended run, read from the journal, back into memory."""
        if run.state == ENDED:
            self._remember(run)

    @property
    def busy(self) -> bool:
        """Whether anything runs."""
        return any(pool.busy for pool in self.pools.values()) or any(run.state == RUNNING for run in self.runs.values())

    @property
    def empty(self) -> bool:
        """Whether nothing runs or waits."""
        return not self.runs

    # --- callers ------------------------------------------------------------------------------------------------------
    def _submit(self, event: ev.Submit, now: Now) -> None:
        try:
            run = self._accept(event, now)
        except RequestError as error:
            self.counters["refused"] += 1
            self._effects.append(ev.Answer(event.ticket, error=error))
            return
        self._effects.append(ev.Answer(event.ticket, run))

    def _accept(self, event: ev.Submit, now: Now) -> Run:
        known = self.find(event.key)
        if known is not None:
            if same_order(known, event):
                return known
            raise RequestError(
                targets.IN_USE,
                f"key {event.key!r} is in use by another run (target {known.name!r})",
                classic="Hash is in use",
                data="free that run first, or take another key",
            )
        if self.draining:
            raise RequestError(
                targets.NOT_NOW,
                "the daemon is draining and takes no new runs",
                classic="Too busy",
                data="submit it again when the daemon has been started or restarted",
            )
        if event.kind == SCRIPT and event.app is not None:
            target = targets.Target(event.app, SCRIPT, {})
        else:
            target = targets.resolve(self.applications, event.app, event.target)
        self._refuse_when_full(target.app)
        self.sequence += 1
        run = new_run(event, target, self.config, self.sequence, now)
        run.generation = self.generation
        self.runs[run.key] = run
        self.counters["submitted"] += 1
        self._wait(run)
        self._persist(run)
        return run

    def _refuse_when_full(self, name: str) -> None:
        pool, queue = self.pools[name], self.queues[name]
        if len(queue) >= pool.policy.max_queue and not (pool.idle and not queue.startable):
            raise RequestError(
                targets.TOO_BUSY,
                f"{len(queue)} runs wait for pool {name!r} already (max_queue = {pool.policy.max_queue})",
                classic="Too busy",
                data="try again later, or raise max_queue or max_workers",
            )

    def _wait(self, run: Run) -> None:
        """Line a waiting run up, now or when its delay is over."""
        if run.start_by:
            self._reminders.add(run.start_by, "start_by", run.key)
        if run.not_before:
            self._reminders.add(run.not_before, "due", run.key)
        else:
            self.queues[run.pool].push(run)
            self._touched[run.pool] = None

    def _terminate(self, event: ev.Terminate, now: Now) -> None:
        run = self.find(event.key)
        if run is None:
            self._effects.append(ev.Answer(event.ticket, error=not_found(event.key)))
            return
        if run.state == ENDED:
            message = f"run {event.key!r} has ended already"
            error = RequestError(targets.NOT_NOW, message, classic="Script already not running")
            self._effects.append(ev.Answer(event.ticket, error=error))
            return
        if event.signal != SIGTERM and run.state == WAITING:
            message = f"run {event.key!r} has not started: there is nothing to send signal {event.signal} to"
            error = RequestError(targets.NOT_NOW, message, data="terminate it without naming a signal")
            self._effects.append(ev.Answer(event.ticket, error=error))
            return
        self._effects.append(ev.Answer(event.ticket, run))
        if event.signal == SIGTERM:
            self._end_early(run, CANCELLED, now)
        else:
            self._effects.append(ev.KillWorker(run.worker, event.signal, run.grace))

    def _end_early(self, run: Run, reason: str, now: Now) -> None:
        """End a run that waits at once, one that runs by TERM and, after its grace, KILL."""
        if run.state == WAITING:
            self._end(run, outcome.never_started(reason), now)
        elif not run.kill_reason:
            run.kill_reason = reason
            run.kill_at = now.mono + run.grace
            self._reminders.add(run.kill_at, "kill", run.key)
            self._effects.append(ev.KillWorker(run.worker, SIGTERM, run.grace))
            self._persist(run)

    def _free(self, event: ev.Free, now: Now) -> None:
        run = self.find(event.key)
        if run is None:
            self._effects.append(ev.Answer(event.ticket, error=not_found(event.key)))
        elif run.state != ENDED:
            message = f"run {event.key!r} has not ended"
            error = RequestError(targets.NOT_NOW, message, classic="Still running", data="terminate it first, or wait")
            self._effects.append(ev.Answer(event.ticket, error=error))
        else:
            self.ended.pop(run.key, None)
            self._effects += (ev.Erase(run), ev.Answer(event.ticket, run))

    def _retry(self, event: ev.Retry, now: Now) -> None:
        try:
            run = self._take_again(event.key)
        except RequestError as error:
            self._effects.append(ev.Answer(event.ticket, error=error))
            return
        self._wait(run)
        self._persist(run)
        self._effects.append(ev.Answer(event.ticket, run))

    def _take_again(self, key: str) -> Run:
        run = self.find(key)
        if run is None:
            raise not_found(key)
        if run.state != ENDED:
            raise RequestError(targets.NOT_NOW, f"run {key!r} has not ended", data="only an ended run can be retried")
        if run.kind == SCRIPT:
            raise RequestError(targets.NOT_NOW, f"run {key!r} was a script for a caller who has its output", data="exec it again")
        if self.draining:
            raise RequestError(targets.NOT_NOW, "the daemon is draining and takes no new runs")
        if run.app not in self.applications:
            raise RequestError(targets.NOT_FOUND, _GONE.format(run.app))
        self._refuse_when_full(run.pool)
        self.ended.pop(key, None)
        self.runs[key] = run
        self.sequence += 1
        run.sequence = self.sequence
        outcome.clear(run)
        run.attempt += 1
        run.state = lifecycle.step(lifecycle.RUN, run.state, "retry")
        run.not_before = run.start_by = 0.0
        return run

    def _drain(self, event: ev.Drain, now: Now) -> None:
        self.draining = True
        if event.stop and not self.stopping:
            self.stopping = True
            for run in [run for run in self.runs.values() if run.state == RUNNING or run.kind == SCRIPT]:
                self._end_early(run, CANCELLED, now)

    def _undrain(self, event: ev.Undrain, now: Now) -> None:
        self.draining = self.stopping

    def _configure(self, event: ev.Configure, now: Now) -> None:
        """Take other settings; what belongs to an application that is no longer there ends, except for what runs."""
        self._equip(event.config)
        for name in [name for name in self.applications if name not in event.config.apps]:
            app = self.applications.pop(name)
            if app.generation:
                self._effects.append(ev.RetireZygote(name, app.generation))
            del self.queues[name]
            for run in [run for run in self.runs.values() if run.app == name and run.state == WAITING]:
                self._end(run, outcome.lost(_GONE.format(name)), now)
            for worker in list(self.pools[name].idle.values()):
                self._send_away(worker, now)
            self._drop_if_over(self.pools[name])

    # --- zygotes ------------------------------------------------------------------------------------------------------
    def _zygote_ready(self, event: ev.ZygoteReady, now: Now) -> None:
        app = self.applications.get(event.app)
        if app is None:
            self._effects.append(ev.RetireZygote(event.app, event.generation))
            return
        old, app.generation, app.ready = app.generation, event.generation, True
        app.offer(event.jobs, event.allowed, event.open_patterns)
        self.generation = max(self.generation, event.generation)
        self.pools[event.app].begin()
        for worker in [w for w in self.workers.values() if w.app == event.app and w.generation != event.generation]:
            if worker.state == "idle":
                self._send_away(worker, now)
        if old and old != event.generation:
            self._effects.append(ev.RetireZygote(event.app, old))
        self._touched[event.app] = None

    def _zygote_gone(self, event: ev.ZygoteGone, now: Now) -> None:
        for worker in [w for w in self.workers.values() if (w.app, w.generation) == (event.app, event.generation)]:
            if worker.state == STARTING:
                self._remove(worker, now)
        app = self.applications.get(event.app)
        if app is not None and app.generation == event.generation:
            app.ready = False

    # --- workers ------------------------------------------------------------------------------------------------------
    def _worker_forked(self, event: ev.WorkerForked, now: Now) -> None:
        worker = self.workers.get(event.worker)
        if worker is None or worker.state != STARTING:
            return
        worker.pid = event.pid
        self._pool_of(worker).move(worker, "forked", now.mono)
        self._rest(worker, now)

    def _rest(self, worker: Worker, now: Now) -> None:
        """An idle worker: of use, or of a generation that is over."""
        app = self.applications.get(worker.app)
        if app is None or worker.generation != app.generation or self.stopping:
            self._send_away(worker, now)
        else:
            self._touched[worker.pool] = None

    def _send_away(self, worker: Worker, now: Now) -> None:
        self._leaves(worker, now)
        self._effects.append(ev.DrainWorker(worker.number))

    def _leaves(self, worker: Worker, now: Now) -> None:
        self._pool_of(worker).move(worker, "leave", now.mono)
        self._reminders.add(worker.since + LEAVE_TIMEOUT, "leave", worker.number)
        self._touched[worker.pool] = None

    def _worker_refused(self, event: ev.WorkerRefused, now: Now) -> None:
        worker = self.workers.get(event.worker)
        if worker is None or worker.state != STARTING:
            return
        app = self.applications.get(worker.app)
        if app is not None and worker.generation == app.generation:  # else newer code serves, and is forked from at once
            self._fork_failed(self._pool_of(worker), f"cannot fork a worker ({event.reason})", now)
        self._remove(worker, now)

    def _fork_failed(self, pool: Pool, what: str, now: Now) -> None:
        again = pool.fork_failed(now.mono)
        self.counters["forks_failed"] += 1
        self._effects.append(ev.Note(f"pool {pool.name}: {what}; next try in {again - now.mono:.1f} s"))

    def _worker_found(self, event: ev.WorkerFound, now: Now) -> None:
        if event.worker in self.workers:
            return  # forked by this master's own order
        worker = Worker(event.worker, event.app, event.pool, event.generation, event.slot, "idle", event.pid, since=now.mono)
        worker.sure = False  # not to be given a job before it has answered
        run = self.held_by(event.worker)
        if run is not None:
            worker.state, worker.run = BUSY, run.key
        self._enlist(worker)
        self._effects.append(ev.AskWorker(worker.number, self.epoch))
        if run is not None and run.kill_reason:  # nobody knows whether the last master could still say so
            self._effects.append(ev.KillWorker(worker.number, SIGTERM if run.kill_at else SIGKILL, run.grace))

    def held_by(self, number: int) -> Run | None:
        """The run that this worker runs as far as anybody knows."""
        worker = self.workers.get(number)
        run = self.runs.get(worker.run if worker is not None else self._holders.get(number, ""))
        return run if run is not None and run.state == RUNNING and run.worker == number else None

    def _enlist(self, worker: Worker) -> None:
        self.workers[worker.number] = worker
        self.worker_number = max(self.worker_number, worker.number)
        self._pool_of(worker).add(worker)

    def _inventory_done(self, event: ev.InventoryDone, now: Now) -> None:
        """Runs whose worker nobody knows any more are lost."""
        for run in [run for run in self.runs.values() if run.state == RUNNING]:
            if run.app == event.app and run.generation == event.generation and run.worker not in self.workers:
                self._end(run, outcome.lost("its worker is gone and nobody knows how it ended"), now)
        self._touched[event.app] = None

    def _worker_idle(self, event: ev.WorkerIdle, now: Now) -> None:
        """An answer to AskWorker; one that a master before this one was to get says nothing of what happened since."""
        worker = self.workers.get(event.worker)
        if worker is None or worker.sure or event.epoch != self.epoch:
            return
        run = self.held_by(worker.number)
        if run is not None:
            self._give_back(run, now)
        pool = self._pool_of(worker)
        if worker.state == BUSY:
            worker.run = ""
            pool.move(worker, "rest", now.mono)
        pool.settle(worker)
        if worker.state == IDLE:
            self._rest(worker, now)

    def _give_back(self, run: Run, now: Now) -> None:
        """The worker never got the order (it or the master died between the journal and the datagram): nothing has run."""
        self._forget_running(run)
        run.state = lifecycle.step(lifecycle.RUN, run.state, "return")
        run.worker = run.pid = 0
        run.started = run.deadline = run.started_at = 0.0
        if run.kill_reason:
            self._end(run, outcome.never_started(run.kill_reason), now)
        elif run.app not in self.applications:
            self._end(run, outcome.lost(_GONE.format(run.app)), now)
        else:
            self._wait(run)
            self._persist(run)

    def _worker_progress(self, event: ev.WorkerProgress, now: Now) -> None:
        run = self.runs.get(event.key)
        if run is not None and run.worker == event.worker:
            run.progress = event.progress
            self._effects.append(ev.Progressed(run))

    def _worker_result(self, event: ev.WorkerResult, now: Now) -> None:
        worker = self.workers.get(event.worker)
        run = self.runs.get(event.key)
        if run is not None and run.state == RUNNING and run.worker == event.worker:
            self._end(run, outcome.from_result(run, event), now)
        self._effects.append(ev.AckResult(event.worker, event.key))
        if worker is None:
            return
        if not worker.sure:  # it goes on to its next order, or leaves, as the last master told it; it says which
            self._effects.append(ev.AskWorker(worker.number, self.epoch))
        if worker.state != BUSY or worker.run != event.key:
            return
        worker.run = ""
        worker.jobs += 1
        pool = self._pool_of(worker)
        pool.served_one()
        if worker.last:
            self._leaves(worker, now)
        else:
            pool.move(worker, "rest", now.mono)
            self._rest(worker, now)

    def _worker_exited(self, event: ev.WorkerExited, now: Now) -> None:
        run = self.held_by(event.worker)
        worker = self.workers.get(event.worker)
        never_began = event.unread
        if worker is not None:
            if not worker.jobs and worker.sure and (worker.state == IDLE or never_began):
                # A hook that is broken would be forked in a frenzy.
                self._fork_failed(self._pool_of(worker), f"worker {worker.number} ended before its first job", now)
            self._remove(worker, now)
        else:  # nobody could bring back its channel; it left when it saw that
            never_began = never_began or event.status == NOTHING_RUN << 8
        if run is not None and never_began:
            self._give_back(run, now)
        elif run is not None:
            self._end(run, outcome.from_exit(run, event), now)

    def _remove(self, worker: Worker, now: Now) -> None:
        self._pool_of(worker).move(worker, "exit", now.mono)
        del self.workers[worker.number]
        self._touched[worker.pool] = None
        self._drop_if_over(self.pools[worker.pool])

    def _drop_if_over(self, pool: Pool) -> None:
        """The pool of an application that the configuration no longer has is kept until its last worker is gone."""
        if pool.name not in self.applications and not pool.workers:
            del self.pools[pool.name]

    def _pool_of(self, worker: Worker) -> Pool:
        pool = self.pools.get(worker.pool)
        if pool is None:  # of an application that the configuration no longer has
            pool = self.pools[worker.pool] = Pool(worker.pool, PoolConfig())
        return pool

    # --- the end of a run ---------------------------------------------------------------------------------------------
    def _end(self, run: Run, ending: outcome.Ending, now: Now) -> None:
        if run.state == RUNNING:
            self._forget_running(run)
        else:
            queue = self.queues.get(run.pool)
            if queue is not None:
                queue.discard(run)
        outcome.apply(run, ending)
        again = outcome.try_again_after(run, ending)
        if again is not None and not self.stopping and run.app in self.applications:
            run.state = lifecycle.step(lifecycle.RUN, run.state, "return")
            outcome.clear(run)
            run.error = ending.error  # tells why it waits again, until it runs again
            run.attempt += 1
            run.start_by = 0.0
            run.not_before = now.mono + again
            self.counters["retried"] += 1
            self._wait(run)
            self._persist(run)
            return
        run.state = lifecycle.step(lifecycle.RUN, run.state, "end")
        run.ended_at = now.wall
        self.counters[f"ended_{run.outcome}"] += 1
        del self.runs[run.key]
        self._persist(run)
        self._remember(run)
        self._effects.append(ev.Ended(run))

    def _forget_running(self, run: Run) -> None:
        queue = self.queues.get(run.pool)
        if queue is not None:
            queue.end(run)
            self._touched[run.pool] = None

    def _remember(self, run: Run) -> None:
        self.ended[run.key] = run
        self.ended.move_to_end(run.key)
        while len(self.ended) > ENDED_CACHE:
            self.ended.popitem(last=False)

    def _persist(self, run: Run) -> None:
        self.rev += 1
        run.rev = self.rev
        self._effects.append(ev.Persist(run))

    # --- sizes and starts ---------------------------------------------------------------------------------------------
    def _balance_touched(self, now: Now) -> None:
        while self._touched:
            self._balance(self._touched.popitem()[0], now)

    def _balance(self, name: str, now: Now) -> None:
        """Give waiting runs to idle workers, then bring the number of workers to what the policy wants."""
        pool, queue, app = self.pools.get(name), self.queues.get(name), self.applications.get(name)
        if pool is None or queue is None or app is None or self.stopping:
            return
        while (worker := pool.next_worker()) is not None and (run := queue.pop()) is not None:
            self._start(run, worker, pool, now)
        if app.ready:
            for _ in range(pool.missing(queue.startable, now.mono)):
                self._fork(app, pool, now)
        while (worker := pool.surplus(queue.startable, now.mono)) is not None:
            self._send_away(worker, now)
        when = pool.look_again(queue.startable, now.mono)
        if when and not (pool.reminded and pool.reminded <= when):
            pool.reminded = when
            self._reminders.add(when, "pool", pool.name)

    def _start(self, run: Run, worker: Worker, pool: Pool, now: Now) -> None:
        run.state = lifecycle.step(lifecycle.RUN, run.state, "start")
        run.worker, run.pid = worker.number, worker.pid
        run.generation = worker.generation
        run.started_at, run.started = now.wall, now.mono
        run.error = None
        if run.timeout:
            run.deadline = now.mono + run.timeout
            self._reminders.add(run.deadline, "timeout", run.key)
        self.queues[pool.name].begin(run)
        worker.run, worker.last = run.key, run.kind == SCRIPT or pool.next_is_last(worker)
        pool.move(worker, "job", now.mono)
        pool.gave_job(now.mono)
        self._persist(run)
        self._effects += (ev.StartJob(worker.number, run, worker.last), ev.Started(run))

    def _fork(self, app: targets.Application, pool: Pool, now: Now) -> None:
        self.worker_number += 1
        used = {worker.slot for worker in self.workers.values()}
        slot = next(slot for slot in count() if slot not in used)
        worker = Worker(self.worker_number, app.name, pool.name, app.generation, slot, since=now.mono)
        self.workers[worker.number] = worker
        pool.add(worker)
        self._effects.append(ev.ForkWorker(app.name, app.generation, pool.name, worker.number, slot))

    # --- time ---------------------------------------------------------------------------------------------------------
    def _current(self, reminder: Reminder) -> bool:
        """Whether a reminder still speaks of a moment that is to come; a run's own moments are part of the run."""
        when, _, what, who = reminder
        if what == "pool":
            return who in self.pools and self.pools[who].reminded == when
        if what == "leave":
            worker = self.workers.get(who)
            return worker is not None and worker.state == LEAVING
        run = self.runs.get(who)
        if run is None:
            return False
        moment = {"due": run.not_before, "start_by": run.start_by, "timeout": run.deadline, "kill": run.kill_at}[what]
        return moment == when and run.state == (WAITING if what in ("due", "start_by") else RUNNING)

    def _tick(self, event: ev.Tick, now: Now) -> None:
        while (reminder := self._reminders.pop(now.mono)) is not None:
            self._due(reminder.what, reminder.who, now)

    def _due(self, what: str, who: Any, now: Now) -> None:
        if what == "pool":
            self.pools[who].reminded = 0.0
            self._touched[who] = None
        elif what == "leave":
            self._effects.append(ev.KillWorker(who, SIGKILL, 0.0))
        elif what == "due":
            run = self.runs[who]
            run.not_before = 0.0
            self._wait(run)
        elif what == "start_by":
            self._end(self.runs[who], outcome.too_late(), now)
        elif what == "timeout":
            self._end_early(self.runs[who], TIMEOUT, now)
        elif what == "kill":
            run = self.runs[who]
            run.kill_at = 0.0
            self._effects.append(ev.KillWorker(run.worker, SIGKILL, 0.0))

    # --- hand-over ----------------------------------------------------------------------------------------------------
    def snapshot(self) -> dict[str, Any]:
        """What the journal does not hold, as plain versioned data.

        Carried: workers, what the applications offer, counters, progress, flags. Not carried: runs (the journal has them),
        deadlines (they follow from runs and workers).
        """
        return {
            "version": SNAPSHOT_VERSION,
            "generation": self.generation,
            "rev": self.rev,
            "sequence": self.sequence,
            "worker_number": self.worker_number,
            "epoch": self.epoch,
            "draining": self.draining,
            "stopping": self.stopping,
            "counters": dict(self.counters),
            "workers": [worker.dump() for worker in self.workers.values()],
            "applications": {name: app.dump() for name, app in self.applications.items()},
            "progress": {run.key: run.progress for run in self.runs.values() if run.progress},
            "pools": {name: pool.dump() for name, pool in self.pools.items()},
        }

    def restore(self, runs: Iterable[Run], snapshot: dict[str, Any] | None, now: Now) -> Effects:
        """Take over: ``runs`` are the journal's that have not ended; ``snapshot`` is None after a crash or a cold start."""
        effects = self._effects = _no_effects()
        if snapshot is None:
            # Nobody knows how far the last master had counted. It cannot have counted one each microsecond since boot.
            self.epoch = int(now.mono * 1e6)
            snapshot = {"worker_number": self.epoch, "rev": self.epoch}
        else:
            self.epoch = int(snapshot.get("epoch", 0))
        for name in ("generation", "rev", "sequence", "worker_number"):
            setattr(self, name, max(getattr(self, name), int(snapshot.get(name, 0))))
        self.draining, self.stopping = bool(snapshot.get("draining")), bool(snapshot.get("stopping"))
        self.counters.update(snapshot.get("counters", {}))
        for name, offered in snapshot.get("applications", {}).items():
            if name in self.applications:
                self.applications[name].load(offered)
            elif offered.get("generation"):
                effects.append(ev.RetireZygote(name, offered["generation"]))
        progress = snapshot.get("progress", {})
        for run in runs:
            run.progress = progress.get(run.key, run.progress)
            self._take_over(run, now)
        for fields in snapshot.get("workers", ()):
            self._take_over_worker(Worker.load(fields), now)
        for name, numbers in snapshot.get("pools", {}).items():
            if name in self.pools:
                self.pools[name].load(numbers)
        for pool in self.pools.values():
            self._touched[pool.name] = None
        self._balance_touched(now)
        return effects

    def _take_over(self, run: Run, now: Now) -> None:
        self.rev = max(self.rev, run.rev)
        self.sequence = max(self.sequence, run.sequence)
        self.worker_number = max(self.worker_number, run.worker)
        self.runs[run.key] = run
        if run.state == RUNNING:
            self._holders[run.worker] = run.key
            if run.app in self.queues:
                self.queues[run.pool].begin(run)
            if run.deadline and not run.kill_reason:
                self._reminders.add(run.deadline, "timeout", run.key)
            if run.kill_at:
                self._reminders.add(run.kill_at, "kill", run.key)
        elif run.app in self.applications:
            self._wait(run)
        else:
            self._end(run, outcome.lost(_GONE.format(run.app)), now)

    def _take_over_worker(self, worker: Worker, now: Now) -> None:
        self._enlist(worker)
        if worker.state == LEAVING:
            self._reminders.add(worker.since + LEAVE_TIMEOUT, "leave", worker.number)
        elif worker.state == IDLE and worker.sure and worker.app not in self.applications:
            self._send_away(worker, now)

    def lose(self, reason: str, now: Now) -> Effects:
        """After a cold start: what the journal calls running has no process any more."""
        effects = self._effects = _no_effects()
        for run in [run for run in self.runs.values() if run.state == RUNNING]:
            self._end(run, outcome.lost(reason), now)
        self._balance_touched(now)
        return effects


def _no_effects() -> Effects:
    return []


def not_found(key: str) -> RequestError:
    """Nobody knows this key."""
    return RequestError(targets.NOT_FOUND, f"no run has the key {key!r}", classic="Hash not found")


__all__ = ["Engine", "not_found"]
