"""What callers order: run this, end it, forget it, run it again; and drain.

What must live here: which orders are taken, and what a caller is told of the others.
What this file must not know: workers, and how an answer reaches anybody.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rocksyd.core import events as ev
from rocksyd.core import lifecycle, outcome, targets
from rocksyd.core.state import SIGTERM, State, not_found
from rocksyd.core.submission import new_run, same_order
from rocksyd.errors import RequestError
from rocksyd.model import CANCELLED, ENDED, RUNNING, SCRIPT, WAITING, Now, Run


# --- run --------------------------------------------------------------------------------------------------------------
def submit(state: State, event: ev.Submit, now: Now) -> None:
    """Accept a run, or say why not; an order that is repeated is answered with the run there is."""
    try:
        run = _accept(state, event, now)
    except RequestError as error:
        state.counters["refused"] += 1
        state.refuse(event.ticket, error)
        return
    state.effects.append(ev.Answer(event.ticket, run))


def _accept(state: State, event: ev.Submit, now: Now) -> Run:
    known = state.find(event.key)
    if known is not None:
        if same_order(known, event):
            return known
        raise RequestError(
            targets.IN_USE,
            f"key {event.key!r} is in use by another run (target {known.name!r})",
            classic="Hash is in use",
            data="free that run first, or take another key",
        )
    if state.draining:
        raise RequestError(
            targets.NOT_NOW,
            "the daemon is draining and takes no new runs",
            classic="Too busy",
            data="submit it again when the daemon has been started or restarted",
        )
    if event.kind == SCRIPT and event.app is not None:
        target = targets.Target(event.app, SCRIPT, {})
    else:
        target = targets.resolve(state.applications, event.app, event.target)
    run = new_run(event, target, state.config, state.sequence + 1, now)
    _refuse_when_full(state, run.pool, later=run.not_before > 0)
    if state.pools[run.pool].policy.admission == "adaptive" and not run.not_before:
        _limit_wait(state, run, now)
    state.sequence += 1
    run.generation = state.generation
    state.runs[run.key] = run
    state.counters["submitted"] += 1
    state.wait(run)
    state.persist(run)
    return run


def _refuse_when_full(state: State, name: str, *, later: bool = False) -> None:
    pool, queue = state.pools[name], state.queues[name]
    if queue.total >= pool.policy.max_queue and (later or not pool.has_room or queue.startable):
        raise RequestError(
            targets.TOO_BUSY,
            f"{queue.total} runs wait for pool {name!r} already (max_queue = {pool.policy.max_queue})",
            classic="Too busy",
            data="try again later, or raise max_queue or max_workers",
        )


def _limit_wait(state: State, run: Run, now: Now) -> None:
    """Refuse a run that would have to wait too long; one that is taken is given up when it has waited that long after all."""
    pool, queue = state.pools[run.pool], state.queues[run.pool]
    if pool.has_room and not queue.startable:
        return
    policy = pool.policy
    patience = pool.admission.patience(now.mono, policy.wait_target, policy.wait_interval)
    busy = pool.busy * policy.concurrency if pool.busy >= policy.max_workers else 0
    expected = pool.admission.expected(queue.startable, busy, now.mono)
    if expected > patience:
        raise RequestError(
            targets.TOO_BUSY,
            f"a run that comes to pool {pool.name!r} now would wait {expected:.1f} s, and may wait {patience:g} s",
            classic="Too busy",
            data="try again later: the workers of this pool, or what they wait for, cannot keep up",
        )
    run.start_by = min(run.start_by or math.inf, now.mono + patience)


# --- one run ----------------------------------------------------------------------------------------------------------
def terminate(state: State, event: ev.Terminate, now: Now) -> None:
    """End a run, or only deliver a signal to it."""
    run = state.find(event.key)
    if run is None:
        return state.refuse(event.ticket, not_found(event.key))
    if run.state == ENDED:
        message = f"run {event.key!r} has ended already"
        return state.refuse(event.ticket, RequestError(targets.NOT_NOW, message, classic="Script already not running"))
    if event.signal != SIGTERM and run.state == WAITING:
        message = f"run {event.key!r} has not started: there is nothing to send signal {event.signal} to"
        error = RequestError(targets.NOT_NOW, message, data="terminate it without naming a signal")
        return state.refuse(event.ticket, error)
    worker = state.workers.get(run.worker)
    if event.signal != SIGTERM and worker is not None and worker.shared:
        message = f"run {event.key!r} shares its process with others, who would get signal {event.signal} as well"
        error = RequestError(targets.NOT_NOW, message, data="terminate it without naming a signal: that cancels it alone")
        return state.refuse(event.ticket, error)
    state.effects.append(ev.Answer(event.ticket, run))
    if event.signal == SIGTERM:
        state.end_early(run, CANCELLED, now)
    else:
        state.effects.append(ev.KillWorker(run.worker, event.signal, run.grace))
    return None


def free(state: State, event: ev.Free, now: Now) -> None:
    """Forget an ended run."""
    run = state.find(event.key)
    if run is None:
        state.refuse(event.ticket, not_found(event.key))
    elif run.state != ENDED:
        message = f"run {event.key!r} has not ended"
        error = RequestError(targets.NOT_NOW, message, classic="Still running", data="terminate it first, or wait")
        state.refuse(event.ticket, error)
    else:
        state.ended.pop(run.key, None)
        state.effects += (ev.Erase(run), ev.Answer(event.ticket, run))


def retry(state: State, event: ev.Retry, now: Now) -> None:
    """Run an ended run again, under its key."""
    try:
        run = _take_again(state, event.key)
    except RequestError as error:
        state.refuse(event.ticket, error)
        return
    state.wait(run)
    state.persist(run)
    state.effects.append(ev.Answer(event.ticket, run))


def _take_again(state: State, key: str) -> Run:
    run = state.find(key)
    if run is None:
        raise not_found(key)
    if run.state != ENDED:
        raise RequestError(targets.NOT_NOW, f"run {key!r} has not ended", data="only an ended run can be retried")
    if run.kind == SCRIPT:
        raise RequestError(targets.NOT_NOW, f"run {key!r} was a script for a caller who has its output", data="exec it again")
    if state.draining:
        raise RequestError(targets.NOT_NOW, "the daemon is draining and takes no new runs")
    if run.app not in state.applications:
        raise RequestError(targets.NOT_FOUND, outcome.GONE.format(run.app))
    _refuse_when_full(state, run.pool if run.pool in state.queues else run.app)
    state.ended.pop(key, None)
    run = state.runs[key] = replace(run)  # whoever is told of its end at the end of this turn is told of it as it was
    state.sequence += 1
    run.sequence = state.sequence
    outcome.clear(run)
    run.attempt += 1
    run.state = lifecycle.step(lifecycle.RUN, run.state, "retry")
    run.not_before = run.start_by = 0.0
    return run


# --- all runs ---------------------------------------------------------------------------------------------------------
def drain(state: State, event: ev.Drain, now: Now) -> None:
    """Take no more runs; to stop, end the running ones, too."""
    state.draining = True
    if event.stop and not state.stopping:
        state.stopping = True
        for run in [run for run in state.runs.values() if run.state == RUNNING or run.kind == SCRIPT]:
            state.end_early(run, CANCELLED, now)


def undrain(state: State, event: ev.Undrain, now: Now) -> None:
    """Take runs again, unless the daemon is on its way to its end."""
    state.draining = state.stopping


HANDLERS: dict[type[Any], Callable[[State, Any, Now], None]] = {
    ev.Submit: submit,
    ev.Terminate: terminate,
    ev.Free: free,
    ev.Retry: retry,
    ev.Drain: drain,
    ev.Undrain: undrain,
}
