"""Runs of a target that share a concurrency key: so many at the same time, whatever else runs."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until
from tests.process.test_cli import rocksyd

JOBS = """
import pathlib, time
from rocksyd import job

def wait_for(path):
    while not pathlib.Path(path).exists():
        time.sleep(0.005)

@job
def sync(account, path):
    wait_for(path)

@job(max_running_per_key=2)
def pair(account, path):
    wait_for(path)
"""
POOL = 'pm = "ondemand"\nmax_workers = 8\ngrace = "30s"'


def running(daemon: Daemon) -> list[str]:
    return sorted(run["key"] for run in daemon.talk().rpc("list", state="running"))


def test_runs_with_the_same_key_go_one_after_another_and_others_beside_them(tmp_path: Path) -> None:
    held = str(tmp_path / "go")
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk, client = daemon.talk(), daemon.client()
        for number in range(3):
            client.run("sync", "a", held, key=f"a{number}", concurrency_key="a")
        client.run("sync", "b", held, key="b", concurrency_key="b")
        client.run("sync", "none", held, key="free")
        for number in range(3):
            client.run("pair", "a", held, key=f"p{number}", concurrency_key="a")
        until(lambda: running(daemon) == ["a0", "b", "free", "p0", "p1"], "all that may run")
        (reason,) = talk.rpc("why", key="a1")["reasons"]
        assert "concurrency key 'a'" in reason["text"]
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        assert running(daemon) == ["a0", "b", "free", "p0", "p1"]
        (tmp_path / "go").touch()
        for key in ("a0", "a1", "a2", "b", "free", "p0", "p1", "p2"):
            assert talk.rpc("wait", key=key)["outcome"] == "ok"
        order = [talk.rpc("status", key=f"a{number}") for number in range(3)]
        assert all(first["ended_at"] <= second["started_at"] for first, second in pairwise(order))
        client.close()


def test_the_key_is_the_same_whichever_way_it_is_said(tmp_path: Path) -> None:
    held = str(tmp_path / "go")
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon, daemon.client() as client:
        talk = daemon.talk()
        client.run("sync", "a", held, key="1", concurrency_key="a")
        until(lambda: running(daemon) == ["1"], "the first runs")
        classic = {"hash": 2, "class": "sync", "params": ["a", held], "concurrency_key": "a"}
        assert talk.ask(f"run {json.dumps(classic)}") == {"error_text": "OK"}
        talk.rpc("run", target="sync", params=["a", held], key="3", concurrency_key="a")
        said = ["run", "sync", "--key", "4", "--params", json.dumps(["a", held]), "--concurrency-key", "a"]
        assert rocksyd(daemon.address, *said).stdout == "4\n"
        for key in ("2", "3", "4"):
            reason, *_ = talk.rpc("why", key=key)["reasons"]
            assert "concurrency key 'a'" in reason["text"]
        (tmp_path / "go").touch()
        for key in ("1", "2", "3", "4"):
            assert talk.rpc("wait", key=key)["outcome"] == "ok"
