"""Several pools of one application, with real processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon, until

JOBS = """
import os, time
from rocksyd import current, job

def hold():
    open(current().key, "w").close()
    while not os.path.exists("gate"):
        time.sleep(0.01)
    return os.getpid()

@job
def usual():
    return hold()

@job(pool="slow")
def slow():
    return hold()

@job
def moved():
    return hold()
"""
SLOW = """pm = "ondemand"
max_workers = 1
grace = "30s"

[apps.app.pools.slow]
max_workers = 1

[apps.app.pools.other]
max_workers = 2

[apps.app.jobs_settings.moved]
pool = "other"
"""


def pools(daemon: Daemon) -> dict[str, Any]:
    return {pool["pool"]: pool for pool in daemon.talk().rpc("pools")}


def begun(daemon: Daemon, *keys: str) -> None:
    until(lambda: all((daemon.app / key).exists() for key in keys), f"{keys} to have begun")


def test_each_target_runs_in_its_own_pool_and_none_holds_up_another(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": SLOW}) as daemon, daemon.client() as client:
        for name in ("slow", "usual", "moved"):
            client.run(name, key=name)
        client.run("slow", key="waits")
        begun(daemon, "slow", "usual", "moved")
        rows = pools(daemon)
        assert {name: (row["app"], row["busy"], row["waiting"]) for name, row in rows.items()} == {
            "app": ("app", 1, 0),
            "app/slow": ("app", 1, 1),
            "app/other": ("app", 1, 0),
        }
        assert [process["key"] for process in rows["app/other"]["processes"]] == ["moved"]
        assert [len(daemon.children(f"rocksyd: worker {pool} ")) for pool in ("app", "app/slow", "app/other")] == [1, 1, 1]
        (daemon.app / "gate").touch()
        assert client.get("waits").result()


@pytest.mark.parametrize("crash", [False, True], ids=["restart", "sigkill_of_the_master"])
def test_workers_belong_to_their_pools_after_a(tmp_path: Path, crash: bool) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": SLOW}) as daemon, daemon.client() as client:
        for key, name in (("a", "slow"), ("b", "usual"), ("c", "moved"), ("d", "moved")):
            client.run(name, key=key)
        client.run("slow", key="waits")
        begun(daemon, "a", "b", "c", "d")
        before = daemon.master_pid
        if crash:
            os.kill(before, signal.SIGKILL)
            until(lambda: daemon.master_pid != before, "another master")
        else:
            daemon.restart()

        def held() -> dict[str, list[str]]:
            return {name: sorted(p["key"] for p in row["processes"] if p["key"]) for name, row in pools(daemon).items()}

        until(lambda: held() == {"app": ["b"], "app/slow": ["a"], "app/other": ["c", "d"]}, "every worker to be in its pool")
        assert pools(daemon)["app/slow"]["waiting"] == 1
        (daemon.app / "gate").touch()
        assert len({client.get(key).result() for key in ("a", "b", "c", "d", "waits")}) == 5
