"""What a call without a key costs the journal does not depend on how many others are under way: counted, not timed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rocksyd.master.records.behind import DELAY
from rocksyd.testing import Conversation, Daemon
from rocksyd.testing.daemon import copy_package, until
from tests.calls.test_journal import written
from tests.restart.stage import order

JOBS = """
import asyncio, pathlib, signal, time
from rocksyd import JobTimeout, job

@job
def add(a, b):
    return a + b

@job(pool="apart")
def marks():
    return "marked"

@job
def gate(path):
    pathlib.Path(f"{path}.begun").touch()
    while not pathlib.Path(path).exists():
        time.sleep(0.005)
    return "open"

@job
def deaf(path):
    "Hears neither TERM nor that its time is over."
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            gate(path)
        except JobTimeout:
            continue

@job(pool="shared")
async def meets(path):
    pathlib.Path(f"{path}.begun").touch()
    while not pathlib.Path(path).exists():
        await asyncio.sleep(0.005)
    return "met"
"""
POOL = """\
pm = "static"
max_workers = 1
max_jobs = 0
max_queue = 5000
grace = "200ms"

[apps.app.pools.apart]
pm = "static"
max_workers = 1
max_jobs = 0

[apps.app.pools.shared]
pm = "static"
max_workers = 1
concurrency = 10
max_jobs = 0
grace = "30s"
"""


def counted(talk: Conversation) -> tuple[int, int]:
    """Transactions of the journal, and the records in them, since the service began."""
    stats = talk.rpc("stats")
    return stats["journal_commits"], stats["journal_rows"]


def pass_the_time(daemon: Daemon, talk: Conversation) -> int:
    """Wait until records of others have been written three times: longer than any record waits. Returns how many those were."""

    def ended() -> int:
        return sum(bool(over) for _, over in written(daemon))

    for _ in range(3):
        before = ended()
        assert talk.rpc("call", target="marks")["result"] == "marked"
        until(lambda: ended() > before, "the record of the mark")  # noqa: B023
    return 3


@contextmanager
def held(daemon: Daemon, folder: Path) -> Iterator[Conversation]:
    """The one worker is at a call until the block ends."""
    talk = daemon.talk()
    talk.send(order("call", 1, target="gate", params=[str(folder / "go")]))
    until((folder / "go.begun").exists, "the call that runs")
    until(lambda: ("gate", 0) in written(daemon), "its record")
    yield talk
    (folder / "go").touch()
    assert json.loads(talk.line())["result"]["result"] == "open"


def call_all(talk: Conversation, count: int) -> None:
    talk.send(*(order("call", number, target="add", params=[number, 1]) for number in range(count)))


def answered(talk: Conversation, count: int) -> None:
    replies = [json.loads(talk.line()) for _ in range(count)]
    assert {reply["id"]: reply["result"]["result"] for reply in replies} == {n: n + 1 for n in range(count)}


@pytest.mark.parametrize("count", [1, 16, 128, 256, 1024])
def test_calls_that_wait_are_not_written_and_those_that_end_are_written_together(tmp_path: Path, count: int) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk, other = daemon.talk(), daemon.talk()
        with held(daemon, tmp_path):
            call_all(talk, count)
            until(lambda: other.rpc("stats")["runs_waiting"] == count, "all to wait")
            pass_the_time(daemon, other)  # what came before is written
            commits, rows = counted(other)
            marks = pass_the_time(daemon, other)
            assert len(other.rpc("list", state="waiting", limit=1000)) == min(count, 1000)
            assert not [target for target, _ in written(daemon) if target == "add"], "calls were written that only waited"
            # Each mark at most twice: as one that runs, should the machine be so slow, and as one that has ended.
            waited_commits, waited_rows = (now - before for now, before in zip(counted(other), (commits, rows), strict=True))
            assert waited_commits <= waited_rows <= 2 * marks
            began = time.monotonic()
        answered(talk, count)
        until(lambda: [bool(over) for _, over in written(daemon)] == [True] * (1 + 2 * marks + count), "all records")
        periods = (time.monotonic() - began) / DELAY  # where a call takes as long as that, each is written for itself
        ended_commits, ended_rows = (now - before for now, before in zip(counted(other), (commits, rows), strict=True))
        assert count + 1 <= ended_rows - waited_rows <= 2 * count + 1  # and the gate
        assert ended_commits - waited_commits <= 6 + max(count / 3, periods)


def test_p1_a_restart_while_a_thousand_calls_wait_is_one_transaction_and_each_is_answered(tmp_path: Path) -> None:
    count = 1024
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk, other = daemon.talk(), daemon.talk()
        with held(daemon, tmp_path):
            call_all(talk, count)
            until(lambda: other.rpc("stats")["runs_waiting"] == count, "all to wait")
            pass_the_time(daemon, other)
            for _ in range(2):
                commits, rows = counted(other)
                assert daemon.restart() == {"error_text": "Restarted successfully"}
                assert counted(other)[0] - commits <= 3
                assert counted(other)[1] - rows in (count, 0)  # the second time the journal knows them
        answered(talk, count)
        until(lambda: [bool(over) for _, over in written(daemon)] == [True] * (1 + 3 + count), "all records")
        assert counted(other)[1] - rows <= 2 * count + 1


def test_calls_that_waited_when_the_master_died_are_not_run_for_nobody(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk = daemon.talk()
        talk.send(order("call", 0, target="gate", params=[str(tmp_path / "go")]))
        until((tmp_path / "go.begun").exists, "the call that runs")
        call_all(talk, 3)
        talk.send(order("run", 9, target="add", key="named", params=[1, 1]))
        assert json.loads(talk.line())["id"] == 9
        assert daemon.restart() == {"error_text": "Restarted successfully"}  # after it the journal has them
        os.kill(daemon.master_pid, signal.SIGKILL)
        assert talk.line() == b""
        again = daemon.talk()
        lost = again.rpc("list", outcome="lost")
        assert [run["target"] for run in lost] == ["add"] * 3
        assert all("connection of the caller" in run["error"]["message"] for run in lost)
        (tmp_path / "go").touch()
        assert again.rpc("wait", key="named")["result"] == 2
        (ran,) = [run for run in again.rpc("list") if run["target"] == "gate"]
        assert again.rpc("wait", key=ran["key"])["outcome"] == "ok"


@contextmanager
def forgotten(tmp_path: Path, *targets: str, **options: Any) -> Iterator[tuple[Daemon, list[dict[str, Any]]]]:
    """A daemon whose master died while workers were at calls of which the journal had not been told; and the calls' records."""
    package = copy_package(tmp_path)
    (behind,) = package.rglob("behind.py")
    text = behind.read_text()
    assert "DELAY = 0.05" in text
    behind.write_text(text.replace("DELAY = 0.05", "DELAY = 3600.0"))  # the master dies long before it would be written
    with Daemon(tmp_path / "daemon", JOBS, parts={"pool": POOL}, package=package) as daemon:
        talk = daemon.talk()
        for target in targets:
            talk.send(order("call", 1, target=target, params=[str(tmp_path / target)], **options))
            until((tmp_path / f"{target}.begun").exists, "the call that runs")
        assert written(daemon) == []
        before = daemon.talk().rpc("list")
        os.kill(daemon.master_pid, signal.SIGKILL)
        assert talk.line() == b""
        again = daemon.talk()
        until(lambda: len(again.rpc("list")) == len(targets), "the runs to be known again")
        records = again.rpc("list")
        same = ("key", "state", "pid", "app", "generation")
        shown, expected = ({one["key"]: [one[name] for name in same] for one in found} for found in (records, before))
        assert shown == expected
        yield daemon, records


@pytest.mark.parametrize("target", ["gate", "meets"])
def test_p11_a_call_that_only_its_worker_knows_is_a_run_again_after_the_master_was_killed(tmp_path: Path, target: str) -> None:
    with forgotten(tmp_path, target) as (daemon, [record]):
        talk = daemon.talk()
        (tmp_path / target).touch()
        ended = talk.rpc("wait", key=record["key"])
        assert (ended["outcome"], ended["result"]) == ("ok", "open" if target == "gate" else "met")
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        assert talk.rpc("status", key=record["key"])["outcome"] == "ok"


def test_p11_and_their_limit_of_time_is_what_it_was(tmp_path: Path) -> None:
    """Long enough for a slow machine to replace a master meanwhile."""
    with forgotten(tmp_path, "deaf", "meets", timeout="10s") as (daemon, records):
        for record in records:
            assert daemon.talk().rpc("wait", key=record["key"])["outcome"] == "timeout"


def test_p11_and_it_can_be_ended_by_its_key(tmp_path: Path) -> None:
    with forgotten(tmp_path, "gate") as (daemon, [record]):
        talk = daemon.talk()
        assert talk.rpc("terminate", key=record["key"])
        assert talk.rpc("wait", key=record["key"])["outcome"] == "cancelled"
