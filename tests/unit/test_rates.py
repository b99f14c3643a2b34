"""Requests a second, against the list of all of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rocksyd.master.desk.rates import Rates


@given(st.lists(st.tuples(st.floats(0, 90), st.integers(0, 50)), max_size=40), st.sampled_from((1, 10, 60)))
def test_rates_are_those_of_the_last_whole_seconds(steps: list[tuple[float, int]], seconds: int) -> None:
    rates, total, now, seen = Rates(), 0, 1000.0, []
    for pause, count in steps:
        now += pause
        total += count
        seen.append((int(now), count))
        rates.note(total, now)
    expected = sum(count for second, count in seen if int(now) - seconds <= second < int(now)) / seconds
    assert rates.over(seconds, now) == expected
