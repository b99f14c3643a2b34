"""`rocksyd journal`: what a daemon has kept is checked, exported, backed up beside it and restored, and whole after any kill."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until

JOBS = """
import os
from rocksyd import job

HERE = os.path.dirname(__file__)

@job
def say(text):
    print(text)
    return text

@job
def fails():
    raise ValueError("no")

@job
def gate():
    with open(os.path.join(HERE, "gate")) as file:
        return file.read()
"""
SCRIPT = '[scripts.nightly]\ntarget = "say"\nparams = ["night"]\ncron = "0 3 29 2 *"\ntimezone = "UTC"\n'


def ask(daemon: Daemon, *words: str, status: int = 0) -> str:
    """What `rocksyd journal` prints; it has to end with this status."""
    command = [sys.executable, "-m", "rocksyd", "journal", *words, "-c", str(daemon.config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def checked(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(daemon, "check", "--json"))
    assert found["ok"], found
    return found


def test_a_backup_beside_the_running_daemon_restores_journal_schedules_and_outputs_together(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with Daemon(first, JOBS, parts={"top": SCRIPT}) as served:
        os.mkfifo(served.app / "gate")
        talk = served.talk()
        talk.rpc("call", target="say", params=["kept"], key="kept")
        talk.rpc("run", target="fails", key="failed")
        talk.rpc("wait", key="failed")
        until(lambda: talk.rpc("schedule.list"), "the scheduler")
        talk.rpc("schedule.pause", name="nightly")
        ran = talk.rpc("schedule.run", name="nightly")["key"]
        talk.rpc("wait", key=ran)
        talk.rpc("run", target="gate", key="running")
        until(lambda: talk.rpc("status", key="running")["state"] == "running", "the run to begin")
        assert "3 runs" not in ask(served, "backup", str(tmp_path / "copy")), "all four of them"
        assert "not empty" in ask(served, "backup", str(tmp_path / "copy"), status=1)
        talk.rpc("call", target="say", params=["later"], key="later")
        assert "stop it first" in ask(served, "restore", str(tmp_path / "copy"), status=1)
        assert "stop it first" in ask(served, "compact", status=1)
        rows = [json.loads(line) for line in ask(served, "export").splitlines()]
        assert [row["key"] for row in rows] == ["kept", "failed", ran, "running", "later"]
        assert rows[0]["result"] == "kept"
        (served.app / "gate").open("w").close()
    other = Daemon(second, JOBS, parts={"top": SCRIPT})
    os.mkfifo(other.app / "gate")
    assert "4 runs" in ask(other, "restore", str(tmp_path / "copy"))
    with other as served:
        talk = served.talk()
        assert talk.rpc("status", key="kept")["result"] == "kept"
        assert talk.rpc("status", key="kept")["log"].startswith(str(second))
        assert talk.rpc("logs", key="kept")["text"] == "kept\n", "the outputs are at another place, and found there"
        assert talk.rpc("status", key="failed")["outcome"] == "failed"
        assert talk.rpc("status", key="running")["outcome"] == "lost", "it ran when the copy was made, and no process has it"
        assert talk.ask('check {"hash":"later"}')["error_text"]
        until(lambda: talk.rpc("schedule.list"), "the scheduler")
        (row,) = talk.rpc("schedule.list")
        assert (row["paused"], row["last_key"]) == (True, ran)
        found = checked(served)
        assert found["runs"] == {"ok": 2, "failed": 1, "lost": 1}
    assert "before" in ask(other, "compact")
    (tmp_path / "copy" / "backup.json").unlink()
    assert "no whole backup" in ask(other, "restore", str(tmp_path / "copy"), status=1)
    assert checked(other)["runs"] == {"ok": 2, "failed": 1, "lost": 1}, "nothing was changed by that"


@pytest.mark.slow
def test_whoever_is_killed_at_whatever_moment_the_journal_is_whole_and_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(7)
    accepted: list[str] = []
    with Daemon(tmp_path, JOBS) as served:
        for turn in range(6):
            talk = served.talk()
            stop_after = chance.randrange(40)
            for number in range(200):
                key = f"{turn} {number}"
                try:
                    talk.rpc("run", target="say", params=[key], key=key)
                except (ConnectionError, AssertionError, OSError):
                    break
                accepted.append(key)
                if number == stop_after:  # with what is under way in every process
                    pids = [served.master_pid, served.pid]
                    for pid in pids if turn % 2 else pids[::-1]:
                        with suppress(ProcessLookupError):  # the master leaves by itself when the keeper is gone
                            os.kill(pid, signal.SIGKILL)
                    break
            served.wait(-9)
            found = checked(served)
            assert sum(found["runs"].values()) >= len(accepted)
            served.start()
        talk = served.talk()
        for key in accepted:
            record = talk.rpc("wait", key=key)
            assert record["outcome"] in ("ok", "lost"), "each has ended, and is accounted for"
        assert sum(checked(served)["runs"].values()) >= len(accepted)


def test_check_says_what_is_damaged_and_what_to_do(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as served:
        talk = served.talk()
        for number in range(50):
            talk.rpc("run", target="say", params=["x" * 500], key=f"k{number}")
        for number in range(50):
            talk.rpc("wait", key=f"k{number}")
    assert checked(served)["runs"] == {"ok": 50}
    path = tmp_path / "var" / "journal.sqlite"
    data = bytearray(path.read_bytes())
    data[4096 * 6 : 4096 * 8] = bytes(8192)
    path.write_bytes(data)
    said = ask(served, "check", status=1)
    assert said.startswith("damaged")
    assert "rocksyd journal repair" in said
