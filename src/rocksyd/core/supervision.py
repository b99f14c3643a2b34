"""What zygotes and workers tell: that they are there, what they hold, how a job ended, that they are gone.

What must live here: what each of their messages means for the worker and for the run it has.
What this file must not know: how many workers there should be (``balance``, ``pools``), and what they are told over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rocksyd import bounds
from rocksyd.core import events as ev
from rocksyd.core import memory, outcome, templates, workforce
from rocksyd.core.pools import Pool
from rocksyd.core.refork import Refork
from rocksyd.core.state import SIGKILL, State, term
from rocksyd.core.trouble import crash_of, wants_fresh_memory
from rocksyd.core.worker import BUSY, IDLE, STARTING, Worker
from rocksyd.exit_status import describe
from rocksyd.messages import NOTHING_RUN, Finished, Forked, ForkFailed, Holding, Idle, Measured, Progress, Ready, Result
from rocksyd.model import MEMORY, RUNNING, Attempt, Now, Order, Run
from rocksyd.options import MAX_KEY
from rocksyd.units import format_duration

UNKNOWN_TARGET = "(unknown)"
"""What is shown for the target of a run that only its worker knows of."""
MOST_HELD = 20_000
"""Runs that a worker may be at, or hold the results of: twice what ``concurrency`` may be."""
RETURNS = 3
"""How often a run is given to another worker because the one that had it died before the run's code began.

