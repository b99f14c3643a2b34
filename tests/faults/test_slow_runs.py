"""A slow run says where it is, once; any run says so when it is asked."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rocksyd.master.records.slowlog import SlowLog
from rocksyd.master.staff.stacks import stacks_in
from rocksyd.posix import signals
from rocksyd.testing import Conversation, Daemon, until
from tests.faults.crowd import ended, kill_master, zygotes
from tests.files import whole
from tests.originals.stage import state

JOBS = """
import ctypes, os, subprocess, sys, threading, time
from rocksyd import job

def hold():
    open("there", "w").close()
    while not os.path.exists("gate"):
        time.sleep(0.01)

@job(slow_after="300ms")
def slow():
    helper = threading.Thread(target=inner_of_a_thread)
    helper.start()
    hold()
    helper.join()
    return "done"

def inner_of_a_thread():
    while not os.path.exists("gate"):
        time.sleep(0.01)

@job
def plain():
    hold()
    return "done"

@job
def chatters():
    "Prints all the time, and more than its output may hold."
    open("there", "w").close()
    while not os.path.exists("gate"):
        print("x" * 100)

@job
def stuck_in_c():
    "Locks a mutex twice, with the interpreter's lock held: no other thread of Python runs any more."
    python, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
    python.pthread_mutex_lock(mutex)
    open("there", "w").close()
    python.pthread_mutex_lock(mutex)

@job
def computes():
    open("there", "w").close()
    while not os.path.exists("gate"):
        sorted(range(20000), key=lambda number: -number)
    return "done"

@job
def becomes_another():
    print("now", flush=True)
    os.execvp("sh", ["sh", "-c", "touch there; while ! test -e gate; do sleep 0.02; done"])
