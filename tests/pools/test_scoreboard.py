"""What `pools` says of each worker: right for several pools, over a restart and the death of the master."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon, until
from tests.pools.stage import JOBS, begun, kill_master, open_gate, pool

SPIN = (
    JOBS
    + """
@job
def spin():
    open(current().key, "w").close()
    ballast = b"x" * 20_000_000
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    open(f"{current().key}-spun", "w").close()
    return hold()

@job(pool="side")
def aside():
    return hold()
"""
)
TWO = """pm = "static"
max_workers = 2
max_jobs = 0
grace = "30s"

[apps.app.pools.side]
pm = "static"
max_workers = 1
max_jobs = 0
"""


def rows(daemon: Daemon, name: str) -> dict[Any, dict[str, Any]]:
    return {row["key"]: row for row in pool(daemon, name)["processes"]}


@pytest.mark.parametrize("how", ["", "restart", "sigkill_of_the_master"])
def test_each_worker_is_shown_with_its_stage_job_time_cpu_and_memory(tmp_path: Path, how: str) -> None:
    with Daemon(tmp_path, SPIN, parts={"pool": TWO}) as daemon, daemon.client() as client:
        assert client.call("good")
        client.run("spin", key="k")
        client.run("aside", key="other")
        begun(daemon, "k", "other", "k-spun")
        pids = {row["key"]: row["pid"] for name in ("app", "app/side") for row in pool(daemon, name)["processes"] if row["key"]}
        if how == "restart":
            daemon.restart()
        elif how:
            kill_master(daemon)
        until(
            lambda: pool(daemon)["ready"] and len(rows(daemon, "app/side")) and "k" in rows(daemon, "app"),
            "the workers to be known",
        )
        row, other = rows(daemon, "app")["k"], rows(daemon, "app/side")["other"]
        assert (row["stage"], row["pid"], row["target"]) == ("running", pids["k"], "spin")
        assert (other["stage"], other["pid"], other["target"]) == ("running", pids["other"], "aside")
        assert row["cpu"] >= 0.15
        assert row["rss"] > 20_000_000
        assert row["age"] >= row["seconds"] > 0
        until(lambda: rows(daemon, "app").get(None, {}).get("stage") == "idle", "an idle worker")
        assert os.path.exists(f"/proc/{rows(daemon, 'app')[None]['pid']}")
        open_gate(daemon.app)
        assert client.get("k").result() == pids["k"]
        if how != "restart":  # there, workers of the code before leave after their job
            until(lambda: [r["jobs"] for r in pool(daemon, "app/side")["processes"]] == [1], "the job to be counted")
