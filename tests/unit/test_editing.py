"""Editing a run that waits: what of it changes, what it keeps, and that nothing changes where something is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from rocksyd import codes
from rocksyd.config import PoolConfig
from rocksyd.core import events as ev
from rocksyd.kinds import COMMAND
from rocksyd.model import RUNNING, WAITING, Run
from tests.unit.engine_desk import Desk, kinds

SIGNATURE = {"parameters": [{"name": "n", "kind": "either", "required": True, "schema": {"type": "integer"}}]}
JOBS = {"job": {"target": "jobs:job"}, "typed": {"target": "jobs:typed", "signature": SIGNATURE}}
ONE = PoolConfig("ondemand", max_workers=1, max_jobs=0, max_queue_bytes=1000)


def desk_with(*waiting: str, **options: Any) -> tuple[Desk, Run, list[Run]]:
    """A desk whose only worker is busy, the run it is busy with, and runs that wait."""
    desk = Desk(ONE, JOBS)
    return desk, desk.started("busy"), [desk.submit(key, **options) for key in waiting]


def next_one(desk: Desk, busy: Run) -> Run:
    """The run that begins when this one has ended."""
    (begun,) = [effect.run for effect in kinds(desk.result(busy), ev.StartJob)]
    assert isinstance(begun, Run)
    return begun


def test_it_has_other_params_and_keeps_its_key_its_place_and_all_else() -> None:
    desk, busy, (a, b) = desk_with("a", "b", params=[1], labels={"x": "y"}, timeout=7)
    before = a.record()
    changed = desk.answer(ev.Edit("a", {"params": [2, "x"], "timeout": "5m"}))
    assert changed.record() == {**before, "params": [2, "x"]}
    assert (changed.order.timeout, changed.weight) == (300.0, len('[2, "x"]') - 1)
    assert kinds(desk.told, ev.Persist)[-1].run is changed
    assert desk.engine.queues["app"].weight == a.weight + b.weight
    begun = next_one(desk, busy)
    assert (begun.key, begun.params) == ("a", [2, "x"])
    assert [run.key for run in (next_one(desk, begun),)] == ["b"]


@pytest.mark.parametrize(("changes", "order"), [({"priority": 5}, "cab"), ({"priority": 0}, "abc"), ({"priority": -5}, "abc")])
def test_another_priority_is_another_place_in_the_queue(changes: dict[str, Any], order: str) -> None:
    desk, run, _ = desk_with("a", "b", "c")
    desk.answer(ev.Edit("c", changes))
    found = ""
    for _ in order:
        run = next_one(desk, run)
        found += run.key
    assert found == order


def test_a_lower_priority_than_before_holds_even_if_it_was_first() -> None:
    desk, busy, (a, _) = desk_with("a", "b", priority=1)
    desk.answer(ev.Edit("a", {"priority": 0}))
    begun = next_one(desk, busy)
    assert (begun.key, next_one(desk, begun)) == ("b", a)


def test_another_moment_is_waited_for_and_none_ends_the_waiting() -> None:
    desk, _, (a,) = desk_with("a", start_within="10s")
    desk.answer(ev.Edit("a", {"eta": desk.now.wall + 60}))
    assert (a.not_before, a.start_by, a.record()["eta"]) == (1060.0, 1070.0, desk.now.wall + 60)
    desk.at(1065.0)
    assert a.state == WAITING
    assert "a" in desk.engine.queues["app"]
    desk.answer(ev.Edit("a", {"delay": "1h"}))
    assert (a.not_before, a.start_by, "eta" in a.record()) == (4665.0, 4670.0, False)
    desk.answer(ev.Edit("a", {"delay": 0}))
    assert (a.not_before, a.start_by) == (0.0, 1070.0)
    desk.at(1071.0)
    assert a.attempt.outcome == "timeout", "it has as much time to begin as it had"


def test_one_that_comes_after_another_still_does() -> None:
    desk, busy, _ = desk_with()
    follower = desk.answer(ev.Submit("f", "job", [1], None, {"after": ["busy"]}))
    desk.answer(ev.Edit("f", {"params": [2], "priority": 3}))
    assert follower.state == WAITING
    assert next_one(desk, busy).params == [2]


WRONG = {
    "nothing": ({}, codes.INVALID_PARAMS, "nothing is to be changed: give one of params, priority, timeout, delay, eta"),
    "both": ({"delay": 1, "eta": 2e9}, codes.INVALID_PARAMS, "eta and delay contradict each other"),
    "priority": ({"priority": "high"}, codes.INVALID_PARAMS, "priority: expected"),
    "timeout": ({"params": [1], "timeout": "soon"}, codes.INVALID_PARAMS, "timeout: expected"),
    "signature": ({"params": ["x"], "priority": 3}, codes.INVALID_PARAMS, "jobs:typed: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_changes_nothing(name: str) -> None:
    changes, code, words = WRONG[name]
    desk, _, _ = desk_with()
    run = desk.submit("t", "typed", [1])
    before, place = run.dump(), desk.engine.queues["app"].weight
    error = desk.refusal(ev.Edit("t", changes))
    assert (error.code, str(error)[: len(words)]) == (code, words)
    assert (run.dump(), desk.engine.queues["app"].weight) == (before, place)


def test_only_a_run_that_waits_can_be_changed_and_only_within_the_bounds_of_its_queue() -> None:
    desk, busy, _ = desk_with("a")
    assert desk.refusal(ev.Edit("nobody", {"priority": 1})).code == codes.NOT_FOUND
    assert busy.state == RUNNING
    assert "runs already" in str(desk.refusal(ev.Edit("busy", {"priority": 1})))
    assert desk.refusal(ev.Edit("a", {"params": ["x" * 2000]})).code == codes.TOO_BUSY
    desk.result(busy)
    assert "has ended" in str(desk.refusal(ev.Edit("busy", {"priority": 1})))
    script = desk.answer(ev.Submit("s", "manage.py", {}, "app", kind="script"))
    assert script.state == WAITING
    assert desk.refusal(ev.Edit("s", {"priority": 1})).code == codes.NOT_NOW
    command = desk.answer(ev.Submit("c", "script:x", {"command": ["true"]}, "app", kind=COMMAND.name))
    assert "the configuration has" in str(desk.refusal(ev.Edit("c", {"params": {"command": ["false"]}})))
    assert desk.answer(ev.Edit("c", {"priority": 1})) is command
