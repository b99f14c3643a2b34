"""``current().finish(value)``: whoever called has its answer, and the job goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until

JOBS = """
import os, pathlib, time
from rocksyd import current, job

def wait_for(path):
    while not pathlib.Path(path).exists():
        time.sleep(0.005)

@job(retries=2)
def answers(path, fails=False):
    current().finish({"answer": 42})
    wait_for(path)
    if fails:
        raise ValueError("afterwards")
    return "not this"

@job
def twice():
    current().finish(1)
    current().finish(2)

@job
def in_a_child():
    pid = os.fork()
    if pid == 0:
        try:
            current().finish(1)
        except Exception as error:
            os._exit(7)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
POOL = 'pm = "static"\nmax_workers = 1\nmax_jobs = 0\ngrace = "30s"'
BARE = 'pm = "ondemand"\ngrace = "30s"'


def order(*params: object, key: str = "") -> str:
    named = {"key": key} if key else {}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "call", "params": {"target": "answers", "params": params, **named}})


@pytest.mark.parametrize("pool", [POOL, BARE], ids=["reused", "fork-per-job"])
def test_a_caller_has_its_answer_while_the_job_goes_on(tmp_path: Path, pool: str) -> None:
    held = tmp_path / "go"
    with Daemon(tmp_path, JOBS, parts={"pool": pool}) as daemon:
        talk, other = daemon.talk(), daemon.talk()
        reply = talk.ask(order(str(held), key="k"))
        assert reply["result"] == {"result": {"answer": 42}, "key": "k"}
        record = talk.rpc("status", key="k")
        assert (record["state"], record["result"], record["ended_at"]) == ("running", {"answer": 42}, None)
        assert record["answered_at"] >= record["started_at"]
        assert talk.ask('check {"hash":"1"}') == {"error_text": "Hash not found"}
        other.send(json.dumps({"jsonrpc": "2.0", "id": 2, "method": "wait", "params": {"key": "k"}}))
        assert talk.ask(order(str(held), key="k"))["result"] == {"result": {"answer": 42}, "key": "k"}  # asked again
        held.touch()
        ended = json.loads(other.line())["result"]
        assert (ended["state"], ended["outcome"], ended["result"]) == ("ended", "ok", {"answer": 42})


def test_an_answer_stands_when_the_job_fails_afterwards_and_is_not_given_twice(tmp_path: Path) -> None:
    held = tmp_path / "go"
    held.touch()
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk = daemon.talk()
        assert talk.ask(order(str(held), True, key="k"))["result"]["result"] == {"answer": 42}
        ended = talk.rpc("wait", key="k")
        assert (ended["outcome"], ended["attempt"], ended["result"]) == ("failed", 1, {"answer": 42})
        assert ended["error"]["message"] == "afterwards"
        assert talk.ask(order(str(held), True, key="k"))["result"]["result"] == {"answer": 42}


def test_p1_a_restart_between_answer_and_end_repeats_neither(tmp_path: Path) -> None:
    held = tmp_path / "go"
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk = daemon.talk()
        assert talk.ask(order(str(held), key="k"))["result"]["result"] == {"answer": 42}
        assert talk.ask("restart") == {"error_text": "Restarted successfully"}
        assert talk.rpc("status", key="k")["result"] == {"answer": 42}
        held.touch()
        assert talk.rpc("wait", key="k")["outcome"] == "ok"


def test_a_run_is_answered_once_and_in_its_own_process(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk = daemon.talk()
        key = talk.rpc("call", target="twice")["key"]
        assert "answered already" in talk.rpc("wait", key=key)["error"]["message"]
        assert talk.rpc("call", target="in_a_child")["result"] == 7
        until(lambda: talk.rpc("pools")[0]["idle"] == 1, "the worker that serves on")
