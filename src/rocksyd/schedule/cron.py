"""A cron expression: which wall-clock times it matches, whatever the zone.

What must live here: the syntax (5 and 6 fields, names, ``@daily``, ``L``, ``~``), and the next match on a wall clock.
What this file must not know: zones and their changes (``timetable``), what happens at a match.

Sources: crontab(5) of Debian's cron and of cronie; ``cronsim`` reads the fields.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import cast

from cronsim import CronSim, CronSimError

ALIASES = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
YEARS = 50
"""Years without a match after which there is taken to be none."""
_SPREAD = re.compile(r"([0-9]*)~([0-9]*)")
_RANGES = {
    "second": (0, 59),
    "minute": (0, 59),
    "hour": (0, 23),
    "day of month": (1, 31),
    "month": (1, 12),
    "day of week": (0, 6),
}
_FIELDS = tuple(_RANGES)
_BEGIN = datetime(2000, 1, 1)
_DAY = timedelta(days=1)


class CronError(ValueError):
    """The expression cannot be read; the message says which part, and what is expected."""


class Cron:
    """One expression. Times are naive: of a wall clock.

    Args:
        text: 5 fields (minute hour day-of-month month day-of-week), 6 with seconds before them, or an alias such as ``@daily``.
        name: what ``~`` spreads by: the same name has the same values, on every machine and for ever.

    Raises:
        CronError: it cannot be read, or never matches.
    """

    def __init__(self, text: str, name: str = "") -> None:
        self.text = " ".join(text.split())
        fields = ALIASES.get(self.text.lower(), self.text).split()
        if self.text.startswith("@") and self.text.lower() not in ALIASES:
            raise CronError(f"there is no {self.text}; there are {', '.join(ALIASES)}")
        if len(fields) not in (5, 6):
            expected = "minute hour day-of-month month day-of-week, with a field for seconds before them or not"
            raise CronError(f'expected 5 or 6 fields ({expected}) such as "0 3 * * *", got {len(fields)}')
        self.seconds_given = len(fields) == 6
        fields = fields if self.seconds_given else ["0", *fields]
        self.fields = tuple(_settled(field, which, name) for field, which in zip(fields, _FIELDS, strict=True))
        """Second, minute, hour, day of month, month, day of week, with ``~`` replaced by its values."""
        self._days = self._read()
        self.seconds, self.minutes, self.hours = (
            sorted(values) for values in (self._days.seconds, self._days.minutes, self._days.hours)
        )
        self.hour_is_open = self.fields[2].startswith("*")
        """Whether it says at which hours by ``*`` (or ``*/n``): it is an interval, not a time of day."""
        self.is_interval = any(field.startswith("*") for field in self.fields[:3])
        """Whether seconds, minutes or hours are given by ``*``: it happens so often, not at a time of day."""
        if self.next(_BEGIN) is None:
            raise CronError(f"{self.text!r} never comes: there is no such day")

    def _read(self) -> CronSim:
        try:
            return CronSim(" ".join(self.fields), _BEGIN)
        except CronSimError as error:
            for field, which in zip(self.fields, _FIELDS, strict=True):
                probe = " ".join(field if which == other else "*" for other in _FIELDS)
                try:
                    CronSim(probe, _BEGIN)
                except CronSimError:
                    low, high = _RANGES[which]
                    raise CronError(
                        f"the {which} is {field!r}, and may be {low}-{high}, lists, ranges, steps{_more(which)}"
                    ) from None
            raise CronError(f"{self.text!r} never comes: there is no such day") from error

    def __repr__(self) -> str:
        return f"Cron({self.text!r})"

    def on(self, day: date) -> bool:
        """Whether the day is one of its days."""
        return day.month in self._days.months and self._days.match_day(day)

    @property
    def a_day(self) -> int:
        """Matches on one of its days."""
        return len(self.seconds) * len(self.minutes) * len(self.hours)

    def next(self, after: datetime, *, until: datetime | None = None) -> datetime | None:
        """The first match later than ``after``; None when there is none (until then)."""
        moment = after.replace(microsecond=0) + timedelta(seconds=1)
        day, seconds = moment.date(), (moment.hour, moment.minute, moment.second)
        last = until.date() if until is not None else day.replace(day=1, year=min(day.year + YEARS, 9998))
        while day <= last:
            if day.month not in self._days.months:
                day = (day.replace(day=1) + 32 * _DAY).replace(day=1)
                seconds = (0, 0, 0)
                continue
            if self._days.match_day(day):
                found = self._from(seconds)
                if found is not None:
                    match = datetime(day.year, day.month, day.day, *found)
                    return match if until is None or match <= until else None
            day, seconds = day + _DAY, (0, 0, 0)
        return None

    def _from(self, moment: tuple[int, int, int]) -> tuple[int, int, int] | None:
        """The first time of a day that matches, not earlier than this hour, minute, second."""
        hour, minute, second = moment
        at = bisect_left(self.hours, hour)
        if at == len(self.hours):
            return None
        if self.hours[at] == hour:
            later = bisect_left(self.minutes, minute)
            if later < len(self.minutes) and self.minutes[later] == minute:
                last = bisect_left(self.seconds, second)
                if last < len(self.seconds):
                    return hour, minute, self.seconds[last]
                later += 1
            if later < len(self.minutes):
                return hour, self.minutes[later], self.seconds[0]
            at += 1
        return (self.hours[at], self.minutes[0], self.seconds[0]) if at < len(self.hours) else None


def _more(which: str) -> str:
    return {"month": ", JAN-DEC", "day of week": ", SUN-SAT, 5L (the last Friday), 1#2 (the second Monday)",
            "day of month": ", L (the last day), LW (the last working day)"}.get(which, "") + ", or ~"  # fmt: skip


def _settled(field: str, which: str, name: str) -> str:
    """The field with each ``~``, ``low~high`` replaced by a value in that range, always the same for a name."""
    low, high = _RANGES[which]
    high = 28 if which == "day of month" else high  # a day that every month has

    def value(found: re.Match[str]) -> str:
        first, last = int(found[1] or low), int(found[2] or high)
        if not low <= first <= last <= _RANGES[which][1]:
            raise CronError(
                f"the {which} is {field!r}: expected two numbers from {low} to {_RANGES[which][1]} round ~, the smaller one first"
            )
        return str(first + spread(f"{name}\0{which}", last - first + 1))

    return _SPREAD.sub(cast(Callable[[re.Match[str]], str], value), field)


def spread(name: str, width: int) -> int:
    """A number from 0 up to ``width`` - 1 that is always the same for a name, and evenly spread over names."""
    return int.from_bytes(sha256(name.encode()).digest()[:8]) % width
