"""The states of a run and of a worker, as tables: a pair that is not in them is an error.

What must live here: which state follows which, by what.
What this file must not know: why anything happens, or when.
"""

from __future__ import annotations

RUN: dict[tuple[str, str], str] = {
    ("waiting", "start"): "running",
    ("waiting", "end"): "ended",
    ("running", "end"): "ended",
    ("running", "return"): "waiting",
    ("ended", "retry"): "waiting",
}
"""``return``: given back, because its worker never got it or because it is to be tried again."""

WORKER: dict[tuple[str, str], str] = {
    ("starting", "forked"): "idle",
    ("starting", "exit"): "gone",
    ("idle", "job"): "busy",
    ("idle", "leave"): "leaving",
    ("idle", "exit"): "gone",
    ("busy", "rest"): "idle",
    ("busy", "leave"): "leaving",
    ("busy", "exit"): "gone",
    ("leaving", "exit"): "gone",
}


class LifecycleError(AssertionError):
    """Something tried a step that the tables do not have: a bug in the engine, never a caller's fault."""


def step(table: dict[tuple[str, str], str], state: str, action: str) -> str:
    """The state after ``action``. Raises LifecycleError when the table has no such step."""
    try:
        return table[state, action]
    except KeyError:
        raise LifecycleError(f"no step {action!r} from state {state!r}") from None
