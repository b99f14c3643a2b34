"""Nominal times over all zones and years, held against an oracle that looks at every minute and knows nothing of our ways."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rocksyd.schedule.cron import Cron, CronError
from rocksyd.schedule.timetable import Calendar, Every, Timetable, between, first_change

ZONES = sorted(name for name in available_timezones() if name not in ("localtime", "Factory"))
TRICKY = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "America/Sao_Paulo",
          "Asia/Kathmandu", "Europe/Dublin", "Antarctica/Troll", "Asia/Gaza", "UTC"]  # fmt: skip
BEGIN, END = 1_104_537_600, 1_735_689_600
"""2005 to 2025."""
DAY = 86_400

fields = {
    "minute": st.sampled_from(["*", "0", "30", "*/15", "15,45", "59", "7-9"]),
    "hour": st.sampled_from(["*", "0", "1", "2", "3", "23", "*/2", "1-3", "0,12"]),
    "day": st.sampled_from(["*", "*", "*", "1", "L", "25-31"]),
    "month": st.sampled_from(["*", "*", "3,10", "4"]),
    "weekday": st.sampled_from(["*", "*", "*", "SUN", "1-5"]),
}
expressions = st.builds("{minute} {hour} {day} {month} {weekday}".format, **fields)


def changes(zone: ZoneInfo) -> Iterator[int]:
    instant = BEGIN
    while (change := first_change(zone, instant, END)) is not None:
        yield change.at
        instant = change.at


@st.composite
def places(draw: st.DrawFn) -> tuple[str, int]:
    """A zone and an instant, more often than not near a change of its clock."""
    name = draw(st.sampled_from(TRICKY) | st.sampled_from(ZONES))
    near = list(changes(ZoneInfo(name)))[-60:]
    instant = draw(st.sampled_from(near)) if near and draw(st.integers(0, 3)) else draw(st.integers(BEGIN, END))
    return name, instant + draw(st.integers(-2 * DAY, DAY))


def matches(cron: Cron, wall: datetime) -> bool:
    return wall.second in cron.seconds and wall.minute in cron.minutes and wall.hour in cron.hours and cron.on(wall.date())


def oracle(text: str, zone: ZoneInfo, after: int, until: int) -> list[int]:
    """What the manual promises, minute by minute."""
    cron, found = Cron(text), set()
    minute, hour = text.split()[:2]
    first = after // 60 * 60
    wall = datetime.fromtimestamp(first - 60, zone)
    for instant in range(first, until + 1, 60):
        before = wall.replace(tzinfo=None, fold=0) + timedelta(minutes=1)
        wall = datetime.fromtimestamp(instant, zone)
        repeated = wall.fold == 1
        if matches(cron, wall.replace(tzinfo=None)) and not (
            repeated and not minute.startswith("*") and not hour.startswith("*")
        ):
            found.add(instant)
        while before < wall.replace(tzinfo=None):  # the clock was set forward: these were left out
            if matches(cron, before) and not hour.startswith("*"):
                found.add(instant)
            before += timedelta(minutes=1)
    return sorted(instant for instant in found if after < instant <= until)


@settings(max_examples=150)
@given(expressions, places())
@example("* 0 * * *", ("Africa/Casablanca", 1212191999))  # made up at the first second asked for
@example("30 0 * * *", ("America/Havana", 1710046799))
def test_ticks_are_those_that_the_manual_promises(text: str, place: tuple[str, int]) -> None:
    try:
        table = Calendar(Cron(text), ZoneInfo(place[0]))
    except ValueError:
        return
    after, until = place[1], place[1] + 3 * DAY
    expected = oracle(text, ZoneInfo(place[0]), after, until)
    assert list(between(table.after, after, until)) == expected
    assert table.number(after, until) == len(expected)
    latest = table.latest(until)
    if expected:
        assert latest == expected[-1]
    else:
        assert latest is None or latest <= after


def field(low: int, high: int, *words: str) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.builds("{}/{}".format, st.just("*") | span, st.integers(1, high))
    one = number.map(str) | span | step
    return st.just("*") | one | st.lists(one, min_size=2, max_size=4).map(",".join) | st.sampled_from(words or ("*",))


whole = st.builds(
    "{} {} {} {} {}".format, field(0, 59), field(0, 23), field(1, 31, "L"), field(1, 12, "jan", "MAR-may"),
    field(0, 7, "sun", "MON-FRI", "5L", "1#2"),
)  # fmt: skip


@settings(max_examples=500)
@given(whole, st.integers(BEGIN, END))
def test_without_changes_of_the_clock_an_expression_means_what_it_means_to_debians_cron(text: str, instant: int) -> None:
    """cronsim follows Debian's cron second by second; we jump."""
    start = datetime.fromtimestamp(instant, UTC)
    try:
        theirs = list(islice(CronSim(text, start), 5))
    except CronSimError:
        theirs = []
    try:
        ours = Calendar(Cron(text), UTC)
    except CronError:
        assert theirs == []
        return
    found = []
    while len(found) < len(theirs) and (following := ours.after(instant)) is not None:
        instant = following
        found.append(datetime.fromtimestamp(instant, UTC))
    assert found == theirs


