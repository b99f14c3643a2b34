"""`rocksyd why`: the reason that is true at that moment, from a real daemon."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from rocksyd.errors import NotNow
from rocksyd.testing.daemon import Daemon, until
from tests.terminal.stage import JOBS, Program, command, environment, rocksyd

ONE_WORKER = {"pool": 'pm = "ondemand"\nmax_workers = 1\ngrace = "300ms"'}


def codes(daemon: Daemon, key: str) -> list[str]:
    done = rocksyd(daemon, "why", key, "--json")
    assert done.returncode == 0, done.stderr
    return [reason["code"] for reason in json.loads(done.stdout)["reasons"]]


def test_what_waits_runs_and_has_ended_says_why(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client:
        client.run("single", str(tmp_path / "end"), key="first")
        client.run("single", str(tmp_path / "end"), key="second")
        client.run("single", str(tmp_path / "end"), key="third", start_within="1h")
        client.run("holds", str(tmp_path / "end"), key="later", delay="1h")
        client.run("broken", key="broken").wait()
        client.run("broken", key="again", retries=3)
        until(lambda: client.status("first")["state"] == "running", "the first to start")
        until(lambda: client.status("again")["attempt"] == 2, "the second attempt")
        assert codes(daemon, "first") == ["running"]
        assert codes(daemon, "second") == ["max_running"]
        assert codes(daemon, "third") == ["max_running", "queue", "start_within"]
        assert codes(daemon, "later") == ["delay"]
        assert codes(daemon, "broken") == ["failed"]
        assert codes(daemon, "again")[0] in ("retry", "failed", "running")
        text = rocksyd(daemon, "why", "second").stdout
        assert text.startswith("second (single) waiting\n- 1 of jobs:single run already, and no more than 1 may (max_running)\n")
        assert rocksyd(daemon, "why", "nobody").returncode == 1
        with Program(command("why", "third"), environment(daemon), size=(40, 20)) as program:
            assert program.ends() == 0
            assert "(max_running)" in program.screen.text
            assert max(map(len, program.screen.raw.replace("\x1b[2m", "").replace("\x1b[0m", "").split("\r\n"))) <= 45
        with contextlib.suppress(NotNow):  # its last attempt may be over
            client.terminate("again")
        client.terminate("third")
        assert codes(daemon, "third") == ["cancelled"]
        (tmp_path / "end").touch()
        client.run("single", str(tmp_path / "end"), key="second").wait()
        assert codes(daemon, "second") == ["ok"]


def test_a_full_pool_a_timeout_and_a_grace_that_was_not_enough(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts=ONE_WORKER) as daemon, daemon.client() as client:
        client.run("polite", str(tmp_path / "there"), key="deaf", timeout="3s")  # it is deaf by then
        until((tmp_path / "there").exists, "the job to ignore TERM")
        client.run("holds", str(tmp_path / "end"), key="patient")
        found = codes(daemon, "patient")
        assert found in (["pool_full", "next"], ["worker_starting", "next"], ["running"])
        client.get("deaf").wait()
        assert codes(daemon, "deaf") == ["timeout", "killed_after_grace"]
        late = client.run("holds", str(tmp_path / "end"), key="late", start_within="50ms")
        late.wait()
        assert codes(daemon, "late") == ["start_too_late"]
        client.run("holds", str(tmp_path / "end"), key="urgent", priority=5)
        client.run("holds", str(tmp_path / "end"), key="last")
        assert codes(daemon, "last") == ["pool_full", "queue"]
        assert "1 run waits before it, 1 of them with a higher priority" in rocksyd(daemon, "why", "last").stdout
        daemon.restart()
        assert codes(daemon, "last") == ["pool_full", "queue"]
        assert "old_code" in codes(daemon, "patient")
        (tmp_path / "end").touch()
        client.get("last").wait()
