"""What the daemon's own log says of what happens."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from rocksyd.client import Client
from rocksyd.errors import NotNow
from rocksyd.testing.daemon import CONFIG, POOL, Daemon, until
from tests.files import lines
from tests.seeing.stage import JOBS


def entry(daemon: Daemon, event: str) -> dict[str, Any]:
    """The only entry of this event, once it is there."""
    found: list[dict[str, Any]] = []

    def told() -> bool:
        said = (json.loads(line) for line in lines(daemon.log_path) if line.startswith("{"))
        found[:] = [one for one in said if one.get("event") == event]
        return bool(found)

    until(told, f"{event} to be in the log")
    (only,) = found
    return only


def _idle(client: Client) -> dict[str, Any]:
    return next((one for pool in client.pools() for one in pool["processes"] if one["stage"] == "idle"), {})


def test_restarts_refused_deploys_failed_runs_and_dead_workers_are_in_the_log_as_json(tmp_path: Path) -> None:
    config = CONFIG.format(top="", app="", pool=POOL)
    with Daemon(tmp_path, JOBS, config=config, environment={"ROCKSYD_LOG": "json"}) as daemon, daemon.client() as client:
        client.run("bad", key="b").wait()
        failed = entry(daemon, "run.failed")
        assert failed["text"] == "run b (bad) failed: ValueError: no orders"
        assert (failed["key"], failed["target"], failed["generation"]) == ("b", "bad", 1)
        client.restart()
        done = entry(daemon, "restart.done")
        assert done["generation"] == 2
        assert f"ordered by uid {os.getuid()}, pid {os.getpid()}: generation 1 → 2, took" in done["text"]
        jobs = daemon.app / "jobs.py"
        jobs.write_text("import nothing_of_this_name\n")
        try:
            client.restart()
        except NotNow:
            pass
        jobs.write_text(JOBS)
        refused = entry(daemon, "restart.refused")
        assert refused["level"] == "error"
        assert "nothing_of_this_name" in refused["text"]
        idle: dict[str, Any] = {}
        until(lambda: idle.update(_idle(client)) or idle, "an idle worker")
        os.kill(idle["pid"], signal.SIGKILL)
        died = entry(daemon, "worker.died")
        assert (died["worker"], died["signal"], died["pool"]) == (idle["worker"], 9, "app")
