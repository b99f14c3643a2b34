"""Cron expressions: what may be said, what it means on a wall clock, and the sentence for it."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

import pytest

from rocksyd.schedule import words
from rocksyd.schedule.cron import Cron, CronError

MONDAY = datetime(2026, 6, 1)


def matches(text: str, count: int = 3, start: datetime = MONDAY, name: str = "") -> list[str]:
    cron, found, moment = Cron(text, name), [], start
    for _ in range(count):
        following = cron.next(moment)
        assert following is not None
        moment = following
        found.append(f"{moment:%Y-%m-%d %H:%M:%S}")
    return found


MEANT = {
    "0 3 * * *": ["2026-06-01 03:00:00", "2026-06-02 03:00:00", "2026-06-03 03:00:00"],
    "@daily": ["2026-06-02 00:00:00", "2026-06-03 00:00:00", "2026-06-04 00:00:00"],
    "*/20 9 * * MON-FRI": ["2026-06-01 09:00:00", "2026-06-01 09:20:00", "2026-06-01 09:40:00"],
    "30 0 9 * * 1": ["2026-06-01 09:00:30", "2026-06-08 09:00:30", "2026-06-15 09:00:30"],
    "0 0 L * *": ["2026-06-30 00:00:00", "2026-07-31 00:00:00", "2026-08-31 00:00:00"],
    "0 0 LW * *": ["2026-06-30 00:00:00", "2026-07-31 00:00:00", "2026-08-31 00:00:00"],
    "0 0 * * 5L": ["2026-06-26 00:00:00", "2026-07-31 00:00:00", "2026-08-28 00:00:00"],
    "0 0 * * 1#2": ["2026-06-08 00:00:00", "2026-07-13 00:00:00", "2026-08-10 00:00:00"],
    "0 0 13 * 5": ["2026-06-05 00:00:00", "2026-06-12 00:00:00", "2026-06-13 00:00:00"],
    "0 0 */2 * 1": ["2026-06-15 00:00:00", "2026-06-29 00:00:00", "2026-07-13 00:00:00"],
    "0 0 29 2 *": ["2028-02-29 00:00:00", "2032-02-29 00:00:00", "2036-02-29 00:00:00"],
    "0 0 * * 7": ["2026-06-07 00:00:00", "2026-06-14 00:00:00", "2026-06-21 00:00:00"],
    "0 0 1 jan,jul *": ["2026-07-01 00:00:00", "2027-01-01 00:00:00", "2027-07-01 00:00:00"],
    "0/30 * * * *": ["2026-06-01 00:30:00", "2026-06-01 01:00:00", "2026-06-01 01:30:00"],
}


@pytest.mark.parametrize("text", MEANT)
def test_what_an_expression_means(text: str) -> None:
    assert matches(text) == MEANT[text]


WRONG = {
    "": "expected 5 or 6 fields",
    "* * * *": "expected 5 or 6 fields",
    "@noon": "there is no @noon; there are @yearly",
    "@reboot": "there is no @reboot",
    "60 * * * *": "the minute is '60', and may be 0-59",
    "0 24 * * *": "the hour is '24', and may be 0-23",
    "0 0 0 * *": "the day of month is '0'",
    "0 0 * 13 *": "the month is '13', and may be 1-12, lists, ranges, steps, JAN-DEC",
    "0 0 * * 8": "the day of week is '8'",
    "60 0 0 * * *": "the second is '60'",
    "5-1 * * * *": "the minute is '5-1'",
    "*/0 * * * *": "the minute is '*/0'",
    "x * * * *": "the minute is 'x'",
    "0 0 30 2 *": "never comes: there is no such day",
    "0 0 31 4,6 *": "never comes: there is no such day",
    "9~3 * * * *": "expected two numbers from 0 to 59 round ~, the smaller one first",
    "0~99 * * * *": "expected two numbers from 0 to 59 round ~",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said_by_its_field(text: str) -> None:
    with pytest.raises(CronError) as caught:
        Cron(text)
    assert WRONG[text] in str(caught.value)


def test_a_tilde_is_always_the_same_for_a_name_and_spread_over_names() -> None:
    names = [f"script-{number}" for number in range(200)]
    assert matches("~ 3 * * *", name="a") == matches("~ 3 * * *", name="a")
    minutes = {Cron("~ 3 * * *", name).fields[1] for name in names}
    assert len(minutes) > 40
    hours = {int(Cron("0 1~5 * * *", name).fields[2]) for name in names}
    assert hours == {1, 2, 3, 4, 5}
    days = {int(Cron("0 0 ~ * *", name).fields[3]) for name in names}
    assert max(days) <= 28, "a day that every month has"


def test_matches_come_in_order_and_none_is_left_out_within_a_day() -> None:
    cron = Cron("0,30 1-2 * * *")
    moments, moment = [], MONDAY
    for _ in range(12):
        moment = cron.next(moment) or MONDAY
        moments.append(moment)
    assert all(earlier < later for earlier, later in pairwise(moments))
    assert [f"{one:%H:%M}" for one in moments[:4]] == ["01:00", "01:30", "02:00", "02:30"]


SENTENCES = {
    "0 3 * * *": "every day at 03:00",
    "@hourly": "every hour",
    "15 * * * *": "every hour at minute 15",
    "*/15 * * * *": "every 15 minutes",
    "* * * * *": "every minute",
    "0 3,15 * * *": "every day at 03:00 and 15:00",
    "0 9 * * 1-5": "Monday to Friday at 09:00",
    "0 9 * * sun": "every Sunday at 09:00",
    "0 0 L * *": "on the last day of every month at 00:00",
    "0 0 1 * *": "on day 1 of every month at 00:00",
    "*/7 * * * *": "every seventh minute of every hour",
    "0 0 * * 1#2": "at 00:00 on the second Monday of the month",
    "30 2 1 1-6 *": "at 02:30 on the first day of every month from January through June",
}


@pytest.mark.parametrize("text", SENTENCES)
def test_the_sentence_for_it(text: str) -> None:
    assert words.cron(Cron(text)) == SENTENCES[text]


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "every second"), (90, "every 90 seconds"), (300, "every 5 minutes"), (86_400, "every day")]
)
def test_the_sentence_for_an_interval(seconds: int, text: str) -> None:
    assert words.interval(seconds) == text
