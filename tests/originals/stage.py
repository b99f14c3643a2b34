"""What the tests of the originals' edges share: jobs, many connections, and how much a process has used."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation

JOBS = '''
import os, signal, subprocess, sys, time
from rocksyd import job

class Nothing:
    def run(self, params):
        pass

class Sleeps:
    def run(self, params):
        time.sleep(1000)

class Exits:
    def run(self, params):
        sys.exit(params[0])

class Throws:
    def run(self, params):
        raise ValueError("as ordered")

class Exhausts:
    def run(self, params):
        raise MemoryError

class Dies:
    def run(self, params):
        os.kill(os.getpid(), params[0])
        time.sleep(1000)

class Waits:
    """Until there is the file."""
    def run(self, params):
        while not os.path.exists(params[0]):
            time.sleep(0.01)

class Deaf:
    """Does not end by TERM."""
    def run(self, params):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", flush=True)
        time.sleep(1000)

class Parent:
    """Starts a process of its own and prints its PID."""
    def run(self, params):
        print(subprocess.Popen(["sleep", "1000"]).pid, flush=True)
        time.sleep(1000)

class Notes:
    """Writes the signals it gets into its output."""
    def run(self, params):
        signal.signal(signal.SIGUSR1, lambda number, frame: print("heard", number, flush=True))
        print("ready", flush=True)
        while True:
            time.sleep(1000)

@job
def echo(*params):
    print("said", *params)
    return params

@job
def descriptors():
    paths = ["/proc/self/fd/" + name for name in os.listdir("/proc/self/fd")]
    return [os.readlink(path) for path in paths if os.path.exists(path) and "/libffi.so" not in os.readlink(path)]
'''
NOT_FOUND = {"error_text": "Hash not found"}
OK = {"error_text": "OK"}
RUNNING = {"error_text": "Still running"}


class Used(NamedTuple):
    """What a process has used since it began."""

    ticks: int
    """Hundredths of a second of processor time."""
    switches: int
    """How often it has gone to sleep."""
    peak: int
    """The most memory it had, in bytes."""


def used(pid: int) -> Used:
    """Of this process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) * 1024
    return Used(int(fields[11]) + int(fields[12]), int(status["voluntary_ctxt_switches"]), peak)


def state(pid: int) -> str:
    """The letter that the kernel shows for a process's state; "" when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def gone(pid: int) -> bool:
    """Whether a process has ended (whoever is to reap it may take its time)."""
    return state(pid) in ("", "Z")


@contextmanager
def crowd(daemon: Daemon, count: int) -> Iterator[list[socket.socket]]:
    """So many connections at once, none of which has said anything."""
    connections: list[socket.socket] = []
    try:
        for _ in range(count):
            connection = socket.socket(socket.AF_UNIX)
            connections.append(connection)
            connection.connect(daemon.address.removeprefix("unix://"))  # waits while the backlog is full
            connection.settimeout(30)
        yield connections
    finally:
        for connection in connections:
            connection.close()


def exchange(connection: socket.socket, data: bytes) -> bytes:
    """Say ``data``, then nothing more; everything the other end says till its end."""
    with connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return everything(connection)


def everything(connection: socket.socket) -> bytes:
    """What comes until the end of the connection."""
    parts = []
    while True:
        try:
            part = connection.recv(1 << 20)
        except ConnectionResetError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def ended(talk: Conversation, key: int | str) -> dict[str, object]:
    """Wait until the run has ended, and what ``check`` says then."""
    talk.rpc("wait", key=str(key))
    return talk.ask(f'check {{"hash":{key}}}')


def common_sockets(first: int, second: int) -> int:
    """How many sockets two processes share."""

    def of(pid: int) -> set[str]:
        found = set()
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
            except FileNotFoundError:
                continue
        return {name for name in found if name.startswith("socket:")}

    return len(of(first) & of(second))
