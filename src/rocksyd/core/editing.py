"""Editing a run that waits: other params, another priority, another moment; it keeps its key and its place.

What must live here: what may be changed, and what becomes of the run's place in the queue.
What this file must not know: who changes it.
"""

from __future__ import annotations

from typing import Any, Final

from rocksyd import bounds, codes
from rocksyd.core import events as ev
from rocksyd.core import targets
from rocksyd.core.state import State, not_found
from rocksyd.core.submission import check_params
from rocksyd.errors import RequestError
from rocksyd.kinds import kind_of
from rocksyd.model import RUNNING, WAITING, Now, Run
from rocksyd.options import BY_NAME

OPTIONS: Final = ("priority", "timeout", "delay", "eta")
"""What of a run's options may be changed while it waits."""


def edit(state: State, event: ev.Edit, now: Now) -> None:
    """Change a run that waits, all of it or nothing."""
    try:
        run = _waiting(state, event.key)
        changes = _read(run, event.changes)
        if "params" in changes:
            _check(state, run, changes["params"])
    except RequestError as error:
        state.refuse(error)
        return
    if run.pool in state.queues:
        state.queues[run.pool].discard(run)
    _apply(run, changes, now)
    state.wait(run)
    state.persist(run)
    state.effects.append(ev.Answer(state.ticket, run))


def _waiting(state: State, key: str) -> Run:
    run = state.find(key)
    if run is None:
        raise not_found(key)
    if run.state != WAITING:
        what = "runs already" if run.state == RUNNING else "has ended"
        advice = "only a run that waits can be changed; order another one, or retry this one as it is"
        raise RequestError(codes.NOT_NOW, f"run {key!r} {what}", data=advice)
    if not (kind := kind_of(run.order.kind)).retryable:
        raise RequestError(codes.NOT_NOW, f"run {key!r} is {kind.called}, whose caller waits for it as it is", data=kind.again)
    return run


def _read(run: Run, said: dict[str, Any]) -> dict[str, Any]:
    """The changes, as they are used."""
    if not said:
        text = f"nothing is to be changed: give one of params, {', '.join(OPTIONS)}"
        raise RequestError(codes.INVALID_PARAMS, text, classic="Invalid params")
    if "delay" in said and "eta" in said:
        text = "eta and delay contradict each other: give one of the two"
        raise RequestError(codes.INVALID_PARAMS, text, classic="Invalid params", data={"parameter": "eta"})
    found = {}
    for name, value in said.items():
        try:
            found[name] = value if name == "params" else BY_NAME[name].form.convert(value)
        except ValueError as error:
            data = {"parameter": name, "advice": BY_NAME[name].text}
            raise RequestError(codes.INVALID_PARAMS, f"{name}: {error}", data=data) from error
    return found


def _check(state: State, run: Run, params: Any) -> None:
    """Raises RequestError unless the run may have these parameters."""
    order = run.order
    if kind_of(order.kind).target:
        text = f"run {run.key!r} is a command line, which the configuration has: params cannot be changed"
        raise RequestError(codes.INVALID_PARAMS, text, data={"parameter": "params"})
    if order.after_results and not isinstance(params, list):
        text = "the results of other runs come before these params, which have to be an array therefore"
        raise RequestError(codes.INVALID_PARAMS, text, data={"parameter": "params"})
    target = targets.resolve(state.applications, order.app, order.name)
    check_params(target, params, each=order.each, typed=not order.after_results)
    queue = state.queues.get(run.pool)
    most = state.pools[run.pool].policy.max_queue_bytes if queue is not None else 0
    if queue is not None and queue.weight - run.weight + bounds.weight(params) > max(most, queue.weight):
        text = f"with these params the runs that wait for pool {run.pool!r} would have more bytes than max_queue_bytes = {most}"
        raise RequestError(codes.TOO_BUSY, text, data="try again later, or let the job read from a file what is large")


def _apply(run: Run, changes: dict[str, Any], now: Now) -> None:
    if "params" in changes:
        run.weight = bounds.weight(changes["params"])
    if "delay" in changes or "eta" in changes:
        eta = changes.get("eta", 0.0)
        delay = max(0.0, eta - now.wall) if eta else changes.get("delay", 0.0)
        before = max(run.not_before, now.mono)
        run.not_before = now.mono + delay if delay else 0.0
        if run.start_by:  # it has as much time to begin as before
            run.start_by += max(run.not_before, now.mono) - before
        changes = {**changes, "eta": eta}
    settled = {name: value for name, value in changes.items() if name != "delay"}
    run.order, run.behind = run.order._replace(**settled, unnamed=False), False  # whoever changes it knows its key
