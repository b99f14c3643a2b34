"""A queue's consumer is started as what waits needs it, by a real daemon: more, fewer, none, and never too many, whoever dies."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from rocksyd import retrying
from rocksyd.cli.commands import run_command
from rocksyd.testing import Daemon, until
from rocksyd.testing.daemon import Conversation
from tests.companions.stage import error, gone, wait_ready
from tests.files import lines
from tests.schedule.stage import scheduler

JOBS = """
import json, os
from rocksyd import current, job

HERE = os.path.dirname(__file__)

def note(text):
    fd = os.open(os.path.join(HERE, "ran"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, (text + "\\n").encode())
    os.close(fd)

@job
def depth():
    with open(os.path.join(HERE, "depth")) as file:
        return json.load(file)

@job
def consume():
    note(current().key)
    with open(os.path.join(HERE, "gate")) as file:
        return len(file.read())

@job
def fails():
    note(current().key)
    raise ValueError("no queue")
"""
TABLE = """
[consumers.mail]
target = "consume"
depth = "depth"
max = 3
per_instance = 10
look_every = "100ms"
shrink_after = "100ms"
"""


def daemon(folder: Path, *, depth: Any = 0, table: str = TABLE) -> Daemon:
    made = Daemon(folder, JOBS, parts={"top": table, "pool": 'pm = "dynamic"\nmax_workers = 8\nmin_spare = 1\nmax_spare = 2'})
    os.mkfifo(made.app / "gate")
    waits(made, depth)
    return made


def waits(served: Daemon, depth: Any) -> None:
    """Let the queue say this."""
    (served.app / "depth.new").write_text(json.dumps(depth))
    (served.app / "depth.new").rename(served.app / "depth")


def ran(served: Daemon) -> list[str]:
    return lines(served.app / "ran")


def seen(talk: Conversation) -> dict[str, Any]:
    (row,) = talk.rpc("schedule.list")
    found: dict[str, Any] = row["consumer"]
    return found


def running(talk: Conversation) -> list[str]:
    return [run["key"] for run in talk.rpc("list", labels={"script": "mail"}, state="running")]


def looked(talk: Conversation) -> dict[str, Any]:
    """How the consumer is after a look that began from now on."""
    at = seen(talk)["looked_at"] or 0
    until(lambda: (seen(talk)["looked_at"] or 0) > at, "the next look")
    at = seen(talk)["looked_at"]  # it may have asked the queue before
    until(lambda: (seen(talk)["looked_at"] or 0) > at, "the one after it")
    return seen(talk)


def next_scheduler(served: Daemon, before: int) -> None:
    """Wait until there is another one than this process."""
    until(lambda: [pid for pid in served.children("rocksyd: scheduler") if pid != before], "another scheduler")
    wait_ready(served.talk(), "scheduler")


def open_gate(served: Daemon, text: str = "0123456789") -> None:
    """Let those go on that wait by now; there may be none, and one that is about to wait is let go the next time."""
    gate = os.open(served.app / "gate", os.O_RDWR)
    os.write(gate, text.encode())
    os.close(gate)


def test_it_grows_to_its_most_is_not_ended_when_less_waits_and_goes_to_none(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        assert (looked(talk)["wanted"], ran(served)) == (0, [])
        waits(served, [35, 12.5])
        until(lambda: len(running(talk)) == 3, "three instances")
        found = looked(talk)
        assert (found["waiting"], found["oldest"], found["running"], found["wanted"]) == (35, 12.5, 3, 3)
        assert found["why"] == "35 wait, an instance for each 10"
        waits(served, 1)
        until(lambda: looked(talk)["wanted"] == 1, "what was needed to count no longer")
        assert len(running(talk)) == 3, "those that run go on"
        waits(served, 0)
        looked(talk)
        until(lambda: len(ran(served)) == 3, "their code to have begun")
        until(lambda: not (open_gate(served) or running(talk)), "them to end by themselves")
        until(lambda: seen(talk)["pace"], "what they have handled to be heard of")
        assert looked(talk)["running"] == 0
        assert len(ran(served)) == 3
        waits(served, 5)
        until(lambda: len(ran(served)) == 4, "one for what comes later")


@pytest.mark.parametrize("victim", ["scheduler", "master", "restart"])
def test_whoever_is_killed_or_replaced_there_are_never_more_than_its_most(tmp_path: Path, victim: str) -> None:
    with daemon(tmp_path, depth=100) as served:
        talk = served.talk()
        until(lambda: len(running(talk)) == 3, "three instances")
        before = scheduler(served)
        if victim == "restart":
            assert served.restart() == {"error_text": "Restarted successfully"}
        else:
            pid = scheduler(served) if victim == "scheduler" else served.master_pid
            os.kill(pid, signal.SIGKILL)
            gone(pid)
        next_scheduler(served, before)
        talk = served.talk()
        until(lambda: seen(talk)["running"] == 3, "the next scheduler to know of them")
        assert looked(talk)["running"] == 3
        until(lambda: len(ran(served)) == 3, "their code to have begun")
        until(lambda: open_gate(served, "") or len(ran(served)) >= 4, "others instead of those that have ended")
        assert looked(talk)["running"] <= 3


def test_a_pause_a_kill_and_a_run_by_hand(tmp_path: Path) -> None:
    with daemon(tmp_path, depth=100) as served:
        talk = served.talk()
        until(lambda: len(running(talk)) == 3, "three instances")
        assert talk.rpc("schedule.pause", name="mail") == {"name": "mail", "paused": True}
        assert len(talk.rpc("schedule.kill", name="mail")["ended"]) == 3
        until(lambda: not running(talk), "their end")
        pid = scheduler(served)
        os.kill(pid, signal.SIGKILL)
        next_scheduler(served, pid)
        assert talk.rpc("schedule.show", name="mail")["paused"] is True
        key = talk.rpc("schedule.run", name="mail")["key"]
        until(lambda: running(talk) == [key], "the one that was ordered")
        assert talk.rpc("schedule.resume", name="mail")["paused"] is False
        until(lambda: len(running(talk)) == 3, "it to grow again")
        assert key in running(talk)


def test_a_queue_that_cannot_be_asked_starts_no_more_than_the_minimum_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with daemon(tmp_path, depth="many", table=TABLE + "min = 1\n") as served:
        talk = served.talk()
        until(lambda: len(running(talk)) == 1, "the minimum")
        assert looked(talk)["trouble"].startswith("depth cannot say how much waits: expected how many wait")
        (served.app / "depth").unlink()
        until(lambda: "FileNotFoundError" in (seen(talk)["trouble"] or ""), "what it raised")
        monkeypatch.setenv("ROCKSYD_ADDRESS", served.address)
        monkeypatch.setenv("COLUMNS", "80")
        assert run_command(["schedule", "list"]) == 0
        assert re.search(r"^mail +1 to 3 by depth +1 run, \? wait ", capsys.readouterr().out, re.MULTILINE)
        waits(served, 4)
        until(lambda: seen(talk)["trouble"] is None, "it to be asked again")
        assert run_command(["schedule", "show", "mail"]) == 0
        shown = capsys.readouterr().out
        assert "  size     1 of 1, 1 to 3 may: 4 wait, an instance for each 10\n" in shown


def test_one_that_fails_is_not_started_again_in_a_frenzy(tmp_path: Path) -> None:
    began = time.monotonic()
    with daemon(tmp_path, depth=100, table=TABLE.replace('"consume"', '"fails"').replace("100ms", "10ms")) as served:
        talk = served.talk()
        until(lambda: seen(talk)["failures"] >= 3, "three failures")
        rests = "of its runs have failed one after the other: none is started for"
        until(lambda: rests in seen(talk)["why"], "it to rest")
        until(lambda: len(ran(served)) == seen(talk)["failures"], "all that was begun to have failed")
        rounds = 1 + (time.monotonic() - began) / retrying.wait({}, "mail", 1)
        assert len(ran(served)) <= 3 * rounds, "without a rest there are a hundred looks a second"


def test_what_is_wrong_with_a_consumer_refuses_the_restart_with_its_line(tmp_path: Path) -> None:
    with daemon(tmp_path, depth=0) as served:
        served.config.write_text(served.config.read_text().replace("max = 3", "max = 3\nmin = 4"))
        refused = json.dumps(served.restart())
        assert "consumers.mail.min: min = 4 is more than max = 3" in refused
        assert error(served.talk(), "schedule.show", name="post")["code"] == -32001
