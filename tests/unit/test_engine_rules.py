"""The engine's rules one by one: how a run ends, deadlines, attempts, limits, what callers are told."""

from __future__ import annotations

from typing import Any

import pytest

from rocksyd import messages as m
from rocksyd.config import PoolConfig
from rocksyd.core import events as ev
from rocksyd.core import outcome
from rocksyd.core.engine import Engine
from rocksyd.errors import RequestError
from rocksyd.messages import NOTHING_RUN
from rocksyd.model import Run
from tests.unit.engine_actors import config, fork_failed, zygote_ready
from tests.unit.engine_desk import ONDEMAND, Desk, kinds

# kill_reason, what is known -> outcome, retcode, signal, reason in the record, classic reply
ENDINGS: list[tuple[str, Any, tuple[Any, ...]]] = [
    ("", {"retcode": 0}, ("ok", 0, None, None, {"retcode": 0})),
    ("", {"retcode": 3}, ("failed", 3, None, None, {"retcode": 3})),
    ("timeout", {"retcode": 0}, ("timeout", 0, None, "timeout", {"retcode": 0, "reason": "timeout"})),
    ("cancelled", {"retcode": 1}, ("cancelled", 1, None, "cancelled", {"retcode": 1, "reason": "cancelled"})),
    ("", 0, ("ok", 0, None, None, {"retcode": 0})),
    ("", 7 << 8, ("failed", 7, None, None, {"retcode": 7})),
    ("", 9, ("killed", 137, 9, None, {"retcode": 137, "signal": 9})),
    ("", 11 | 0x80, ("killed", 139, 11, None, {"retcode": 139, "signal": 11})),
    ("timeout", 15, ("timeout", 143, 15, "timeout", {"retcode": 143, "signal": 15, "reason": "timeout"})),
    ("cancelled", 9, ("cancelled", 137, 9, "cancelled", {"retcode": 137, "signal": 9, "reason": "cancelled"})),
    ("memory", 9, ("memory", 137, 9, "memory", {"retcode": 137, "signal": 9, "reason": "memory"})),
    ("cancelled", 0, ("cancelled", 0, None, "cancelled", {"retcode": 0, "reason": "cancelled"})),
    ("", None, ("lost", 255, None, "lost", {"retcode": 255, "reason": "lost"})),
    ("timeout", None, ("lost", 255, None, "lost", {"retcode": 255, "reason": "lost"})),
]


@pytest.mark.parametrize(("reason", "known", "expected"), ENDINGS)
def test_p2_how_a_run_ended_follows_from_result_exit_status_and_who_ended_it(reason: str, known: Any, expected: tuple) -> None:
    desk = Desk()
    run = desk.started()
    run.attempt.kill_reason = reason
    effects = desk.result(run, **known) if isinstance(known, dict) else desk.exit(run, known)
    record = run.record()
    assert (*(record[name] for name in ("outcome", "retcode", "signal", "reason")), outcome.classic(run)) == expected
    assert record["state"] == "ended"
    assert [effect.run for effect in kinds(effects, ev.Persist, ev.Ended)] == [run, run]


def test_a_result_is_acknowledged_whoever_brings_it_and_counts_once() -> None:
    desk = Desk()
    run = desk.started()
    worker = run.attempt.worker
    assert kinds(desk.result(run, value=5), ev.AckResult) == [ev.AckResult(worker, "k")]
    assert run.attempt.result == 5
    again = desk.say(ev.Heard(worker, m.Result("k", False, 1)))
    assert again == [ev.AckResult(worker, "k")]
    assert desk.say(ev.Heard(999, m.Result("unknown", True, 0))) == [ev.AckResult(999, "unknown")]
    assert (run.attempt.outcome, run.attempt.result) == ("ok", 5)


# --- deadlines --------------------------------------------------------------------------------------------------------
def test_p9_a_run_gets_term_at_its_timeout_and_kill_after_its_grace() -> None:
    desk = Desk()
    run = desk.started(timeout="10s")
    assert desk.engine.next_deadline() == 1010.0
    assert desk.at(1009.999) == []
    assert kinds(desk.at(1010.0), ev.KillWorker) == [ev.KillWorker(run.attempt.worker, 15, 10.0, soft=True)]
    assert desk.engine.next_deadline() == 1020.0
    assert desk.at(1019.9) == []
    assert desk.at(1020.0) == [ev.KillWorker(run.attempt.worker, 9, 0.0)]
    desk.exit(run, 9)
    assert (run.attempt.outcome, run.attempt.signal) == ("timeout", 9)


