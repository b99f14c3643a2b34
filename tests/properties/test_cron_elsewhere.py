"""What an expression means to Debian's cron and to systemd's calendar: the same, but for what the manual lists."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from rocksyd.schedule.cron import Cron, CronError
from rocksyd.schedule.timetable import Calendar, between
from tests.properties.debians_cron import Entry
from tests.properties.test_timetable import DAY, ZONES, changes, oracle
from tests.restart.stage import many

FIRST = date(2027, 6, 1)
DAYS = 731
"""With a 29 February."""
NUMBER = 500


def expressions(number: int, seed: int = 20260131) -> list[str]:
    """Such as people write, and such as nobody would: fields of numbers, names, ranges, steps and lists of them."""
    choose = random.Random(seed)

    def element(low: int, high: int, names: tuple[str, ...]) -> str:
        one, other = sorted(choose.sample(range(low, high + 1), 2))
        span = f"{one}-{other}"
        kinds = [str(one), str(one), span, f"{span}/{choose.randint(1, high)}", f"*/{choose.randint(1, high)}"]
        if names:
            begin, end = sorted(choose.sample(range(len(names)), 2))
            kinds += [choose.choice(names), f"{names[begin]}-{names[end]}"]
        return choose.choice(kinds)

    def field(low: int, high: int, open_: float, names: tuple[str, ...] = ()) -> str:
        if choose.random() < open_:
            return "*"
        return ",".join(element(low, high, names) for _ in range(choose.choice([1, 1, 1, 2, 3])))

    months = ("jan", "FEB", "mar", "Apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
    week = ("sun", "MON", "tue", "Wed", "thu", "fri", "sat")
    return [
        f"{field(0, 59, 0.2)} {field(0, 23, 0.3)} {field(1, 31, 0.5)} {field(1, 12, 0.6, months)} {field(0, 7, 0.5, week)}"
        for _ in range(number)
    ]


def test_500_expressions_mean_what_they_mean_to_debians_cron() -> None:
    never = 0
    for text in expressions(NUMBER):
        theirs = Entry(text)
        days = theirs.days(FIRST, DAYS)
        try:
            ours = Cron(text)
        except CronError:
            ours = None
        if ours is None:
            assert not theirs.days(FIRST, 40 * 365), text
            never += 1
            continue
        assert days == [day for day in (FIRST + timedelta(days=one) for one in range(DAYS)) if ours.on(day)], text
        for day in days[:2]:
            midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
            found = [
                datetime.fromtimestamp(one, UTC) for one in between(Calendar(ours, UTC).after, midnight - 1, midnight + 86_399)
            ]
            assert [(one.hour, one.minute) for one in found] == theirs.times(), text
    assert never < NUMBER // 20


SYSTEMD = {
    # cron expression: the same as systemd writes it, where there is no change of the clock
    "0 3 * * *": "*-*-* 03:00:00",
    "*/20 9 * * MON-FRI": "Mon..Fri *-*-* 09:00/20:00",
    "5,35 */6 1 1,7 *": "*-01,07-01 00/6:05,35:00",
    "0 0 L * *": "*-*~01 00:00:00",
    "0 0 * * 1#2": "Mon *-*-08..14 00:00:00",
    "30 0 9 * * 1": "Mon *-*-* 09:00:30",
    "@weekly": "Sun *-*-* 00:00:00",
}
SUMMER, WINTER = "2026-03-28 23:50:00", "2026-10-24 23:50:00"
DIFFERENT = {
    # cron expression: (systemd's of the same fields, from when, what we do, what systemd does), in UTC, by the clock of Berlin
    "0 0 13 * 5": (
        "Fri *-*-13 00:00:00 UTC", "2026-06-01 00:00:00", ["06-05 00:00", "06-12 00:00"], ["11-13 00:00", "08-13 00:00"],
    ),
    "30 2 * * *": ("*-*-* 02:30:00 Europe/Berlin", SUMMER, ["03-29 01:00", "03-30 00:30"], ["03-30 00:30", "03-31 00:30"]),
    "*/20 2 * * *": (
        "*-*-* 02:00/20:00 Europe/Berlin", WINTER, ["10-25 00:40", "10-25 01:00"], ["10-25 00:40", "10-26 01:00"],
    ),
    "*/30 * * * *": (
        "*-*-* *:00/30:00 Europe/Berlin", WINTER, ["10-25 00:30", "10-25 01:00"], ["10-25 00:30", "10-25 02:00"],
    ),
}  # fmt: skip


def systemd(calendar: str, start: str, number: int) -> list[datetime]:
    words = ["systemd-analyze", "calendar", f"--iterations={number}", f"--base-time={start} UTC", calendar]
    said = subprocess.run(words, capture_output=True, text=True, check=True, env={"TZ": "UTC", "PATH": "/usr/bin:/bin"}).stdout
    found = re.findall(r"(?:Next elapse|Iter(?:\.|ation) #\d+): \w+ (\S+ \S+) UTC", said)
    return [datetime.fromisoformat(one).replace(tzinfo=UTC) for one in found]


def ours(text: str, start: str, number: int, zone: str) -> list[datetime]:
    begin = int(datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp())
    table = Calendar(Cron(text), ZoneInfo(zone))
    return [datetime.fromtimestamp(one, UTC) for one in islice(between(table.after, begin, begin + 10**9), number)]


needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze (package systemd) is missing")


@needs_systemd
@pytest.mark.parametrize("text", SYSTEMD)
def test_what_systemd_calls_the_same_is_the_same(text: str) -> None:
    assert ours(text, "2026-06-01 00:00:00", 12, "UTC") == systemd(f"{SYSTEMD[text]} UTC", "2026-06-01 00:00:00", 12)


@needs_systemd
@pytest.mark.parametrize("text", DIFFERENT)
def test_where_systemd_differs_is_as_the_manual_says(text: str) -> None:
    calendar, start, mine, theirs = DIFFERENT[text]
    zone = "Europe/Berlin" if "Berlin" in calendar else "UTC"
    for expected, found in ((mine, ours(text, start, 4, zone)), (theirs, systemd(calendar, start, 4))):
        shown = [f"{one:%m-%d %H:%M}" for one in found]
        assert shown[shown.index(expected[0]) :][:2] == expected


@pytest.mark.timeout(3600)
def test_of_all_zones_in_twenty_years_each_change_of_the_clock_does_what_the_manual_says() -> None:
    """Each zone and each change when it is to be thorough, else some of them; minute by minute around it."""
    texts = ["30 2 * * *", "*/20 1-3 * * *", "0 * * * *", "15 0 * * *", "0 0,12 * * SUN", "59 23 L * *"]
    choose = random.Random(7)
    every = [(name, at) for name in ZONES for at in changes(ZoneInfo(name))] if many(0, 1) else []
    some = [(name, at) for name in choose.sample(ZONES, 12) for at in islice(changes(ZoneInfo(name)), 4)]
    looked = 0
    for number, (name, at) in enumerate(every or some):
        zone, text = ZoneInfo(name), texts[number % len(texts)]
        begin, end = at - DAY // 2, at + DAY // 2
        assert list(between(Calendar(Cron(text), zone).after, begin, end)) == oracle(text, zone, begin, end), (name, at, text)
        looked += 1
    assert looked > 10
