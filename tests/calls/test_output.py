"""What calls print: into a file of the worker's own while they run, into one of their own at the end, and no file for nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until

JOBS = """
import os, pathlib, subprocess, sys, time
from rocksyd import job

@job
def silent():
    return os.getpid()

@job
def prints(word):
    print(word)
    os.write(1, b"raw\\n")
    subprocess.run(["echo", "child"], check=True)

@job
def gate(path):
    print("before", flush=True)
    while not pathlib.Path(path).exists():
        time.sleep(0.005)
    print("after")

@job
def spoils():
    os.closerange(0, 3)
    sys.stdout = None

@job
def much():
    sys.stdout.write("x" * 100_000)
"""
REUSED = 'pm = "static"\nmax_workers = 1\nmax_jobs = 0\ngrace = "30s"'


def files(daemon: Daemon) -> list[str]:
    return sorted(path.name for path in (daemon.folder / "var" / "output").glob("*/*") if not path.name.startswith("."))


def order(target: str, *params: str) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "call", "params": {"target": target, "params": params}})


def test_a_silent_call_leaves_no_file_and_what_another_prints_is_its_own(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": REUSED}) as daemon:
        talk = daemon.talk()
        before = talk.rpc("call", target="silent")
        one = talk.rpc("call", target="prints", params=["one"])["key"]
        between = talk.rpc("call", target="silent")
        two = talk.rpc("call", target="prints", params=["two"])["key"]
        assert before["result"] == between["result"]
        assert talk.rpc("logs", key=one)["text"] == "one\nraw\nchild\n"
        assert talk.rpc("logs", key=two)["text"] == "two\nraw\nchild\n"
        assert talk.rpc("logs", key=between["key"]) == {"text": "", "offset": 0, "ended": True, "truncated": False}
        assert files(daemon) == sorted([f"{one}.log", f"{two}.log"])
        talk.rpc("call", target="silent", key="named")
        assert "named.log" in files(daemon)


def test_a_call_whose_job_spoils_its_descriptors_spoils_them_for_nobody_else(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": REUSED}) as daemon:
        talk = daemon.talk()
        pid = talk.rpc("call", target="silent")["result"]
        talk.rpc("call", target="spoils")
        key = talk.rpc("call", target="prints", params=["on"])["key"]
        assert talk.rpc("logs", key=key)["text"] == "on\nraw\nchild\n"
        assert talk.rpc("call", target="silent")["result"] == pid


def test_the_output_of_a_call_is_read_while_it_runs_and_kept_when_its_worker_is_killed(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": REUSED}) as daemon:
        caller, talk = daemon.talk(), daemon.talk()
        caller.send(order("gate", str(tmp_path / "never")))
        until(lambda: [run["state"] for run in talk.rpc("list")] == ["running"], "the run")
        (run,) = talk.rpc("list")
        until(lambda: talk.rpc("logs", key=run["key"])["text"] == "before\n", "what it prints")
        os.kill(run["pid"], signal.SIGKILL)
        assert json.loads(caller.line())["error"]["data"]["outcome"] == "killed"
        assert talk.rpc("logs", key=run["key"])["text"] == "before\n"
        assert talk.rpc("call", target="silent")["result"] != run["pid"]
        assert files(daemon) == [f"{run['key']}.log"]


def test_p1_the_output_of_a_call_goes_on_through_a_restart(tmp_path: Path) -> None:
    held = tmp_path / "go"
    with Daemon(tmp_path, JOBS, parts={"pool": REUSED}) as daemon:
        caller, talk = daemon.talk(), daemon.talk()
        caller.send(order("gate", str(held)))
        until(lambda: [run["state"] for run in talk.rpc("list")] == ["running"], "the run")
        (run,) = talk.rpc("list")
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        held.touch()
        assert json.loads(caller.line())["result"]["key"] == run["key"]
        assert talk.rpc("logs", key=run["key"])["text"] == "before\nafter\n"


def test_the_output_of_a_call_is_cut_at_its_limit(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": REUSED, "top": 'output.limit = "1K"'}) as daemon:
        talk = daemon.talk()
        key = talk.rpc("call", target="much")["key"]
        logs = talk.rpc("logs", key=key)
        assert logs["truncated"] is True
        assert logs["text"].startswith("x" * 1024 + "\n[rocksyd: output cut here")
        assert talk.rpc("logs", key=talk.rpc("call", target="silent")["key"])["text"] == ""
