"""A tick is run once: whatever is asked again, whatever has become of its run."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rocksyd import ticks
from rocksyd.core import events as ev
from rocksyd.errors import RequestError
from rocksyd.journal import store
from rocksyd.journal.store import Journal
from tests.unit.engine_desk import Desk

THREE, FOUR = "2026-01-31T03:00:00Z", "2026-01-31T04:00:00Z"
WALL = 1_769_832_000.0
"""2026-01-31T04:00:00Z."""


def past(time: str, script: str = "s", *, known: bool = False, floor: str = "", **more: Any) -> ev.Past:
    return ev.Past({"script": script, "time": time, **more}, known, floor)


def order(of: ev.Past, key: str = "", params: Any = None) -> ev.Submit:
    return ev.Submit(key or ticks.key_of(of.tick), "job", params, None, {"tick": of.tick}, past=of)


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.now = made.now._replace(wall=WALL)
    return made


def answered(desk: Desk, event: ev.Submit) -> ev.Answer:
    (answer,) = [effect for effect in desk.say(event) if isinstance(effect, ev.Answer)]
    return answer


def test_what_is_asked_again_is_answered_the_record_whatever_its_parameters_are_now(desk: Desk) -> None:
    run = desk.answer(order(past(THREE), params=[1]))
    assert run.record()["tick"] == {"script": "s", "time": THREE}
    assert desk.answer(order(past(THREE, known=True, floor=THREE), params=[2])) is run
    rows = [effect for effect in desk.told if isinstance(effect, ev.PersistRow)]
    assert rows == [ev.PersistRow("ticks", f"s@{THREE}", ["s", THREE])]


def test_one_whose_run_is_forgotten_is_known_and_not_run_again(desk: Desk) -> None:
    answer = answered(desk, order(past(THREE, known=True, floor=THREE)))
    assert (answer.known, answer.run, answer.error) == (f"s@{THREE}", None, None)
    assert not desk.engine.runs


def test_older_ones_than_the_latest_are_refused_but_for_those_that_fill_a_hole(desk: Desk) -> None:
    desk.answer(order(past(FOUR)))
    refusal = desk.refusal(order(past(THREE)))
    assert (refusal.code, refusal.data["floor"]) == (-32003, FOUR)
    assert desk.refusal(order(past(THREE, script="other", floor=FOUR))).code == -32003, (
        "the journal may know more than this master"
    )
    desk.answer(order(past(THREE, script="t")))
    desk.answer(order(past(THREE, fill=True)))
    desk.answer(order(past(FOUR, n=1)))


def test_what_is_ordered_by_hand_is_no_tick_of_the_schedule(desk: Desk) -> None:
    desk.answer(order(past(FOUR), key="s!1"))
    desk.answer(order(past(THREE)))
    desk.answer(order(past("2026-01-31T02:00:00Z"), key="s!2"))
    assert [effect.key for effect in desk.told if isinstance(effect, ev.PersistRow)] == [f"s@{THREE}"]


def test_one_that_is_older_than_what_is_remembered_may_have_been_run_and_is_refused_even_to_fill_a_hole(desk: Desk) -> None:
    refusal = desk.refusal(order(past(THREE, fill=True)._replace(floor=FOUR, forgotten=FOUR)))
    assert (refusal.code, refusal.data["remembered"]) == (-32003, FOUR)
    desk.answer(order(past(FOUR, fill=True, n=1)._replace(floor=FOUR, forgotten=FOUR)))
    desk.answer(order(past(THREE)._replace(floor=FOUR, forgotten=FOUR), key="s!1"))


def test_the_journal_remembers_the_latest_ticks_of_each_script_and_from_when_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "TICKS_KEPT", 10)
    monkeypatch.setattr(store, "TICKS_AT_ONCE", 4)
    with closing(Journal(str(tmp_path / "journal.sqlite"))) as journal:
        journal.own()
        journal.commit([], [], {("ticks", "b@x"): ["b", THREE]})
        times = [f"2026-01-{day:02}T00:00:00Z" for day in range(1, 32)]
        for time in times:
            journal.commit([], [], {("ticks", f"a@{time}"): ["a", time]})
        kept = [time for time in times if journal.tick(f"a@{time}", "a")[0]]
        assert kept == times[-len(kept) :]
        assert 10 < len(kept) <= 14
        assert journal.tick("a@x", "a") == (False, times[-1], kept[0])
        assert journal.tick("b@x", "b") == (True, THREE, "")
        assert journal.tick("c@x", "c") == (False, "", "")


def test_a_tick_that_only_a_wrong_clock_can_have_made_does_not_end_the_schedule(desk: Desk) -> None:
    desk.answer(order(past("2036-01-01T00:00:00Z")))
    desk.answer(order(past(FOUR)))


@pytest.mark.parametrize("key", ["k", f"t@{THREE}", f"s@{FOUR}", f"s@{THREE}.1", "t!1"])
def test_a_key_that_is_not_the_ticks_is_refused(desk: Desk, key: str) -> None:
    refusal = desk.refusal(order(past(THREE), key=key))
    assert refusal.code == -32602
    assert f"give 's@{THREE}'" in str(refusal)


@pytest.mark.parametrize(
    "wrong",
    [5, [], {}, "s", "s@x", {"script": "S", "time": THREE}, {"script": "", "time": THREE}, {"script": "s" * 65, "time": THREE},
     {"script": "s", "time": "2026-02-30T00:00:00Z"}, {"script": "s", "time": "2026-1-31T03:00:00Z"}, {"script": "s", "time": 5},
     {"script": "s", "time": THREE, "n": -1}, {"script": "s", "time": THREE, "n": True}, {"script": "s", "time": THREE, "m": 1},
     {"script": "s", "time": THREE, "fill": "yes"}],
)  # fmt: skip
def test_what_is_no_tick_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        ticks.read(wrong)


@pytest.mark.parametrize("tick", [{"script": "s", "time": THREE}, {"script": "a-b_9", "time": FOUR, "n": 0}])
def test_the_key_says_the_tick(tick: dict[str, Any]) -> None:
    assert ticks.read(ticks.key_of(tick)) == tick
    assert ticks.read(tick) == tick
    assert f"{ticks.moment(tick):{ticks.FORMAT}}" == tick["time"]


def test_a_refused_order_makes_no_tick(desk: Desk) -> None:
    with pytest.raises(RequestError):
        desk.answer(order(past(THREE))._replace(target="nothing"))
    assert not [effect for effect in desk.told if isinstance(effect, ev.PersistRow)]
    desk.answer(order(past("2026-01-31T02:00:00Z")))
