"""Limits of memory: who is killed, who is replaced, whether another worker is forked."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from rocksyd.config import PoolConfig
from rocksyd.core import events as ev
from rocksyd.core.memory import Memory, recycles, watched
from rocksyd.core.reasons import why
from rocksyd.posix.processes import proportional_memory, resident_memory
from tests.unit.engine_desk import Desk, kinds

MB = 1 << 20
sizes = st.dictionaries(st.integers(1, 20), st.integers(1, 500).map(lambda n: ev.Size(2 * n * MB, n * MB)), min_size=1)


@given(sizes, st.integers(1, 1000), st.integers(0, 30))
def test_as_many_more_as_there_is_room_for_keep_the_pool_below_its_limit(
    sizes: dict[int, ev.Size], limit: int, more: int
) -> None:
    policy = PoolConfig(max_total_rss=limit * MB)
    memory = Memory()
    memory.measured(sizes, policy)
    workers = len(sizes) + more
    room = memory.room(policy, workers)
    assert room == 0 or memory.total(workers + room) <= policy.max_total_rss + workers + room  # (rounded down, a worker)
    assert memory.total(workers) <= policy.max_total_rss or room == 0
    assert memory.room(PoolConfig(), workers) > 1000
    assert memory.room(policy, 0) == 1


@given(sizes, st.integers(1, 1000))
def test_exactly_those_above_the_hard_limit_are_named_and_those_near_it_are_looked_at_often(
    sizes: dict[int, ev.Size], limit: int
) -> None:
    policy = PoolConfig(max_rss_hard=limit * MB)
    memory = Memory()
    assert set(memory.measured(sizes, policy)) == {worker for worker, size in sizes.items() if size.rss > limit * MB}
    assert (memory.interval(policy) == 0.1) == any(2 * size.rss > limit * MB for size in sizes.values())
    for worker in sizes:
        memory.forget(worker)
    assert (memory.rss, memory.pss, memory.total(5)) == ({}, {}, 0)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(100, 200)), max_size=30))
def test_each_worker_gets_its_turn_and_in_between_its_share_follows_what_is_resident(looks: list[tuple[int, int]]) -> None:
    memory, policy, seen = Memory(), PoolConfig(max_total_rss=1), []
    for _, rss in looks:
        turn = memory.turn([1, 2, 3, 4])
        seen.append(turn)
        memory.measured({worker: ev.Size(rss, rss // 2 if worker == turn else 0) for worker in (1, 2, 3, 4)}, policy)
        assert memory.pss[turn] == rss // 2
        assert all(0 <= share <= rss + 100 for share in memory.pss.values())
    assert seen == [1 + n % 4 for n in range(len(looks))]


def test_without_a_limit_nobody_is_measured_and_nobody_recycled() -> None:
    assert not watched(PoolConfig(max_rss=1))
    assert not recycles(PoolConfig(), 1 << 40)
    assert [recycles(PoolConfig(max_rss=5), peak) for peak in (4, 5, 6)] == [False, False, True]
    desk = Desk(PoolConfig("static", max_workers=1, max_jobs=0))
    desk.started()
    assert desk.engine.next_deadline() is None


def test_running_workers_are_measured_and_idle_ones_left_alone() -> None:
    desk = Desk(PoolConfig("static", max_workers=2, max_jobs=0, max_rss_hard=100 * MB))
    desk.fork()
    assert desk.engine.next_deadline() is None
    run = desk.started()
    assert desk.at(desk.engine.next_deadline() or 0) == [ev.MeasureWorkers("app", ((run.attempt.worker, run.attempt.pid),))]
    desk.say(ev.WorkersMeasured("app", {run.attempt.worker: ev.Size(MB, MB)}))
    assert desk.engine.next_deadline() is not None
    desk.result(run)
    assert kinds(desk.at(desk.engine.next_deadline() or 0), ev.MeasureWorkers) == []
    assert desk.engine.next_deadline() is None, "nothing runs: nobody looks"


def test_a_run_above_the_hard_limit_is_killed_once_and_ends_as_memory() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=2, max_jobs=0, max_rss_hard=100 * MB))
    run = desk.started()
    too_much = ev.WorkersMeasured("app", {run.attempt.worker: ev.Size(101 * MB, 1)})
    assert kinds(desk.say(too_much), ev.KillWorker) == [ev.KillWorker(run.attempt.worker, 9, 0.0)]
    assert kinds(desk.say(too_much), ev.KillWorker) == []
    desk.exit(run, 9)
    record = run.record()
    assert [record[name] for name in ("outcome", "reason", "retcode", "signal")] == ["memory", "memory", 137, 9]


def test_a_kill_by_the_system_for_want_of_memory_is_told_from_any_other() -> None:
    for oom, outcome in ((True, "memory"), (False, "killed")):
        desk = Desk()
        run = desk.started()
        desk.say(ev.WorkerExited(run.attempt.worker, 9, oom=oom))
        assert (run.attempt.outcome, run.attempt.retcode, run.attempt.signal) == (outcome, 137, 9)


def test_a_worker_whose_peak_is_above_max_rss_leaves_after_its_job() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=2, max_jobs=0, max_rss=100 * MB))
    run = desk.started()
    assert kinds(desk.result(run, max_rss=100 * MB), ev.DrainWorker) == []
    run = desk.submit("again")
    assert kinds(desk.result(run, max_rss=101 * MB), ev.DrainWorker) == [ev.DrainWorker(run.attempt.worker)]


def test_a_worker_that_says_so_leaves_after_its_job() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=2, max_jobs=0))
    run = desk.started()
    assert kinds(desk.result(run, leaves=True), ev.DrainWorker) == [ev.DrainWorker(run.attempt.worker)]
    assert desk.submit("again").attempt.worker != run.attempt.worker


def test_a_run_waits_while_its_pool_is_too_large_and_begins_when_it_is_not() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=5, max_jobs=0, max_total_rss=100 * MB))
    first = desk.started("first")
    desk.say(ev.WorkersMeasured("app", {first.attempt.worker: ev.Size(90 * MB, 60 * MB)}))
    second = desk.submit("second")
    assert kinds(desk.told[-5:], ev.ForkWorker) == []
    assert why(desk.engine, second, desk.now)["reasons"][0]["code"] == "pool_memory"
    desk.say(ev.WorkersMeasured("app", {first.attempt.worker: ev.Size(90 * MB, 20 * MB)}))
    desk.fork()
    assert second.state == "running"


def test_the_memory_of_this_process_can_be_measured_in_both_ways() -> None:
    assert 0 < proportional_memory(os.getpid()) <= 2 * resident_memory(os.getpid())
    assert proportional_memory(1 << 30) == resident_memory(1 << 30) == 0
