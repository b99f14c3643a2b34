"""Callers of exec that a test can look at while they wait."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from rocksyd.testing import Daemon, until
from tests.exec.stage import environment

TIMEOUT = 60.0
GATED = "import sys\nprint('begun', flush=True)\nprint('through', sys.stdin.readline(), end='')\nsys.exit(3)\n"
"""A script that says that it has begun, and goes on when it is given a line."""


class Call:
    """One command line under way. Use as a context manager."""

    def __init__(self, command: str, daemon: Daemon, folder: Path, **more: Any) -> None:
        self.process = subprocess.Popen(
            command.split(" "), cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**environment(daemon), **more.pop("env", {})}, **more,
        )  # fmt: skip

    def __enter__(self) -> Call:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                continue

    def line(self) -> str:
        """The next line of its output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def end(self, text: str = "") -> tuple[int, str, str]:
        """Give it a line and wait for its end: exit status, the rest of its output, its errors."""
        out, errors = self.process.communicate(text.encode(), TIMEOUT)
        return self.process.returncode, out.decode(), errors.decode()


def runs(daemon: Daemon, state: str) -> list[dict[str, Any]]:
    """The runs of scripts in this state."""
    return [run for run in daemon.talk().rpc("list", state=state) if run["target"].startswith("exec ")]


def until_waiting(daemon: Daemon, count: int = 1) -> list[dict[str, Any]]:
    """Wait until so many scripts wait for a worker."""
    until(lambda: len(runs(daemon, "waiting")) >= count, f"{count} scripts to wait")
    return runs(daemon, "waiting")


def kill_master(daemon: Daemon) -> None:
    """Kill the serving master, and wait for the next one."""
    before = daemon.master_pid
    os.kill(before, signal.SIGKILL)
    until(lambda: daemon.master_pid != before, "another master")


def held_descriptors(daemon: Daemon) -> list[str]:
    """What of callers the keeper and the master hold."""
    found = []
    for pid in (daemon.pid, daemon.master_pid):
        found += [name for name in daemon.descriptors(pid).values() if "memfd:rocksyd-exec" in name]
    return found
