"""What becomes due when its moment has come: one table, by the name that a reminder has.

What must live here: for each name, the moment as it is now (a reminder of another one is over), and what is done then.
What this file must not know: clocks, and the order in which moments come (``reminders``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from rocksyd.core import events as ev
from rocksyd.core import flags, outcome, rates
from rocksyd.core.reminders import Reminder
from rocksyd.core.state import LEAVE_TIMEOUT, SIGKILL, State
from rocksyd.core.worker import BUSY, LEAVING
from rocksyd.model import RUNNING, TIMEOUT, WAITING, Now, Run

AT_ONCE = 50
"""Reminders of a step: as many runs may be given up, and have to be written down, before anybody is answered."""


class Matter(NamedTuple):
    """One thing that becomes due."""

    moment: Callable[[State, Any], float]
    """CLOCK_MONOTONIC seconds at which it is due for somebody, 0 for never."""
    act: Callable[[State, Any, Now], None]


def is_current(state: State, reminder: Reminder) -> bool:
    """Whether a reminder still speaks of a moment that is to come."""
    return _MATTERS[reminder.what].moment(state, reminder.who) == reminder.when


def tick(state: State, event: ev.Tick, now: Now) -> None:
    """Do what is due, the first AT_ONCE of it: the rest is still due."""
    for _ in range(AT_ONCE):
        reminder = state.reminders.pop(now.mono)
        if reminder is None:
            return
        _MATTERS[reminder.what].act(state, reminder.who, now)


def clock_was_set(state: State, event: ev.ClockSet, now: Now) -> None:
    """Runs that wait for a time of the wall clock wait for it as it is now, and flags end at it."""
    state.awaits_clock = False
    flags.clock_was_set(state, now)
    for run in state.runs.values():
        if run.state != WAITING or not run.order.eta or not run.not_before or run.attempt.number != 1 or run.key in state.short:
            continue
        state.awaits_clock = True
        moment = now.mono + max(0.0, run.order.eta - now.wall)
        if run.start_by:
            run.start_by += moment - run.not_before
            state.reminders.add(run.start_by, "start_by", run.key)
        run.not_before = moment
        state.reminders.add(moment, "due", run.key)


# --- a run ------------------------------------------------------------------------------------------------------------
def _of_run(status: str, moment: Callable[[Run], float], act: Callable[[State, Run, Now], None]) -> Matter:
    """What concerns a run as long as it is in this state."""

    def when(state: State, key: str) -> float:
        run = state.runs.get(key)
        return moment(run) if run is not None and run.state == status else 0.0

    return Matter(when, lambda state, key, now: act(state, state.runs[key], now))


def _delay_over(state: State, run: Run, now: Now) -> None:
    left = run.order.eta - now.wall if run.attempt.number == 1 else 0.0
    run.not_before = now.mono + left if left > 0 else 0.0  # the clock was set back meanwhile
    if state.durations is not None and not run.not_before:
        state.durations.due(run, now)
    state.wait(run)


def _start_too_late(state: State, run: Run, now: Now) -> None:
    pool = state.pools.get(run.pool)
    adaptive = pool is not None and pool.policy.admission == "adaptive"
    state.end(run, outcome.waited_too_long() if adaptive else outcome.too_late(), now)


def _slow(state: State, run: Run, now: Now) -> None:
    if run.attempt.worker not in state.workers:
        return  # the last master died a moment ago: it is due when the worker is found, and can be asked
    run.attempt.slow_at = 0.0
    state.counters["slow"] += 1
    state.persist(run)
    state.effects.append(ev.Slow(run))


def _grace_over(state: State, run: Run, now: Now) -> None:
    run.attempt.kill_at = 0.0
    state.effects.append(ev.KillWorker(run.attempt.worker, SIGKILL, 0.0))


# --- workers and pools ------------------------------------------------------------------------------------------------
def _leave_by(state: State, number: int) -> float:
    worker = state.workers.get(number)
    return worker.since + LEAVE_TIMEOUT if worker is not None and worker.state == LEAVING else 0.0


def _end_leaving(state: State, number: int, now: Now) -> None:
    state.effects.append(ev.KillWorker(number, SIGKILL, 0.0))


def _pool_at(state: State, name: str) -> float:
    return state.pools[name].reminded if name in state.pools else 0.0


def _look_at_pool(state: State, name: str, now: Now) -> None:
    state.pools[name].reminded = 0.0
    state.touched[name] = None


def _memory_at(state: State, name: str) -> float:
    return state.pools[name].memory.look_at if name in state.pools else 0.0


def _look_at_memory(state: State, name: str, now: Now) -> None:
    """Have a pool's workers measured, as long as any of them does something; when that is over nobody looks any longer."""
    pool = state.pools[name]
    pool.memory.look_at = 0.0
    if pool.busy:
        shares = bool(pool.policy.max_total_rss)
        workers = tuple((w.number, w.pid) for w in pool.workers.values() if w.pid and (shares or w.state == BUSY))
        share = pool.memory.turn(number for number, _ in workers) if shares else 0
        state.effects.append(ev.MeasureWorkers(pool.name, workers, share))
        state.touched[pool.name] = None


_MATTERS = {
    "due": _of_run(WAITING, lambda run: run.not_before, _delay_over),
    "start_by": _of_run(WAITING, lambda run: run.start_by, _start_too_late),
    "timeout": _of_run(RUNNING, lambda run: run.attempt.deadline, lambda state, run, now: state.end_early(run, TIMEOUT, now)),
    "slow": _of_run(RUNNING, lambda run: run.attempt.slow_at, _slow),
    "kill": _of_run(RUNNING, lambda run: run.attempt.kill_at, _grace_over),
    "leave": Matter(_leave_by, _end_leaving),
    "rate": Matter(rates.over_at, rates.over),
    "flag": Matter(flags.over_at, flags.over),
    "pool": Matter(_pool_at, _look_at_pool),
    "memory": Matter(_memory_at, _look_at_memory),
}
