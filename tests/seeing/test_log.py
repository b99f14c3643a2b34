"""What the daemon's own log says of what happens."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from rocksyd.errors import NotNow
from rocksyd.testing.daemon import CONFIG, POOL, Daemon, until
from tests.seeing.stage import JOBS


def entries(daemon: Daemon, event: str) -> list[dict[str, Any]]:
    found = []
    for line in daemon.log_path.read_text().splitlines():
        if line.startswith("{") and json.loads(line).get("event") == event:
            found.append(json.loads(line))
    return found


def test_restarts_refused_deploys_failed_runs_and_dead_workers_are_in_the_log_as_json(tmp_path: Path) -> None:
    config = CONFIG.format(top="", app="", pool=POOL)
    with Daemon(tmp_path, JOBS, config=config, environment={"ROCKSYD_LOG": "json"}) as daemon, daemon.client() as client:
        client.run("bad", key="b").wait()
        (failed,) = entries(daemon, "run.failed")
        assert failed["text"] == "run b (bad) failed: ValueError: no orders"
        assert (failed["key"], failed["target"], failed["generation"]) == ("b", "bad", 1)
        client.restart()
        (done,) = entries(daemon, "restart.done")
        assert done["generation"] == 2
        assert f"ordered by uid {os.getuid()}, pid {os.getpid()}: generation 1 → 2, took" in done["text"]
        jobs = daemon.app / "jobs.py"
        jobs.write_text("import nothing_of_this_name\n")
        try:
            client.restart()
        except NotNow:
            pass
        jobs.write_text(JOBS)
        (refused,) = entries(daemon, "restart.refused")
        assert refused["level"] == "error"
        assert "nothing_of_this_name" in refused["text"]
        idle = next(one for pool in client.pools() for one in pool["processes"] if one["stage"] == "idle")
        os.kill(idle["pid"], signal.SIGKILL)
        until(lambda: entries(daemon, "worker.died"), "its death to be said")
        (died,) = entries(daemon, "worker.died")
        assert (died["worker"], died["signal"], died["pool"]) == (idle["worker"], 9, "app")
