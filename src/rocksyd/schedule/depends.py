"""Ticks of scripts that depend on others: which runs they wait for.

What must live here: which tick of another script belongs to one of this. What this file must not know: how a run is, clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rocksyd.schedule.script import Script
from rocksyd.schedule.words import key_time

DEPENDS = "depends"
"""What became of a tick that was left out because a script that it depends on was not run."""


class Came(NamedTuple):
    """How far another script has come."""

    position: int
    last: int | None
    """The nominal time of the latest tick that was run."""
    last_key: str
    paused: bool


class Needs(NamedTuple):
    """What a tick waits for."""

    keys: tuple[str, ...] = ()
    reason: str = ""
    """Why it is left out."""
    early: str = ""
    """The script that has to come so far first."""


def needs(script: Script, tick: int, scripts: Mapping[str, Script], came: Mapping[str, Came]) -> Needs:
    """The runs that a tick of ``script`` waits for: of each other script that of the same time, or the latest before it."""
    keys = []
    for name in script.depends_on:
        if name not in scripts or name not in came:
            return Needs(reason=f"there is no script {name!r}, and it depends on that")
        table, other = scripts[name].timetable, came[name]
        if table is None:
            if not other.last_key:
                return Needs(reason=f"{name} has never been run, and it depends on that")
            keys.append(other.last_key)
            continue
        theirs = table.latest(tick)
        if theirs is None:
            return Needs(reason=f"{name} was not due before, and it depends on that")
        if other.position < theirs and not other.paused:
            return Needs(early=name)
        if other.last != theirs:
            how = "is paused" if other.paused and other.position < theirs else "was left out"
            return Needs(reason=f"{name}@{key_time(theirs)} {how}, and it depends on that")
        keys.append(f"{name}@{key_time(theirs)}")
    return Needs(tuple(keys))


def keys(script: Script, tick: int, scripts: Mapping[str, Script]) -> list[str]:
    """The keys of the same, of a tick that is filled: whether they were run is not asked."""
    tables = ((name, scripts[name].timetable) for name in script.depends_on if name in scripts)
    latest = ((name, table.latest(tick)) for name, table in tables if table is not None)
    return [f"{name}@{key_time(theirs)}" for name, theirs in latest if theirs is not None]
