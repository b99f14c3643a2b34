"""What the tests of pools share: jobs that are held by a gate, and what the daemon says of its pools."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon, until
from rocksyd.testing.daemon import CONFIG

JOBS = """
import os, signal, sys, time
from rocksyd import current, job

def hold(gate="gate"):
    open(current().key, "w").close()
    while not os.path.exists(gate):
        time.sleep(0.01)
    return os.getpid()

@job
def held():
    return hold()

@job
def good():
    return os.getpid()

@job
def crash(name):
    os.kill(os.getpid(), getattr(signal, name))
"""
OTHER = """
umask = "077"
nice = 3
cpu_affinity = [{cpu}]
rlimits = {{ nofile = 64, core = 0 }}
oom_score_adj = 700
env = {{ MODE = "other" }}
"""
"""Surroundings that are others than usual, with a place for the number of a processor."""


def may_be_run_by_anybody(python: str) -> bool:
    """Whether every user may run this interpreter."""
    check = "import os, sys; os.setuid(65534); assert sys.version_info >= (3, 11) and os.access(os.__file__, os.R_OK)"
    return subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0


@contextmanager
def enterable(jobs: str, app: str = "", pool: str = "") -> Iterator[tuple[Path, str]]:
    """An application's folder that every user may enter, and a configuration that names it, with a Python for every user."""
    python = next((path for path in (sys.executable, "/usr/bin/python3") if may_be_run_by_anybody(path)), None)
    if python is None:
        pytest.skip("there is no Python here that every user may run")
    folder = Path(tempfile.mkdtemp(prefix="rocksyd-t-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "jobs.py").write_text(jobs)
    try:
        app = f'python = "{python}"\n{app}'
        yield folder, CONFIG.format(top="", app=app, pool=pool).replace('path = "app"', f'path = "{folder}"')
    finally:
        shutil.rmtree(folder)


def pool(daemon: Daemon, name: str = "app") -> dict[str, Any]:
    """What `pools` says of this one."""
    (row,) = (row for row in daemon.talk().rpc("pools") if row["pool"] == name)
    assert isinstance(row, dict)
    return row


def begun(daemon: Daemon, *keys: str) -> None:
    """Wait until these jobs' code has begun."""
    until(lambda: all((daemon.app / key).exists() for key in keys), f"{keys} to have begun")


def open_gate(folder: Path, gate: str = "gate") -> None:
    (folder / gate).touch()


def kill_master(daemon: Daemon) -> None:
    """SIGKILL, and wait until another serves."""
    before = daemon.master_pid
    os.kill(before, signal.SIGKILL)
    until(lambda: daemon.master_pid != before, "another master")
