"""One engine's state as plain data, and another's from it: at a planned hand-over, and after a crash.

What must live here: what is carried and what follows from what else is known.
What this file must not know: memfds, the journal; ``master.snapshot`` carries the bytes.

Carried: workers, what the applications offer, counters, progress, flags. Not carried: runs (the journal has them), deadlines
(they follow from runs and workers). Unknown keys are ignored and missing ones defaulted, so that a version before this one and
one after it can read what is written here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rocksyd.core import events as ev
from rocksyd.core import outcome, workforce
from rocksyd.core.durations import Durations
from rocksyd.core.state import LEAVE_TIMEOUT, State, unservable
from rocksyd.core.worker import IDLE, LEAVING, Worker
from rocksyd.model import RUNNING, WAITING, Now, Run


def snapshot(state: State) -> dict[str, Any]:
    """What the journal does not hold."""
    return {
        "generation": state.generation,
        "rev": state.rev,
        "sequence": state.sequence,
        "worker_number": state.worker_number,
        "epoch": state.epoch,
        "draining": state.draining,
        "stopping": state.stopping,
        "counters": dict(state.counters),
        "gauges": state.gauges,
        "durations": state.durations.dump() if state.durations is not None else None,
        "costs": state.costs.dump(),
        "workers": [worker.dump() for worker in state.workers.values()],
        "applications": {name: app.dump() for name, app in state.applications.items()},
        "progress": {run.key: run.attempt.progress for run in state.runs.values() if run.attempt.progress},
        "pools": {name: pool.dump() for name, pool in state.pools.items()},
    }


def restore(state: State, runs: Iterable[Run], data: dict[str, Any] | None, now: Now) -> None:
    """Take over: ``runs`` are the journal's that have not ended; ``data`` is None after a crash or a cold start."""
    alone = data is None
    if data is None:
        # Nobody knows how far the last master had counted. It cannot have counted one each microsecond since boot.
        state.epoch = int(now.mono * 1e6)
        data = {"worker_number": state.epoch, "rev": state.epoch}
    else:
        state.epoch = int(data.get("epoch", 0))
    for name in ("generation", "rev", "sequence", "worker_number"):
        setattr(state, name, max(getattr(state, name), int(data.get(name, 0))))
    state.draining, state.stopping = bool(data.get("draining")), bool(data.get("stopping"))
    state.counters.update(data.get("counters", {}))
    state.gauges = data.get("gauges") or state.gauges
    state.costs.load(data.get("costs", {}))
    state.durations = Durations.load(data["durations"]) if data.get("durations") else state.durations
    for name, offered in data.get("applications", {}).items():
        if name in state.applications:
            state.applications[name].load(offered)
        elif offered.get("generation"):
            state.effects.append(ev.RetireZygote(name, offered["generation"]))
    progress = data.get("progress", {})
    runs = list(runs)
    _hold(state, runs)
    for run in runs:
        run.attempt.progress = progress.get(run.key, run.attempt.progress)
        _take_over(state, run, now)
        if alone and run.order.unnamed and run.state == WAITING:
            state.end(run, outcome.caller_gone(), now)
    for fields in data.get("workers", ()):
        _take_over_worker(state, Worker.load(fields), now)
    for name, numbers in data.get("pools", {}).items():
        if name in state.pools:
            state.pools[name].load(numbers)
    for name in state.pools:
        state.touched[name] = None


def _hold(state: State, runs: list[Run]) -> None:
    """Let runs wait for others as they did: those that are not there any more have ended, and well where that was asked for."""
    if any(run.order.after for run in runs):
        sequences = {run.key: run.sequence for run in runs}
        for run in runs:
            if run.state == WAITING:
                before = (key for key in run.order.after if sequences.get(key, run.sequence) < run.sequence)
                state.following.hold(run.key, before)


def _take_over(state: State, run: Run, now: Now) -> None:
    state.rev = max(state.rev, run.rev)
    state.sequence = max(state.sequence, run.sequence)
    state.worker_number = max(state.worker_number, run.attempt.worker)
    state.runs[run.key] = run
    if run.state == RUNNING:
        state.holders.setdefault(run.attempt.worker, []).append(run.key)
        if run.pool in state.queues:
            state.queues[run.pool].begin(run)
        if run.attempt.deadline and not run.attempt.kill_reason:
            state.reminders.add(run.attempt.deadline, "timeout", run.key)
        if run.attempt.slow_at:
            state.reminders.add(run.attempt.slow_at, "slow", run.key)
        if run.attempt.kill_at:
            state.reminders.add(run.attempt.kill_at, "kill", run.key)
    elif (ending := unservable(state, run)) is None:
        if run.order.eta and run.not_before and run.attempt.number == 1:
            run.not_before = now.mono + run.order.eta - now.wall
        if run.not_before <= now.mono:
            run.not_before = 0.0  # its delay is over, which was nothing to write down
        if run.order.after and run.attempt.number == 1 and run.key not in state.following and not run.start_by:
            begin_to_wait(state, run, now)
        state.wait(run)
    else:
        state.end(run, ending, now)


def begin_to_wait(state: State, run: Run, now: Now) -> None:
    """All that it waited for has ended: the time begins within which it has to start."""
    if run.order.start_within:
        run.start_by = max(now.mono, run.not_before) + run.order.start_within
        state.persist(run)


def _take_over_worker(state: State, worker: Worker, now: Now) -> None:
    workforce.enlist(state, worker)
    if worker.state == LEAVING:
        state.reminders.add(worker.since + LEAVE_TIMEOUT, "leave", worker.number)
    elif worker.state == IDLE and worker.sure and worker.pool not in state.queues:
        workforce.send_away(state, worker, now)


def lose(state: State, reason: str, now: Now) -> None:
    """After a cold start: what the journal calls running has no process any more."""
    for run in [run for run in state.runs.values() if run.state == RUNNING]:
        state.end(run, outcome.lost(reason), now)
