"""Workers that cannot be had: how long the next try waits, when a pool is parked, when an application is loaded afresh."""

from __future__ import annotations

import dataclasses
import json
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.config import EmergencyRestart, PoolConfig
from rocksyd.core import events as ev
from rocksyd.core.engine import Engine
from rocksyd.core.reasons import why
from rocksyd.core.trouble import Trouble, crash_of, wants_fresh_memory
from rocksyd.model import Now
from tests.unit.engine_actors import config, zygote_ready
from tests.unit.engine_check import check
from tests.unit.engine_desk import Desk, kinds

SEGV, BUS, KILL = 11, 7, 9


def test_a_fork_that_is_refused_is_tried_again_after_twice_the_time_up_to_ten_seconds_and_without_end() -> None:
    trouble, now, pauses = Trouble(), 100.0, []
    for _ in range(30):
        trouble.refused("no", now)
        pauses.append(round(trouble.after - now, 3))
        now = trouble.after
    assert pauses[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0]
    assert set(pauses[7:]) == {10.0}
    assert not trouble.parked


def test_workers_that_die_at_once_park_their_pool_with_the_reason() -> None:
    trouble, now = Trouble(), 100.0
    for _ in range(3):
        assert "next try in" in trouble.died("exit status 70", now, 4)
        now = trouble.after
    assert "parked" in trouble.died("exit status 70", now, 4)
    assert trouble.stops(now + 1e9)
    assert trouble.died("exit status 70", now + 1e9, 4) == "", "it is said once"
    trouble.over()
    assert not trouble.stops(now)


def test_those_that_were_on_their_way_when_one_died_belong_to_the_same_try() -> None:
    trouble = Trouble()
    assert trouble.died("no", 100.0, 5)
    assert [trouble.died("no", 100.01, 5) for _ in range(7)] == [""] * 7
    assert (trouble.failures, trouble.parked) == (1, False)


def test_zero_never_parks() -> None:
    trouble, now = Trouble(), 0.0
    for _ in range(50):
        trouble.died("no", now, 0)
        now = trouble.after
    assert not trouble.parked


@pytest.mark.parametrize(("status", "name"), [(SEGV, "SIGSEGV"), (BUS | 128, "SIGBUS"), (KILL, ""), (1 << 8, ""), (None, "")])
def test_a_crash_is_an_end_by_sigsegv_or_sigbus(status: int | None, name: str) -> None:
    assert crash_of(status) == name


@given(st.lists(st.floats(0, 100), max_size=60), st.integers(1, 5), st.floats(1, 30))
def test_an_application_is_loaded_afresh_exactly_when_so_many_crash_in_such_a_time(
    gaps: list[float], workers: int, within: float
) -> None:
    crashes: deque[float] = deque()
    now, recent = 0.0, []
    for gap in gaps:
        now += gap
        recent = [moment for moment in [*recent, now] if moment >= now - within]
        assert wants_fresh_memory(crashes, EmergencyRestart(workers, within), now) == (len(recent) >= workers)
        if len(recent) >= workers:
            recent = []
    assert not wants_fresh_memory(deque(), EmergencyRestart(0), now)


BROKEN = PoolConfig("ondemand", max_workers=2, max_jobs=0, park_after=3)


def parked_desk() -> Desk:
    """A desk whose pool ``app`` was parked with a run waiting."""
    desk = Desk(BROKEN, {"job": {"target": "jobs:job"}, "two": {"target": "jobs:two"}})
    desk.say(ev.Configure(config(**{"app": BROKEN, "app/side": BROKEN})))
    desk.submit("a")
    for _ in range(3):
        for worker in list(desk.engine.workers.values()):
            desk.say(ev.WorkerExited(worker.number, 70 << 8))
        due = desk.engine.next_deadline()
        if due is not None:
            desk.at(due)
    return desk


def test_a_parked_pool_forks_nothing_says_why_and_harms_no_other() -> None:
    desk = parked_desk()
    check(desk.engine, desk.now)
    assert desk.engine.next_deadline() is None
    run = desk.engine.runs["a"]
    (reason, *_) = why(desk.engine, run, desk.now)["reasons"]
    assert reason["code"] == "parked"
    assert "exited with status 70" in reason["text"]
    assert "rocksyd reload" in reason["advice"]
    assert desk.started("b", "two").state == "running"
    notes = [note.text for note in kinds(desk.told, ev.Note)]
    assert len([note for note in notes if "parked" in note]) == 1


@pytest.mark.parametrize("how", ["reload", "hand_over"])
def test_a_parked_pool_stays_so_over_a_hand_over_and_tries_again_with_other_code(how: str) -> None:
    desk = parked_desk()
    if how == "hand_over":
        snapshot = json.loads(json.dumps(desk.engine.snapshot()))
        runs = list(desk.engine.runs.values())
        desk.engine = Engine(desk.engine.config)
        assert not kinds(desk.engine.restore(runs, snapshot, Now(desk.now.mono + 100, 0.0)), ev.ForkWorker)
        assert desk.engine.pools["app"].trouble.parked
    assert kinds(desk.say(zygote_ready("app", 2, {"job": {"target": "jobs:job"}})), ev.ForkWorker)


def test_crashes_order_a_fresh_zygote_once() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=4, max_jobs=0))
    settings = desk.engine.config
    app = dataclasses.replace(settings.apps["app"], emergency_restart=EmergencyRestart(3, 60.0))
    desk.say(ev.Configure(dataclasses.replace(settings, apps={"app": app})))
    orders = []
    for number in range(4):
        run = desk.started(f"k{number}")
        desk.now = Now(desk.now.mono + 10, desk.now.wall)
        orders.append(kinds(desk.exit(run, SEGV if number else BUS), ev.LoadAfresh))
    assert [len(found) for found in orders] == [0, 0, 1, 0]
    assert orders[2][0].app == "app"


def test_the_wall_clock_may_jump_as_it_likes() -> None:
    desk = Desk(PoolConfig("static", max_workers=1, max_jobs=0, max_age=60.0))
    desk.fork()
    run = desk.submit("a", timeout=10, retries=0)
    due = desk.engine.next_deadline()
    for jump in (-1e9, 1e9, -5e8):
        desk.now = Now(desk.now.mono, desk.now.wall + jump)
        assert not desk.say(ev.Tick())
        assert desk.engine.next_deadline() == due
    assert run.state == "running"
    desk.at(1010.0)
    assert run.attempt.kill_reason == "timeout"


def test_a_run_whose_workers_die_before_its_code_begins_is_given_to_three_others_and_then_ended() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=2, max_jobs=0, park_after=0))
    run = desk.submit("a")
    for _ in range(20):
        desk.fork()
        if run.state == "running":
            desk.say(ev.WorkerExited(run.attempt.worker, SEGV, unread=True))
        due = desk.engine.next_deadline()
        if run.state == "ended":
            break
        if due is not None:
            desk.at(due)
    assert (run.state, run.attempt.outcome, run.attempt.signal) == ("ended", "killed", SEGV)
    assert run.attempt.error is not None
    assert "4 workers died before its code began" in run.attempt.error["message"]


def test_a_run_whose_workers_die_at_their_own_start_waits_until_one_does_not() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=2, max_jobs=0, park_after=0))
    run = desk.submit("a")
    for _ in range(20):
        desk.fork()
        if run.state == "running":
            desk.say(ev.WorkerExited(run.attempt.worker, SEGV, unread=True, unborn=True))
        due = desk.engine.next_deadline()
        if due is not None:
            desk.at(due)
    assert (run.state, run.attempt.given_back) in (("waiting", 0), ("running", 0))
