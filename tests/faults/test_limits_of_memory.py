"""A run that takes more memory, or prints more, than it may ends alone; the pool stays within what it may have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon, until
from tests.faults.crowd import ended, found, kill_master

JOBS = """
import os, time
from rocksyd import job

def hold(name="gate"):
    while not os.path.exists(name):
        time.sleep(0.01)

@job
def exhausts(step=8 << 20):
    "Takes memory until there is none."
    open("there", "w").close()
    hold("begin")
    taken = []
    while True:
        taken.append(bytearray(os.urandom(4096)) * (step // 4096))
        time.sleep(0.01)

@job
def takes_at_once(size):
    return len(bytearray(size))

@job
def takes(size):
    memory = bytearray(b"x") * size
    open(f"took-{size}", "w").close()
    hold()
    return len(memory)

@job
def pid():
    return os.getpid()

@job
def prints(size):
    piece = b"x" * 65535 + b"\\\\n"
    for _ in range(size // len(piece)):
        os.write(1, piece)
"""
MB = 1 << 20
MEMORY = {"outcome": "memory", "reason": "memory", "retcode": 137, "signal": 9}


def daemon_of(folder: Path, limits: str, top: str = "") -> Daemon:
    pool = f'pm = "ondemand"\nmax_workers = 3\nmax_jobs = 0\n{limits}'
    return Daemon(folder, JOBS, parts={"pool": pool, "top": top})


def nothing(daemon: Daemon) -> None:
    pass


def restart(daemon: Daemon) -> None:
    assert daemon.restart() == {"error_text": "Restarted successfully"}


@pytest.mark.parametrize("happens", [nothing, restart, kill_master])
def test_a_job_that_exhausts_memory_is_killed_whoever_serves_and_others_do_not_notice(
    tmp_path: Path, happens: Callable[[Daemon], None]
) -> None:
    with daemon_of(tmp_path, 'max_rss_hard = "200M"') as daemon, daemon.client() as client:
        client.run("exhausts", key="1")
        client.run("takes", 50 * MB, key="2")
        until((daemon.app / f"took-{50 * MB}").exists, "the other run to have its memory")
        until((daemon.app / "there").exists, "the run to begin")
        happens(daemon)
        (daemon.app / "begin").touch()
        record = ended(daemon, "1")
        assert found(record, MEMORY) == MEMORY
        assert record["max_rss"] > 200 * MB
        assert daemon.talk().ask('check {"hash":1}') == {"retcode": 137, "signal": 9, "reason": "memory"}
        (daemon.app / "gate").touch()
        assert ended(daemon, "2")["result"] == 50 * MB


def test_a_job_that_takes_too_much_at_once_gets_memory_error_and_ends_as_memory(tmp_path: Path) -> None:
    with daemon_of(tmp_path, 'max_rss_hard = "200M"') as daemon, daemon.client() as client:
        client.run("takes_at_once", 1 << 40, key="1")
        expected = {"outcome": "memory", "reason": "memory", "retcode": 1, "signal": None}
        record = ended(daemon, "1")
        assert found(record, expected) == expected
        assert record["error"]["type"] == "MemoryError"


def test_a_worker_that_has_grown_too_large_is_replaced_after_its_job(tmp_path: Path) -> None:
    with daemon_of(tmp_path, 'max_rss = "100M"') as daemon, daemon.client() as client:
        (daemon.app / "gate").touch()
        first: Any = client.call("pid")
        assert client.call("pid") == first
        assert client.call("takes", 150 * MB) == 150 * MB
        assert client.call("pid") != first


def test_a_pool_that_has_all_the_memory_it_may_have_forks_no_more_and_says_so(tmp_path: Path) -> None:
    with daemon_of(tmp_path, 'max_total_rss = "80M"') as daemon, daemon.client() as client:
        client.run("takes", 120 * MB, key="1")
        until(lambda: client.pools()[0]["memory"] > 80 * MB, "the memory of the first run to be known")
        client.run("takes", MB, key="2")
        reasons = client.request("why", {"key": "2"})["reasons"]
        assert [reason["code"] for reason in reasons] == ["pool_memory", "next"]
        assert len(client.pools()[0]["processes"]) == 1
        (daemon.app / "gate").touch()
        assert ended(daemon, "1")["result"] == 120 * MB
        assert ended(daemon, "2")["result"] == MB


def test_a_job_that_prints_a_gigabyte_costs_its_limit_of_disk_and_nobody_else_anything(tmp_path: Path) -> None:
    with daemon_of(tmp_path, "", '[output]\nlimit = "4M"\n') as daemon, daemon.client() as client:
        run = client.run("prints", 1 << 30, key="1")
        while client.status("1")["state"] != "ended":
            assert client.call("pid") > 0
        assert ended(daemon, "1")["outcome"] == "ok"
        path = Path(client.status("1")["log"])
        assert path.stat().st_blocks * 512 < 5 * MB, "what is between the beginning and the end is a hole"
        assert "bytes were not kept (limit 4M)" in "".join(run.logs())
        assert run.key == "1"
