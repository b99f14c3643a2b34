"""Eager mode: runs in the process of the test, with the daemon's own decisions."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from rocksyd import Client, Executor
from rocksyd.errors import ConfigError, InUse, JobError, JobFailed, NoDaemon, NotFound, NotNow, RequestError, TimedOut
from rocksyd.testing import Eager, EagerError, FakeClock
from tests.unit import eager_jobs

JOBS = ["tests.unit.eager_jobs"]


@pytest.fixture
def eager() -> Iterator[Eager]:
    eager_jobs.calls.clear()
    with Eager(JOBS) as client:
        yield client


def test_a_run_has_happened_when_it_is_ordered(eager: Eager, capfd: pytest.CaptureFixture[str]) -> None:
    run = eager.run("shift", date(2026, 1, 31), key="k", labels={"a": "b"})
    record = run.status()
    assert (record["state"], record["outcome"], record["retcode"]) == ("ended", "ok", 0)
    assert record["result"] == "2026-01-31+1 k 1"
    assert record["progress"] == {"done": 1, "total": 2, "note": "half"}
    assert "".join(run.logs()) == "".join(run.logs(follow=True)) == "shifting by 1\nand by descriptor\n"
    assert capfd.readouterr().out == "shifting by 1\nand by descriptor\n"


def test_parameters_are_converted_and_checked_as_the_daemon_does(eager: Eager) -> None:
    assert eager.call(eager_jobs.shift, day="2026-02-01", by=3).startswith("2026-02-01+3 ")
    assert eager.call("later", "word") == "WORD"
    assert eager.call("Plain", params=[1, {"a": None}]) == {"params": [1, {"a": None}]}
    assert list(eager.map("inner", ["a", "b"])) == ["a!", "b!"]
    with pytest.raises(RequestError, match="'by' must be a whole number"):
        eager.run("shift", day="2026-02-01", by="many")
    with pytest.raises(NotFound, match="no job is called 'nothing'"):
        eager.run("nothing")
    with pytest.raises(TypeError, match="JSON"):
        eager.run("inner", object())


def test_keys_are_kept_as_the_daemon_keeps_them(eager: Eager) -> None:
    eager.run("inner", "a", key="k")
    assert eager.run("inner", "a", key="k").record["result"] == "a!"
    with pytest.raises(InUse):
        eager.run("inner", "b", key="k")
    with pytest.raises(NotNow):
        eager.terminate("k")
    eager.free("k")
    with pytest.raises(NotFound):
        eager.status("k")
    assert [record["key"] for record in eager.runs()] == []


def test_a_failure_has_its_exception_as_the_cause(eager: Eager) -> None:
    with pytest.raises(JobFailed, match="retcode 5"):
        eager.call("leave", 5)
    assert eager.run("leave", 5).record["retcode"] == 5
    with pytest.raises(JobFailed, match="ValueError: attempt 1") as caught:
        eager.run("flaky", retries=0, key="f").result()
    assert caught.value.traceback.splitlines()[1].endswith("in flaky")
    assert isinstance(eager.raised["f"], ValueError)
    assert "ValueError: attempt 1" in "".join(eager.logs("f"))
    assert eager.retry("f").record["outcome"] == "failed"


def test_retries_are_made_without_waiting_for_their_time(eager: Eager) -> None:
    run = eager.run("flaky")
    assert (run.record["state"], run.record["attempt"]) == ("waiting", 2)
    assert eager.request("why", {"key": run.key})["state"] == "waiting"
    assert run.result() == 3
    assert [attempt for _, attempt in eager_jobs.calls] == [1, 2, 3]
    assert run.record["submitted_at"] + 3 <= run.record["ended_at"]


def test_a_delayed_run_happens_when_it_is_waited_for(eager: Eager) -> None:
    run = eager.run("inner", "a", delay="1h")
    assert run.record["state"] == "waiting"
    with pytest.raises(TimedOut):
        run.wait(timeout=60)
    assert run.wait()["result"] == "a!"
    assert run.record["ended_at"] - run.record["submitted_at"] >= 3600


def test_code_that_makes_its_own_client_asks_the_eager_one(eager: Eager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEFT_BY_A_JOB", raising=False)
    before, folder = Client("unix:///nowhere"), os.getcwd()
    with eager.everywhere():
        assert Client().call("outer", "a") == before.call("outer", "b").replace("b", "a") == "a!"
        assert asyncio.run(eager_jobs.from_asyncio("word")) == "WORD"
        assert "LEFT_BY_A_JOB" not in os.environ
        assert os.getcwd() == folder
    with pytest.raises(NoDaemon, match="nowhere"):
        before.call("outer", "b")


def test_an_executor_and_threads_take_turns(eager: Eager) -> None:
    with eager.everywhere(), Executor() as executor:
        words = [f"word{n}" for n in range(20)]
        assert list(executor.map(eager_jobs.inner, words)) == [f"{word}!" for word in words]
        assert eager.call("gathers", ["a", "b", "c"]) == ["A", "B", "C"]


def test_what_can_never_end_is_an_error_and_not_a_standstill(eager: Eager) -> None:
    with eager.everywhere(), pytest.raises(JobFailed, match=r"EagerError.*one inside the other"):
        eager.call("for_ever")
    with pytest.raises(EagerError, match="real one"):
        eager.restart()
    with eager.subscribe() as news, pytest.raises(EagerError, match="nothing happens"):
        next(news)


def test_news_are_heard(eager: Eager) -> None:
    with eager.subscribe(events=["run.started", "run.ended"]) as news:
        key = eager.run("inner", "a").key
        assert [(event.name, event.key) for event in (next(news), next(news))] == [("run.started", key), ("run.ended", key)]
    told: list[object] = []
    eager.run("shift", "2026-01-01", key="p", delay=5).wait(progress=told.append)
    assert told == [{"done": 1, "total": 2, "note": "half"}]


def test_variables_of_a_run_are_its_own(eager: Eager) -> None:
    assert eager.run("variable", "ONLY_HERE", env={"ONLY_HERE": "yes"}).result() == "yes"
    assert "ONLY_HERE" not in os.environ


def test_skipping_a_test_from_within_a_job_skips_the_test(eager: Eager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager_jobs, "Client", lambda: pytest.skip("not here"))
    with pytest.raises(pytest.skip.Exception):
        eager.run("outer", "a", key="k")
    assert eager.status("k")["state"] == "ended"


def test_applications_come_from_a_rocksyd_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no rocksyd\.toml"):
        Eager()
    with pytest.raises(JobError, match="no module 'not_here'"):
        Eager(["not_here"])
    (app := tmp_path / "eager_app").mkdir()
    (app / "only_in_this_app.py").write_text("from rocksyd import job\n@job\ndef five():\n    return 5\n")
    (tmp_path / "rocksyd.toml").write_text('[apps.one]\npath = "eager_app"\njobs = ["only_in_this_app"]\n')
    with Eager() as client:
        assert client.call("five") == 5
        assert [row["name"] for row in client.targets()] == ["five"]


# --- the clock ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def clock() -> Iterator[FakeClock]:
    real = time.time, time.monotonic, time.sleep
    with FakeClock() as clock:
        yield clock
    assert (time.time, time.monotonic, time.sleep) == real


@pytest.fixture
def timed(clock: FakeClock) -> Iterator[Eager]:
    eager_jobs.calls.clear()
    with Eager(JOBS, clock=clock) as client:
        yield client


def test_time_stands_still_until_it_is_told_to_pass(clock: FakeClock) -> None:
    begin = time.time(), time.monotonic(), time.time_ns()
    assert begin[0] == 1_767_225_600.0
    assert (time.time(), time.monotonic(), time.time_ns()) == begin
    time.sleep(2)
    clock.advance("1m")
    assert time.time() - begin[0] == time.monotonic() - begin[1] == 62
    with pytest.raises(ValueError, match="expected"):
        clock.advance("soon")


def test_asyncio_keeps_the_real_time(clock: FakeClock) -> None:
    async def nap() -> float:
        await asyncio.sleep(0.01)
        return time.monotonic()

    assert asyncio.run(nap()) == time.monotonic()


def test_what_is_due_happens_while_time_passes(timed: Eager, clock: FakeClock) -> None:
    run = timed.run("inner", "a", delay="1h")
    clock.advance("59m")
    assert run.status()["state"] == "waiting"
    clock.advance("1m")
    assert run.status()["state"] == "ended"
    assert run.record["ended_at"] == 1_767_225_600.0 + 3600
    flaky = timed.run("flaky")
    clock.advance(10)
    assert flaky.status()["result"] == 3
    begin = eager_jobs.calls[0][0]
    assert [moment - begin for moment, _ in eager_jobs.calls] == [0, 1, 3]


def test_a_job_that_sleeps_beyond_its_timeout_is_ended_there(timed: Eager) -> None:
    record = timed.run("sleeper", 60).record
    assert eager_jobs.calls == [10]
    assert (record["outcome"], record["reason"], record["signal"]) == ("timeout", "timeout", signal.SIGTERM)
    assert record["ended_at"] - record["started_at"] == 10
    assert record["error"]["type"] == "JobTimeout"
    assert timed.run("sleeper", 9).record["result"] == "slept"


def test_a_job_can_tidy_up_within_its_grace_when_its_time_is_up(timed: Eager) -> None:
    record = timed.run("tidy", 4).record
    assert eager_jobs.calls == ["tidying"]
    assert (record["outcome"], record["result"], record["ended_at"] - record["started_at"]) == ("timeout", "tidied", 14)
    record = timed.run("tidy", 60).record
    assert (record["outcome"], record["signal"], record["ended_at"] - record["started_at"]) == ("timeout", signal.SIGKILL, 15)


def test_a_timeout_that_nobody_could_tell_of_is_one_all_the_same(eager: Eager) -> None:
    record = eager.run("busy").record
    assert (record["outcome"], record["signal"], record["error"]["type"]) == ("timeout", signal.SIGTERM, "JobTimeout")


def test_a_job_that_looks_whether_it_is_to_stop_can_end_in_order(timed: Eager) -> None:
    before = signal.getsignal(signal.SIGTERM)
    record = timed.run("sleeper", params={"seconds": 60, "polite": True}).record
    assert (record["outcome"], record["result"]) == ("timeout", "stopped after 10 s")
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_that_is_not_begun_in_time_is_given_up(timed: Eager, clock: FakeClock) -> None:
    run = timed.run("inner", "a", delay=10, start_within=5, key="late")
    assert timed.run("inner", "b").record["outcome"] == "ok"
    clock.advance(20)
    assert run.status()["outcome"] == "ok"
    assert json.dumps(run.record)