"""
POOL = 'pm = "ondemand"\nmax_workers = 3\ngrace = "30s"'


def daemon_of(folder: Path, top: str = "", pool: str = "") -> Daemon:
    return Daemon(folder, JOBS, parts={"top": top, "pool": POOL + pool})


def begin(daemon: Daemon, target: str, key: str = "1") -> Conversation:
    talk = daemon.talk()
    talk.rpc("run", target=target, key=key)
    until((daemon.app / "there").exists, "the run to begin")
    return talk


def slow_log(daemon: Daemon) -> str:
    return whole(daemon.folder / "var" / "slow.log")


def output(daemon: Daemon) -> str:
    return "".join(whole(path) for path in (daemon.folder / "var" / "output").rglob("1.log"))


def nothing(daemon: Daemon) -> None:
    pass


def restart(daemon: Daemon) -> None:
    assert daemon.restart() == {"error_text": "Restarted successfully"}


def kill_zygote(daemon: Daemon) -> None:
    for pid in zygotes(daemon):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("happens", [nothing, restart, kill_master, kill_zygote])
def test_p9_a_slow_run_says_where_all_of_its_threads_are_once(tmp_path: Path, happens: Callable[[Daemon], None]) -> None:
    """A master that is killed between asking the run and writing down what it says takes the entry of the slow log with it."""
    with daemon_of(tmp_path) as daemon:
        begin(daemon, "slow")
        happens(daemon)
        until(lambda: "in hold" in output(daemon), "the run to say where it is")
        if happens is not kill_master:
            until(lambda: slow_log(daemon).endswith("\n"), "the slow log")
        happens(daemon)
        (daemon.app / "gate").touch()
        assert ended(daemon, "1")["result"] == "done"
        texts = [output(daemon)] + [slow_log(daemon)] * bool(slow_log(daemon))
        for text in texts:
            assert len(re.findall(r"in inner_of_a_thread$", text, re.MULTILINE)) == 1
            assert len(re.findall(r"in hold$", text, re.MULTILINE)) == 1
            assert "slow_after = 300ms" in text
        if happens is not kill_master:
            assert "run 1 (jobs:slow) of pool app, process " in slow_log(daemon)
            assert daemon.talk().rpc("stats")["runs_slow"] == 1


def test_p9_a_run_that_became_slow_while_nobody_knew_its_worker_says_where_it_is(tmp_path: Path) -> None:
    """The zygote, which alone knows the worker's channel after a crash, is stopped until the new master's moment has passed."""
    with daemon_of(tmp_path) as daemon:
        begin(daemon, "slow")
        (zygote,) = zygotes(daemon)
        os.kill(zygote, signal.SIGSTOP)
        try:
            kill_master(daemon)
            talk = daemon.talk()
            until(lambda: time.time() > talk.rpc("status", key="1")["started_at"] + 0.4, "the run to be slow")
            reply = talk.ask('{"jsonrpc":"2.0","id":1,"method":"stack","params":{"key":"1"}}')
            assert "ask again" in reply["error"]["message"]
            reply = talk.ask('{"jsonrpc":"2.0","id":1,"method":"terminate","params":{"key":"1","signal":10}}')
            assert (reply["error"]["code"], reply["error"]["data"]) == (-32005, "ask again")
        finally:
            os.kill(zygote, signal.SIGCONT)
        until(lambda: slow_log(daemon).endswith("\n"), "the slow log")
        (daemon.app / "gate").touch()
        assert ended(daemon, "1")["result"] == "done"
        for text in (output(daemon), slow_log(daemon)):
            assert len(re.findall(r"in hold$", text, re.MULTILINE)) == 1


def test_a_run_that_is_quick_enough_is_not_slow(tmp_path: Path) -> None:
    with daemon_of(tmp_path, pool='\nslow_after = "1h"') as daemon:
        (daemon.app / "gate").touch()
        begin(daemon, "plain")
        ended(daemon, "1")
        assert slow_log(daemon) == ""
        assert daemon.talk().rpc("logs", key="1")["text"] == ""


def test_p12_a_job_in_the_middle_of_python_is_not_harmed_by_the_question(tmp_path: Path) -> None:
    """CPython 3.11 to 3.13 die of a faulthandler that reads frames of code that is being executed; here after a few questions."""
    with daemon_of(tmp_path) as daemon:
        talk = begin(daemon, "computes")
        pid, path = talk.rpc("status", key="1")["pid"], daemon.folder / talk.rpc("status", key="1")["log"]
        path.touch()
        for _ in range(500):
            before = path.stat().st_size
            os.kill(pid, signals.STACKS)
            until(lambda: path.stat().st_size > before, "the stack")  # noqa: B023
        assert "in computes" in talk.rpc("stack", key="1")["text"]
        (daemon.app / "gate").touch()
        assert ended(daemon, "1")["result"] == "done"


IN_C = "Stack (most recent call first):"
"""C code prints the main thread alone: those that go on cannot be read while they do."""


@pytest.mark.parametrize(
    ("target", "begins", "function"),
    [
        ("plain", "Current thread 0x", "in hold"),
        ("chatters", "Current thread 0x", "in chatters"),
        ("stuck_in_c", IN_C, "in stuck_in_c"),
    ],
)
def test_a_running_job_says_where_it_is_whatever_it_is_at(tmp_path: Path, target: str, begins: str, function: str) -> None:
    with daemon_of(tmp_path, top='[output]\nlimit = "1M"\n') as daemon:
        talk = begin(daemon, target)
        if target == "stuck_in_c":
            until(lambda: state(talk.rpc("status", key="1")["pid"]) == "S", "it to wait for the mutex")
        for _ in range(2):
            found = talk.rpc("stack", key="1")
            assert found["text"].startswith(begins)
            assert function in found["text"]
            assert "xxx" not in found["text"]
            assert found["pid"] == talk.rpc("status", key="1")["pid"]
        (daemon.app / "gate").touch()
        if target == "stuck_in_c":
            talk.ask('terminate {"hash":1}')
        ended(daemon, "1")
        assert (daemon.folder / talk.rpc("status", key="1")["log"]).stat().st_size < 1 << 21


def test_the_command_prints_the_stack_and_says_why_there_is_none(tmp_path: Path) -> None:
    def rocksyd(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rocksyd.cli", "--address", daemon.address, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    with daemon_of(tmp_path) as daemon:
        talk = begin(daemon, "plain")
        done = rocksyd("stack", "1")
        assert (done.returncode, "in hold" in done.stdout) == (0, True), done
        assert json.loads(rocksyd("stack", "1", "--json").stdout)["key"] == "1"
        (daemon.app / "gate").touch()
        talk.rpc("wait", key="1")
        done = rocksyd("stack", "1")
        assert (done.returncode, done.stdout) == (1, "")
        assert "run '1' does not run" in done.stderr
        assert "nobody" in rocksyd("stack", "nobody").stderr


def test_p12_a_run_that_cannot_say_where_it_is_is_left_alone(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        talk = begin(daemon, "becomes_another")
        reply = talk.ask('{"jsonrpc":"2.0","id":1,"method":"stack","params":{"key":"1"}}')
        assert reply["error"]["code"] == -32005
        assert "become another program" in reply["error"]["message"]
        (daemon.app / "gate").touch()
        record = ended(daemon, "1")
        assert (record["outcome"], record["retcode"]) == ("ok", 0)


def test_p1_who_asks_while_the_daemon_is_restarted_gets_an_answer(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        talk = begin(daemon, "plain")
        other = daemon.talk()
        other.send("restart")
        answers: list[Any] = []
        while not select.select([other.socket], [], [], 0)[0]:
            answers.append(talk.ask('{"jsonrpc":"2.0","id":1,"method":"stack","params":{"key":"1"}}'))
        assert json.loads(other.line()) == {"error_text": "Restarted successfully"}
        assert answers
        assert all("in hold" in str(answer) or answer["error"]["code"] == -32005 for answer in answers), answers
        (daemon.app / "gate").touch()
        assert ended(daemon, "1")["result"] == "done"


def test_stacks_are_told_from_what_else_is_printed() -> None:
    printed = (
        'hello\nThread 0x00007f1 (most recent call first):\n  File "a.py", line 1 in f\n\nmore'
        'Current thread 0x00007f2 (most recent call first):\n  File "b.py", line 2 in g\n  File "c.py", line 3 in h\nbye\n'
    )
    assert stacks_in(printed).splitlines() == [
        "Thread 0x00007f1 (most recent call first):", '  File "a.py", line 1 in f', "",
        "Current thread 0x00007f2 (most recent call first):", '  File "b.py", line 2 in g', '  File "c.py", line 3 in h',
    ]  # fmt: skip


def test_the_slow_log_is_put_aside_when_it_is_large(tmp_path: Path) -> None:
    path = tmp_path / "slow.log"
    log = SlowLog(str(path), limit=100)
    for number in range(5):
        log.write(f"{number}" * 40)
    assert path.read_text() == "4" * 40
    assert (tmp_path / "slow.log.1").read_text() == "2" * 40 + "3" * 40
    assert sorted(os.listdir(tmp_path)) == ["slow.log", "slow.log.1"]


def test_a_call_of_a_reused_worker_is_asked_as_any_other_run(tmp_path: Path) -> None:
    with daemon_of(tmp_path, pool="\nmax_jobs = 0") as daemon:
        caller = daemon.talk()
        caller.send('{"jsonrpc":"2.0","id":7,"method":"call","params":{"target":"slow"}}')
        until(lambda: slow_log(daemon).endswith("\n"), "the slow log")
        (running,) = daemon.talk().rpc("list", state="running")
        with daemon.client() as client:
            assert "in inner_of_a_thread" in client.get(running["key"]).stack()
        (daemon.app / "gate").touch()
        assert json.loads(caller.line())["result"]["result"] == "done"
        assert len(re.findall(r"in hold$", slow_log(daemon), re.MULTILINE)) == 1