@settings(max_examples=100)
@given(expressions, places(), st.integers(0, 400 * DAY))
def test_their_number_is_that_of_those_that_come(text: str, place: tuple[str, int], span: int) -> None:
    try:
        table = Calendar(Cron(text), ZoneInfo(place[0]))
    except ValueError:
        return
    if table.cron.a_day > 100:
        span //= 20
    assert table.number(place[1], place[1] + span) == len(list(between(table.after, place[1], place[1] + span)))


@given(st.integers(1, 10 * DAY), st.integers(BEGIN, END), st.integers(0, DAY))
def test_an_interval_is_multiples_since_1970_and_knows_no_clock(seconds: int, instant: int, span: int) -> None:
    table = Every(seconds)
    expected = [one for one in range(-(-instant // seconds) * seconds, instant + span + 1, seconds) if one > instant]
    assert list(between(table.after, instant, instant + span)) == expected
    assert table.number(instant, instant + span) == len(expected)
    latest = table.latest(instant)
    assert latest is not None
    assert latest <= instant < latest + seconds


@given(st.sampled_from(["0 3 * * *", "*/30 * * * *"]), places(), st.integers(1, 5))
def test_days_that_are_excluded_have_none(text: str, place: tuple[str, int], days: int) -> None:
    zone = ZoneInfo(place[0])
    out = frozenset(datetime.fromtimestamp(place[1] + day * DAY, zone).date() for day in range(days))
    table, all_of_it = Timetable(Calendar(Cron(text), zone), zone, out), Calendar(Cron(text), zone)
    expected = [
        one
        for one in between(all_of_it.after, place[1], place[1] + 7 * DAY)
        if datetime.fromtimestamp(one, zone).date() not in out
    ]
    assert list(table.between(place[1], place[1] + 7 * DAY)) == expected
    assert table.newest(place[1], place[1] + 7 * DAY, 3) == expected[-3:]
    assert table.number(place[1], place[1] + 7 * DAY) == len(expected)


def moments(text: str, zone: str, start: str, hours: int) -> list[str]:
    """As the clock of the zone shows them."""
    place = ZoneInfo(zone)
    begin = int(datetime.fromisoformat(start).replace(tzinfo=place).timestamp())
    found = between(Calendar(Cron(text), place).after, begin, begin + hours * 3600)
    return [f"{datetime.fromtimestamp(instant, place):%d %H:%M%z}" for instant in found]


def test_what_others_got_wrong_when_the_clock_is_set() -> None:
    """celery #6438 and #10107 (a daily task left out, or an hour late for ever), #1604 (by UTC instead of the zone's clock)."""
    assert moments("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", 48) == ["29 03:00+0200", "30 02:30+0200"]
    assert moments("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", 48) == ["25 02:30+0200", "26 02:30+0100"]
    assert moments("*/30 * * * *", "Europe/Berlin", "2026-10-25 01:45", 3) == [
        "25 02:00+0200", "25 02:30+0200", "25 02:00+0100", "25 02:30+0100", "25 03:00+0100", "25 03:30+0100",
    ]  # fmt: skip
    assert moments("0 * * * *", "Europe/Berlin", "2026-03-29 00:30", 3) == ["29 01:00+0100", "29 03:00+0200", "29 04:00+0200"]
    assert moments("0 9 * * *", "America/New_York", "2026-03-07 00:00", 60) == ["07 09:00-0500", "08 09:00-0400", "09 09:00-0400"]


def test_a_day_that_a_zone_left_out_is_made_up_for_at_its_end() -> None:
    """Samoa had no 30 December 2011."""
    assert moments("0 12 * * *", "Pacific/Apia", "2011-12-29 00:00", 59) == ["29 12:00-1000", "31 00:00+1400", "31 12:00+1400"]


@pytest.mark.parametrize("text", ["* * * * * *", "*/10 0 3 * * *"])
def test_seconds_come_one_after_another(text: str) -> None:
    table = Calendar(Cron(text), UTC)
    found = list(between(table.after, BEGIN + 3 * 3600 - 5, BEGIN + 3 * 3600 + 30))
    assert found[-1] == BEGIN + 3 * 3600 + 30
    assert len(found) == (35 if text[1] == " " else 4)
