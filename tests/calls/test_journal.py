"""Calls without a key: answered before the journal holds them, and still accounted for."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until

JOBS = """
import pathlib, time
from rocksyd import job

@job
def add(a, b):
    return a + b

@job
def broken():
    raise ValueError("no")

@job
def gate(path):
    pathlib.Path(path + ".begun").touch()
    while not pathlib.Path(path).exists():
        time.sleep(0.005)
    return "open"
"""
REUSED = 'pm = "static"\nmax_workers = 2\nmax_jobs = 0\ngrace = "30s"'


def call(target: str, *params: Any, number: int = 1) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "call", "params": {"target": target, "params": params}})


def written(daemon: Daemon) -> list[tuple[str, int]]:
    """Targets and whether they have ended, as the journal has them."""
    with sqlite3.connect(f"file:{daemon.folder}/var/journal.sqlite?mode=ro", uri=True) as db:
        rows = db.execute("SELECT target, ended FROM runs ORDER BY sequence").fetchall()
    db.close()
    return rows


@pytest.mark.parametrize("pool", [REUSED, 'pm = "ondemand"\ngrace = "30s"'])
def test_a_call_is_listed_as_soon_as_it_is_answered(tmp_path: Path, pool: str) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": pool}) as daemon:
        talk = daemon.talk()
        key = talk.rpc("call", target="add", params=[1, 2])["key"]
        assert [run["key"] for run in talk.rpc("list")] == [key]
        assert talk.rpc("status", key=key)["result"] == 3
        until(lambda: written(daemon) == [("add", 1)], "the record of the call")


def test_calls_that_fail_are_written_and_those_that_end_well_need_not_be(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": REUSED, "top": 'journal.calls = "failed"'}) as daemon:
        talk = daemon.talk()
        for number in range(3):
            assert talk.rpc("call", target="add", params=[1, number])["result"] == 1 + number
        assert talk.ask(call("broken"))["error"]["message"] == "ValueError: no"
        assert talk.rpc("call", target="add", params=[1, 1], key="named")["result"] == 2
        until(lambda: len(written(daemon)) == 2, "both records")
        assert {target for target, _ in written(daemon)} == {"broken", "add"}
        assert talk.rpc("status", key="named")["outcome"] == "ok"


def test_calls_are_written_first_where_that_is_asked_for(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": REUSED, "top": 'journal.calls = "before"'}) as daemon:
        daemon.talk().rpc("call", target="add", params=[1, 2])
        assert written(daemon) == [("add", 1)]


def test_p1_a_restart_loses_no_call_that_waits_runs_or_is_on_its_way(tmp_path: Path) -> None:
    held = tmp_path / "go"
    with Daemon(tmp_path, JOBS, parts={"pool": REUSED}) as daemon:
        talk = daemon.talk()
        talk.send(*(call("gate", str(held), number=number) for number in range(5)))
        until(lambda: daemon.talk().rpc("stats")["runs_running"] == 2, "two running calls")
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        talk.send(call("add", 1, 1, number=5))
        held.touch()
        replies = {reply["id"]: reply["result"]["result"] for reply in (json.loads(talk.line()) for _ in range(6))}
        assert replies == {0: "open", 1: "open", 2: "open", 3: "open", 4: "open", 5: 2}
        assert len(daemon.talk().rpc("list")) == 6


def test_p11_a_call_that_takes_longer_is_accounted_for_after_the_master_was_killed(tmp_path: Path) -> None:
    held = tmp_path / "go"
    with Daemon(tmp_path, JOBS, parts={"pool": REUSED}) as daemon:
        talk = daemon.talk()
        talk.send(call("gate", str(held)))
        until(lambda: written(daemon) == [("gate", 0)], "the record of the running call")
        os.kill(daemon.master_pid, signal.SIGKILL)
        assert talk.line() == b""  # whoever called sees the end of its connection
        held.touch()
        again = daemon.talk()
        (run,) = again.rpc("list")
        assert again.rpc("wait", key=run["key"])["outcome"] == "ok"


def test_a_worker_whose_call_nobody_knows_any_more_serves_on(tmp_path: Path) -> None:
    held = tmp_path / "go"
    with Daemon(tmp_path, JOBS, parts={"pool": REUSED.replace("workers = 2", "workers = 1")}) as daemon:
        talk = daemon.talk()
        daemon.wait_shelved(1)
        master = daemon.master_pid
        talk.send(call("gate", str(held)))
        until((tmp_path / "go.begun").exists, "the call that runs")
        os.kill(master, signal.SIGKILL)  # most likely before the journal holds the run
        assert talk.line() == b""
        held.touch()
        assert daemon.talk().rpc("call", target="add", params=[2, 2])["result"] == 4