def test_p9_deadlines_are_where_they_were_after_a_hand_over() -> None:
    desk = Desk()
    run = desk.started(timeout=10)
    late = desk.submit("late", start_within=5, delay=3)
    snapshot, runs = desk.engine.snapshot(), [Run.load(r.dump()) for r in desk.engine.runs.values()]
    engine = Engine(desk.engine.config)
    assert engine.restore(runs, snapshot, desk.now._replace(mono=1002.0, wall=5.0)) == []
    assert (late.not_before, late.start_by) == (1003.0, 1008.0)
    moments = []
    desk.engine = engine
    while (due := engine.next_deadline()) is not None and due < 1011:
        moments.append(due)
        desk.at(due)
    assert moments == [1003.0, 1008.0, 1010.0]  # nobody forks a worker for the late one
    assert engine.runs["k"].attempt.kill_reason == "timeout"
    assert engine.runs["k"].attempt.worker == run.attempt.worker


@pytest.mark.parametrize("options", [{"start_within": 5}, {"start_within": "5s", "delay": 2}])
def test_a_run_that_could_not_start_in_time_ends_unstarted(options: dict[str, Any]) -> None:
    desk = Desk()
    desk.engine.applications["app"].ready = False
    run = desk.submit(**options)
    due = 1005.0 + options.get("delay", 0)
    desk.at(due - 0.001)
    assert run.state == "waiting"
    desk.at(due)
    assert (run.state, run.attempt.outcome, run.attempt.retcode, run.attempt.started_at) == ("ended", "timeout", 124, 0.0)


def test_queue_timeout_is_the_default_of_start_within_and_zero_lifts_it() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=1, queue_timeout=7.0))
    assert desk.submit("a").start_by == 1007.0
    assert desk.submit("b", start_within=3).start_by == 1003.0
    assert desk.submit("c", start_within=0).start_by == 0.0


def test_a_delayed_run_is_not_lined_up_before_its_time() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=1))
    run = desk.submit("later", delay=4)
    desk.submit("now")
    assert len(desk.engine.queues["app"]) == 1
    desk.at(1004.0)
    assert len(desk.engine.queues["app"]) == 2
    assert run.not_before == 0.0


def test_max_queue_is_for_delayed_runs_as_well() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=1, max_queue=2))
    desk.submit("a", delay=4)
    desk.submit("b", delay=5)
    with pytest.raises(RequestError, match="2 runs wait"):
        desk.submit("c", delay=6)
    with pytest.raises(RequestError, match="2 runs wait"):
        desk.submit("d")
    desk.answer(ev.Terminate("a"))
    desk.submit("e")
    desk.at(1005.0)
    with pytest.raises(RequestError, match="2 runs wait"):
        desk.submit("f")
    assert desk.engine.runs["b"].not_before == 0.0


def test_a_retry_in_the_turn_of_the_end_leaves_the_end_as_it_was() -> None:
    desk = Desk()
    run = desk.started()
    (ended,) = kinds(desk.result(run, 3), ev.Ended)
    again = desk.answer(ev.Retry("k"))
    assert (again.state, again.attempt.number) != (ended.run.state, ended.run.attempt)
    assert (ended.run.state, ended.run.attempt.number, ended.run.attempt.retcode) == ("ended", 1, 3)


def test_terminate_ends_what_waits_at_once_and_what_runs_by_term_then_kill() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=1))
    running, waiting = desk.started("r"), desk.submit("w")
    desk.answer(ev.Terminate("w"))
    assert (waiting.attempt.outcome, waiting.attempt.retcode) == ("cancelled", 143)
    assert kinds(desk.say(ev.Terminate("r")), ev.KillWorker) == [ev.KillWorker(running.attempt.worker, 15, 10.0)]
    assert kinds(desk.say(ev.Terminate("r")), ev.KillWorker) == []
    assert desk.at(1010.0) == [ev.KillWorker(running.attempt.worker, 9, 0.0)]
    desk.exit(running, 15)
    assert desk.refusal(ev.Terminate("r")).classic == "Script already not running"
    assert desk.refusal(ev.Terminate("x")).classic == "Hash not found"