Workers that die at their own start do not count: they say something about their pool (``Trouble``), and nothing about the run.
"""


# --- zygotes ----------------------------------------------------------------------------------------------------------
def heard_zygote(state: State, event: ev.HeardZygote, now: Now) -> None:
    """A zygote or template says something, of itself or of a worker."""
    if isinstance(event.message, Ready) and event.template:
        templates.ready(state, event, now)
    else:
        _OF_A_ZYGOTE[type(event.message)](state, event, now)


MOST_GAUGES, MOST_GAUGE_NAME = 1000, 64
"""Gauges of an application, and characters of the name of one."""


def _ready(state: State, event: ev.HeardZygote, now: Now) -> None:
    """From now on workers come from this generation; idle ones of another leave."""
    app = state.applications.get(event.app)
    if app is None or (app.ready and event.generation < app.generation):  # newer code came while it was being loaded
        state.effects.append(ev.RetireZygote(event.app, event.generation))
        return
    old, app.generation, app.ready = app.generation, event.generation, True
    app.loaded(event.generation, str(event.message.revision))
    state.costs.shared[event.app] = event.message.memory
    app.offer(event.message.jobs, event.message.allowed, event.message.open_patterns)
    state.generation = max(state.generation, event.generation)
    for pool in state.pools_of(event.app):
        pool.begin(event.generation)
        if old != event.generation:
            pool.refork = Refork()
        state.touched[pool.name] = None
    for worker in [w for w in state.workers.values() if w.app == event.app and w.generation != event.generation]:
        if worker.state == IDLE:
            workforce.send_away(state, worker, now)
    # A newer one that has not spoken yet after a crash is not to leave: when it does speak, it takes over from this one.
    if 0 < old < event.generation:
        state.effects.append(ev.RetireZygote(event.app, old))


def zygote_gone(state: State, event: ev.ZygoteGone, now: Now) -> None:
    """What it had promised to fork never comes, nor what its templates had."""
    for worker in [w for w in state.workers.values() if (w.app, w.generation) == (event.app, event.generation)]:
        if worker.state == STARTING and event.template in (0, worker.template):
            workforce.remove(state, worker, now)
    app = state.applications.get(event.app)
    if app is None or app.generation != event.generation:
        return
    if event.template:
        templates.gone(state, event)
    else:
        app.ready = False


# --- workers that come ------------------------------------------------------------------------------------------------
def _forked(state: State, event: ev.HeardZygote, now: Now) -> None:
    """A worker that was ordered is there."""
    worker = state.workers.get(event.worker)
    if worker is None or worker.state != STARTING:
        return
    worker.pid = event.message.pid
    pool = state.pool_of(worker)
    pool.move(worker, "forked", now.mono)
    replaced = pool.recycling.came(worker.number)
    if replaced is not None and replaced.number in pool.idle:
        workforce.send_away(state, replaced, now)
    _rest(state, worker, now)


def _rest(state: State, worker: Worker, now: Now) -> None:
    """An idle worker: of use, or replaced, or of a generation that is over."""
    app = state.applications.get(worker.app)
    serves = app is not None and worker.generation == app.generation and worker.pool in state.queues
    if not serves or worker.over or state.stopping:
        workforce.send_away(state, worker, now)
    else:
        state.touched[worker.pool] = None


def _fork_failed(state: State, event: ev.HeardZygote, now: Now) -> None:
    """A worker that was ordered does not come."""
    worker = state.workers.get(event.worker)
    if worker is None or worker.state != STARTING:
        return
    app = state.applications.get(worker.app)
    if app is not None and worker.generation == app.generation:  # else newer code serves, and is forked from at once
        pool, reason = state.pool_of(worker), bounds.cut(event.message.reason, bounds.SENTENCE)
        _in_trouble(state, pool, pool.trouble.refused(f"cannot fork a worker ({reason})", now.mono))
    workforce.remove(state, worker, now)


def _in_trouble(state: State, pool: Pool, said: str) -> None:
    state.counters["forks_failed"] += 1
    if said:
        state.effects.append(ev.Note(f"pool {pool.name}: {said}"))


_OF_A_ZYGOTE: dict[type[Any], Callable[[State, ev.HeardZygote, Now], None]] = {
    Ready: _ready, Forked: _forked, ForkFailed: _fork_failed, Measured: templates.measured,
}  # fmt: skip
"""By message."""


# --- workers that are found after a crash of the master ---------------------------------------------------------------
def worker_found(state: State, event: ev.WorkerFound, now: Now) -> None:
    """A worker that this master did not order: it is asked what it holds."""
    if event.worker in state.workers:
        return  # forked by this master's own order
    worker = Worker(event.worker, event.app, event.pool, event.generation, event.slot, IDLE, event.pid, since=now.mono)
    worker.jobs, worker.born, worker.template = event.jobs, event.born, event.template
    worker.sure = False  # not to be given a job before it has answered
    worker.capacity = event.capacity
    runs = state.runs_of(event.worker)
    if event.key and all(run.order.unnamed and run.key != event.key for run in runs):
        for run in runs:  # else it would not be at another one
            state.end(run, outcome.caller_gone(), now)
        _known_again(state, worker, event.key, event.since, event.deadline, now)
        runs = [state.runs[key] for key in worker.runs if key in state.runs]
    if runs:
        worker.state, worker.runs = BUSY, dict.fromkeys(run.key for run in runs)
    workforce.enlist(state, worker)
    if runs:  # no inventory follows of one whose zygote is gone, and its memory is to be looked at
        state.touched[worker.pool] = None
    state.effects.append(ev.AskWorker(worker.number, state.epoch))
    for run in runs:
        if run.attempt.slow_at:
            state.reminders.add(run.attempt.slow_at, "slow", run.key)
        if not run.attempt.kill_reason:
            continue
        if worker.shared and run.attempt.kill_at:  # nobody knows whether the last master could still say so
            state.effects.append(ev.CancelRun(worker.number, run))
        elif run.attempt.kill_at:
            state.effects.append(term(run))
        else:
            state.effects.append(ev.KillWorker(worker.number, SIGKILL, run.order.grace))


def _known_again(state: State, worker: Worker, key: str, since: float, deadline: float, now: Now) -> None:
    """A worker is at a run that the journal does not know: a call without a key, begun just before the last master died.

    Its caller is gone. It is a run all the same: shown, ended by its limit of time, its end written down.
    """
    if state.find(key) is not None:
        return
    state.sequence += 1
    began = now.wall - (now.mono - since)
    grace = state.pool_of(worker).policy.grace
    order = Order(worker.app, UNKNOWN_TARGET, submitted_at=began, grace=grace, unnamed=True)
    attempt = Attempt(1, worker.generation, worker.number, worker.pid, worker.slot, started_at=began, started=since)
    attempt.deadline = deadline
    run = Run(key, order, attempt, state=RUNNING, pool=worker.pool, sequence=state.sequence, behind=True)
    state.runs[key] = run
    worker.runs[key] = None
    if worker.pool in state.queues:
        state.queues[worker.pool].begin(run)
    if deadline:
        state.reminders.add(deadline, "timeout", key)
    state.persist(run)


def inventory_done(state: State, event: ev.InventoryDone, now: Now) -> None:
    """Runs whose worker nobody knows any more are lost."""
    for run in [run for run in state.runs.values() if run.state == RUNNING]:
        if run.order.app == event.app and run.attempt.generation == event.generation and run.attempt.worker not in state.workers:
            state.end(run, outcome.lost("its worker is gone and nobody knows how it ended"), now)
    for pool in state.pools_of(event.app):
        state.touched[pool.name] = None


# --- what workers say -------------------------------------------------------------------------------------------------
def heard(state: State, event: ev.Heard, now: Now) -> None:
    """A worker says something, of itself or of a run that it was given."""
    number, message = event
    if (said := _OF_A_RUN.get(type(message))) is not None and len(message.key) <= MAX_KEY:
        run = state.find(message.key)
        if run is not None and not run.was_at(number):
            what = f"its worker said {type(message).__name__} of run {run.key!r}, which it was never given"
            return worker_spoke_nonsense(state, ev.WorkerSpokeNonsense(number, what, said=True), now)
        goes_on = run is not None and run.state == RUNNING and run.attempt.worker == number
        return said(state, number, run if goes_on else None, message, now)
    if isinstance(message, Idle) or (isinstance(message, Holding) and _could_hold(message)):
        return _answered(state, number, message, now)
    what = f"its worker said {type(message).__name__}, which is not for a master, or of what cannot be"
    return worker_spoke_nonsense(state, ev.WorkerSpokeNonsense(number, what, said=True), now)


def _could_hold(message: Holding) -> bool:
    """Whether a worker could have so many runs, with such keys: each that is not known becomes one."""
    return len(message.keys) <= MOST_HELD and all(len(key) <= MAX_KEY for key in message.keys)


def _answered(state: State, number: int, message: Idle | Holding, now: Now) -> None:
    """The answer to AskWorker; one that a master before this one was to get says nothing of what happened since."""
    worker = state.workers.get(number)
    if worker is None or worker.sure or message.epoch != state.epoch:
        return
    holds = message.keys if isinstance(message, Holding) else ()
    for run in state.runs_of(number):
        if run.key in holds:
            continue
        if run.order.unnamed:  # it was written down after it had begun: so it has ended, and the last master had heard how
            state.end(run, outcome.caller_gone(), now)
        else:
            state.give_back(run, now)
    for key, deadline in zip(message.keys, message.deadlines, strict=False) if isinstance(message, Holding) else ():
        _known_again(state, worker, key, now.mono, deadline, now)
    pool = state.pool_of(worker)
    worker.runs = {key: None for key in worker.runs if key in holds}
    if worker.state == BUSY and not worker.runs:
        pool.move(worker, "rest", now.mono)
    pool.settle(worker)
    if worker.state == IDLE:
        _rest(state, worker, now)
    else:
        state.touched[worker.pool] = None


def _keep_gauges(state: State, app: str, said: dict[str, float]) -> None:
    """Of more names than MOST_GAUGES those that are new are not kept."""
    known = state.gauges.setdefault(app, {})
    for name, value in said.items():
        if name in known or (len(known) < MOST_GAUGES and len(name) <= MOST_GAUGE_NAME):
            known[name] = value
    state.effects.append(ev.PersistRow("meta", "gauges", {name: dict(values) for name, values in state.gauges.items()}))


def gauges_said(state: State, event: ev.GaugesSaid, now: Now) -> None:
    """What a service says of its application."""
    _keep_gauges(state, event.app, event.values)


def _progress(state: State, number: int, run: Run | None, message: Progress, now: Now) -> None:
    """A job says how far it is, and what it knows of its application."""
    if run is not None and message.gauges:
        _keep_gauges(state, run.order.app, message.gauges)
        if message.done is None and message.total is None and not message.note:
            return
    if run is not None:
        note = bounds.cut(message.note, bounds.SENTENCE)
        run.attempt.progress = {"done": message.done, "total": message.total, "note": note}
        state.effects.append(ev.Progressed(run))


def _finished(state: State, number: int, run: Run | None, message: Finished, now: Now) -> None:
    """A run has its result, and goes on."""
    if run is not None and not run.attempt.answered_at:
        dropped = bounds.cut(message.dropped, bounds.SENTENCE)
        run.attempt.result, run.attempt.result_dropped, run.attempt.answered_at = message.value, dropped, now.wall
        state.persist(run)
        state.effects.append(ev.Answered(run))


def _result(state: State, number: int, run: Run | None, message: Result, now: Now) -> None:
    """A run has ended by itself; its worker is free, or leaves."""
    worker = state.workers.get(number)
    if run is not None:
        if state.durations is not None:
            state.durations.said(run, message.started, message.ended)
        state.end(run, outcome.from_result(run, message), now)
    state.effects.append(ev.AckResult(number, message.key))
    if worker is None:
        return
    # It goes on to its next order, or leaves, as the last master told it; it says which. (One that runs share has been asked, and
    # answers at once; asked again it would say results again that have been heard.)
    if not worker.sure and not worker.shared:
        state.effects.append(ev.AskWorker(number, state.epoch))
    if worker.state != BUSY or message.key not in worker.runs:
        return
    del worker.runs[message.key]
    worker.jobs += 1
    pool = state.pool_of(worker)
    pool.served_one()
    pool.recycling.worked(worker, pool.policy)
    if worker.last:
        workforce.leaves(state, worker, now)
        return
    leaves = message.leaves or memory.recycles(pool.policy, message.max_rss)
    if worker.runs:
        worker.over = worker.over or leaves
        state.touched[worker.pool] = None
        return
    pool.move(worker, "rest", now.mono)
    if leaves:
        workforce.send_away(state, worker, now)
    else:
        _rest(state, worker, now)
        if pool.policy.refork_after:
            templates.after_job(state, pool, now)


def worker_spoke_nonsense(state: State, event: ev.WorkerSpokeNonsense, now: Now) -> None:
    """Nothing that a worker says can be believed any longer: its runs have failed, and it is killed.

    A run that the worker had not begun is not whose job has said it, but that of a run before, which had said that it had ended:
    it goes to another worker as it does when one dies.
    """
    state.counters["nonsense"] += 1
    innocent = event.said and state.never_began(event.worker)
    _give_up(state, event.worker, None if innocent else outcome.spoke_nonsense(event.reason), now)


def _give_up(state: State, number: int, ending: outcome.Ending | None, now: Now) -> None:
    """Kill a worker, and end all its runs like this; None leaves them to its exit."""
    worker = state.workers.get(number)
    if ending is not None:
        for run in state.runs_of(number):
            state.end(run, ending, now)
        if worker is not None and worker.state in (BUSY, IDLE):
            worker.runs.clear()
    if worker is not None and worker.state in (BUSY, IDLE):
        workforce.leaves(state, worker, now)
    state.effects.append(ev.KillWorker(number, SIGKILL, 0.0))


_OF_A_RUN: dict[type[Any], Callable[[State, int, Run | None, Any, Now], None]] = {
    Result: _result, Progress: _progress, Finished: _finished,
}  # fmt: skip
"""By message; the run is None when it is not going on at this worker: it has ended, or nobody remembers it."""


# --- workers at a run -------------------------------------------------------------------------------------------------
def run_broken(state: State, event: ev.RunBroken, now: Now) -> None:
    """The master has met a fault of its own while it dealt with a run: nobody is to wait for it in vain."""
    run = state.runs.get(event.key)
    if run is not None and run.state == RUNNING:
        _give_up(state, run.attempt.worker, outcome.broken(event.reason), now)
    elif run is not None:
        state.end(run, outcome.broken(event.reason), now)


def measured(state: State, event: ev.WorkersMeasured, now: Now) -> None:
    """How much memory the workers of a pool have; a run that has too much of it is killed at once: TERM would let it grow."""
    pool = state.pools.get(event.pool)
    if pool is None:
        return
    sizes = {number: size for number, size in event.sizes.items() if number in pool.workers}
    for number in pool.memory.measured(sizes, pool.policy):
        told = [run for run in state.runs_of(number) if not run.attempt.kill_reason or run.attempt.kill_at]
        for run in told:
            run.attempt.kill_reason, run.attempt.kill_at = run.attempt.kill_reason or MEMORY, 0.0
            state.persist(run)
        if told:
            state.effects.append(ev.KillWorker(number, SIGKILL, 0.0))
    state.touched[pool.name] = None


def worker_exited(state: State, event: ev.WorkerExited, now: Now) -> None:
    """A worker's process has ended; a run of it that it never began is given to another."""
    runs = state.runs_of(event.worker)
    worker = state.workers.get(event.worker)
    if worker is not None:
        _look_at_death(state, worker, event, now)
        workforce.remove(state, worker, now)
    shared = worker is not None and worker.shared
    stubborn = next((run.key for run in runs if run.attempt.kill_reason and not run.attempt.kill_at), "")
    for run in runs:
        unread = event.unread or run.key in event.untold
        if unread and (event.unborn or run.attempt.given_back < RETURNS):
            run.attempt.given_back += not event.unborn
            state.give_back(run, now)
        elif unread:
            state.end(run, outcome.never_began(run, event), now)
        elif shared or len(runs) > 1:
            state.end(run, outcome.from_shared_exit(run, event, len(runs), stubborn), now)
        else:
            state.end(run, outcome.from_exit(run, event), now)


