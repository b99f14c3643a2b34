"""What becomes of each tick: run, or left out for a reason; never twice, never forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.schedule.decide import CLOCK, LATE, MISSED, PAUSED, RUN, Going, Presence, Verdict, decide, due_at, left_out, step
from rocksyd.schedule.marks import marks
from rocksyd.schedule.script import DefinitionError, Script, define, define_all

NOON = 1_780_315_200
"""2026-06-01T12:00Z."""


def script(**said: Any) -> Script:
    return define("s", {"target": "job", "every": 60.0, **said}, "UTC")


def decided(one: Script, behind: float, *, position: int = NOON, since: float = 0.0) -> list[tuple[str, int, int, int]]:
    """The verdicts so many seconds behind the position, times as seconds from it."""
    found = decide(one, Presence(position, since or position), position + behind)
    return [(verdict.what, verdict.first - position, verdict.last - position, verdict.number) for verdict in found]


def test_nothing_is_due_before_its_time_and_each_tick_is_run_once() -> None:
    assert decided(script(), 59) == []
    assert decided(script(), 60) == [(RUN, 60, 60, 1)]
    assert decided(script(), 119) == [(RUN, 60, 60, 1)]
    assert due_at(script(), NOON) == NOON + 60


def test_ticks_of_a_scheduler_that_is_there_and_a_little_late_are_all_run() -> None:
    assert decided(script(every=1.0), 3.5) == [(RUN, 1, 1, 1), (RUN, 2, 2, 1), (RUN, 3, 3, 1)]


@pytest.mark.parametrize("misfire", ["skip", "once"])
def test_after_a_moments_absence_the_latest_is_run(misfire: str) -> None:
    """apscheduler #146, #296: what is a second late is dropped there without a word."""
    assert decided(script(misfire=misfire), 300, since=NOON + 299) == [(MISSED, 60, 240, 4), (RUN, 300, 300, 1)]
    assert decided(script(misfire=misfire), 300 + LATE - 1, since=NOON + 358) == [(MISSED, 60, 240, 4), (RUN, 300, 300, 1)]


def test_once_is_the_latest_missed_one_within_a_period() -> None:
    hourly = script(every=3600.0)
    assert decided(hourly, 3 * 3600 + 1800, since=NOON + 3 * 3600 + 1700) == [(MISSED, 3600, 7200, 2), (RUN, 10_800, 10_800, 1)]
    assert decided(script(every=3600.0, misfire="skip"), 3 * 3600 + 1800, since=NOON + 12_500) == [(MISSED, 3600, 10_800, 3)]
    within = script(every=3600.0, misfire_within=600.0)
    assert decided(within, 3600 + 601, since=NOON + 4200) == [(MISSED, 3600, 3600, 1)]
    assert decided(within, 3600 + 600, since=NOON + 4200) == [(RUN, 3600, 3600, 1)]


def test_all_is_the_newest_ones_and_the_rest_is_counted() -> None:
    """kubernetes #42649: with more than 100 missed nothing is ever run again there."""
    verdicts = decided(script(misfire="all"), 150 * 60 + 5, since=NOON + 9001)
    assert verdicts[0] == (MISSED, 60, 50 * 60, 50)
    assert [verdict[:2] for verdict in verdicts[1:]] == [(RUN, 60 * n) for n in range(51, 151)]
    late = decide(script(misfire="all"), Presence(NOON, NOON + 200), NOON + 245.0)
    assert [(verdict.first - NOON, verdict.late) for verdict in late] == [(60, True), (120, True), (180, True), (240, False)]
    assert step(script(misfire="all"), [RUNNING], late=True).submit, "they wait for each other"
    year = decided(script(every=1.0, misfire="all", misfire_limit=2), 365 * 86_400, since=NOON + 365 * 86_400 + 1)
    assert year == [(MISSED, 1, 31_535_998, 31_535_998), (RUN, 31_535_999, 31_535_999, 1), (RUN, 31_536_000, 31_536_000, 1)]


def test_a_suspended_machine_has_missed_what_is_older_than_a_minute() -> None:
    assert decided(script(misfire="skip"), 3600.5, since=NOON - 9) == [(MISSED, 60, 3540, 59), (RUN, 3600, 3600, 1)]
    assert decided(script(every=600.0, misfire="skip"), 3599, since=NOON - 9) == [(MISSED, 600, 3000, 5)]


def test_a_clock_that_is_set_back_repeats_nothing_and_one_that_was_wrong_ends_nothing() -> None:
    """Cronicle #600."""
    assert decided(script(), -3600) == []
    year = 365 * 86_400
    assert [(verdict.what, verdict.number) for verdict in decide(script(), Presence(NOON + year, NOON), NOON)] == [(CLOCK, 0)]


def test_jitter_puts_off_the_beginning_and_not_the_tick() -> None:
    late = script(every=3600.0)._replace(delay=100)
    assert due_at(late, NOON) == NOON + 3700
    assert decided(late, 3699) == []
    assert decided(late, 3700) == [(RUN, 3600, 3600, 1)]
    spread = {define(f"s{n}", {"target": "j", "every": 60.0, "jitter": 300.0}, "UTC", "here").delay for n in range(100)}
    assert len(spread) > 60
    assert max(spread) <= 300
    assert (
        define("s", {"target": "j", "every": 60.0, "jitter": 300.0}, "UTC", "there").delay
        != define("s", {"target": "j", "every": 60.0, "jitter": 300.0}, "UTC", "here").delay
    )