def test_another_signal_than_term_is_delivered_and_decides_nothing() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=1))
    running, waiting = desk.started("r"), desk.submit("w")
    effects = desk.say(ev.Terminate("r", 10))
    assert effects == [ev.Answer(0, running), ev.KillWorker(running.attempt.worker, 10, 10.0)]
    assert (running.state, running.attempt.kill_reason) == ("running", "")
    assert "has not started" in str(desk.refusal(ev.Terminate("w", 9)))
    assert waiting.state == "waiting"
    desk.exit(running, 10)
    assert (running.attempt.outcome, running.attempt.signal) == ("killed", 10)


def test_a_worker_that_does_not_leave_is_killed() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=1, max_jobs=1))
    run = desk.started()
    worker = run.attempt.worker
    desk.result(run)
    assert desk.engine.next_deadline() == 1030.0
    assert desk.at(1030.0) == [ev.KillWorker(worker, 9, 0.0)]
    desk.say(ev.WorkerExited(worker, 9))
    assert desk.engine.next_deadline() is None


def test_a_daemon_with_nothing_to_do_wants_no_tick() -> None:
    desk = Desk(PoolConfig("dynamic", max_workers=4, min_spare=1, max_spare=2, max_jobs=0))
    desk.fork()
    run = desk.started(timeout=5, start_within=5)
    desk.result(run)
    desk.fork()
    assert desk.engine.next_deadline() is None


# --- attempts ---------------------------------------------------------------------------------------------------------
def test_a_failed_run_is_tried_again_after_one_second_doubling_to_five_minutes() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=1, max_jobs=0, idle_timeout=1e6))
    run = desk.started(retries=11)
    delays = []
    for _ in range(11):
        desk.result(run, 1, error={"type": "E", "message": "m", "traceback": ""})
        assert (run.state, run.attempt.outcome, run.attempt.retcode, run.attempt.started_at) == ("waiting", "", None, 0.0)
        assert run.attempt.error is not None
        delays.append(run.not_before - desk.now.mono)
        assert desk.engine.next_deadline() == run.not_before
        desk.at(run.not_before)
        assert (run.state, run.attempt.error) == ("running", None)
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    desk.result(run, 1)
    assert (run.state, run.attempt.outcome, run.attempt.number) == ("ended", "failed", 12)


@pytest.mark.parametrize(
    ("ends", "attempts"), [("ok", 1), ("cancelled", 1), ("failed", 3), ("killed", 3), ("lost", 3), ("timeout", 3)]
)
def test_what_succeeded_or_was_cancelled_is_not_tried_again(ends: str, attempts: int) -> None:
    desk = Desk()
    run = desk.started(retries=2)
    while run.state != "ended":
        match ends:
            case "ok":
                desk.result(run)
            case "failed":
                desk.result(run, 1)
            case "killed":
                desk.exit(run, 9)
            case "lost":
                desk.exit(run, None)
            case "cancelled":
                desk.say(ev.Terminate("k"))
                desk.exit(run, 15)
            case "timeout":
                run.attempt.kill_reason = "timeout"
                desk.exit(run, 15)
        if run.state == "waiting":
            desk.at(run.not_before)
            desk.fork()
    assert (run.attempt.outcome, run.attempt.number) == (ends, attempts)


def test_start_within_is_for_the_first_attempt_only() -> None:
    desk = Desk()
    run = desk.started(retries=1, start_within=0.5)
    desk.result(run, 1)
    desk.at(run.not_before)
    desk.fork()
    assert (run.state, run.attempt.number) == ("running", 2)


def test_retry_runs_an_ended_run_again_under_its_key_and_minds_the_limits() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=1, max_queue=1, max_jobs=0))
    run = desk.started()
    assert desk.refusal(ev.Retry("k")).code == -32005
    desk.result(run, 1)
    desk.submit("other")
    run = desk.answer(ev.Retry("k"))
    assert (run.state, run.attempt.number, run.attempt.error) == ("waiting", 2, None)
    other = desk.engine.runs["other"]
    desk.result(other)
    desk.result(run)
    for key in "ab":
        desk.submit(key)
    assert desk.refusal(ev.Retry("k")).code == -32004
    desk.say(ev.Drain())
    assert desk.refusal(ev.Retry("k")).code == -32005


