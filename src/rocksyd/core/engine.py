"""The engine: the only writer of the table of runs. ``step(event, now)`` returns what is to be done.

What must live here: the ways in, and what time and another configuration bring. What callers order is in ``callers``, what
zygotes and workers tell in ``staff``, the sizes of pools in ``balance`` and ``pools``, the hand-over in ``takeover``.
What this file must not know: sockets, processes, files, clocks; time comes in as an argument. So hypothesis can drive it
with a hand-over after any step, and a replay of its events is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rocksyd.core import callers, outcome, staff, takeover
from rocksyd.core import events as ev
from rocksyd.core.balance import balance_touched
from rocksyd.core.pools import BUSY, Pool
from rocksyd.core.state import SIGKILL, Effects, State, not_found
from rocksyd.model import ENDED, RUNNING, TIMEOUT, WAITING, Now, Run


class Engine(State):
    """Runs, pools and workers of one daemon, and all that is decided about them."""

    # --- the ways in --------------------------------------------------------------------------------------------------
    def step(self, event: Any, now: Now) -> Effects:
        """Take one event in and return what is to be done about it, in this order."""
        self.effects = []
        _HANDLERS[type(event)](self, event, now)
        return self._decided(now)

    def restore(self, runs: Iterable[Run], snapshot: dict[str, Any] | None, now: Now) -> Effects:
        """Take over: ``runs`` are the journal's that have not ended; ``snapshot`` is None after a crash or a cold start."""
        self.effects = []
        takeover.restore(self, runs, snapshot, now)
        return self._decided(now)

    def lose(self, reason: str, now: Now) -> Effects:
        """After a cold start: what the journal calls running has no process any more."""
        self.effects = []
        takeover.lose(self, reason, now)
        return self._decided(now)

    def _decided(self, now: Now) -> Effects:
        balance_touched(self, now)
        return self.effects

    def admit(self, run: Run) -> None:
        """Put an ended run, read from the journal, back into memory."""
        if run.state == ENDED:
            self.remember(run)

    # --- questions ----------------------------------------------------------------------------------------------------
    def snapshot(self) -> dict[str, Any]:
        """What the journal does not hold, as plain versioned data."""
        return takeover.snapshot(self)

    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which ``Tick`` is wanted; None when nothing is due."""
        return self.reminders.next()

    @property
    def busy(self) -> bool:
        """Whether anything runs."""
        return any(pool.busy for pool in self.pools.values()) or any(run.state == RUNNING for run in self.runs.values())

    @property
    def empty(self) -> bool:
        """Whether nothing runs or waits."""
        return not self.runs


# --- another configuration --------------------------------------------------------------------------------------------
def _configure(state: State, event: ev.Configure, now: Now) -> None:
    """Take other settings; what belongs to an application or pool that is no longer there ends, except for what runs."""
    state.equip(event.config)
    for name in [name for name in state.applications if name not in event.config.apps]:
        app = state.applications.pop(name)
        if app.generation:
            state.effects.append(ev.RetireZygote(name, app.generation))
    kept = {pool for app in event.config.apps.values() for pool in app.every_pool()}
    for name in [name for name in state.queues if name not in kept]:
        _close_pool(state, name, now)


def _close_pool(state: State, name: str, now: Now) -> None:
    """What waits for a pool that is no longer there goes to the application's own, if there is the application."""
    del state.queues[name]
    for run in [run for run in state.runs.values() if run.pool == name and run.state == WAITING]:
        if run.app in state.applications:
            state.wait(run)
            state.persist(run)
        else:
            state.end(run, outcome.application_gone(run.app), now)
    for worker in list(state.pools[name].idle.values()):
        state.send_away(worker, now)
    state.drop_if_over(state.pools[name])


# --- time -------------------------------------------------------------------------------------------------------------
def _tick(state: State, event: ev.Tick, now: Now) -> None:
    while (reminder := state.reminders.pop(now.mono)) is not None:
        _due(state, reminder.what, reminder.who, now)


def _due(state: State, what: str, who: Any, now: Now) -> None:
    if what == "pool":
        state.pools[who].reminded = 0.0
        state.touched[who] = None
    elif what == "memory":
        _look_at_memory(state, state.pools[who])
    elif what == "leave":
        state.effects.append(ev.KillWorker(who, SIGKILL, 0.0))
    elif what == "due":
        run = state.runs[who]
        run.not_before = 0.0
        state.wait(run)
    elif what == "start_by":
        run = state.runs[who]
        pool = state.pools.get(run.pool)
        adaptive = pool is not None and pool.policy.admission == "adaptive"
        state.end(run, outcome.waited_too_long() if adaptive else outcome.too_late(), now)
    elif what == "timeout":
        state.end_early(state.runs[who], TIMEOUT, now)
    elif what == "slow":
        run = state.runs[who]
        run.slow_at = 0.0
        state.counters["slow"] += 1
        state.persist(run)
        state.effects.append(ev.Slow(run))
    elif what == "kill":
        run = state.runs[who]
        run.kill_at = 0.0
        state.effects.append(ev.KillWorker(run.worker, SIGKILL, 0.0))


def _look_at_memory(state: State, pool: Pool) -> None:
    """Have a pool's workers measured, as long as any of them does something; when that is over nobody looks any more."""
    pool.memory.look_at = 0.0
    if pool.busy:
        shares = bool(pool.policy.max_total_rss)
        workers = tuple((w.number, w.pid) for w in pool.workers.values() if w.pid and (shares or w.state == BUSY))
        share = pool.memory.turn(number for number, _ in workers) if shares else 0
        state.effects.append(ev.Measure(pool.name, workers, share))
        state.touched[pool.name] = None


_HANDLERS: dict[type[Any], Callable[[State, Any, Now], None]] = {
    **callers.HANDLERS,
    **staff.HANDLERS,
    ev.Configure: _configure,
    ev.Tick: _tick,
}

__all__ = ["Engine", "not_found"]
