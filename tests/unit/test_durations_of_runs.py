"""Histograms of how long runs take: what is counted, and that there is a bound on how many there are."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from rocksyd.core.durations import BOUNDS, KINDS, MOST, OTHER, Durations, Histogram
from rocksyd.model import Attempt, Now, Order, Run

SECONDS = st.floats(min_value=0, max_value=1e6)


def run(key: str = "k", target: str = "job") -> Run:
    return Run(key, Order(app="app", name=target, submitted_at=100.0), Attempt(), pool="app")


@given(st.lists(SECONDS))
def test_each_is_counted_once_and_no_lower_than_it_is(found: list[float]) -> None:
    histogram = Histogram()
    for seconds in found:
        histogram.add(seconds)
    below = 0
    for bound, count in zip((*BOUNDS, float("inf")), histogram.counts, strict=True):
        below += count
        assert below == sum(1 for seconds in found if seconds <= bound)
    assert abs(histogram.sum - sum(found)) <= 1e-6 * (1 + sum(found))


@given(SECONDS, SECONDS, SECONDS)
def test_a_run_counts_in_all_three(queue: float, launch: float, took: float) -> None:
    durations, one = Durations(), run()
    durations.started(one, Now(50.0, 100.0 + queue))
    one.attempt.started = 50.0
    durations.said(one, 50.0 + launch, 50.0 + launch + took)
    durations.ended(one, Now(1e9, 1e9))
    (row,) = durations.rows()
    for kind, seconds in zip(KINDS, (queue, launch, took), strict=True):
        assert sum(row[kind]["counts"]) == 1
        assert abs(row[kind]["sum"] - seconds) <= 1e-6 * (1 + seconds)


def test_of_a_delayed_run_the_delay_does_not_count_and_of_one_that_died_nobody_knows_the_launch() -> None:
    durations, one = Durations(), run()
    durations.due(one, Now(40.0, 900.0))
    durations.started(one, Now(42.0, 902.0))
    one.attempt.started = 42.0
    durations.ended(one, Now(45.0, 905.0))
    (row,) = durations.rows()
    assert [(sum(row[kind]["counts"]), row[kind]["sum"]) for kind in KINDS] == [(1, 2.0), (0, 0.0), (1, 3.0)]
    waiting = run("w")
    durations.due(waiting, Now(1.0, 1.0))
    durations.ended(waiting, Now(2.0, 2.0))
    assert durations.dump()["due"] == {}, "one that never began leaves nothing"


def test_a_clock_that_is_set_back_takes_nothing_away() -> None:
    histogram = Histogram()
    histogram.add(-5.0)
    assert (histogram.counts[0], histogram.sum) == (1, 0.0)


def test_there_are_no_more_than_so_many_and_the_next_master_goes_on_with_them() -> None:
    durations = Durations()
    for number in range(MOST + 50):
        durations.started(run(str(number), f"job{number}"), Now(0.0, 100.0))
    rows = durations.rows()
    assert len(rows) == MOST + 1
    assert next(sum(row["queue"]["counts"]) for row in rows if row["target"] == OTHER) == 50
    again = Durations.load(json.loads(json.dumps(durations.dump())))
    assert again.rows() == rows
    assert Durations.load({"bounds": [1, 2], "rows": rows}).rows() == []