# --- callers ----------------------------------------------------------------------------------------------------------
def test_repeating_an_order_is_safe_and_a_key_cannot_mean_two_things() -> None:
    desk = Desk()
    run = desk.submit("1", params=[1])
    assert desk.submit("1", params=[1]) is run
    assert desk.refusal(ev.Submit("1", "job", [2])).classic == "Hash is in use"
    assert desk.refusal(ev.Submit("1", "one", [1])).code == -32002
    desk.fork()
    desk.result(run)
    assert desk.submit("1", params=[1]) is run
    assert desk.answer(ev.Free("1")) is run
    assert desk.submit("1", params=[2]) is not run


def test_p12_an_option_that_cannot_be_is_refused_by_its_name() -> None:
    desk = Desk()
    for name, value in [
        ("timeout", -1), ("timeout", "soon"), ("timeout", True), ("delay", "1 parsec"), ("priority", 1.5), ("priority", 1 << 40),
        ("retries", -1), ("retries", True), ("env", {"A": 1}), ("labels", ["x"]), ("delay", 1e300), ("grace", float("nan")),
    ]:  # fmt: skip
        error = desk.refusal(ev.Submit("k", "job", None, None, {name: value}))
        assert error.code == -32602
        assert str(error).startswith(name), (name, value, str(error))
    assert not desk.engine.runs


def test_max_queue_refuses_only_what_would_have_to_wait() -> None:
    desk = Desk(PoolConfig("static", max_workers=1, max_queue=0))
    with pytest.raises(RequestError, match="max_queue = 0"):
        desk.submit("a")
    desk.fork()
    assert desk.submit("a").state == "running"
    with pytest.raises(RequestError, match="max_queue = 0"):
        desk.submit("b")


def test_max_running_is_of_one_application_and_does_not_hold_up_others() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=3, max_jobs=0))
    first = desk.started("1", "one")
    second, other = desk.submit("2", "one"), desk.submit("3")
    desk.fork()
    assert (second.state, other.state) == ("waiting", "running")
    assert len(desk.engine.workers) == 2
    desk.result(first)
    assert second.state == "running"


def test_an_application_that_goes_ends_what_waits_for_it_and_not_what_runs() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=1))
    running, waiting, delayed = desk.started("r", retries=3), desk.submit("w"), desk.submit("d", delay=9)
    effects = desk.say(ev.Configure(config(new=ONDEMAND)))
    assert kinds(effects, ev.RetireZygote) == [ev.RetireZygote("app", 1)]
    assert {run.attempt.outcome for run in (waiting, delayed)} == {"lost"}
    desk.exit(running, 9)
    assert (running.state, running.attempt.outcome) == ("ended", "killed")
    assert "app" not in desk.engine.pools
    assert desk.refusal(ev.Retry("w")).code == -32001


def test_a_spare_that_dies_before_it_has_read_its_order_does_not_end_the_run() -> None:
    desk = Desk()
    run = desk.started()
    desk.say(ev.WorkerExited(run.attempt.worker, 9, unread=True))
    assert (run.state, run.attempt.number) == ("waiting", 1)
    desk.at(1000.1)
    desk.fork()
    assert run.state == "running"


def test_a_fork_that_fails_is_tried_again_even_when_the_pool_was_to_be_looked_at_earlier() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=2, max_jobs=0, idle_timeout=10.0))
    first = desk.started("1")
    desk.result(first)  # the pool is to be looked at when this worker has been idle for 10 s
    desk.at(1009.95)
    desk.submit("2")
    third = desk.submit("3")
    (asked,) = [worker for worker in desk.engine.workers.values() if worker.state == "starting"]
    desk.say(fork_failed(asked.number, "EAGAIN"))
    while (due := desk.engine.next_deadline()) is not None and third.state == "waiting":
        desk.at(due)
        desk.fork()
    assert third.state == "running"
    assert desk.now.mono == pytest.approx(1010.05)


def test_after_a_crash_an_answer_to_a_dead_master_says_nothing() -> None:
    desk = Desk()
    run = desk.started()
    runs = [Run.load(run.dump())]
    engine = desk.engine = Engine(desk.engine.config)
    desk.told += engine.restore(runs, None, desk.now)
    asked = kinds(desk.say(ev.WorkerFound(run.attempt.worker, run.attempt.pid, "app", 0, "app", 1)), ev.AskWorker)
    assert asked == [ev.AskWorker(run.attempt.worker, engine.epoch)]
    desk.say(ev.Heard(run.attempt.worker, m.Idle(epoch=engine.epoch - 1)))
    assert engine.runs["k"].state == "running"
    desk.say(ev.Heard(run.attempt.worker, m.Idle(epoch=engine.epoch)))
    assert engine.runs["k"].state == "waiting"


