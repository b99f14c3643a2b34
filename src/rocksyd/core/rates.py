"""How often runs of a target, and those with a concurrency key, have begun lately: what a rate such as ``20/m`` counts.

What must live here: each beginning until its period is over, told to the queues, and written down for the next master.
What this file must not know: who may begin (``queue``), what a rate is written as (``retrying``).

A period slides: each beginning counts from its own moment on, so that there are never more than 20 in *any* minute.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from rocksyd.core import events as ev
from rocksyd.core.queue import Subject, rates_of
from rocksyd.core.state import State
from rocksyd.model import Now, Run
from rocksyd.retrying import LONGEST

TABLE = "starts"


def begins(state: State, run: Run, now: Now) -> None:
    """A run begins."""
    for subject, (_, period) in rates_of(run.order):
        _count(state, run.pool, subject, [now.mono + period])
        row = {"ends": [now.wall - now.mono + end for end in state.starts[run.pool, subject]]}
        state.effects.append(ev.PersistRow(TABLE, _name(run.pool, subject), row))


def _count(state: State, pool: str, subject: Subject, ends: list[float]) -> None:
    if pool in state.queues:
        known = state.starts.setdefault((pool, subject), deque())
        if not known:
            state.reminders.add(ends[0], "rate", (pool, subject))
        known.extend(ends)
        state.queues[pool].count(subject, len(ends))


def over_at(state: State, who: tuple[str, Subject]) -> float:
    """When the first of these counts no longer, 0 for never."""
    ends = state.starts.get(who)
    return ends[0] if ends else 0.0


def over(state: State, who: tuple[str, Subject], now: Now) -> None:
    """Those whose period is over count no longer."""
    ends, (pool, subject) = state.starts[who], who
    number = 0
    while ends and ends[0] <= now.mono:
        ends.popleft()
        number += 1
    if pool in state.queues:
        state.queues[pool].count(subject, -number)
        state.touched[pool] = None
    if ends:
        state.reminders.add(ends[0], "rate", who)
    else:
        del state.starts[who]
        state.effects.append(ev.PersistRow(TABLE, _name(pool, subject), None))


def recall(state: State, rows: dict[str, dict[str, Any]], now: Now) -> None:
    """At a take-over: what the master before has written down."""
    for name, row in rows.items():
        pool, _, rest = name.partition("\n")
        target, _, key = rest.partition("\n")
        ends = row.get("ends")
        known = sorted(end for end in ends if type(end) in (int, float)) if isinstance(ends, list) else []
        left = [now.mono + end - now.wall for end in known if now.wall < end < now.wall + LONGEST]
        if left and pool in state.queues and target:
            _count(state, pool, (target, key), left)
        else:
            state.effects.append(ev.PersistRow(TABLE, name, None))


def _name(pool: str, subject: Subject) -> str:
    return f"{pool}\n{subject[0]}\n{subject[1]}"
