"""Workers that have done their part: who is due, and that they are replaced one at a time, the replacement first."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import messages as m
from rocksyd.config import PoolConfig
from rocksyd.core import events as ev
from rocksyd.core.engine import Engine
from rocksyd.core.recycling import age_limit, jobs_limit, share
from rocksyd.core.worker import Worker
from tests.unit.engine_actors import config, fork_failed, zygote_ready
from tests.unit.engine_check import check
from tests.unit.engine_desk import Desk, kinds


@pytest.mark.parametrize("jitter", [0, 1, 10, 100])
def test_jitter_spreads_the_last_job_of_workers_evenly_from_max_jobs_on(jitter: int) -> None:
    policy = PoolConfig("static", max_workers=1, max_jobs=50, max_jobs_jitter=jitter)
    limits = Counter(jobs_limit(policy, Worker(number, "p", "p", 1, 0)) for number in range(1, 1001))
    assert (min(limits), max(limits)) == (50, 50 + jitter)
    assert all(limits[50 + extra] > 500 / (jitter + 1) for extra in range(jitter + 1))


@given(st.integers(0, 2**40))
def test_jitter_is_the_same_each_time_it_is_looked_up(number: int) -> None:
    assert 0 <= share(number) == share(number) < 1


def test_a_worker_that_is_never_recycled_has_no_limits() -> None:
    policy = PoolConfig("static", max_workers=1, max_jobs=0)
    worker = Worker(1, "p", "p", 1, 0, jobs=10**9, born=1.0)
    assert (jobs_limit(policy, worker), age_limit(policy, worker)) == (0, 0.0)


class Served(Desk):
    """A desk whose workers come when they are asked to, and whose jobs end when the test says so."""

    def come(self) -> None:
        """All workers that were ordered are there; those that were told to leave are gone."""
        self.fork()
        for worker in [worker for worker in self.engine.workers.values() if worker.state == "leaving"]:
            self.say(ev.WorkerExited(worker.number, 0))

    def busy(self) -> list[Worker]:
        return [worker for worker in self.engine.workers.values() if worker.state == "busy"]

    def end_job(self, worker: Worker) -> None:
        self.say(ev.Heard(worker.number, m.Result(worker.run, True, 0)))

    def states(self) -> Counter[str]:
        return Counter(worker.state for worker in self.engine.workers.values())


policies = st.one_of(
    st.builds(
        lambda n, jobs, jitter, many: PoolConfig("static", max_workers=n, max_jobs=jobs, max_jobs_jitter=jitter, recycle=many),
        st.integers(1, 6), st.integers(2, 4), st.integers(0, 3), st.integers(1, 3),
    ),
    st.builds(
        lambda low, jobs, age: PoolConfig(
            "dynamic", max_workers=low + 3, min_spare=low, max_spare=low + 1, start_workers=low, max_jobs=jobs, max_age=age
        ),
        st.integers(1, 3), st.integers(2, 4), st.sampled_from([0.0, 3.0]),
    ),
    st.builds(
        lambda n, jobs, age: PoolConfig("ondemand", max_workers=n, max_jobs=jobs, max_age=age, max_age_jitter=age / 2),
        st.integers(1, 5), st.integers(2, 4), st.sampled_from([0.0, 3.0]),
    ),
)  # fmt: skip
acts = st.lists(
    st.sampled_from(["order", "order", "come", "come", "end", "end", "end", "die", "second", "hand_over"]), max_size=80
)


@given(policies, acts)
def test_never_more_are_replaced_at_a_time_than_the_setting_says_nor_more_jobs_run_than_max_workers(
    policy: PoolConfig, acts: list[str]
) -> None:
    desk = Served(policy)
    for number, act in enumerate(acts):
        workers = list(desk.engine.workers.values())
        if act == "order":
            desk.submit(f"k{number}")
        elif act == "come":
            desk.come()
        elif act == "end" and desk.busy():
            desk.end_job(desk.busy()[number % len(desk.busy())])
        elif act == "die" and workers:
            worker = workers[number % len(workers)]
            desk.say(fork_failed(worker.number, "no") if worker.state == "starting" else ev.WorkerExited(worker.number, 9))
        elif act == "second":
            desk.at(desk.now.mono + 1.0)
        elif act == "hand_over":
            hand_over(desk)
        check(desk.engine, desk.now)
        pool = desk.engine.pools["app"]
        assert len(pool.recycling.replaced) <= policy.recycle
        assert pool.busy <= policy.max_workers
        assert pool.live <= policy.max_workers + policy.recycle
    for _ in range(200):  # however it went, everything that waits is run
        desk.come()
        for worker in desk.busy():
            desk.end_job(worker)
        desk.at(desk.now.mono + 31.0)
    assert not desk.engine.runs


def hand_over(desk: Desk) -> None:
    runs = list(desk.engine.runs.values())
    snapshot = json.loads(json.dumps(desk.engine.snapshot()))
    desk.engine = Engine(desk.engine.config)
    desk.engine.restore(runs, snapshot, desk.now)
    assert json.loads(json.dumps(desk.engine.snapshot())) == snapshot


def test_a_worker_that_has_done_its_jobs_serves_on_until_its_replacement_is_idle() -> None:
    desk = Served(PoolConfig("static", max_workers=1, max_jobs=2))
    desk.fork()
    (old,) = desk.engine.workers.values()
    for key in ("a", "b"):
        desk.end_job(desk.engine.workers[desk.submit(key).attempt.worker])
    assert desk.states() == {"idle": 1, "starting": 1}
    assert desk.submit("c").attempt.worker == old.number, "nobody waits for a recycling"
    desk.fork()
    assert desk.states() == {"busy": 1, "idle": 1}
    waits = desk.submit("d")
    assert waits.state == "waiting", "one job at a time is what max_workers says"
    desk.end_job(old)
    assert old.state == "leaving"
    assert waits.state == "running"
    assert waits.attempt.worker != old.number
    assert desk.engine.pools["app"].recycling.done == 1


@pytest.mark.parametrize("jitter", [0, 6], ids=["without_jitter", "with_jitter"])
def test_workers_that_began_together_are_not_replaced_together(jitter: int) -> None:
    desk = Served(PoolConfig("static", max_workers=8, max_jobs=3, max_jobs_jitter=jitter))
    desk.come()
    most, keys = 0, 0
    for _ in range(40):
        for _ in range(8 - len(desk.busy())):
            desk.submit(f"k{keys}")
            keys += 1
        while [worker for worker in desk.busy() if worker.run in desk.engine.runs and worker.number % 8 < 8]:
            desk.end_job(desk.busy()[0])
            pool = desk.engine.pools["app"]
            most = max(most, len(pool.recycling.replaced))
            assert pool.starting + pool.unsure <= 1, "never two forks at once"
        desk.come()
    assert most == 1
    assert desk.engine.pools["app"].recycling.done > 16


def test_a_worker_that_is_too_old_is_replaced_also_when_nothing_happens() -> None:
    desk = Served(PoolConfig("static", max_workers=2, max_jobs=0, max_age=60.0, max_age_jitter=12.0))
    desk.fork()
    first, second = sorted(desk.engine.workers.values(), key=lambda worker: age_limit(desk.engine.pools["app"].policy, worker))
    assert desk.engine.next_deadline() == age_limit(desk.engine.pools["app"].policy, first)
    desk.at(1000.0 + 80.0)
    assert desk.states() == {"idle": 2, "starting": 1}
    desk.fork()
    assert (first.state, second.state) == ("leaving", "idle")
    desk.come()
    desk.come()
    assert second.number not in desk.engine.workers
    assert desk.states() == {"idle": 2}


def test_a_pool_without_max_age_wakes_nobody() -> None:
    desk = Served(PoolConfig("static", max_workers=2, max_jobs=5))
    desk.fork()
    assert desk.engine.next_deadline() is None


def test_an_idle_worker_that_is_too_old_leaves_a_pool_that_keeps_no_spares_without_replacement() -> None:
    desk = Served(PoolConfig("ondemand", max_workers=2, max_jobs=0, idle_timeout=600.0, max_age=60.0))
    desk.end_job(desk.engine.workers[desk.started("a").attempt.worker])
    desk.at(1061.0)
    assert desk.states() == {"leaving": 1}
    assert not kinds(desk.say(ev.Tick()), ev.ForkWorker)


@pytest.mark.parametrize("how", ["refused", "died", "zygote"])
def test_a_replacement_that_never_comes_is_ordered_again(how: str) -> None:
    desk = Served(PoolConfig("static", max_workers=1, max_jobs=2))
    desk.fork()
    (old,) = desk.engine.workers.values()
    for key in ("a", "b"):
        desk.end_job(desk.engine.workers[desk.submit(key).attempt.worker])
    new = desk.engine.workers[old.successor]
    if how == "zygote":
        desk.say(ev.ZygoteGone("app", 1))
        desk.say(zygote_ready("app", 2, {}))
        assert old.state == "leaving", "there is other code now"
        return
    desk.say(fork_failed(new.number, "no") if how == "refused" else ev.WorkerExited(new.number, 9))
    assert (old.successor, old.state) == (0, "idle")
    due = desk.engine.next_deadline()
    assert due is not None
    desk.at(due)
    assert old.successor not in (0, new.number)


def test_after_a_crash_of_the_master_jobs_and_age_go_on_where_they_were() -> None:
    desk = Served(PoolConfig("static", max_workers=1, max_jobs=10, max_age=60.0))
    desk.engine = Engine(config(app=desk.engine.config.apps["app"].pool))
    found: dict[str, Any] = {"jobs": 9, "born": 990.0}
    desk.say(ev.WorkerFound(7, 77, "app", 0, "app", 1, **found))
    desk.say(zygote_ready("app", 1, {"job": {"target": "jobs:job"}}))
    desk.say(ev.Heard(7, m.Idle(epoch=desk.engine.epoch)))
    desk.end_job(desk.engine.workers[desk.submit("a").attempt.worker])
    assert desk.engine.workers[7].successor


def test_other_limits_hold_for_the_workers_there_are() -> None:
    desk = Served(PoolConfig("static", max_workers=1, max_jobs=0))
    desk.fork()
    desk.end_job(desk.engine.workers[desk.submit("a").attempt.worker])
    desk.end_job(desk.engine.workers[desk.submit("b").attempt.worker])
    desk.say(ev.Configure(config(app=PoolConfig("static", max_workers=1, max_jobs=2))))
    assert desk.states() == {"idle": 1, "starting": 1}
