"""A run is an order, its attempts and bookkeeping: earlier attempts are kept, within bounds, and both versions read the row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import messages as m
from rocksyd.config import PoolConfig
from rocksyd.core import events as ev
from rocksyd.model import EARLIER_MOST, ENDED, ERROR_MOST, FAILED, RUNNING, WAITING, Run
from tests.unit.engine_desk import Desk, kinds
from tests.versions import unpacked

ERROR = {"type": "ValueError", "message": "no way", "traceback": "Traceback ..."}


def failed(desk: Desk, times: int, **error: Any) -> Run:
    """A run that has failed so often and runs for another time."""
    desk.fork()
    run = desk.started("k", retries=times)
    for _ in range(times):
        desk.result(run, 3, error={**ERROR, **error}, cpu=0.5, max_rss=1 << 20)
        assert run.state == WAITING
        desk.at(run.not_before)
        desk.fork()
        assert run.state == RUNNING
    return run


# --- earlier attempts -------------------------------------------------------------------------------------------------
def test_an_attempt_that_is_over_is_kept_and_shown() -> None:
    desk = Desk()
    run = failed(desk, 1)
    first, worker = run.record()["attempts"][0], run.earlier[0]["worker"]
    assert (first["attempt"], first["outcome"], first["retcode"], first["error"]) == (1, FAILED, 3, ERROR)
    assert (first["cpu"], first["max_rss"], first["worker"], first["ended_at"]) == (0.5, 1 << 20, worker, 1.7e9)
    assert (run.attempt.number, run.attempt.outcome, run.attempt.cpu, run.attempt.error) == (2, "", 0.0, None)
    desk.result(run, value=7)
    assert (run.state, run.record()["attempt"], run.record()["result"], len(run.record()["attempts"])) == (ENDED, 2, 7, 1)


def test_while_it_waits_to_be_tried_again_the_record_says_why() -> None:
    desk = Desk()
    run = desk.started("k", retries=1)
    desk.result(run, 3, error=ERROR)
    assert (run.state, run.record()["error"], run.record()["attempt"]) == (WAITING, ERROR, 2)


def test_an_ended_run_that_is_ordered_again_keeps_what_it_was() -> None:
    desk = Desk()
    run = desk.started()
    desk.result(run, value=1)
    again = desk.answer(ev.Retry("k"))
    assert (again.attempt.number, again.attempt.result, [past["outcome"] for past in again.earlier]) == (2, None, ["ok"])
    assert (run.attempt.number, run.attempt.result, run.earlier) == (1, 1, ()), (
        "whoever was told of the end, was told of it as it was"
    )


def test_a_run_that_is_given_back_is_no_attempt() -> None:
    desk = Desk()
    run = desk.started()
    desk.say(ev.WorkerExited(run.attempt.worker, 9, unread=True))
    desk.at(1001.0)
    desk.fork()
    assert (run.state, run.attempt.number, run.earlier, run.attempt.given_back) == (RUNNING, 1, (), 1)


@given(st.integers(1, 25), st.text(max_size=3000), st.text(max_size=3000))
def test_attempts_are_bounded_in_number_and_bytes(times: int, message: str, traceback: str) -> None:
    run = failed(
        Desk(PoolConfig("static", max_workers=1, max_jobs=0)), times, message=message, traceback=traceback, args=["x" * 10_000]
    )
    assert [past["attempt"] for past in run.earlier] == list(range(1, times + 1))[-EARLIER_MOST:]
    for past in run.earlier:
        assert past["error"] == {"type": "ValueError", "message": message[:ERROR_MOST], "traceback": traceback[-ERROR_MOST:]}
    assert len(json.dumps(run.earlier)) < EARLIER_MOST * (400 + 12 * 2 * ERROR_MOST)
    assert Run.load(json.loads(json.dumps(run.dump()))) == run


def test_nothing_in_an_order_can_be_changed() -> None:
    run = Desk().submit(timeout="10s")
    with pytest.raises(AttributeError):
        run.order.timeout = 1.0  # type: ignore[misc]


# --- two versions -----------------------------------------------------------------------------------------------------
OLD = """
import json, sys
from rocksyd.model import Run
for row in json.load(sys.stdin):
    run = Run.load(row)
    print(json.dumps([run.record(), run.dump()]))
