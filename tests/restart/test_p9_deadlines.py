"""P9: Deadlines are not moved by a restart or by the wall clock: they count from their own beginning, whoever serves."""

from __future__ import annotations

import json
import time
from pathlib import Path

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import copy_package
from tests.restart.stage import FAST, JOBS, gate, order, restart, window

RESTARTS = 8
"""At least."""
GENEROUS = 15.0
"""Seconds beyond its moment at which even a machine with much else to do has dealt with a deadline."""


def test_p9_deadlines_set_before_restarts_are_kept_by_whoever_serves(tmp_path: Path) -> None:
    """All kinds at once, each shorter than the restarts take together, and each ended by its own deadline."""
    jobs = '\n[apps.app.jobs_settings.sleep]\nmax_running = 1\n[apps.app.jobs_settings.deaf]\ngrace = "1s"'
    parts = {"pool": FAST + jobs}
    with Daemon(tmp_path, JOBS, parts=parts) as daemon, gate(tmp_path) as held, gate(tmp_path, "deaf") as deaf:
        talk, looking = daemon.talk(), daemon.talk()
        talk.rpc("run", target="gate", key="timeout", params=[str(held.path)], timeout="3s")
        talk.rpc("run", target="deaf", key="killed", params=[str(deaf.path)], timeout="3s")  # it is deaf by then
        talk.rpc("run", target="version", key="delay", delay="3s")
        talk.rpc("run", target="sleep", key="before", params=[60])
        talk.rpc("run", target="sleep", key="late", params=[60], start_within="500ms")
        talk.send(order("wait", 1, key="delay", timeout="1ms"), order("wait", 2, key="timeout", timeout="400ms"))
        done = 0
        while done < RESTARTS or looking.rpc("status", key="killed")["state"] != "ended":
            restart(daemon)
            done += 1
        first, second = json.loads(talk.line()), json.loads(talk.line())
        assert (first["id"], first["result"]["timed_out"], first["result"]["state"]) == (1, True, "waiting")
        assert (second["id"], second["result"]["timed_out"]) == (2, True)
        timeout, killed, delay, late = (talk.rpc("wait", key=key) for key in ("timeout", "killed", "delay", "late"))
        assert (timeout["outcome"], killed["outcome"], delay["outcome"], late["outcome"]) == (
            "timeout",
            "timeout",
            "ok",
            "timeout",
        )
        assert 3.0 <= timeout["ended_at"] - timeout["started_at"] < 3.0 + GENEROUS
        assert 3.0 + 1.0 <= killed["ended_at"] - killed["started_at"] < 3.0 + 1.0 + GENEROUS
        assert killed["signal"] == 9
        assert 3.0 <= delay["started_at"] - delay["submitted_at"] < 3.0 + GENEROUS
        assert 0.5 <= late["ended_at"] - late["submitted_at"] < 0.5 + GENEROUS
        assert late["started_at"] is None
        assert timeout["attempt"] == killed["attempt"] == delay["attempt"] == 1


def test_p9_a_deadline_that_passes_while_nobody_serves_is_kept_at_once_afterwards(tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    with Daemon(tmp_path, JOBS, package=package) as daemon, gate(tmp_path) as held, window(package, tmp_path) as taking_over:
        talk, ordering = daemon.talk(), daemon.talk()
        talk.rpc("run", target="gate", key="slow", params=[str(held.path)], timeout="3s")
        talk.rpc("run", target="version", key="delay", delay="3s")
        ordered = time.monotonic()
        talk.send(order("wait", 1, key="slow", timeout="1s"))
        ordering.send("restart")
        taking_over.wait_entered()
        # The one thing here that only time itself can do: let the moments pass while nobody serves.
        time.sleep(max(0.0, ordered + 3.1 - time.monotonic()))
        taking_over.open()
        assert json.loads(ordering.line()) == {"error_text": "Restarted successfully"}
        assert json.loads(talk.line())["result"]["timed_out"] is True
        assert talk.rpc("wait", key="slow")["outcome"] == "timeout"
        assert talk.rpc("wait", key="delay")["result"] == 1
