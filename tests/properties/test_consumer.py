"""How many instances of a consumer there are, whatever its queue does: by hypothesis."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.schedule.consumer import Consumer, Depth, History, depth_of, learned, need, resting, size

LOOKS = st.lists(
    st.tuples(st.integers(0, 500), st.floats(0, 600), st.floats(0.1, 90), st.floats(0, 1), st.booleans()), min_size=1, max_size=40
)
CONSUMERS = st.builds(
    lambda low, more, **named: Consumer("c", "queue:depth", low, max(1, low + more), **named),
    st.integers(0, 3), st.integers(0, 20), per_instance=st.integers(1, 50), max_age=st.sampled_from([0.0, 30.0]),
    within=st.sampled_from([0.0, 60.0]), shrink_after=st.floats(1, 120),
)  # fmt: skip


@given(CONSUMERS, LOOKS)
def test_it_stays_between_min_and_max_grows_at_once_and_ends_nothing(consumer: Consumer, looks: list[Any]) -> None:
    history, running, now = History(), 0, 1e9
    for waiting, age, pause, leaves, handles in looks:
        now += pause
        if handles:
            history = learned(history, {"outcome": "ok", "result": 5, "started_at": now - 1, "ended_at": now})
        found = size(consumer, history, Depth(waiting, age), running, now)
        needed, _ = need(consumer, Depth(waiting, age), running, history.pace)
        assert consumer.min <= needed <= found.wanted <= consumer.max
        assert 0 <= found.start <= max(waiting, consumer.min - running, 0), "what finds nothing to do is not started"
        assert found.start <= max(running + 1, consumer.min - running), "at most twice as many and one"
        assert running + found.start <= max(running, consumer.max)
        assert running + found.start >= consumer.min
        if waiting and running < needed:
            assert found.start >= 1, "it grows at once"
        history = found.history
        running = round((running + found.start) * leaves)


@given(CONSUMERS, LOOKS)
def test_it_shrinks_only_when_less_was_needed_for_the_whole_time(consumer: Consumer, looks: list[Any]) -> None:
    history, now, needs = History(), 1e9, []
    for waiting, _, pause, _, _ in looks:
        now += pause
        found = size(consumer, history, Depth(waiting), 0, now)
        needs.append((now, need(consumer, Depth(waiting), 0, 0.0)[0]))
        assert found.wanted == max(number for at, number in needs if at > now - consumer.shrink_after)
        assert len(found.history.needs) <= consumer.max + 1, "what is remembered is bounded"
        history = found.history


@given(CONSUMERS, st.integers(0, 10))
def test_an_empty_queue_has_its_minimum_and_with_none_it_goes_to_zero(consumer: Consumer, running: int) -> None:
    found = size(consumer, History(), Depth(0), running, 1e9)
    assert (found.wanted, found.start) == (consumer.min, max(0, consumer.min - running))


def test_age_and_pace_make_it_grow() -> None:
    consumer = Consumer("c", "d", 0, 10, per_instance=1000, max_age=30, within=60)
    assert need(consumer, Depth(10, 5), 1, 0.0)[0] == 1
    assert need(consumer, Depth(10, 31), 1, 0.0) == (2, "the oldest has waited 31s")
    assert need(consumer, Depth(600, 5), 1, 2.0) == (5, "600 wait, and one handles 2 a second")
    assert need(consumer, Depth(6000, 5), 1, 2.0)[0] == 10


@given(st.integers(1, 30))
def test_after_failures_nothing_is_started_for_a_growing_time_and_one_success_ends_that(failures: int) -> None:
    consumer, history = Consumer("c", "d", 0, 10), History()
    for _ in range(failures):
        history = learned(history, {"outcome": "failed", "ended_at": 1e9})
    rests = resting(history, "c") - 1e9
    assert rests == min(60.0, 2.0 ** (failures - 1))
    assert size(consumer, history, Depth(100), 0, 1e9 + rests - 0.5).start == 0
    assert size(consumer, history, Depth(100), 0, 1e9 + rests).start == 1
    assert learned(history, {"outcome": "cancelled", "ended_at": 2e9}) == history, "that somebody ended it says nothing of it"
    history = learned(history, {"outcome": "ok", "ended_at": 1e9})
    assert size(consumer, history, Depth(100), 0, 1e9).start == 1


def test_what_a_queue_may_say() -> None:
    assert depth_of(7) == depth_of([7, None]) == depth_of({"waiting": 7}) == (7, 0.0)
    assert depth_of([7, 2.5]) == depth_of({"waiting": 7, "oldest": 2.5, "more": "x"}) == (7, 2.5)
    for wrong in ("7", None, -1, [1, 2, 3], {"oldest": 3}, True, float("nan"), 1e300, [1, "2"]):
        with pytest.raises(ValueError, match="expected how many wait"):
            depth_of(wrong)