"""


def test_p6_the_version_before_reads_rows_with_attempts_and_this_one_reads_its_rows(tmp_path: Path) -> None:
    package = unpacked(tmp_path)
    desk = Desk()
    runs = [failed(desk, 2), desk.submit("waits", delay=60, labels={"a": "b"}), desk.submit("calls", env={"A": "B"}, priority=3)]
    rows = json.dumps([run.dump() for run in runs])
    assert "attempts" in json.loads(rows)[0]
    command = [sys.executable, "-c", OLD]
    done = subprocess.run(
        command, input=rows, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(package.parent)}
    )
    read = [json.loads(line) for line in done.stdout.splitlines()]
    for run, (record, row) in zip(runs, read, strict=True):
        ours = json.loads(json.dumps(run.record()))
        assert record == {name: value for name, value in ours.items() if name not in ("attempts", "revision")}
        again = Run.load(row)
        assert again.order == run.order
        assert again.attempt == run.attempt
        assert (again.state, again.pool, again.sequence, again.not_before) == (run.state, run.pool, run.sequence, run.not_before)
        assert again.earlier == (), "the version before knows of one attempt"


@given(
    st.dictionaries(
        st.sampled_from(["attempt", "outcome", "worker", "error", "of_a_newer_version"]), st.none() | st.integers(0, 9)
    )
)
def test_p6_an_attempt_of_another_version_may_have_other_keys(past: dict[str, Any]) -> None:
    run = Run.load({"key": "k", "attempts": [past], "attempt": 2})
    assert {**run.record()["attempts"][0], **past} == run.record()["attempts"][0]
    assert run.record()["attempts"][0].keys() >= {"attempt", "outcome", "retcode", "error", "started_at", "ended_at"}
    assert not run.was_at(77)


# --- a worker speaks of its own runs ----------------------------------------------------------------------------------
SAID = [
    m.Progress("other", 1, 2, "note"), m.Finished("other", 5), m.Result("other", value="forged"), m.Job("other"), m.Forked(3, 4),
]  # fmt: skip


@pytest.mark.parametrize("message", SAID, ids=lambda message: type(message).__name__)
def test_p2_a_worker_that_speaks_of_a_run_that_is_not_its_own_is_killed_and_its_run_has_failed(message: Any) -> None:
    desk = Desk()
    own, other = desk.started("own"), desk.started("other")
    before = other.dump()
    worker = own.attempt.worker
    effects = desk.say(ev.Heard(worker, message))
    assert kinds(effects, ev.KillWorker) == [ev.KillWorker(worker, 9, 0.0)]
    assert not kinds(effects, ev.AckResult)
    assert other.dump() == before
    assert (own.state, own.attempt.outcome, own.attempt.result) == (ENDED, FAILED, None)
    assert own.attempt.error is not None
    assert f"its worker said {type(message).__name__}" in own.attempt.error["message"]
    desk.say(ev.WorkerExited(worker, 9))
    desk.result(other, value="its own")
    assert (other.attempt.outcome, other.attempt.result) == ("ok", "its own")


def test_p2_a_result_that_is_said_again_is_no_nonsense() -> None:
    desk = Desk(PoolConfig("ondemand", max_workers=2, max_jobs=1))
    run = failed(desk, 1)
    first = run.earlier[0]["worker"]
    assert first != run.attempt.worker
    for said in (m.Result("k", ok=False, retcode=3), m.Progress("k", 1), m.Result("of a run that nobody remembers")):
        assert not kinds(desk.say(ev.Heard(first, said)), ev.KillWorker)
    assert run.state == RUNNING


@pytest.mark.parametrize("free", [True, False])
def test_a_run_whose_ordering_met_a_fault_has_failed_for_good_whatever_retries_say(free: bool) -> None:
    """Its caller has been told that nothing came of the order, and may have given it again under another key."""
    desk = Desk(PoolConfig("static", max_workers=1, max_jobs=0))
    desk.fork()
    if not free:
        desk.submit("other")
    run = desk.submit("k", retries=3)
    assert run.state == (RUNNING if free else WAITING)
    desk.say(ev.RunBroken("k", "a fault"))
    assert (run.state, run.attempt.outcome, run.attempt.number) == (ENDED, FAILED, 1)
    assert run.attempt.error == {"type": "InternalError", "message": "a fault", "traceback": ""}
