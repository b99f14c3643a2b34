"""Clients that do not give up, jobs that leave a trace, and masters that are killed: what the tests of this folder share."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rocksyd.posix.processes import parent_of
from rocksyd.testing import Conversation, Daemon, until
from rocksyd.testing.daemon import command_line, copy_package
from tests.files import lines

JOBS = '''
import ctypes, os, signal, sys, time
from rocksyd import current, job

def trace(file="ran"):
    fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, f"{current().key}\\n".encode())
    os.close(fd)

def hold():
    """Stay until the test opens the gate."""
    while not os.path.exists("gate"):
        time.sleep(0.01)

@job
def good(seconds=0.0):
    trace()
    time.sleep(seconds)
    return current().key

@job
def held():
    trace()
    hold()
    return current().key

@job
def end(how, wait=False, after=0.0):
    """End in one of the ways a job can end."""
    trace()
    if wait:
        hold()
    time.sleep(after)
    ENDS[how]()

@job
def deaf(seconds=60.0):
    """Does not hear TERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    trace()
    time.sleep(seconds)

def fail():
    raise ValueError("no")

ENDS = {
    "return": lambda: None,
    "raise": fail,
    "exit": lambda: sys.exit(3),
    "_exit": lambda: os._exit(4),
    "_exit0": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segv": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "stay": lambda: time.sleep(60),
}
'''

EXPECTED: dict[str, dict[str, Any]] = {
    "return": {"outcome": "ok", "retcode": 0, "signal": None},
    "raise": {"outcome": "failed", "retcode": 1, "signal": None},
    "exit": {"outcome": "failed", "retcode": 3, "signal": None},
    "_exit": {"outcome": "failed", "retcode": 4, "signal": None},
    "_exit0": {"outcome": "ok", "retcode": 0, "signal": None},
    "kill": {"outcome": "killed", "retcode": 137, "signal": 9},
    "segv": {"outcome": "killed", "retcode": 139, "signal": 11},
}
"""What the record of a run of ``end`` says, by how it ended."""

POOL = 'pm = "dynamic"\nmax_workers = 8\nmin_spare = 2\nmax_spare = 4\ngrace = "30s"'
IMPATIENT = POOL.replace('"30s"', '"1s"')
"""Where nothing has to be done within the grace: for jobs that do not hear TERM."""


def traced(daemon: Daemon, file: str = "ran") -> Counter[str]:
    """How often each key has run."""
    return Counter(lines(daemon.app / file))


def open_gate(daemon: Daemon) -> None:
    """Let jobs that hold go on."""
    (daemon.app / "gate").touch()


def found(record: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """What the record says where something is expected of it."""
    return {name: record.get(name) for name in expected}


def matches(record: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether the record says what is expected of it."""
    return found(record, expected) == expected


def lenient_package(folder: Path) -> Path:
    """rocksyd with a ladder on which no death counts as young: for tests that kill more masters than it allows."""
    package = copy_package(folder / "lenient")
    ladder = package / "keeper" / "ladder.py"
    text = ladder.read_text()
    assert "YOUNG = 10.0" in text
    ladder.write_text(text.replace("YOUNG = 10.0", "YOUNG = 0.0"))
    return package


def zygotes(daemon: Daemon) -> list[int]:
    """PIDs of the zygotes. (A worker has the title of its zygote until it has given itself its own, but another parent.)"""
    return [pid for pid in daemon.children("rocksyd: zygote") if parent_of(pid) == daemon.pid]


def serving_master(daemon: Daemon) -> int:
    """PID of the master that serves, seen from outside: without a connection. 0 when there is none now."""
    return next((pid for pid in daemon.children("rocksyd: master") if command_line(pid) == "rocksyd: master"), 0)


def the_master(daemon: Daemon) -> int:
    """PID of the master that serves; waits for one, so that nobody ever sends a signal to PID 0."""
    until(lambda: serving_master(daemon), "a master that serves")
    return serving_master(daemon) or the_master(daemon)


def kill_master(daemon: Daemon) -> int:
    """SIGKILL the serving master; return when another one serves. Returns the PID of the dead one."""
    victim = the_master(daemon)
    os.kill(victim, signal.SIGKILL)
    until(lambda: serving_master(daemon) not in (0, victim), "another master")
    return victim


def ended(daemon: Daemon, key: str) -> dict[str, Any]:
    """The record of a run, once it has ended, through a client that asks again when its connection is lost."""
    with daemon.client() as client:
        (record,) = client.wait(key)
        return record


class Stubborn:
    """A client in the classic dialect that repeats a request on a new connection until it is answered."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._talk: Conversation | None = None
        self.repeated = 0

    def ask(self, line: str) -> dict[str, Any]:
        """The answer to one line, however often it takes."""
        while True:
            try:
                if self._talk is None:
                    self._talk = Conversation(self._daemon.connect())
                return self._talk.ask(line)
            except ConnectionError:
                self.repeated += 1
                self.close()

    def run(self, key: int, target: str, *params: Any) -> dict[str, Any]:
        """Order a run."""
        return self.ask(f"run {json.dumps({'hash': key, 'class': target, 'params': list(params)})}")

    def wait(self, key: int) -> dict[str, Any]:
        """The record when the run has ended."""
        call = {"jsonrpc": "2.0", "id": 1, "method": "wait", "params": {"key": str(key)}}
        reply = self.ask(json.dumps(call))
        assert "result" in reply, reply
        record: dict[str, Any] = reply["result"]
        return record

    def close(self) -> None:
        """Close the connection there is."""
        if self._talk is not None:
            self._talk.close()
            self._talk = None


@contextmanager
def crowd(count: int, work: Callable[[int], None]) -> Iterator[None]:
    """``count`` threads that do ``work(number)`` beside the block; after it, wait for them and raise what they raised."""
    problems: list[BaseException] = []

    def one(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001  (raised again in the test's own thread)
            problems.append(error)

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a client is left waiting for ever"
    if problems:
        raise problems[0]
