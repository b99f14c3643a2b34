"""What becomes of a schedule when the clock of its zone is set, told in advance.

What must live here: the changes ahead, and for each the sentence. What this file must not know: what time it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

from rocksyd.schedule.cron import Cron
from rocksyd.schedule.script import Script
from rocksyd.schedule.timetable import DAY, Calendar, Change, Every, first_change, wall

AHEAD = 731 * DAY
"""Seconds that are looked ahead: two years."""
_SHOWN = 3
_SECOND = timedelta(seconds=1)


class Effect(NamedTuple):
    """One change of the clock, and what the schedule makes of it."""

    at: int
    """Unix seconds."""
    clock: str
    """What the clock does."""
    effect: str


def effects(script: Script, now: int) -> list[Effect]:
    """What the changes of the clock in the next two years do to the script, the first one first."""
    table = script.timetable
    if table is None:
        return []
    found, instant = [], now
    while (change := first_change(table.zone, instant, now + AHEAD)) is not None:
        instant = change.at
        before, after = wall(change.at, change.before), wall(change.at, change.now)
        way = "forward" if after > before else "back"
        effect = _of_interval() if isinstance(table.rule, Every) else _of_calendar(table.rule, change)
        found.append(Effect(change.at, f"set {way} from {before:%H:%M} to {after:%H:%M}", effect))
    return found


def _of_interval() -> str:
    return "nothing changes: an interval of elapsed time"


def _of_calendar(rule: Calendar, change: Change) -> str:
    cron, (before, after) = rule.cron, change.gap
    if after > before:
        times = _times(cron, before, after)
        if cron.hour_is_open:
            return "nothing is made up for: it goes on after the same elapsed time" if times else "nothing changes"
        exist = "do not exist" if "," in times else "does not exist"
        return f"{times} {exist}: once at {after:%H:%M} instead" if times else "nothing changes"
    times = _times(cron, after, before)
    if not times:
        return "nothing changes"
    comes, is_ = ("come", "are") if "," in times else ("comes", "is")
    return (
        f"{times} {comes} twice, and {is_} run both times"
        if cron.is_interval
        else f"{times} {comes} twice: run the first time only"
    )


def _times(cron: Cron, begin: datetime, end: datetime) -> str:
    """The matches from ``begin`` up to ``end`` exclusively, as text; "" for none."""
    shown = [
        f"{one:%H:%M:%S}" if cron.seconds_given else f"{one:%H:%M}" for one in islice(_matches(cron, begin, end), _SHOWN + 1)
    ]
    return ", ".join(shown[:_SHOWN]) + (" ..." if len(shown) > _SHOWN else "")


def _matches(cron: Cron, begin: datetime, end: datetime) -> Iterator[datetime]:
    found = cron.next(begin - _SECOND, until=end - _SECOND)
    while found is not None:
        yield found
        found = cron.next(found, until=end - _SECOND)
