"""Sizes of pools: the three policies, as properties of a pool that is given what it asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.config import PoolConfig
from rocksyd.core.lifecycle import LifecycleError
from rocksyd.core.pools import Demand, Pool
from rocksyd.core.worker import Worker

policies = st.one_of(
    st.builds(
        lambda low, more, room, rate, start: PoolConfig(
            "dynamic", max_workers=low + more + room, min_spare=low, max_spare=low + more, spawn_rate=rate, start_workers=start
        ),
        st.integers(1, 4), st.integers(0, 4), st.integers(0, 6), st.integers(1, 40), st.integers(0, 8),
    ),
    st.builds(lambda n, rate: PoolConfig("static", max_workers=n, spawn_rate=rate), st.integers(1, 10), st.integers(1, 40)),
    st.builds(lambda n, idle: PoolConfig("ondemand", max_workers=n, idle_timeout=idle), st.integers(1, 10), st.floats(0.5, 20)),
)  # fmt: skip


class Driven:
    """A pool with a queue of so many runs, and somebody who forks at once."""

    def __init__(self, policy: PoolConfig) -> None:
        self.pool = Pool("p", policy)
        self.pool.begin()
        self.now = 100.0
        self.number = 0
        self.waiting = 0
        self.moves = 0
        self.balance()

    def balance(self) -> None:
        while (worker := self.pool.next_worker()) is not None and self.waiting:
            self.waiting -= 1
            self.pool.move(worker, "job", self.now)
        while asked := self.pool.missing(self.pool.demand(self.waiting), self.now):
            assert asked <= self.pool.policy.spawn_rate
            for _ in range(asked):
                self.number += 1
                self.pool.add(Worker(self.number, "p", "p", 1, 0, since=self.now))
            self.moves += asked
            assert self.pool.live <= self.pool.policy.max_workers
            for worker in [worker for worker in self.pool.workers.values() if worker.state == "starting"]:
                self.pool.move(worker, "forked", self.now)
                if self.waiting:
                    self.waiting -= 1
                    self.pool.move(worker, "job", self.now)
        while (worker := self.pool.surplus(self.pool.demand(self.waiting), self.now)) is not None:
            self.moves += 1
            self.pool.move(worker, "leave", self.now)
            self.pool.move(worker, "exit", self.now)

    def busy(self) -> list[Worker]:
        return [worker for worker in self.pool.workers.values() if worker.state == "busy"]

    def serve(self, jobs: int) -> None:
        """Jobs come, and end after a while."""
        self.waiting += jobs
        self.balance()
        self.now += 0.1
        for worker in self.busy():
            self.pool.move(worker, "rest", self.now)
        self.balance()

    def quiet(self) -> None:
        """Nothing comes until the pool does not want to be looked at any more."""
        for _ in range(100):
            when = self.pool.look_again(self.pool.demand(self.waiting), self.now)
            if not when:
                return
            assert when > self.now
            self.now = when
            self.balance()
        raise AssertionError("an idle pool wakes for ever")


@given(policies, st.lists(st.integers(0, 15), max_size=15))
def test_a_pool_keeps_its_limits_and_comes_to_rest(policy: PoolConfig, bursts: list[int]) -> None:
    driven = Driven(policy)
    for jobs in bursts:
        driven.serve(jobs)
        assert driven.pool.live <= policy.max_workers
        assert len(driven.pool.idle) >= (
            min(policy.min_spare, policy.max_workers - driven.pool.busy) if policy.pm == "dynamic" else 0
        )
        if driven.waiting:
            assert driven.pool.busy == policy.max_workers
    while driven.waiting or driven.busy():
        driven.serve(0)
    driven.quiet()
    idle = len(driven.pool.idle)
    match policy.pm:
        case "static":
            assert idle == policy.max_workers
        case "dynamic":
            assert policy.min_spare <= idle <= policy.max_spare
        case "ondemand":
            assert idle == 0


@given(policies, st.integers(1, 8))
def test_a_constant_load_does_not_make_the_size_go_up_and_down(policy: PoolConfig, jobs: int) -> None:
    driven = Driven(replace(policy, max_jobs=0))
    jobs = min(jobs, policy.max_workers)
    for _ in range(60):
        driven.serve(jobs)
    before = driven.moves
    for _ in range(60):
        driven.serve(jobs)
    if policy.pm == "dynamic" and jobs + policy.min_spare > policy.max_spare:
        # Between two bursts more are idle than max_spare allows, in a burst fewer than min_spare wants: one a second.
        assert driven.moves - before <= 2 * (60 * 0.1 + 1)
    else:
        assert driven.moves == before


def test_a_light_load_lets_the_workers_go_that_are_not_needed() -> None:
    driven = Driven(PoolConfig("ondemand", max_workers=8, max_jobs=0, idle_timeout=5.0))
    driven.serve(8)
    assert len(driven.pool.idle) == 8
    for _ in range(60):
        driven.serve(1)
    assert len(driven.pool.idle) == 1


def test_a_dynamic_pool_begins_with_start_workers_and_shrinks_one_a_second_to_max_spare() -> None:
    driven = Driven(PoolConfig("dynamic", max_workers=8, min_spare=1, max_spare=2, start_workers=5))
    sizes = [len(driven.pool.idle)]
    while when := driven.pool.look_again(driven.pool.demand(0), driven.now):
        assert driven.now < when <= driven.now + 1.0
        driven.now = when
        driven.balance()
        sizes.append(len(driven.pool.idle))
    assert sizes == [4, 3, 2]  # one at once


def test_a_pool_that_is_made_smaller_shrinks_by_itself() -> None:
    driven = Driven(PoolConfig("static", max_workers=5))
    driven.pool.policy = PoolConfig("static", max_workers=2)
    driven.balance()
    driven.quiet()
    assert len(driven.pool.idle) == 2


def test_workers_that_leave_are_left_out_of_the_count_up_to_max_workers() -> None:
    pool = Pool("p", PoolConfig("ondemand", max_workers=2))
    for number in range(5):
        pool.add(Worker(number, "p", "p", 1, 0, "leaving"))
    assert pool.missing(pool.demand(10), 0.0) == 0
    for number in range(2):
        pool.move(pool.workers[number], "exit", 0.0)
    assert pool.missing(pool.demand(10), 0.0) == 1
    pool.move(pool.workers[2], "exit", 0.0)
    assert pool.missing(pool.demand(10), 0.0) == 2


def test_workers_that_have_not_said_that_they_are_idle_count_and_get_nothing() -> None:
    pool = Pool("p", PoolConfig("static", max_workers=1))
    worker = Worker(1, "p", "p", 1, 0, "idle", sure=False)
    pool.add(worker)
    assert (pool.next_worker(), pool.missing(pool.demand(0), 0.0), pool.live) == (None, 0, 1)
    pool.settle(worker)
    assert (pool.next_worker(), pool.live, pool.unsure) == (worker, 1, 0)


def test_after_a_fork_that_failed_nothing_is_forked_until_the_next_try() -> None:
    pool = Pool("p", PoolConfig("static", max_workers=1))
    pool.trouble.refused("no", 100.0)
    again = pool.trouble.after
    assert (
        pool.missing(pool.demand(0), again - 0.001),
        pool.look_again(pool.demand(0), 100.0),
        pool.missing(pool.demand(0), again),
    ) == (0, again, 1)
    pool.served_one()
    assert pool.missing(pool.demand(0), 100.0) == 1


@pytest.mark.parametrize("pm", ["static", "ondemand"])
def test_how_often_a_pool_was_full_is_counted_once_a_time_that_ends_when_nobody_waited_for_a_second(pm: Any) -> None:
    pool = Pool("p", PoolConfig(pm, max_workers=1))
    pool.add(Worker(1, "p", "p", 1, 0, "busy"))
    for waiting, now, times in ((1, 10.0, 1), (3, 20.0, 1), (0, 20.1, 1), (1, 20.9, 1), (0, 30.0, 1), (1, 31.0, 2)):
        pool.missing(pool.demand(waiting), now)
        assert pool.max_reached == times
    assert pool.peak_waiting == 3


@given(st.integers(1, 40), st.integers(1, 40))
def test_spares_come_one_by_one_then_2_then_4_up_to_spawn_rate_as_long_as_they_are_short(spares: int, rate: int) -> None:
    pool = Pool("p", PoolConfig("dynamic", max_workers=40, min_spare=spares, max_spare=40, spawn_rate=rate))
    batches = []
    while asked := pool.missing(pool.demand(0), 0.0):
        batches.append(asked)
        for number in range(asked):
            pool.add(Worker(100 * len(batches) + number, "p", "p", 1, 0))
        assert pool.missing(pool.demand(0), 0.0) == 0, "the last ones have not come yet"
        for worker in list(pool.workers.values()):
            if worker.state == "starting":
                pool.move(worker, "forked", 0.0)
    assert sum(batches) == spares
    assert all(batch <= min(2**n, rate) for n, batch in enumerate(batches))
    assert all(batch == min(2**n, rate) for n, batch in enumerate(batches[:-1]))


def test_who_is_needed_for_a_run_that_waits_is_forked_at_once() -> None:
    pool = Pool("p", PoolConfig("dynamic", max_workers=40, min_spare=4, max_spare=8, spawn_rate=32))
    assert pool.missing(pool.demand(20), 0.0) == 21


def test_while_as_many_are_busy_as_there_may_be_workers_an_idle_one_gets_nothing() -> None:
    pool = Pool("p", PoolConfig("static", max_workers=1, max_jobs=2))
    pool.add(Worker(1, "p", "p", 1, 0, "busy"))
    pool.add(Worker(2, "p", "p", 1, 0, "idle"))
    assert pool.next_worker() is None


def test_a_step_that_the_table_does_not_have_is_an_error() -> None:
    pool = Pool("p", PoolConfig())
    pool.add(Worker(1, "p", "p", 1, 0))
    with pytest.raises(LifecycleError, match="no step 'job' from state 'starting'"):
        pool.move(pool.workers[1], "job", 0.0)


def test_what_a_snapshot_says_of_a_pool_and_a_worker_is_read_whatever_else_it_says() -> None:
    pool, other = (Pool("p", PoolConfig()) for _ in range(2))
    pool.served_one()
    pool.trouble.died("no", 5.0, 1)
    pool.load({})
    other.load({**pool.dump(), "added_later": 1})
    assert other.dump() == pool.dump()
    worker = Worker(1, "p", "p", 1, 0, "busy", 7, {"k": None, "m": None}, 3, 1.5, last=True)
    assert Worker.load({**worker.dump(), "added_later": 1}) == worker
    assert Worker.load({"number": 1, "app": "p", "pool": "p", "generation": 1, "slot": 0}) == Worker(1, "p", "p", 1, 0)
    before = {name: value for name, value in worker.dump().items() if name != "runs"}  # as a version says it that knows one run
    assert (before["run"], Worker.load(before).runs) == ("k", {"k": None})


@pytest.mark.parametrize("busy", [0, 1, 3])
def test_sizes_follow_a_demand_that_was_measured_elsewhere(busy: int) -> None:
    """As for workers that take their work themselves: to the bookkeeping they are idle, the scoreboard says who is busy."""
    pool = Pool("web", PoolConfig("dynamic", max_workers=10, min_spare=2, max_spare=3, max_jobs=0))
    for number in range(1, 4):
        worker = Worker(number, "web", "web", 1, number)
        pool.add(worker)
        pool.move(worker, "forked", 0.0)
    assert (pool.busy, len(pool.idle)) == (0, 3)
    assert pool.missing(Demand(0, busy), 10.0) == min(1, max(0, 2 - (3 - busy))), "a spare at a time, until there are min_spare"
    assert pool.surplus(Demand(0, busy), 10.0) is None
    pool.policy = PoolConfig("dynamic", max_workers=10, min_spare=0, max_spare=1, max_jobs=0)
    assert (pool.surplus(Demand(0, busy), 10.0) is not None) is (3 - busy > 1)
    pool.policy = PoolConfig("ondemand", max_workers=10)
    assert pool.missing(Demand(4, busy), 20.0) == 4 - (3 - busy)
