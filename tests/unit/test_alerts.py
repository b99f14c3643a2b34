"""What is an alert, who is told, and how often: decided without a process or a clock."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.alerts import alert as kinds
from rocksyd.alerts.alert import Alert
from rocksyd.alerts.letter import body, payload, subject
from rocksyd.alerts.redact import redacted
from rocksyd.alerts.rows import Rows
from rocksyd.alerts.throttle import MOST, WITHIN, Throttle, Wish
from rocksyd.alerts.watch import Expected, Watch
from rocksyd.config.notify import KINDS, REDACT

AT = 1_000_000.0
WHERE = {"host": "web1", "daemon": "/srv/shop"}


def failed(number: int = 0, over: bool = False, streak: int = 1) -> Alert:
    return Alert("failed", "job", f"failed:job:{number}", "job failed", at=AT, over=over, streak=streak)


def record(outcome: str = "ok", took: float = 1.0, **more: Any) -> dict[str, Any]:
    said = {
        "key": "k", "app": "app", "target": "job", "outcome": outcome, "retcode": 0, "attempt": 1,
        "started_at": AT, "ended_at": AT + took, "error": None, "params": [], "log": None,
    }  # fmt: skip
    return {**said, **more}


def tick(time: str, name: str = "nightly", **more: Any) -> dict[str, Any]:
    return {"tick": {"script": name, "time": time}, "key": f"{name}@{time}", **more}


def watch(**expected: Any) -> Watch:
    return Watch({"nightly": Expected(**expected)}, Rows())


def test_the_kinds_are_those_that_the_configuration_knows() -> None:
    assert tuple(kinds.KINDS) == KINDS


# --- who is told, and how often ---------------------------------------------------------------------------------------
def test_the_same_thing_is_told_once_in_a_while_and_then_how_often_it_was() -> None:
    throttle = Throttle([Wish("ops", every=3600.0)], Rows())
    assert [one.number for _, one in throttle.take(failed(), AT)] == [1]
    for second in range(1, 6):
        assert throttle.take(failed(), AT + second) == []
    assert throttle.due(AT + 3599) == []
    assert throttle.next() == AT + 3600
    assert [(name, one.number, one.over) for name, one in throttle.due(AT + 3600)] == [("ops", 5, False)]
    assert throttle.due(AT + 9999) == []
    assert [one.over for _, one in throttle.take(failed(over=True), AT + 10_000)] == [True]
    assert throttle.take(failed(over=True), AT + 10_001) == [], "that was told"


def test_what_begins_and_ends_again_and_again_is_told_twice_and_no_more() -> None:
    throttle = Throttle([Wish("ops")], Rows())
    told = [throttle.take(failed(over=bool(turn % 2)), AT + turn) for turn in range(10)]
    assert [bool(one) for one in told] == [True, True, *[False] * 8]
    assert [(one.number, one.over) for _, one in throttle.due(AT + 3600)] == [(4, True)], "four times since, and it is over now"


def test_a_receiver_is_told_what_it_wants() -> None:
    wishes = [Wish("after", after=3), Wish("only", only=("bill*",)), Wish("late", on=("late",)), Wish("quiet", recovered=False)]
    throttle = Throttle(wishes, Rows())
    assert {name for name, _ in throttle.take(failed(), AT)} == {"quiet"}
    assert {name for name, _ in throttle.take(failed(1, streak=3), AT)} == {"after", "quiet"}
    assert {name for name, _ in throttle.take(failed()._replace(subject="billing"), AT)} == {"only"}, "quiet has been told"
    assert {name for name, _ in throttle.take(failed(2)._replace(to=("late", "quiet")), AT)} == {"quiet"}
    assert {name for name, _ in throttle.take(failed(1, over=True), AT)} == {"after"}


def test_a_flood_of_different_things_becomes_one_message() -> None:
    throttle = Throttle([Wish("ops")], Rows())
    told = [one for number in range(200) for one in throttle.take(failed(number), AT + number / 100)]
    assert len(told) == MOST
    assert throttle.due(AT + 10) == []
    ((_, summary),) = throttle.due(AT + WITHIN + 5)
    assert summary.number == 200 - MOST
    assert "further alerts" in summary.title


acts = st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.floats(0, 4000)), max_size=60)


@given(acts, st.sampled_from([0.0, 60.0, 3600.0]))
def test_everything_that_happened_is_counted_once_over_any_restart(done: list[tuple[int, bool, float]], every: float) -> None:
    rows, now = Rows(), AT
    happened = told = 0
    for number, over, pause in done:
        now += pause
        throttle = Throttle([Wish("ops", every=every, recovered=False)], rows)
        sent = throttle.due(now) + throttle.take(failed(number, over), now)
        happened += not over
        told += sum(one.number for _, one in sent)
        assert len(rows.get("sent/ops", [])) <= MOST
    for _ in range(200):
        now += WITHIN
        told += sum(one.number for _, one in Throttle([Wish("ops", every=every, recovered=False)], rows).due(now))
    assert told == happened


# --- what is an alert -------------------------------------------------------------------------------------------------
def test_failures_in_a_row_are_counted_until_one_ends_well() -> None:
    found = watch()
    again = {"error": {"type": "E", "message": "no", "traceback": ""}, **tick("2026-01-31T02:00:00Z")}
    assert [one.streak for _ in range(3) for one in found.ended(record("failed", **again), AT)] == [1, 2, 3]
    assert found.ended(record("cancelled", **again), AT) == [], "somebody wanted it"
    (well,) = found.ended(record("ok", **again), AT)
    assert (well.over, well.kind) == (True, "failed")
    assert "after 3 failures" in well.title
    assert [one.streak for one in found.ended(record("failed", **again), AT)] == [1]


def test_late_too_long_and_too_short_are_told_apart() -> None:
    found = watch(late_after=60.0, long_after=100.0, at_least=10.0)
    due = 1769824800.0  # 2026-01-31T02:00:00Z
    begun = record(started_at=due + 30, **tick("2026-01-31T02:00:00Z"))
    assert found.started(begun, due + 30) == []
    assert found.next() == due + 130
    assert [one.kind for one in found.ended({**begun, "ended_at": due + 35}, due + 35)] == ["short"]
    late = record(started_at=due + 300, **tick("2026-01-31T02:00:00Z"))
    assert [one.kind for one in found.started(late, due + 300)] == ["late"]
    (long,) = found.on_time(due + 400)
    assert (long.kind, long.about["key"]) == ("long", late["key"])
    assert [(one.kind, one.over) for one in found.ended({**late, "ended_at": due + 500}, due + 500)] == [("long", True)]
    missed = record(started_at=due, **tick("2026-01-31T02:00:00Z"), usual={"long": 50.0})
    assert [one.kind for one in watch().ended({**missed, "ended_at": due + 1}, due)] == []
    usual = watch()
    usual.started(missed, due)
    assert usual.next() == due + 50
    assert "longer than usual" in usual.on_time(due + 50)[0].title


def test_a_tick_that_has_not_begun_is_late_whether_it_was_ordered_or_not() -> None:
    due, time = 1769824800, "2026-01-31T02:00:00Z"
    found = watch(late_after=60.0)
    found.due({"nightly": {"at": due, "delay": 0, "expects": {"late_after": 60.0}}})
    assert found.next() == due + 60
    (alert,) = found.on_time(due + 61)
    assert "has not begun" in alert.title
    assert found.on_time(due + 99) == []
    began = found.started(record(started_at=due + 100, **tick(time)), due + 100)
    assert [(one.kind, one.over) for one in began] == [("late", True)]
    row = {
        "script": "nightly",
        "what": "run",
        "first": due + 3600,
        "last": due + 3600,
        "count": 1,
        "reason": "",
        "key": "nightly@x",
    }
    assert found.accounts([row], due + 3600) == []
    assert [one.about["key"] for one in found.on_time(due + 3661)] == ["nightly@x"]


def test_a_list_of_jobs_is_told_as_a_whole() -> None:
    found = watch(late_after=60.0, to=("ops",))
    row = {"script": "nightly", "what": "ended", "first": 0, "last": 0, "count": 0, "key": "nightly@2026-01-31T02:00:00Z"}
    assert found.accounts([{**row, "reason": ""}], AT) == []
    bad = [{**row, "reason": "3 of 64 jobs did not end well"}] * 2
    first, second = found.accounts(bad, AT)
    assert (first.kind, first.streak, second.streak, first.to) == ("failed", 1, 2, ("ops",))
    assert first.title == "nightly@2026-01-31T02:00:00Z failed: 3 of 64 jobs did not end well"
    assert first.about["key"] == row["key"]
    (well,) = found.accounts([{**row, "reason": ""}], AT)
    assert (well.over, well.fingerprint) == (True, first.fingerprint)
    assert found.accounts([{**row, "reason": ""}], AT) == []


@pytest.mark.parametrize("heard_first", [False, True])
def test_a_list_of_jobs_that_has_begun_is_not_late(heard_first: bool) -> None:
    due, time = 1769824800, "2026-01-31T02:00:00Z"
    found = watch(late_after=60.0)
    account = {"script": "nightly", "what": "run", "first": due, "last": due, "count": 1, "reason": "", "key": f"nightly@{time}"}
    jobs = [record(started_at=due + n, **{**tick(time), "key": f"nightly@{time}.{n}"}) for n in range(3)]
    for one in jobs:
        one["tick"] = {"script": "nightly", "time": time, "n": int(one["key"][-1]), "fill": True, "total": 3}
    told = found.started(jobs[0], due) if heard_first else []
    told += found.accounts([account], due)
    for one in jobs:
        told += found.started(one, due)
    assert (told, found.on_time(due + 1000)) == ([], [])
    late = watch(late_after=60.0)
    late.accounts([account], due)
    late_jobs = [{**one, "started_at": due + 100} for one in jobs]
    (alert,) = [alert for one in late_jobs for alert in late.started(one, due + 100)]
    assert (alert.kind, alert.over) == ("late", False), "told once for the list, not for each of its jobs"


def test_every_tick_that_was_left_out_is_told_but_those_of_a_script_that_is_paused() -> None:
    row = {"script": "nightly", "first": 0, "last": 120, "count": 3, "reason": "nobody was there", "key": ""}
    told = watch(to=("ops",)).accounts([{**row, "what": what} for what in ("missed", "overlap", "refused", "paused", "run")], AT)
    assert [(one.number, one.to) for one in told] == [(3, ("ops",))] * 3
    assert "3 ticks of nightly were not run" in told[0].title


def test_problems_are_told_when_they_come_and_when_they_go() -> None:
    found = Watch({}, Rows())
    pool = ("pool:shop", "pool shop is parked: x", "mend it")
    starting = ("companion:bell", "companion bell is starting", "wait")
    first = found.health([pool, starting, ("draining", "draining", "")], AT)
    assert [(one.kind, one.subject) for one in first] == [("pool", "shop")]
    assert found.health([pool, ("companion:bell", "companion bell is failed: y", "")], AT)[0].kind == "companion"
    assert sorted((one.kind, one.over) for one in found.health([], AT)) == [("companion", True), ("pool", True)]


def test_of_the_audit_only_what_is_new_is_told() -> None:
    found = Watch({}, Rows())
    old = {"at": 1.0, "kind": "restart", "ok": False, "reason": "old"}
    assert found.restarts([old], AT) == []
    refused = {"at": 2.0, "kind": "restart", "ok": False, "reason": "SyntaxError", "ordered_by": "uid 0"}
    assert [one.title for one in found.restarts([refused, old], AT)] == ["a restart was refused: SyntaxError"]
    rows = [{"at": 4.0, "kind": "crash", "ok": True}, {"at": 3.0, "kind": "restart", "ok": True, "to": 2}, refused, old]
    assert [(one.kind, one.over) for one in found.restarts(rows, AT)] == [("restart", True), ("crash", False)]


# --- what is sent -----------------------------------------------------------------------------------------------------
def test_what_nobody_is_to_read_is_nowhere_in_it() -> None:
    alert = failed()._replace(
        title="connect('hunter22') failed",
        about={
            "params": {"db": {"PASSWORD": "hunter22"}, "n": 3},
            "output": "using hunter22\n",
            "error": {"message": "hunter22"},
        },
    )
    said = payload("1", alert, WHERE, REDACT)
    assert "hunter22" not in str(said)
    assert said["about"]["params"]["n"] == 3
    assert "hunter22" not in subject(said) + body(said, 60.0)
    by_position = {"about": {"params": ["hunter22"]}}
    assert redacted(by_position, REDACT)["about"]["params"] == "[redacted]"
    assert redacted(by_position, ()) == by_position


@pytest.mark.parametrize("large", [{"params": {"x": "y" * 400_000}}, {"output": "z" * 400_000}])
def test_however_large_the_run_is_the_message_is_not(large: dict[str, Any]) -> None:
    said = payload("1", failed()._replace(about=large), WHERE, REDACT)
    assert len(str(said)) < 20_000
    assert "\n" not in subject({**said, "title": "a\nb"})
