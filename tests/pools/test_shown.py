"""What `rocksyd pools` and `rocksyd ps` print of pools and workers, on a narrow screen and on a wide one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rocksyd.cli.pool_tables import shown_pools, shown_requests, shown_workers
from rocksyd.cli.tables import Screen
from rocksyd.testing import Daemon, until
from tests.pools.stage import JOBS, begun, open_gate, pool

WORKERS = [
    {"worker": 12, "pid": 4711, "generation": 7, "stage": "running", "seconds": 3.2, "age": 61.0, "key": "nightly-2026",
     "cpu": 1.25, "target": "nightly", "jobs": 3, "rss": 120 * 1024**2},
    {"worker": 13, "pid": 4712, "generation": 7, "stage": "idle", "seconds": 0.5, "age": 1.0, "key": None, "target": None,
     "jobs": 0, "cpu": 0.0, "rss": 100 * 1024**2},
]  # fmt: skip
POOLS: list[dict[str, Any]] = [
    {"pool": "shop", "app": "shop", "pm": "dynamic", "generation": 7, "ready": True, "workers": 2, "idle": 1, "busy": 1,
     "starting": 0, "leaving": 0, "max_workers": 16, "peak_busy": 9, "waiting": 0, "max_queue": 10000, "served": 123456,
     "max_workers_reached": 0, "peak_waiting": 3, "recycled": 17, "replacing": 0, "parked": False, "failures": 0, "trouble": None,
     "processes": WORKERS},
    {"pool": "shop/slow", "app": "shop", "pm": "ondemand", "generation": 7, "ready": True, "workers": 0, "idle": 0, "busy": 0,
     "starting": 0, "leaving": 0, "max_workers": 2, "peak_busy": 2, "waiting": 31, "max_queue": 100, "served": 12,
     "max_workers_reached": 4, "peak_waiting": 31, "recycled": 0, "replacing": 0, "parked": True, "failures": 10,
     "trouble": "worker 99 exited with status 70 before its first job", "processes": []},
]  # fmt: skip


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_of_pools_fits_and_says_what_somebody_should_look_at(width: int) -> None:
    text = shown_pools(POOLS, Screen(width))
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    titles = lines[0].split()
    assert titles[0] == "POOL"
    assert {"WORKERS", "IDLE", "BUSY", "MAX_WORKERS", "WAITING", "NOTE"} <= set(titles)
    assert "RECYCLED" not in titles
    wide = shown_pools(POOLS, Screen(), wide=True).splitlines()[0].split()
    assert set(titles) < set(wide)
    assert "RECYCLED" in wide
    upright = shown_pools(POOLS, Screen(width), wide=True).splitlines()
    assert max(map(len, upright)) <= width
    assert {"RECYCLED", "MAX_QUEUE", "NOTE"} <= {word for line in upright for word in line.split()}
    assert "parked: worker 99" in lines[2]


WEB: dict[str, Any] = {
    **POOLS[0], "pool": "shop/web", "kind": "web", "requests_per_second": 44.1, "in_flight": 3, "connections": 120, "waiting": 7,
    "max_queue": 256, "refused": 12, "latency": {"p50": 0.0021, "p90": 0.033, "p99": 1.5}, "timeouts": 2, "websockets": 4,
    "status": {"1xx": 0, "2xx": 123456, "3xx": 0, "4xx": 5, "5xx": 1}, "bytes_sent": 1 << 30,
}  # fmt: skip


@pytest.mark.parametrize("width", [80, 200])
def test_what_web_pools_are_asked_and_answer_has_a_table_of_its_own(width: int) -> None:
    assert shown_requests(POOLS, Screen(width)) == ""
    empty, titles, line = shown_requests([*POOLS, WEB], Screen(width)).splitlines()
    assert empty == ""
    assert max(len(titles), len(line)) <= width
    needed = {"POOL", "REQ/S", "IN FLIGHT", "QUEUE", "REFUSED", "P50", "P99", "2XX", "5XX"}
    assert needed <= set(re.split(r"  +", titles))
    assert ("CONNECTIONS" in titles) == (width == 200)
    found = dict(zip(re.split(r"  +", titles), re.split(r"  +", line), strict=True))
    assert found["POOL"] == "shop/web"
    assert [found[name] for name in ("REQ/S", "IN FLIGHT", "QUEUE", "P50", "P99", "2XX", "5XX")] == [
        "44.1", "3", "7", "2ms", "1.5s", "123,456", "1",
    ]  # fmt: skip


def test_a_worker_that_is_being_forked_is_shown_on_a_terminal_with_colours() -> None:
    starting = {**POOLS[0], "processes": [{**WORKERS[0], "stage": stage} for stage in ("starting", "accepting", "leaving")]}
    assert "starting" in shown_workers([starting], Screen(120, coloured=True))


@pytest.mark.parametrize("width", [70, 200])
def test_the_table_of_workers_fits_and_has_pid_stage_and_run_of_each(width: int) -> None:
    lines = shown_workers(POOLS, Screen(width)).splitlines()
    assert max(map(len, lines)) <= width
    assert {"POOL", "PID", "STAGE", "TIME", "TARGET"} <= set(lines[0].split())
    assert ("AGE" in lines[0].split()) == (width == 200)
    assert re.match(r"shop +(12 +)?4711 +running", lines[1])
    assert re.match(r"shop +(13 +)?4712 +idle", lines[2])


def test_of_a_worker_that_runs_share_it_says_how_many_do() -> None:
    (process, *_), *_ = (pool["processes"] for pool in POOLS)
    (_, line) = shown_workers([{"pool": "io", "processes": [{**process, "running": 37}]}], Screen(200)).splitlines()
    assert "running (37 runs)" in line


def rocksyd(daemon: Daemon, *words: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "rocksyd.cli", "--address", daemon.address, *words], capture_output=True, text=True, check=True
    )
    return ran.stdout


SPIN = (
    JOBS
    + """
@job
def spin():
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    return hold()
"""
)


def test_ps_and_pools_show_cpu_and_memory_of_what_runs(tmp_path: Path) -> None:
    settings = 'pm = "static"\nmax_workers = 2\nmax_jobs = 0\ngrace = "30s"'
    with Daemon(tmp_path, SPIN, parts={"pool": settings}) as daemon, daemon.client() as client:
        client.run("spin", key="k")
        begun(daemon, "k")
        until(lambda: any((row["job_cpu"] or 0) >= 0.09 for row in pool(daemon)["processes"]), "the CPU time to be seen")
        titles, row = rocksyd(daemon, "ps").splitlines()
        assert titles.split()[:4] == ["KEY", "APP", "TARGET", "STATE"]
        assert re.search(r"\bspin +running +[\d:]+ +[\d.]+m?s +\d+ +[\d.]+m?s +[\d.]+M", row)
        text = rocksyd(daemon, "pools", "--workers")
        assert re.search(r"^app +static +2 +1 +1 +2 +0 ", text, re.MULTILINE)
        assert re.search(r"^app .* running .* spin +k$", text, re.MULTILINE)
        assert re.search(r"^app .* idle ", text, re.MULTILINE)
        open_gate(daemon.app)
