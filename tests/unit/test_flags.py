"""Flags: whose runs they hold for, that they end, and that another master goes on with them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rocksyd.core import events as ev
from rocksyd.core import flags
from rocksyd.core.engine import Engine
from rocksyd.core.reasons import why
from rocksyd.model import Now
from tests.unit.engine_actors import config
from tests.unit.engine_desk import ONDEMAND, Desk, kinds


def flag(desk: Desk, span: float, **whose: str) -> dict[str, Any]:
    row = {"flag": "debug", **whose, "until": desk.now.wall + span, "by": "uid 1, pid 2"}
    desk.say(ev.PutFlag(row))
    return row


def written(effects: list[Any]) -> dict[str, Any]:
    return {effect.key: effect.row for effect in kinds(effects, ev.PersistRow) if effect.table == flags.TABLE}


def test_it_holds_for_runs_of_its_target_or_script_that_begin_before_its_end() -> None:
    desk = Desk()
    flag(desk, 600.0, target="jobs:job")
    flag(desk, 600.0, script="nightly")
    tick = {"script": "nightly", "time": "2026-01-31T03:00:00Z"}
    seen = {"by its target": desk.started("a").attempt.debug, "another": desk.started("b", "one").attempt.debug}
    assert seen == {"by its target": True, "another": False}
    order = desk.engine.runs["b"].order
    assert flags.found(desk.engine, order._replace(tick=tick), desk.now) is not None
    assert flags.found(desk.engine, order._replace(tick={**tick, "script": "other"}), desk.now) is None
    assert flags.found(desk.engine, order._replace(target="jobs:job", kind="command"), desk.now) is None, "it is not Python"
    texts = [reason["text"] for reason in why(desk.engine, desk.engine.runs["a"], desk.now)["reasons"]]
    assert "what it logs is in its output from DEBUG on (a flag)" in texts
    assert desk.engine.runs["a"].record()["debug"] is True
    assert "debug" not in desk.engine.runs["b"].record()


def test_a_run_that_waits_is_said_to_log_more_if_it_begins_in_time() -> None:
    desk = Desk()
    flag(desk, 600.0, target="job")
    run = desk.submit("late", delay=60)
    assert why(desk.engine, run, desk.now)["reasons"][-1]["text"].endswith("if it begins within 10m (a flag)")


def test_it_ends_by_itself_is_taken_off_the_journal_and_said() -> None:
    desk = Desk()
    row = flag(desk, 600.0, target="job")
    assert desk.engine.next_deadline() == desk.now.mono + 600.0
    effects = desk.at(desk.now.mono + 600.0)
    assert written(effects) == {"debug:target:job": None}
    assert kinds(effects, ev.FlagEnded) == [ev.FlagEnded(row)]
    assert not desk.started("a").attempt.debug
    assert desk.engine.flags == {}


@given(st.floats(-3600, 3600), st.floats(1, 3600))
def test_a_clock_that_is_set_moves_its_end(step: float, span: float) -> None:
    desk = Desk()
    row = flag(desk, span, target="job")
    assert desk.engine.awaits_clock
    desk.now = Now(desk.now.mono, desk.now.wall + step)
    desk.say(ev.ClockSet())
    desk.say(ev.Tick())
    left = row["until"] - desk.now.wall
    assert [*desk.engine.flags] == (["debug:target:job"] if left > 0 else [])
    if left > 0:
        assert abs(flags.over_at(desk.engine, "debug:target:job") - desk.now.mono - left) < 1e-6
    assert flags.found(desk.engine, desk.submit("a").order, desk.now) == (row if left > 0 else None)


def test_what_is_set_again_ends_at_the_later_moment_and_what_is_taken_away_at_once() -> None:
    desk = Desk()
    flag(desk, 60.0, target="job")
    flag(desk, 600.0, target="job")
    desk.at(desk.now.mono + 60.0)
    assert [*desk.engine.flags] == ["debug:target:job"]
    assert written(desk.say(ev.DropFlag("debug:target:job"))) == {"debug:target:job": None}
    assert desk.engine.flags == {}
    assert written(desk.say(ev.DropFlag("debug:target:job"))) == {}
    assert desk.engine.next_deadline() is None, "nobody is woken for what was taken away"


def test_the_next_master_goes_on_with_those_that_have_not_ended() -> None:
    now = Now(1000.0, 1.7e9)
    rows: dict[str, Any] = {
        "debug:target:job": {"flag": "debug", "target": "job", "until": now.wall + 5, "by": "a"},
        "debug:script:old": {"flag": "debug", "script": "old", "until": now.wall - 5, "by": "a"},
        "newer:target:job": {"flag": "newer", "target": "job", "until": now.wall - 5, "by": "a"},
        "debug:target:bad": {"flag": "debug", "target": ["bad"], "until": now.wall + 5, "by": "a"},
    }
    engine = Engine(config(app=ONDEMAND))
    effects = engine.restore([], None, now, {}, rows)
    assert [*engine.flags] == ["debug:target:job"]
    assert written(effects) == {"debug:script:old": None}, "what another version has written stays"
    assert engine.next_deadline() == now.mono + 5
