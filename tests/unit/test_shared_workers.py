"""The engine's rules of workers that runs share (``concurrency``): who gets the next run, and what one's end means for others."""

from __future__ import annotations

from typing import Any

import pytest

from rocksyd import messages as m
from rocksyd.config import PoolConfig
from rocksyd.core import events as ev
from rocksyd.core.engine import Engine
from rocksyd.model import Run
from tests.unit.engine_actors import zygote_ready
from tests.unit.engine_desk import Desk, kinds

SHARED = PoolConfig("ondemand", max_workers=2, max_jobs=0, concurrency=3)


def desk_with(number: int, pool: PoolConfig = SHARED, **options: Any) -> tuple[Desk, list[Run]]:
    """So many runs, all of them begun."""
    desk = Desk(pool)
    runs = [desk.submit(f"k{n}", **options) for n in range(number)]
    desk.fork()
    assert {run.state for run in runs} == {"running"}
    return desk, runs


def after_a_crash(desk: Desk) -> Desk:
    """Another master that knows what the journal has; the worker of ``k0`` is found."""
    other = Desk(SHARED)
    other.engine = Engine(desk.engine.config)
    other.engine.restore([Run.load(run.dump()) for run in desk.engine.runs.values()], None, other.now)
    worker = desk.engine.workers[desk.engine.runs["k0"].attempt.worker]
    other.say(zygote_ready("app", 1, {"job": {"target": "jobs:job"}}))
    other.say(ev.WorkerFound(worker.number, worker.pid, "app", worker.slot, "app", 1, capacity=3))
    return other


def test_as_many_workers_are_forked_as_the_runs_need_and_the_fullest_gets_the_next() -> None:
    desk, runs = desk_with(4)
    assert [order.capacity for order in kinds(desk.told, ev.ForkWorker)] == [3, 3]
    assert sorted(len(worker.runs) for worker in desk.engine.workers.values()) == [1, 3]
    full = next(worker for worker in desk.engine.workers.values() if len(worker.runs) == 3)
    desk.result(desk.engine.runs[full.run])
    assert desk.submit("next").attempt.worker == full.number  # of the two that have room
    waiting = [desk.submit(f"w{n}") for n in range(3)]
    assert [run.state for run in waiting] == ["running", "running", "waiting"]
    assert not runs[1].attempt.kill_reason


def test_one_that_is_told_to_end_is_cancelled_and_the_worker_killed_when_it_does_not_obey() -> None:
    desk, (first, second) = desk_with(2, retries=0)
    effects = desk.say(ev.Terminate("k0"))
    assert kinds(effects, ev.CancelRun, ev.KillWorker) == [ev.CancelRun(first.attempt.worker, first)]
    assert kinds(desk.at(1010.0), ev.KillWorker) == [ev.KillWorker(first.attempt.worker, 9, 0.0)]
    desk.exit(first, 9)
    assert (first.attempt.outcome, first.attempt.signal, first.attempt.error) == ("cancelled", 9, None)
    assert (second.attempt.outcome, second.attempt.signal) == ("killed", 9)
    assert second.attempt.error is not None
    assert "which it shared with 1 others, was killed by SIGKILL, because run 'k0'" in second.attempt.error["message"]


def test_a_signal_for_one_is_refused_because_the_others_would_get_it() -> None:
    desk, (first, _) = desk_with(2)
    assert "shares its process" in str(desk.refusal(ev.Terminate("k0", 10)))
    assert first.state == "running"


@pytest.mark.parametrize(("status", "outcome"), [(0, "lost"), (3 << 8, "failed"), (11, "killed"), (None, "lost")])
def test_how_a_worker_ended_is_not_how_a_run_of_it_went(status: int | None, outcome: str) -> None:
    desk, runs = desk_with(2)
    desk.exit(runs[0], status)
    assert {run.attempt.outcome for run in runs} == {outcome}


def test_only_what_a_dead_worker_had_not_been_told_is_given_to_another() -> None:
    desk, (first, second) = desk_with(2)
    worker = first.attempt.worker
    desk.say(ev.WorkerExited(worker, 9, untold=("k1",)))
    assert (first.attempt.outcome, second.state, second.attempt.given_back) == ("killed", "waiting", 1)
    desk.fork()
    assert second.attempt.worker not in (0, worker)


def test_p11_after_a_crash_a_worker_keeps_what_it_says_it_holds_and_gets_more_only_then() -> None:
    desk = after_a_crash(desk_with(3)[0])
    new = desk.submit("new")
    assert new.state == "waiting"
    desk.say(
        ev.Heard(desk.engine.runs["k0"].attempt.worker, m.Holding(epoch=desk.engine.epoch - 1, keys=("k0",)))
    )  # for the master before
    assert new.state == "waiting"
    worker = desk.engine.workers[desk.engine.runs["k0"].attempt.worker]
    desk.say(ev.Heard(worker.number, m.Holding(epoch=desk.engine.epoch, keys=("k0", "k2"))))
    assert [order.run.key for order in kinds(desk.told, ev.StartJob)] == ["k1"]  # it had never got it, and has room for it now
    assert list(worker.runs) == ["k0", "k2", "k1"]


def test_p11_after_a_crash_nothing_is_asked_again_of_a_worker_that_answers_at_once() -> None:
    desk = after_a_crash(desk_with(3)[0])
    assert not kinds(desk.result(desk.engine.runs["k0"]), ev.AskWorker)
    assert not desk.engine.workers[desk.engine.runs["k1"].attempt.worker].sure


def test_one_that_was_told_to_end_before_a_crash_is_told_again() -> None:
    before, _ = desk_with(2)
    before.say(ev.Terminate("k0"))
    desk = after_a_crash(before)
    (order,) = kinds(desk.told, ev.CancelRun, ev.KillWorker)
    assert (type(order), order.run.key, order.run.attempt.kill_reason) == (ev.CancelRun, "k0", "cancelled")


def test_who_has_grown_too_large_gets_no_more_and_leaves_after_its_last_run() -> None:
    desk, (first, second) = desk_with(2, PoolConfig("ondemand", max_workers=1, max_jobs=0, concurrency=3, max_rss=100))
    worker = first.attempt.worker
    assert not kinds(desk.result(first, max_rss=101), ev.DrainWorker)
    desk.submit("next")
    desk.fork()
    assert desk.engine.runs["next"].attempt.worker != worker  # although max_workers is 1: it gives its place away
    assert kinds(desk.result(second), ev.DrainWorker) == [ev.DrainWorker(worker)]


def test_runs_of_older_code_go_on_and_do_not_hold_up_those_of_the_new() -> None:
    desk, runs = desk_with(6)
    desk.say(zygote_ready("app", 2, {"job": {"target": "jobs:job"}}))
    new = [desk.submit(f"n{n}") for n in range(6)]
    desk.fork()
    assert {run.state for run in (*runs, *new)} == {"running"}
    assert {run.attempt.generation for run in new} == {2}
    drained = [effect for run in runs for effect in kinds(desk.result(run), ev.DrainWorker)]
    assert len(drained) == 2


def test_p6_a_snapshot_carries_all_runs_of_a_worker() -> None:
    desk, runs = desk_with(3)
    other = Engine(desk.engine.config)
    assert other.restore([Run.load(run.dump()) for run in runs], desk.engine.snapshot(), desk.now) == []
    (worker,) = other.workers.values()
    assert (list(worker.runs), worker.capacity) == (["k0", "k1", "k2"], 3)
