"""Whether the machine has the memory that a run will need, as far as that was learned: if not, it waits, and that is recorded.

What must live here: the decision, and what becomes of a run that has to wait.
What this file must not know: how much memory there is (the moment says so), how a cost is learned (``costs``).

Only where ``keep_free`` is set. What runs already and has not yet taken what it will take is counted by its estimate.
"""

from __future__ import annotations

from typing import NamedTuple

from rocksyd.core import events as ev
from rocksyd.core.state import State
from rocksyd.model import Now, Run
from rocksyd.units import format_size

AGAIN = 1.0
"""Seconds until it is looked at again."""
AT_ONCE = 16
"""Runs of a pool that are looked at, and have to wait, before the others are left where they are."""
_LOOKS = 500
"""Runs that are looked at again in a second at most."""
_SHOWS_AFTER = 5.0
"""Seconds after its beginning for which what a run will need is not yet what it has."""


class Short(NamedTuple):
    """What a run waits for."""

    needs: int
    free: int
    """Bytes beyond those that are to stay free, and those that others have been promised."""


def lack(state: State, run: Run, now: Now) -> Short | None:
    """What is missing for it to begin; None for nothing, or where that is not known."""
    keep = state.config.keep_free
    if not keep or now.free < 0:
        return None
    needs = state.costs.needs(run.order)
    if not needs:
        return None
    young = (
        state.runs[key]
        for worker in state.workers.values()
        for key in worker.runs
        if key in state.runs and now.mono - state.runs[key].attempt.started < _SHOWS_AFTER
    )
    free = now.free - keep - sum(state.costs.needs(other.order) for other in young)
    return Short(needs, max(free, 0)) if needs > free else None


def as_known(state: State, run: Run) -> str:
    """By what it is known how much memory a run needs."""
    cost = state.costs.of(run.order)
    return "as its runs before" if cost is not None and cost.peak else "as its needs_memory says"


def hold(state: State, run: Run, short: Short, now: Now) -> None:
    """It waits until there may be room."""
    if run.key not in state.short:
        state.counters["short_of_memory"] += 1
        text = f"it needs {format_size(short.needs)} of memory, {as_known(state, run)}, and {format_size(short.free)} are free"
        state.effects.append(ev.Note(f"run {run.key} ({run.order.name}) waits: {text} (keep_free)"))
    state.short[run.key] = short
    run.not_before = now.mono + max(AGAIN, len(state.short) / _LOOKS)
    state.wait(run)
