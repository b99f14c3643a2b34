"""When a script is due: nominal times as instants, across changes of the clock.

What must live here: the next instant, the latest one, how many there were; what a change of a zone's clock does to them.
What this file must not know: what is done at such an instant, and what time it is.

Instants are whole Unix seconds. The rules at a change of the clock, which ``docs/schedules.md`` states for people:

* Clock set forward: wall-clock times that are left out are made up for once, at the end of the gap. Not where the hour is ``*``:
  that is an interval, and goes on after the same elapsed time.
* Clock set back: a time of day is used the first time it comes; with ``*`` in seconds, minutes or hours both times.
* ``every`` knows no clock: multiples of the interval since 1970-01-01T00:00Z.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import NamedTuple

from rocksyd.schedule.cron import Cron

DAY = 86_400
_FAR = 4 * DAY
_EPOCH = datetime(1970, 1, 1)
LAST = 253_370_764_800
"""The beginning of the year 9999: no instant is looked for behind it."""


class Every(NamedTuple):
    """At multiples of so many seconds since 1970-01-01T00:00Z."""

    seconds: int

    def after(self, instant: int) -> int | None:
        """The first instant later than this one."""
        return (instant // self.seconds + 1) * self.seconds

    def latest(self, instant: int) -> int | None:
        """The last instant not later than this one."""
        return instant // self.seconds * self.seconds

    def number(self, after: int, until: int) -> int:
        """How many there are later than ``after`` and not later than ``until``."""
        return max(0, until // self.seconds - after // self.seconds)


class Change(NamedTuple):
    """A zone's clock is set."""

    at: int
    """The first instant with the new offset."""
    before: int
    """Seconds that the wall clock was ahead of UTC."""
    now: int

    @property
    def gap(self) -> tuple[datetime, datetime]:
        """The wall-clock times that are left out: from the first, up to the second exclusively. Empty when it is set back."""
        return wall(self.at, self.before), wall(self.at, self.now)


class Calendar(NamedTuple):
    """A cron expression by the clock of a zone."""

    cron: Cron
    zone: tzinfo

    def after(self, instant: int) -> int | None:
        """The first instant later than this one; None when there is none in sight."""
        while instant < LAST:
            ahead = offset(self.zone, instant + 1)
            if self._made_up(Change(instant + 1, offset(self.zone, instant), ahead)):
                return instant + 1
            match = self.cron.next(wall(instant, ahead))
            if match is None:
                return None
            found = _seconds(match) - ahead
            if found - instant > 2 * _FAR:  # no day in between is one of its days: only what is near has to be looked at
                instant = found - _FAR
                continue
            change = first_change(self.zone, instant + 1, found)
            if change is None:
                if self._repeated(found):
                    instant = found
                    continue
                return found
            instant = change.at - 1
        return None

    def _made_up(self, change: Change) -> bool:
        """Whether the end of the gap is an instant because of what is left out."""
        if change.now <= change.before or self.cron.hour_is_open:
            return False
        begin, end = change.gap
        return self.cron.next(begin - timedelta(seconds=1), until=end - timedelta(seconds=1)) is not None

    def _repeated(self, instant: int) -> bool:
        """Whether the clock showed this time before, and it is not to count a second time."""
        return not self.cron.is_interval and datetime.fromtimestamp(instant, self.zone).fold == 1

    def latest(self, instant: int) -> int | None:
        """The last instant not later than this one; None when there is none within decades."""
        span = 64
        while span < 200 * 366 * DAY:
            if (found := self.after(instant - span)) is not None and found <= instant:
                break
            span *= 2
        else:
            return None
        low, high = instant - span, instant  # after(low) is there in time; find the last moment of which that is true
        while high - low > 1:
            middle = (low + high) // 2
            later = self.after(middle)
            if later is not None and later <= instant:
                low = middle
            else:
                high = middle
        return self.after(low)

    def number(self, after: int, until: int) -> int:
        """How many there are later than ``after`` and not later than ``until``. Days without a change are not walked through."""
        total = 0
        while after < until:
            ahead = offset(self.zone, after + 1)
            midnight = _seconds(datetime.combine(wall(after, ahead).date() + timedelta(days=1), datetime.min.time())) - ahead - 1
            if midnight + 2 * DAY < until and offset(self.zone, midnight + 1) == ahead:
                total += self._walk(after, midnight)
                after = midnight
                day = wall(after + 1, ahead).date()
                while after + DAY < until and first_change(self.zone, after - DAY, after + 2 * DAY) is None:
                    total += self.cron.a_day if self.cron.on(day) else 0
                    after, day = after + DAY, day + timedelta(days=1)
                if after == midnight:
                    end = min(after + DAY, until)
                    total += self._walk(after, end)
                    after = end
            else:
                end = min(after + 2 * DAY, until)
                total += self._walk(after, end)
                after = end
        return total

    def _walk(self, after: int, until: int) -> int:
        return sum(1 for _ in between(self.after, after, until))


