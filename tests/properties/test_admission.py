"""The adaptive limit: a pool simulated with what the limit knows, whatever its backend does."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from rocksyd.core.admission import Admission

TARGET, INTERVAL = 0.1, 1.0


class Seen(NamedTuple):
    """What became of the runs: when each came, and its wait (of those that began), by arrival."""

    began: list[tuple[float, float]]
    refused: list[float]
    given_up: list[float]


def simulated(gaps: list[float], services: list[float], workers: int) -> Seen:
    """Runs come ``gaps`` seconds apart and take ``services``; first come, first served, as ``balance`` and ``callers`` do it."""
    admission, now, free = Admission(), 1000.0, workers
    ends: list[float] = []
    waiting: list[tuple[float, float, float]] = []
    seen = Seen([], [], [])

    def give() -> None:
        nonlocal free
        while waiting and waiting[0][1] <= now:
            seen.given_up.append(waiting.pop(0)[0])
        while free and waiting:
            came, _, service = waiting.pop(0)
            free -= 1
            heappush(ends, now + service)
            seen.began.append((came, now - came))
            admission.started(now)
        admission.looked(len(waiting), now)

    for gap, service in zip(gaps, services, strict=True):
        arrival = now + gap
        while ends and ends[0] <= arrival:
            now = heappop(ends)
            free += 1
            give()
        now = arrival
        give()
        if free and not waiting:
            waiting.append((now, now + INTERVAL, service))
        else:
            patience = admission.patience(now, TARGET, INTERVAL)
            if admission.expected(len(waiting), workers - free, now) > patience:
                seen.refused.append(now)
                continue
            waiting.append((now, now + patience, service))
        give()
    return seen


times = st.floats(0.001, 5.0)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0.0, 0.2), times), max_size=150), st.integers(1, 8))
def test_whatever_comes_nobody_who_is_served_has_waited_longer_than_the_interval(
    runs: list[tuple[float, float]], workers: int
) -> None:
    seen = simulated([gap for gap, _ in runs], [service for _, service in runs], workers)
    assert all(wait < INTERVAL for _, wait in seen.began)
    assert len(seen.began) + len(seen.refused) + len(seen.given_up) <= len(runs)


@given(st.integers(1, 8), st.floats(0.01, 0.5), st.floats(0.05, 0.95))
def test_a_pool_that_keeps_up_refuses_nobody(workers: int, service: float, load: float) -> None:
    seen = simulated([service / workers / load] * 200, [service] * 200, workers)
    assert not seen.refused
    assert not seen.given_up


@given(st.integers(2, 8))
def test_a_burst_into_an_empty_pool_is_taken_as_far_as_it_can_be_served_in_time(workers: int) -> None:
    seen = simulated([0.0] * (8 * workers), [0.05] * (8 * workers), workers)  # the last of them waits 0.35 s
    assert not seen.refused


@settings(max_examples=30)
@given(st.integers(2, 8), st.floats(0.5, 0.9), st.floats(0.01, 0.05))
def test_when_the_backend_is_ten_times_slower_most_are_refused_at_once_and_afterwards_nobody(
    workers: int, load: float, service: float
) -> None:
    """Ten seconds at a load that is well served, ten with a service ten times as long, ten as before."""
    gap = service / workers / load
    each = int(10 / gap)
    seen = simulated([gap] * 3 * each, [service] * each + [10 * service] * each + [service] * each, workers)
    served = {"before": 0, "slow": 0, "after": 0}
    for came, _ in seen.began:
        served["before" if came < 1010 else "slow" if came < 1020 else "after"] += 1
    assert served["before"] >= 0.99 * each
    assert served["slow"] >= 0.5 * 10 * workers / (10 * service)  # the backend goes on being used
    assert len(seen.refused) >= 2 * len(seen.given_up)  # who is refused is refused at once
    late = [at for at in (*seen.refused, *seen.given_up) if at > 1022]
    assert not late
    assert served["after"] >= 0.8 * each
    assert all(wait <= INTERVAL for _, wait in seen.began)


def test_what_is_known_goes_over_to_the_next_master_and_an_older_one_s_silence_is_understood() -> None:
    admission = Admission()
    admission.looked(3, 5.0)
    admission.started(6.0)
    admission.looked(2, 6.0)
    admission.started(8.0)
    other = Admission()
    other.load(admission.dump())
    assert other.dump() == admission.dump()
    other.load({})
    assert other.dump() == Admission().dump()
