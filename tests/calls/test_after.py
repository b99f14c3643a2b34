"""Runs that come after others, with real processes: over a restart and crashes, from every way of ordering."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from rocksyd import Executor, chain, group, step
from rocksyd.errors import NotFound
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until
from tests.process.test_cli import rocksyd

JOBS = """
import pathlib, time
from rocksyd import current, job

@job
def held(path, fails=False):
    while not pathlib.Path(path).exists():
        time.sleep(0.005)
    if fails:
        raise ValueError("no")
    return path[-1]

@job
def add(*numbers):
    return sum(numbers)

@job
def told():
    run = current()
    return [list(run.after), list(run.results()), [one["outcome"] for one in run.predecessors()]]

@job
async def shared(*numbers):
    return sum(numbers)
"""
SHARED = 'pm = "ondemand"\nmax_workers = 2\nmax_jobs = 0\n[apps.app.pools.together]\nconcurrency = 4\nmax_jobs = 0\n'
PLACED = "[apps.app.jobs_settings.shared]\npool = 'together'\n"


def test_who_waits_for_whom_outlives_a_restart_and_every_process(tmp_path: Path) -> None:
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client:
        first, bad = client.run("held", a), client.run("held", b, True)
        both = client.run("told", after=[first, bad], after_outcome="any", key="both")
        never = client.run("told", after=[first, bad], key="never")
        last = client.run("told", after="never", key="last")
        assert client.why("both")["reasons"][0]["text"] == f"it begins after {first.key}, {bad.key} have ended (after)"
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        assert both.status()["waits_for"]["code"] == "after"
        os.kill(daemon.master_pid, signal.SIGKILL)
        assert both.status()["waits_for"]["code"] == "after"
        (tmp_path / "a").touch()
        assert first.wait()["outcome"] == "ok"
        assert both.status()["state"] == "waiting"
        os.kill(daemon.master_pid, signal.SIGKILL)
        (tmp_path / "b").touch()
        assert both.result() == [[first.key, bad.key], ["a", None], ["ok", "failed"]]
        assert [run.wait()["outcome"] for run in (never, last)] == ["cancelled", "cancelled"]
        assert "rocksyd retry" in client.why("never")["reasons"][0]["advice"]


def test_what_waits_is_kept_when_the_service_is_killed(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    with Daemon(tmp_path, JOBS) as daemon:
        with daemon.client() as client:
            first = client.run("held", path, key="first")
            until(lambda: first.status()["state"] == "running", "the first to run")
            client.run("add", 1, after="first", key="second")
            client.run("add", 1, 2, after="second", after_outcome="any", key="third")
        daemon_pid = daemon.pid
        os.kill(daemon_pid, signal.SIGKILL)
        daemon.wait(-9)
        daemon.start()
        with daemon.client() as client:
            record = client.get("second").wait()
            assert (client.status("first")["outcome"], record["outcome"]) == ("lost", "cancelled")
            assert record["error"]["message"] == "run 'first', after which it was to begin, ended as lost"
            assert client.get("third").result() == 3


def test_a_plan_is_ordered_as_a_whole_and_results_are_passed_on(tmp_path: Path) -> None:
    path = str(tmp_path / "5")
    with Daemon(tmp_path, JOBS, parts={"pool": SHARED, "app": PLACED}) as daemon, daemon.client() as client:
        runs = client.submit(
            chain(group(step("add", 1, 2), chain(step("held", path), step("add", 4))), step("add", 9, results=True), "told"),
            key="plan",
        )
        assert [run.key for run in runs] == [f"plan.{n}" for n in range(5)]
        (tmp_path / "5").touch()
        assert runs[-1].result() == [["plan.3"], [16], ["ok"]]
        assert client.call("shared", 1, after=[runs[0], runs[2]], after_results=True) == 8, "in a process with others"
        with pytest.raises(NotFound):
            client.submit(chain(step("held", str(tmp_path / "never")), "nothing"), key="refused")
        assert client.get("refused.0").wait()["outcome"] == "cancelled"
        client.free("plan.0")
        with pytest.raises(NotFound, match=r"'plan\.0', which after names"):
            client.run("add", 1, after="plan.0")
        with Executor(address=daemon.address, after=["plan.2"]) as executor:
            assert executor.submit("add", 1, 2).result() == 3


def test_the_command_line_and_a_call_without_a_key(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        talk.send(json.dumps({"jsonrpc": "2.0", "id": 7, "method": "call", "params": {"target": "held", "params": [path]}}))
        until(lambda: daemon.talk().rpc("list", state="running"), "the call to run")
        (called,) = daemon.talk().rpc("list", state="running")
        ordered = rocksyd(daemon.address, "run", "told", "--after", called["key"], "--key", "second")
        assert (ordered.returncode, ordered.stdout) == (0, "second\n")
        os.kill(daemon.master_pid, signal.SIGKILL)
        assert daemon.talk().rpc("status", key="second")["waits_for"]["code"] == "after", "the call is in the journal by now"
        (tmp_path / "x").touch()
        assert daemon.talk().rpc("wait", key="second")["result"] == [[called["key"]], ["x"], ["ok"]]
        wrong = rocksyd(daemon.address, "run", "told", "--after", "nobody", "--after", "second")
        assert (wrong.returncode, "order that run first" in wrong.stderr) == (1, True)
