"""The engine: the only writer of the table of runs. ``step(event, now)`` returns what is to be done.

What must live here: the ways in, and what another configuration brings. What callers order is in ``callers``, what zygotes and
workers tell in ``supervision``, what time brings in ``deadlines``, the sizes of pools in ``balance`` and ``pools``, the
hand-over in ``takeover``.
What this file must not know: sockets, processes, files, clocks; time comes in as an argument. So hypothesis can drive it
with a hand-over after any step, and a replay of its events is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from rocksyd.config import Config
from rocksyd.core import callers, deadlines, flags, outcome, rates, supervision, takeover, workforce
from rocksyd.core import events as ev
from rocksyd.core.balance import balance_touched
from rocksyd.core.reminders import Reminders
from rocksyd.core.state import Effects, State, not_found
from rocksyd.model import ENDED, OK, RUNNING, WAITING, Now, Run

FREED_AT_ONCE = 100
"""Runs that are let go in a step when what they waited for has ended."""


class Engine(State):
    """Runs, pools and workers of one daemon, and all that is decided about them."""

    def __init__(self, config: Config, generation: int = 1) -> None:
        super().__init__(config, generation, Reminders(partial(deadlines.is_current, self)))

    # --- the ways in --------------------------------------------------------------------------------------------------
    def step(self, event: Any, now: Now) -> Effects:
        """Take one event in and return what is to be done about it, in this order."""
        self.effects = []
        _HANDLERS[type(event)](self, event, now)
        return self._decided(now)

    def restore(
        self,
        runs: Iterable[Run],
        snapshot: dict[str, Any] | None,
        now: Now,
        starts: dict[str, dict[str, Any]] | None = None,
        flagged: dict[str, dict[str, Any]] | None = None,
    ) -> Effects:
        """Take over: ``runs`` are the journal's that have not ended; ``snapshot`` is None after a crash or a cold start.

        ``starts``: what the journal has of beginnings at a limited rate; ``flagged``: of flags.
        """
        self.effects = []
        rates.recall(self, starts or {}, now)
        flags.recall(self, flagged or {}, now)
        takeover.restore(self, runs, snapshot, now)
        return self._decided(now)

    def lose(self, reason: str, now: Now) -> Effects:
        """After a cold start: what the journal calls running has no process any more."""
        self.effects = []
        takeover.lose(self, reason, now)
        return self._decided(now)

    def _decided(self, now: Now) -> Effects:
        while self.following.over:
            _tell_followers(self, now)
        for ended, key in self.following.next_free(FREED_AT_ONCE):
            _let_go(self, key, ended, now)
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
        return 0.0 if self.following.free else self.reminders.next()

    @property
    def busy(self) -> bool:
        """Whether anything runs."""
        return any(pool.busy for pool in self.pools.values()) or any(run.state == RUNNING for run in self.runs.values())

    @property
    def empty(self) -> bool:
        """Whether nothing runs or waits."""
        return not self.runs


# --- what waits for others ----------------------------------------------------------------------------------------------
def _tell_followers(state: State, now: Now) -> None:
    """End those that may not follow a run that has ended in this step: with its end, in one transaction. The others come next."""
    ended, followers = state.following.over.pop()
    how = ended.attempt.outcome
    if how != OK:
        for run in [state.runs[key] for key in followers if key in state.runs]:
            if run.order.after_outcome == OK:
                state.end(run, outcome.not_followed(ended.key, how), now)
        followers = tuple(key for key in followers if key in state.runs)
    if followers:
        state.following.release(ended.key, followers)


def _let_go(state: State, key: str, ended: str, now: Now) -> None:
    """A run need not wait for this end any longer."""
    run = state.runs.get(key)
    if run is not None and state.following.let_go(key, ended):
        takeover.begin_to_wait(state, run, now)
        state.wait(run)


# --- another configuration --------------------------------------------------------------------------------------------
def _configure(state: State, event: ev.Configure, now: Now) -> None:
    """Take other settings; what belongs to an application or pool that is no longer there ends, except for what runs."""
    state.equip(event.config)
    for name in [name for name in state.applications if name not in event.config.apps]:
        app = state.applications.pop(name)
        if app.generation:
            state.effects.append(ev.RetireZygote(name, app.generation))
    kept = {pool for app in event.config.apps.values() for pool in app.job_pools()}
    for name in [name for name in state.queues if name not in kept]:
        _close_pool(state, name, now)


def _close_pool(state: State, name: str, now: Now) -> None:
    """What waits for a pool that is no longer there goes to the application's own, if there is the application."""
    del state.queues[name]
    for run in [run for run in state.runs.values() if run.pool == name and run.state == WAITING]:
        state.wait_again(run, now)
    for worker in list(state.pools[name].idle.values()):
        workforce.send_away(state, worker, now)
    workforce.drop_if_over(state, state.pools[name])


_HANDLERS: dict[type[Any], Callable[[State, Any, Now], None]] = {
    **callers.HANDLERS,
    **supervision.HANDLERS,
    ev.Configure: _configure,
    ev.Tick: deadlines.tick,
    ev.ClockSet: deadlines.clock_was_set,
    ev.PutFlag: flags.put,
    ev.DropFlag: flags.drop,
}

__all__ = ["Engine", "not_found"]