def _look_at_death(state: State, worker: Worker, event: ev.WorkerExited, now: Now) -> None:
    """Whether the next worker of this pool, or of this application, would fare no better."""
    did_nothing = not worker.jobs and (event.unread or worker.state in (STARTING, IDLE))
    left = event.status == NOTHING_RUN << 8  # nobody could speak to it any more
    if did_nothing and worker.sure and not left:  # a hook that is broken would be forked in a frenzy
        pool = state.pool_of(worker)
        reason = f"worker {worker.number} {describe(event.status)} before its first job"
        _in_trouble(state, pool, pool.died(reason, now.mono))
    crashed(state, ev.Crashed(worker.app, worker.generation, event.status), now)


def crashed(state: State, event: ev.Crashed, now: Now) -> None:
    """Whether so many workers of an application have crashed the interpreter that it is to be loaded afresh."""
    app = state.applications.get(event.app)
    if app is None or not crash_of(event.status) or event.generation != app.generation:
        return
    policy = state.config.apps[app.name].emergency_restart
    if wants_fresh_memory(app.crashes, policy, now.mono):
        what = f"{policy.workers} workers died by SIGSEGV or SIGBUS within {format_duration(policy.within)}"
        state.effects.append(ev.LoadAfresh(app.name, what))


HANDLERS: dict[type[Any], Callable[[State, Any, Now], None]] = {
    ev.HeardZygote: heard_zygote,
    ev.ZygoteGone: zygote_gone,
    ev.WorkerFound: worker_found,
    ev.InventoryDone: inventory_done,
    ev.Heard: heard,
    ev.WorkerExited: worker_exited,
    ev.Crashed: crashed,
    ev.GaugesSaid: gauges_said,
    ev.WorkerSpokeNonsense: worker_spoke_nonsense,
    ev.RunBroken: run_broken,
    ev.WorkersMeasured: measured,
}