def between(step: Callable[[int], int | None], after: int, until: int) -> Iterator[int]:
    """The instants that ``step`` leads to, later than ``after`` and not later than ``until``."""
    found = step(after)
    while found is not None and found <= until:
        yield found
        found = step(found)


class Timetable(NamedTuple):
    """When a script is due, without the days that are excluded."""

    rule: Every | Calendar
    zone: tzinfo = UTC
    excluded: frozenset[date] = frozenset()
    """Days of the zone's calendar on which it is not due."""

    def after(self, instant: int) -> int | None:
        """The first instant later than this one; None when there is none in sight."""
        found = self.rule.after(instant)
        while found is not None and self._out(found):
            found = self.rule.after(found)
        return found

    def latest(self, instant: int) -> int | None:
        """The last instant not later than this one; None when there is none."""
        found = self.rule.latest(instant)
        while found is not None and self._out(found):
            found = self.rule.latest(found - 1)
        return found

    def _out(self, instant: int) -> bool:
        return bool(self.excluded) and datetime.fromtimestamp(instant, self.zone).date() in self.excluded

    def number(self, after: int, until: int) -> int:
        """How many there are later than ``after`` and not later than ``until``."""
        if self.excluded:
            return sum(1 for _ in self.between(after, until))
        return self.rule.number(after, until)

    def between(self, after: int, until: int) -> Iterator[int]:
        """The instants later than ``after`` and not later than ``until``, earliest first."""
        return between(self.after, after, until)

    def newest(self, after: int, until: int, most: int) -> list[int]:
        """The last ``most`` of those instants, earliest first."""
        found: list[int] = []
        while len(found) < most and (before := self.latest(until)) is not None and before > after:
            found.append(before)
            until = before - 1
        return found[::-1]


def offset(zone: tzinfo, instant: int) -> int:
    """Seconds that the zone's wall clock is ahead of UTC at an instant."""
    ahead = datetime.fromtimestamp(instant, zone).utcoffset()
    assert ahead is not None
    return ahead.days * DAY + ahead.seconds


def wall(instant: int, ahead: int) -> datetime:
    """What a wall clock shows that is so many seconds ahead of UTC."""
    return _EPOCH + timedelta(seconds=instant + ahead)


def _seconds(moment: datetime) -> int:
    since = moment - _EPOCH
    return since.days * DAY + since.seconds


def first_change(zone: tzinfo, after: int, until: int) -> Change | None:
    """The first change of the zone's clock later than ``after`` and not later than ``until``.

    Two that are less than a day apart and take each other back are not seen: no zone has had that since 1970.
    """
    if zone is UTC:
        return None
    low, before = after, offset(zone, after)
    while low < until:
        high = min(low + DAY, until)
        if offset(zone, high) != before:
            while high - low > 1:
                middle = (low + high) // 2
                if offset(zone, middle) == before:
                    low = middle
                else:
                    high = middle
            return Change(high, before, offset(zone, high))
        low = high
    return None