def test_what_is_left_out_on_purpose_is_counted() -> None:
    assert left_out(script(), NOON, NOON + 300, PAUSED, "because") == [Verdict(PAUSED, NOON + 60, NOON + 300, 5, "because")]
    assert left_out(script(), NOON, NOON + 59, PAUSED, "because") == []


scripts = st.builds(
    lambda when, misfire, limit, delay: define(
        "s", {"target": "job", "misfire": misfire, "misfire_limit": limit, **when}, "Europe/Berlin"
    )._replace(delay=delay),
    st.sampled_from([{"every": 1.0}, {"every": 60.0}, {"every": 3600.0}])
    | st.sampled_from([{"cron": "*/5 * * * *"}, {"cron": "30 2 * * *"}, {"cron": "0 0 29 2 *"}]),
    st.sampled_from(["skip", "once", "all"]),
    st.integers(1, 20),
    st.sampled_from([0, 0, 7, 300]),
)


@given(scripts, st.lists(st.tuples(st.integers(-7200, 10_000), st.booleans(), st.integers(0, 40)), max_size=12))
def test_no_tick_is_forgotten_or_had_twice_whatever_the_clock_does_and_whoever_dies(
    one: Script, moves: list[tuple[int, bool, int]]
) -> None:
    """Each move: by how much the clock goes on, whether another scheduler takes over, how many verdicts it has time to write."""
    now, position, since, last_seen = float(NOON), NOON - one.delay, float(NOON), NOON
    verdicts: list[Verdict] = []
    for moved, another, written in moves:
        now += moved
        if another:
            since = now
        for verdict in decide(one, Presence(position, since), now)[:written]:
            verdicts.append(verdict)
            position = verdict.last
        last_seen = max(last_seen, int(now))
    assert one.timetable is not None
    accounted: list[int] = []
    for verdict in verdicts:
        assert one.timetable.number(verdict.first - 1, verdict.last) == verdict.number
        assert one.timetable.after(verdict.first - 1) == verdict.first
        assert one.timetable.latest(verdict.last) == verdict.last
        accounted += [verdict.first, verdict.last]
        assert verdict.last <= last_seen - one.delay, "nothing is run before its time"
    assert accounted == sorted(accounted)
    assert sum(verdict.number for verdict in verdicts) == one.timetable.number(NOON - one.delay, position), "no hole, none twice"


RUNNING, WAITING = Going("r", running=True), Going("w", running=False)


@pytest.mark.parametrize(
    ("overlap", "going", "submit", "end"),
    [
        ("skip", [], True, ()), ("skip", [RUNNING], False, ()), ("skip", [WAITING], False, ()),
        ("buffer_one", [RUNNING], True, ()), ("buffer_one", [RUNNING, WAITING], False, ()),
        ("buffer_all", [RUNNING, WAITING], True, ()),
        ("cancel", [RUNNING, WAITING], True, ("r", "w")), ("terminate", [RUNNING], True, ("r",)), ("allow", [RUNNING], True, ()),
    ],
)  # fmt: skip
def test_what_becomes_of_a_tick_while_the_run_before_goes_on(
    overlap: str, going: list[Going], submit: bool, end: tuple[str, ...]
) -> None:
    found = step(script(overlap=overlap), going)
    assert (found.submit, found.end) == (submit, end)
    assert found.signal == ("KILL" if overlap == "terminate" else "TERM")
    assert submit or overlap in found.reason
    assert ("concurrency_key" in script(overlap=overlap).order) == (overlap != "allow")


def test_what_is_wrong_with_a_definition_names_its_key_and_line() -> None:
    with pytest.raises(
        DefinitionError, match="there is no time zone 'Europe/Nowhere'; expected a name such as \"Europe/Berlin\""
    ):
        script(timezone="Europe/Nowhere")
    told = {
        "scripts": {
            "a": {"target": "j", "cron": "61 * * * *"},
            "b": {"target": "j", "every": 1.0, "exclude": ["x"]}, "c": {"target": "j"},
        },
        "calendars": {"holidays": []}, "timezone": "", "file": "/srv/rocksyd.toml",
    }  # fmt: skip
    found, problems = define_all(told, {("scripts", "a", "cron"): "/srv/rocksyd.toml:7"}, "UTC")
    assert list(found) == ["c"]
    assert problems[0].startswith("/srv/rocksyd.toml:7: scripts.a.cron: the minute is '61'")
    assert "there is no calendar 'x' (there are: holidays)" in problems[1]
    assert found["c"].timetable is None


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, []),
        ({"state": "waiting", "started_at": None}, ["late"]),
        ({"state": "running", "started_at": NOON + 30}, ["long"]),
        ({"state": "running", "started_at": NOON + 131}, ["late", "long"]),
        ({"state": "ended", "outcome": "ok", "started_at": NOON + 120, "ended_at": NOON + 121}, ["short"]),
        ({"state": "ended", "outcome": "failed", "started_at": NOON + 120, "ended_at": NOON + 121}, []),
        ({"state": "ended", "outcome": "ok", "started_at": NOON + 200, "ended_at": NOON + 305}, ["late", "long"]),
        ({"state": "ended", "outcome": "ok", "started_at": NOON + 1, "ended_at": NOON + 50}, []),
        ({"state": "ended", "outcome": "cancelled", "started_at": None, "ended_at": NOON + 50}, []),
    ],
)
def test_late_long_and_short_are_told_apart(record: dict[str, Any], expected: list[str]) -> None:
    one = script(late_after=30.0, long_after=100.0, at_least=5.0)._replace(delay=100)
    assert marks(one, NOON, record, NOON + 300) == expected
    assert marks(script(), NOON, record, NOON + 300) == []
