"""Flags: what holds for a while for the runs of a target or a script, and ends by itself.

What must live here: which there are, whose runs each holds for, its end, and that it is written down.
What this file must not know: who may set one, and what a worker does about it.

The moment of its end is one of the wall clock, so that it holds over restarts; as long as there is a flag the engine hears of it
when that clock is set.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rocksyd.core import events as ev
from rocksyd.core.state import State
from rocksyd.kinds import kind_of
from rocksyd.model import Now, Order

TABLE = "flags"
DEBUG = "debug"
KINDS = (DEBUG,)
"""``debug``: what a run logs is in its output from DEBUG on."""
USUAL = 3600.0
"""Seconds for which a flag holds if nothing else is said."""
LONGEST = 7 * 86_400.0
"""Seconds for which a flag holds, at most."""
MOST = 200


class Flag(NamedTuple):
    """One that holds."""

    row: dict[str, Any]
    """What callers see: ``flag``, ``target`` or ``script``, ``until`` in Unix seconds, ``by`` whom it was set."""
    ends: float
    """CLOCK_MONOTONIC seconds."""


def name_of(row: dict[str, Any]) -> str:
    """By which a flag is known: there is one of a kind for a target, and for a script."""
    what = "target" if "target" in row else "script"
    return f"{row['flag']}:{what}:{row[what]}"


def put(state: State, event: ev.PutFlag, now: Now) -> None:
    """It holds from now on, until another moment if it holds already."""
    name = name_of(event.row)
    _hold(state, name, event.row, now)
    state.effects.append(ev.PersistRow(TABLE, name, event.row))


def drop(state: State, event: ev.DropFlag, now: Now) -> None:
    """It holds no longer."""
    if state.flags.pop(event.name, None) is not None:
        state.effects.append(ev.PersistRow(TABLE, event.name, None))


def found(state: State, order: Order, now: Now) -> dict[str, Any] | None:
    """The flag by which a run that begins now logs from DEBUG on; None where there is none."""
    if not state.flags or not kind_of(order.kind).logs:
        return None
    script = order.tick["script"] if order.tick else None
    for name in (f"target:{order.name}", f"target:{order.target}", f"script:{script}" if script else ""):
        flag = state.flags.get(f"{DEBUG}:{name}")
        if flag is not None and flag.row["until"] > now.wall:
            row: dict[str, Any] = flag.row
            return row
    return None


def recall(state: State, rows: dict[str, dict[str, Any]], now: Now) -> None:
    """At a take-over: what the master before has written down."""
    for name, row in rows.items():
        if not _readable(row):
            continue  # of another version, which may come back
        if row["until"] > now.wall:
            _hold(state, name, row, now)
        else:
            state.effects.append(ev.PersistRow(TABLE, name, None))


def over_at(state: State, name: str) -> float:
    """When it ends (CLOCK_MONOTONIC seconds), 0 for never."""
    return state.flags[name].ends if name in state.flags else 0.0


def over(state: State, name: str, now: Now) -> None:
    """It has ended by itself, or the clock was set back meanwhile."""
    row = state.flags[name].row
    if row["until"] > now.wall:
        _hold(state, name, row, now)
        return
    drop(state, ev.DropFlag(name), now)
    state.effects.append(ev.FlagEnded(row))


def clock_was_set(state: State, now: Now) -> None:
    """Each ends at the moment of the wall clock that was said."""
    for name, flag in list(state.flags.items()):
        _hold(state, name, flag.row, now)


def _hold(state: State, name: str, row: dict[str, Any], now: Now) -> None:
    state.flags[name] = Flag(row, now.mono + max(0.0, row["until"] - now.wall))
    state.reminders.add(state.flags[name].ends, "flag", name)
    state.awaits_clock = True


def _readable(row: dict[str, Any]) -> bool:
    """Whether this version understands it."""
    named = [name for name in ("target", "script") if isinstance(row.get(name), str)]
    return row.get("flag") in KINDS and len(named) == 1 and type(row.get("until")) in (int, float)
