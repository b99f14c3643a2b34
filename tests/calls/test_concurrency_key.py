"""Runs of a target that share a concurrency key: so many at the same time, whatever else runs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until

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
POOL = 'pm = "ondemand"\nmax_workers = 8\ngrace = "2s"'


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
