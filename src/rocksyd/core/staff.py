"""What zygotes and workers tell: that they are there, what they hold, how a job ended, that they are gone.

What must live here: what each of their messages means for the worker and for the run it has.
What this file must not know: how many workers there should be (``balance``, ``pools``), and what they are told over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rocksyd.core import events as ev
from rocksyd.core import memory, outcome, templates
from rocksyd.core.pools import BUSY, IDLE, STARTING, Pool, Worker
from rocksyd.core.refork import Refork
from rocksyd.core.state import SIGKILL, SIGTERM, State
from rocksyd.core.trouble import crash_of, wants_fresh_memory
from rocksyd.messages import NOTHING_RUN
from rocksyd.model import MEMORY, RUNNING, Now
from rocksyd.units import format_duration

RETURNS = 3
"""How often a run is given to another worker because the one that had it died before the run's code began.

Workers that die at their own start do not count: they say something about their pool (``Trouble``), and nothing about the run.
"""


# --- zygotes ----------------------------------------------------------------------------------------------------------
def zygote_ready(state: State, event: ev.ZygoteReady, now: Now) -> None:
    """From now on workers come from this generation; idle ones of another leave."""
    app = state.applications.get(event.app)
    if app is None or (app.ready and event.generation < app.generation):  # newer code came while it was being loaded
        state.effects.append(ev.RetireZygote(event.app, event.generation))
        return
    old, app.generation, app.ready = app.generation, event.generation, True
    app.offer(event.jobs, event.allowed, event.open_patterns)
    state.generation = max(state.generation, event.generation)
    for pool in state.pools_of(event.app):
        pool.begin(event.generation)
        if old != event.generation:
            pool.refork = Refork()
        state.touched[pool.name] = None
    for worker in [w for w in state.workers.values() if w.app == event.app and w.generation != event.generation]:
        if worker.state == IDLE:
            state.send_away(worker, now)
    # A newer one that has not spoken yet after a crash is not to leave: when it does speak, it takes over from this one.
    if 0 < old < event.generation:
        state.effects.append(ev.RetireZygote(event.app, old))


def zygote_gone(state: State, event: ev.ZygoteGone, now: Now) -> None:
    """What it had promised to fork never comes."""
    for worker in [w for w in state.workers.values() if (w.app, w.generation) == (event.app, event.generation)]:
        if worker.state == STARTING:
            state.remove(worker, now)
    app = state.applications.get(event.app)
    if app is not None and app.generation == event.generation:
        app.ready = False


# --- workers that come ------------------------------------------------------------------------------------------------
def worker_forked(state: State, event: ev.WorkerForked, now: Now) -> None:
    """A worker that was ordered is there."""
    worker = state.workers.get(event.worker)
    if worker is None or worker.state != STARTING:
        return
    worker.pid = event.pid
    pool = state.pool_of(worker)
    pool.move(worker, "forked", now.mono)
    replaced = pool.recycling.came(worker.number)
    if replaced is not None and replaced.number in pool.idle:
        state.send_away(replaced, now)
    _rest(state, worker, now)


def _rest(state: State, worker: Worker, now: Now) -> None:
    """An idle worker: of use, or replaced, or of a generation that is over."""
    app = state.applications.get(worker.app)
    serves = app is not None and worker.generation == app.generation and worker.pool in state.queues
    if not serves or worker.over or state.stopping:
        state.send_away(worker, now)
    else:
        state.touched[worker.pool] = None


def worker_refused(state: State, event: ev.WorkerRefused, now: Now) -> None:
    """A worker that was ordered does not come."""
    worker = state.workers.get(event.worker)
    if worker is None or worker.state != STARTING:
        return
    app = state.applications.get(worker.app)
    if app is not None and worker.generation == app.generation:  # else newer code serves, and is forked from at once
        pool = state.pool_of(worker)
        _in_trouble(state, pool, pool.trouble.refused(f"cannot fork a worker ({event.reason})", now.mono))
    state.remove(worker, now)


def _in_trouble(state: State, pool: Pool, said: str) -> None:
    state.counters["forks_failed"] += 1
    if said:
        state.effects.append(ev.Note(f"pool {pool.name}: {said}"))


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
    if runs:
        worker.state, worker.runs = BUSY, dict.fromkeys(run.key for run in runs)
    state.enlist(worker)
    if runs:  # no inventory follows of one whose zygote is gone, and its memory is to be looked at
        state.touched[worker.pool] = None
    state.effects.append(ev.AskWorker(worker.number, state.epoch))
    for run in runs:
        if not run.kill_reason:
            continue
        if worker.shared and run.kill_at:  # nobody knows whether the last master could still say so
            state.effects.append(ev.CancelRun(worker.number, run))
        else:
            state.effects.append(ev.KillWorker(worker.number, SIGTERM if run.kill_at else SIGKILL, run.grace))


def inventory_done(state: State, event: ev.InventoryDone, now: Now) -> None:
    """Runs whose worker nobody knows any more are lost."""
    for run in [run for run in state.runs.values() if run.state == RUNNING]:
        if run.app == event.app and run.generation == event.generation and run.worker not in state.workers:
            state.end(run, outcome.lost("its worker is gone and nobody knows how it ended"), now)
    for pool in state.pools_of(event.app):
        state.touched[pool.name] = None


def worker_idle(state: State, event: ev.WorkerIdle, now: Now) -> None:
    """An answer to AskWorker; one that a master before this one was to get says nothing of what happened since."""
    worker = state.workers.get(event.worker)
    if worker is None or worker.sure or event.epoch != state.epoch:
        return
    for run in state.runs_of(worker.number):
        if run.key not in event.holds:
            state.give_back(run, now)
    pool = state.pool_of(worker)
    worker.runs = {key: None for key in worker.runs if key in event.holds}
    if worker.state == BUSY and not worker.runs:
        pool.move(worker, "rest", now.mono)
    pool.settle(worker)
    if worker.state == IDLE:
        _rest(state, worker, now)
    else:
        state.touched[worker.pool] = None


# --- workers at a run -------------------------------------------------------------------------------------------------
def worker_progress(state: State, event: ev.WorkerProgress, now: Now) -> None:
    """A job says how far it is."""
    run = state.runs.get(event.key)
    if run is not None and run.worker == event.worker:
        run.progress = event.progress
        state.effects.append(ev.Progressed(run))


def worker_finished(state: State, event: ev.WorkerFinished, now: Now) -> None:
    """A run has its result, and goes on."""
    run = state.runs.get(event.key)
    if run is not None and run.state == RUNNING and run.worker == event.worker and not run.answered_at:
        run.result, run.result_dropped, run.answered_at = event.value, event.dropped, now.wall
        state.persist(run)
        state.effects.append(ev.Answered(run))


def worker_result(state: State, event: ev.WorkerResult, now: Now) -> None:
    """A run has ended by itself; its worker is free, or leaves."""
    worker = state.workers.get(event.worker)
    run = state.runs.get(event.key)
    if run is not None and run.state == RUNNING and run.worker == event.worker:
        state.end(run, outcome.from_result(run, event), now)
    state.effects.append(ev.AckResult(event.worker, event.key))
    if worker is None:
        return
    # It goes on to its next order, or leaves, as the last master told it; it says which. (One that runs share has been asked, and
    # answers at once; asked again it would say results again that have been heard.)
    if not worker.sure and not worker.shared:
        state.effects.append(ev.AskWorker(worker.number, state.epoch))
    if worker.state != BUSY or event.key not in worker.runs:
        return
    del worker.runs[event.key]
    worker.jobs += 1
    pool = state.pool_of(worker)
    pool.served_one()
    pool.recycling.worked(worker, pool.policy)
    if worker.last:
        state.leaves(worker, now)
        return
    too_large = memory.recycles(pool.policy, event.max_rss)
    if worker.runs:
        worker.over = worker.over or too_large
        state.touched[worker.pool] = None
        return
    pool.move(worker, "rest", now.mono)
    if too_large:
        state.send_away(worker, now)
    else:
        _rest(state, worker, now)
        if pool.policy.refork_after:
            templates.after_job(state, pool, now)


def measured(state: State, event: ev.Measured, now: Now) -> None:
    """How much memory the workers of a pool have; a run that has too much of it is killed at once: TERM would let it grow."""
    pool = state.pools.get(event.pool)
    if pool is None:
        return
    sizes = {number: size for number, size in event.sizes.items() if number in pool.workers}
    for number in pool.memory.measured(sizes, pool.policy):
        told = [run for run in state.runs_of(number) if not run.kill_reason or run.kill_at]
        for run in told:
            run.kill_reason, run.kill_at = run.kill_reason or MEMORY, 0.0
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
        state.remove(worker, now)
    shared = worker is not None and worker.shared
    stubborn = next((run.key for run in runs if run.kill_reason and not run.kill_at), "")
    for run in runs:
        unread = event.unread or run.key in event.untold
        if unread and (event.unborn or run.given_back < RETURNS):
            run.given_back += not event.unborn
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
        reason = f"worker {worker.number} ended before its first job ({outcome.shown_status(event.status)})"
        _in_trouble(state, pool, pool.trouble.died(reason, now.mono, pool.policy.park_after))
    app, crash = state.applications.get(worker.app), crash_of(event.status)
    if app is None or not crash or worker.generation != app.generation:
        return
    policy = state.config.apps[app.name].emergency_restart
    if wants_fresh_memory(app.crashes, policy, now.mono):
        what = f"{policy.workers} workers died by SIGSEGV or SIGBUS within {format_duration(policy.within)}"
        state.effects.append(ev.LoadAfresh(app.name, what))


HANDLERS: dict[type[Any], Callable[[State, Any, Now], None]] = {
    ev.ZygoteReady: zygote_ready,
    ev.ZygoteGone: zygote_gone,
    ev.WorkerForked: worker_forked,
    ev.WorkerRefused: worker_refused,
    ev.WorkerFound: worker_found,
    ev.InventoryDone: inventory_done,
    ev.WorkerIdle: worker_idle,
    ev.WorkerProgress: worker_progress,
    ev.WorkerFinished: worker_finished,
    ev.WorkerResult: worker_result,
    ev.WorkerExited: worker_exited,
    ev.Measured: measured,
    **templates.HANDLERS,
}
