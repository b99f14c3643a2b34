"""What runs cost: learned, forgotten slowly, written and read back."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rocksyd.core.costs import ENOUGH, MOST, WRITTEN_AFTER, Cost, Costs
from rocksyd.model import ENDED, Attempt, Now, Order, Run

seconds = st.floats(0.001, 1e5)


def run(name: str = "t", took: float = 1.0, **attempt: Any) -> tuple[Run, Now]:
    unnamed, tick = attempt.pop("unnamed", False), attempt.pop("tick", None)
    last = Attempt(started=100.0, **{"outcome": "ok", **attempt})
    return Run("k", Order(app="a", name=name, unnamed=unnamed, tick=tick), last, state=ENDED), Now(100.0 + took, 0.0)


@given(st.lists(seconds, min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_percentile_is_right_to_a_fifth(found: list[float], share: float) -> None:
    cost = Cost()
    for one in found:
        cost.learn("ok", one, 0.0, 0)
    exact = sorted(found)[max(0, min(len(found) - 1, -int(-share * len(found) // 1) - 1))]
    assert exact * 0.999 <= cost.percentile(share) <= max(exact, 0.001) * 1.2
    assert cost.percentile(0.1) <= cost.percentile(0.5) <= cost.percentile(1.0)


@given(st.lists(st.tuples(st.sampled_from(["ok", "failed", "timeout"]), seconds, st.integers(0, 1 << 40)), max_size=50))
def test_what_is_written_is_what_is_read(found: list[tuple[str, float, int]]) -> None:
    costs = Costs()
    for outcome, took, memory in found:
        costs.learn(*run(took=took, outcome=outcome, max_rss=memory, cpu=took / 2))
    other = Costs()
    other.load(json.loads(json.dumps(costs.dump())))
    assert [*other.rows()] == [*costs.rows()]
    assert [*Costs().rows()] == []


def test_what_is_no_cost_is_passed_over() -> None:
    costs = Costs()
    costs.load({"a:t": {"runs": "many", "counts": {"x": 1, "3": "y", "4": 2.0}, "peak": None}, "a:u": 5})
    assert [row["runs"] for row in costs.rows()] == [0]


def test_nothing_is_usual_before_enough_is_known_and_what_has_changed_is_learned() -> None:
    costs = Costs()
    for number in range(ENOUGH):
        one, now = run(took=2.0, max_rss=100 << 20)
        assert costs.usual(one) is None
        assert costs.learn(one, Now(now.mono + number, 0.0)) is None, "what comes within a minute is written down together"
    assert costs.unwritten() == ["a:t"]
    assert costs.learn(one, Now(now.mono + WRITTEN_AFTER, 0.0)) == "a:t"
    costs.written("a:t")
    assert costs.unwritten() == []
    usual = costs.usual(one)
    assert usual is not None
    assert 2.0 <= usual["seconds"] <= 8.0
    assert usual["long"] >= 62
    assert usual["memory"] == 100 << 20
    for _ in range(3000):
        costs.learn(*run(took=8.0, max_rss=50 << 20))
    changed = costs.usual(one)
    assert changed is not None
    assert 8.0 <= changed["seconds"] <= 9.6
    assert changed["memory"] == 50 << 20


def test_what_is_left_follows_from_progress_else_from_what_is_usual() -> None:
    costs = Costs()
    one, _ = run()
    assert costs.left(one, Now(110.0, 0.0)) is None
    one.attempt.progress = {"done": 10, "total": 40, "note": ""}
    assert costs.left(one, Now(110.0, 0.0)) == 30.0
    one.attempt.progress = None
    for _ in range(ENOUGH):
        costs.learn(*run(took=60.0))
    left = costs.left(one, Now(110.0, 0.0))
    assert left is not None
    assert 50.0 <= left <= 62.0
    assert costs.left(one, Now(1000.0, 0.0)) == 0.0


def test_scripts_are_learned_of_for_themselves_and_calls_without_a_key_not_at_all() -> None:
    costs = Costs()
    costs.learn(*run(tick={"script": "nightly"}))
    costs.learn(*run())
    costs.learn(*run(name="other", unnamed=True))
    costs.learn(*run(name="cancelled", outcome="cancelled"))
    assert [(row["target"], row["script"]) for row in costs.rows()] == [(None, "nightly"), ("t", None)]
    for number in range(MOST + 10):
        costs.learn(*run(name=f"many {number}"))
    assert len(costs.by_name) == MOST
