"""What callers order: run this, end it, forget it, run it again; and drain.

What must live here: which orders are taken, and what a caller is told of the others.
What this file must not know: workers, and how an answer reaches anybody.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime
from typing import Any

from rocksyd import bounds, codes, ticks
from rocksyd.core import events as ev
from rocksyd.core import lifecycle, outcome, targets
from rocksyd.core.costs import TABLE as COSTS
from rocksyd.core.editing import edit
from rocksyd.core.state import SIGTERM, State, not_found
from rocksyd.core.submission import new_run, same_order
from rocksyd.errors import RequestError
from rocksyd.kinds import COMMAND, kind_of
from rocksyd.model import CANCELLED, ENDED, INTERRUPTED, OK, RUNNING, WAITING, Now, Run
from rocksyd.units import rough_duration

CLOCK_AHEAD = 86_400
"""Seconds that the latest tick of a script may be ahead of the clock for older ones to be refused."""


# --- run --------------------------------------------------------------------------------------------------------------
def submit(state: State, event: ev.Submit, now: Now) -> None:
    """Accept a run, or say why not; an order that is repeated is answered with the run there is."""
    try:
        if event.past is not None and _is_known(state, event, event.past, now):
            state.effects.append(ev.Answer(state.ticket, known=event.key))
            return
        run = _accept(state, event, now)
        if event.past is not None:
            _remember_tick(state, event.past, run)
    except RequestError as error:
        state.counters["refused"] += 1
        state.refuse(error)
        return
    state.effects.append(ev.Answer(state.ticket, run))


def _accept(state: State, event: ev.Submit, now: Now) -> Run:
    event = _as_command(state, event)
    if len(event.target) > bounds.TARGET:
        text = f"the target has {len(event.target)} characters, and may have {bounds.TARGET}"
        raise RequestError(codes.INVALID_PARAMS, text, classic="Class not found", data={"parameter": "target"})
    known = state.find(event.key)
    if known is not None:
        if event.past is not None or same_order(known, event):
            return known
        raise RequestError(
            codes.IN_USE,
            f"key {event.key!r} is in use by another run (target {known.order.name!r})",
            classic="Hash is in use",
            data="free that run first, or take another key",
        )
    if state.draining:
        raise RequestError(
            codes.NOT_NOW,
            "the daemon is draining and takes no new runs",
            classic="Too busy",
            data="submit it again when the daemon has been started or restarted",
        )
    stand_in = kind_of(event.kind).target
    if stand_in and event.app is not None:
        target = targets.Target(event.app, stand_in, {})
    else:
        target = targets.resolve(state.applications, event.app, event.target)
    run = new_run(event, target, state.config, (state.sequence + 1, state.generation), now)
    predecessors, failed = _look_before(state, run, event.ended) if run.order.after else ([], "")
    later = run.not_before > 0 or bool(predecessors)
    _refuse_when_full(state, run.pool, run.weight, later=later)
    if state.pools[run.pool].policy.admission == "adaptive" and not later:
        _limit_wait(state, run, now)
    state.sequence += 1
    state.runs[run.key] = run
    state.counters["submitted"] += 1
    if not failed:
        _hold(state, run, predecessors, now)
    state.wait(run)
    state.persist(run)
    if failed:
        state.end(run, outcome.not_followed(failed, event.ended[failed]), now)
    return run


def _look_before(state: State, run: Run, ended: dict[str, str]) -> tuple[list[str], str]:
    """The runs it has to wait for, and one that has ended otherwise than it may. Raises RequestError for one nobody knows."""
    waits, failed = [], ""
    for key in run.order.after:
        if key in state.runs:
            waits.append(key)
        elif key not in ended:
            raise RequestError(
                codes.NOT_FOUND,
                f"no run has the key {key!r}, which after names",
                data={"parameter": "after", "advice": "order that run first; one that was freed is not known any longer"},
            )
        elif ended[key] != OK and run.order.after_outcome == OK:
            failed = failed or key
    return waits, failed


def _hold(state: State, run: Run, predecessors: list[str], now: Now) -> None:
    """Let a run wait for others. What is waited for has to be in the journal: a new master would take it for ended."""
    for before in (state.runs[key] for key in predecessors):
        if before.order.unnamed:
            before.order, before.behind = before.order._replace(unnamed=False), False
            state.persist(before)
    state.following.hold(run.key, predecessors)
    if run.order.start_within and not predecessors:
        run.start_by = max(now.mono, run.not_before) + run.order.start_within


def _as_command(state: State, event: ev.Submit) -> ev.Submit:
    """The order of a script that is a command line: what that is only the configuration says."""
    name = ticks.script_of_command(event.target)
    script = state.config.scripts.get(name) if name else None
    if script is None or not script.command or event.kind:
        return event
    app = script.app or next(iter(state.config.apps))
    return event._replace(kind=COMMAND.name, app=app, params={"command": list(script.command)}, typed=False)


def _is_known(state: State, event: ev.Submit, past: ev.Past, now: Now) -> bool:
    """Whether the tick was run, and its run is forgotten. Raises RequestError for one that must not be run any more."""
    tick = past.tick
    if not ticks.is_key_of(event.key, tick):
        text = f"key {event.key!r} is not that of the tick; leave key out, or give {ticks.key_of(tick)!r}"
        raise RequestError(codes.INVALID_PARAMS, text, classic="Invalid params", data={"parameter": "key"})
    if state.find(event.key) is not None or past.known:
        return state.find(event.key) is None
    if tick["time"] < past.forgotten and not ticks.by_hand(event.key, tick):
        text = f"whether the tick {tick['time']} of {tick['script']!r} was run is not known: it is older than what is remembered"
        advice = "order it by hand: rocksyd schedule run, or a key of your own without a tick"
        raise RequestError(codes.NOT_ALLOWED, text, data={"remembered": past.forgotten, "advice": advice})
    floor = max(past.floor, state.floors.get(tick["script"], ""))
    if floor > f"{datetime.fromtimestamp(now.wall + CLOCK_AHEAD, UTC):{ticks.FORMAT}}":
        return False  # somebody's clock was wrong by more than a day: that must not end the schedule for years
    if tick["time"] < floor and not tick.get("fill") and not ticks.by_hand(event.key, tick):
        raise RequestError(
            codes.NOT_ALLOWED,
            f"the tick {tick['time']} of {tick['script']!r} is older than {floor}, which was run: who orders it has slept",
            data={"floor": floor, "advice": "look at the schedule anew; a tick that is to be run all the same says fill = true"},
        )
    return False


def _remember_tick(state: State, past: ev.Past, run: Run) -> None:
    if past.known or run.state != WAITING:
        return
    script, time = past.tick["script"], past.tick["time"]
    if not ticks.by_hand(run.key, past.tick):
        state.effects.append(ev.PersistRow("ticks", run.key, [script, time]))
        state.floors[script] = max(time, past.floor, state.floors.get(script, ""))


def _refuse_when_full(state: State, name: str, weight: int, *, later: bool = False) -> None:
    pool, queue = state.pools[name], state.queues[name]
    if not later and pool.has_room and not queue.startable:
        return
    if queue.total and queue.weight + weight > pool.policy.max_queue_bytes:
        raise RequestError(
            codes.TOO_BUSY,
            f"the runs that wait for pool {name!r} have {queue.weight} bytes of params, and this one {weight}: that is more than "
            f"max_queue_bytes = {pool.policy.max_queue_bytes}",
            classic="Too busy",
            data="try again later, let jobs read from files what is large, or raise max_queue_bytes",
        )
    if queue.total >= pool.policy.max_queue:
        raise RequestError(
            codes.TOO_BUSY,
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
        would, may = rough_duration(expected), rough_duration(patience)
        raise RequestError(
            codes.TOO_BUSY,
            f"a run that comes to pool {pool.name!r} now would wait {would}, and may wait {may}",
            classic="Too busy",
            data="try again later: the workers of this pool, or what they wait for, cannot keep up",
        )
    run.start_by = min(run.start_by or math.inf, now.mono + patience)


# --- one run ----------------------------------------------------------------------------------------------------------
def terminate(state: State, event: ev.Terminate, now: Now) -> None:
    """End a run, or only deliver a signal to it."""
    run = state.find(event.key)
    if run is None:
        return state.refuse(not_found(event.key))
    if run.state == ENDED:
        message = f"run {event.key!r} has ended already"
        return state.refuse(RequestError(codes.NOT_NOW, message, classic="Script already not running"))
    if event.signal != SIGTERM and run.state == WAITING:
        message = f"run {event.key!r} has not started: there is nothing to send signal {event.signal} to"
        error = RequestError(codes.NOT_NOW, message, data="terminate it without naming a signal")
        return state.refuse(error)
    worker = state.workers.get(run.attempt.worker)
    if event.signal != SIGTERM and worker is None:
        message = f"the last master died a moment ago, and which process run {event.key!r} is in is not known yet"
        return state.refuse(RequestError(codes.NOT_NOW, message, data="ask again"))
    if event.signal != SIGTERM and worker is not None and worker.shared:
        message = f"run {event.key!r} shares its process with others, who would get signal {event.signal} as well"
        error = RequestError(codes.NOT_NOW, message, data="terminate it without naming a signal: that cancels it alone")
        return state.refuse(error)
    state.effects.append(ev.Answer(state.ticket, run))
    if event.signal == SIGTERM:
        state.end_early(run, CANCELLED, now)
    else:
        state.effects.append(ev.KillWorker(run.attempt.worker, event.signal, run.order.grace))
    return None


def free(state: State, event: ev.Free, now: Now) -> None:
    """Forget an ended run."""
    run = state.find(event.key)
    if run is None:
        state.refuse(not_found(event.key))
    elif run.state != ENDED:
        message = f"run {event.key!r} has not ended"
        error = RequestError(codes.NOT_NOW, message, classic="Still running", data="terminate it first, or wait")
        state.refuse(error)
    else:
        state.ended.pop(run.key, None)
        state.effects += (ev.Erase(run), ev.Answer(state.ticket, run))


def retry(state: State, event: ev.Retry, now: Now) -> None:
    """Run an ended run again, under its key."""
    try:
        run = _take_again(state, event.key)
    except RequestError as error:
        state.refuse(error)
        return
    state.wait(run)
    state.persist(run)
    state.effects.append(ev.Answer(state.ticket, run))


def _take_again(state: State, key: str) -> Run:
    run = state.find(key)
    if run is None:
        raise not_found(key)
    if run.state != ENDED:
        raise RequestError(codes.NOT_NOW, f"run {key!r} has not ended", data="only an ended run can be retried")
    if not (kind := kind_of(run.order.kind)).retryable:
        message = f"run {key!r} was {kind.called}, and what it was ordered with is gone"
        raise RequestError(codes.NOT_NOW, message, data=kind.again)
    if state.draining:
        raise RequestError(codes.NOT_NOW, "the daemon is draining and takes no new runs")
    if run.order.app not in state.applications:
        raise RequestError(codes.NOT_FOUND, outcome.GONE.format(run.order.app))
    _refuse_when_full(state, run.pool if run.pool in state.queues else run.order.app, run.weight)
    state.ended.pop(key, None)
    run = state.runs[key] = copy(run)  # whoever is told of its end at the end of this turn is told of it as it was
    state.sequence += 1
    run.sequence = state.sequence
    run.next_attempt()
    run.state = lifecycle.step(lifecycle.RUN, run.state, "retry")
    run.not_before = run.start_by = 0.0
    run.order, run.behind = run.order._replace(unnamed=False), False  # whoever orders it again knows its key
    state.following.hold(key, [before for before in run.order.after if before in state.runs])
    return run


# --- all runs ---------------------------------------------------------------------------------------------------------
def drain(state: State, event: ev.Drain, now: Now) -> None:
    """Take no more runs; to stop, end the running ones, too."""
    state.draining = True
    if event.stop and not state.stopping:
        state.stopping = True
        for name in state.costs.unwritten():
            state.effects.append(ev.PersistRow(COSTS, name, state.costs.written(name)))
        for run in [run for run in state.runs.values() if run.state == RUNNING or not kind_of(run.order.kind).durable]:
            requeued = run.state == RUNNING and run.order.on_stop == "requeue"
            state.end_early(run, INTERRUPTED if requeued else CANCELLED, now)


def undrain(state: State, event: ev.Undrain, now: Now) -> None:
    """Take runs again, unless the daemon is on its way to its end."""
    state.draining = state.stopping


HANDLERS: dict[type[Any], Callable[[State, Any, Now], None]] = {
    ev.Submit: submit,
    ev.Terminate: terminate,
    ev.Free: free,
    ev.Retry: retry,
    ev.Edit: edit,
    ev.Drain: drain,
    ev.Undrain: undrain,
}