def test_p9_a_run_that_is_slow_before_its_worker_is_found_is_asked_when_it_is() -> None:
    desk = Desk()
    run = desk.started(slow_after=5.0)
    worker, pid = run.attempt.worker, run.attempt.pid
    engine = desk.engine = Engine(desk.engine.config)
    engine.restore([Run.load(run.dump())], None, desk.now)
    assert kinds(desk.at(desk.now.mono + 5.0), ev.Slow) == []
    assert desk.refusal(ev.Terminate("k", 10)).data == "ask again"
    assert kinds(desk.say(ev.WorkerFound(worker, pid, "app", 0, "app", 1)), ev.Slow) == []
    assert kinds(desk.at(engine.next_deadline()), ev.Slow) == [ev.Slow(engine.runs["k"])]
    assert kinds(desk.at(desk.now.mono + 60.0), ev.Slow) == []
    assert engine.runs["k"].attempt.slow_at == 0.0


def test_a_worker_found_without_a_run_that_still_has_a_result_to_bring_is_of_use_again() -> None:
    desk = Desk()
    run = desk.started()
    worker = run.attempt.worker
    desk.result(run)  # in the journal; the master dies before it acknowledges
    engine = desk.engine = Engine(desk.engine.config)
    engine.restore([], None, desk.now)
    desk.say(ev.WorkerFound(worker, 1, "app", 0, "app", 1))
    desk.say(ev.InventoryDone("app", 1))
    desk.say(zygote_ready("app", 1, {"job": {"target": "jobs:job"}}))
    effects = desk.say(ev.Heard(worker, m.Result("k", True, 0)))
    assert effects == [ev.AckResult(worker, "k"), ev.AskWorker(worker, engine.epoch)]
    desk.say(ev.Heard(worker, m.Idle(epoch=engine.epoch)))
    assert desk.submit("next").attempt.worker == worker


def test_p11_a_newer_zygote_that_speaks_later_after_a_crash_is_not_sent_away_before() -> None:
    desk = Desk()
    known = desk.engine.applications["app"].dump()
    engine = desk.engine = Engine(desk.engine.config)
    engine.applications["app"].load({**known, "generation": 3, "ready": False})  # as the journal has it
    engine.restore([], None, desk.now)
    assert kinds(desk.say(zygote_ready("app", 2, known["jobs"])), ev.RetireZygote) == []
    assert kinds(desk.say(zygote_ready("app", 3, known["jobs"])), ev.RetireZygote) == [ev.RetireZygote("app", 2)]
    run = desk.started()
    assert run.state == "running"
    assert engine.workers[run.attempt.worker].generation == 3


def test_an_older_zygote_that_is_ready_later_than_a_newer_one_is_not_forked_from() -> None:
    desk = Desk()
    jobs = desk.engine.applications["app"].jobs
    desk.say(zygote_ready("app", 3, jobs))
    assert kinds(desk.say(zygote_ready("app", 2, jobs)), ev.RetireZygote) == [ev.RetireZygote("app", 2)]
    assert desk.engine.workers[desk.started().attempt.worker].generation == 3


def test_numbers_are_never_given_twice_across_crashes() -> None:
    desk = Desk(PoolConfig("static", max_workers=3))
    before = max(desk.engine.workers)
    engine = desk.engine = Engine(desk.engine.config)
    engine.restore([], None, desk.now)
    desk.say(zygote_ready("app", 2, {}))
    assert min(engine.workers) > before


@pytest.mark.parametrize(("unread", "state"), [(True, "waiting"), (False, "ended")])
@pytest.mark.parametrize("status", [NOTHING_RUN << 8, 0, 1 << 8])
def test_p2_whether_a_worker_that_nobody_could_bring_back_had_begun_its_run_does_not_follow_from_its_exit_status(
    status: int, unread: bool, state: str
) -> None:
    desk = Desk()
    run = desk.started()
    engine = desk.engine = Engine(desk.engine.config)
    engine.restore([Run.load(run.dump())], None, desk.now)
    run = engine.runs["k"]
    slot = run.attempt.slot
    desk.say(zygote_ready("app", 1, {"job": {"target": "jobs:job"}}))
    desk.submit("other")
    assert slot not in [worker.slot for worker in engine.workers.values()], "what stands there is evidence"
    desk.say(ev.WorkerExited(run.attempt.worker, status, unread=unread))
    assert run.state == state
