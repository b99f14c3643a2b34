"""A daemon with jobs that end in every way, for those who look at it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rocksyd.companions.profiling import CannotProfile, Look
from rocksyd.testing.daemon import CONFIG, TIMEOUT, Daemon
from tests.terminal.stage import environment

JOBS = '''\
import os
import time
from pathlib import Path

from rocksyd import job


def inner(text):
    raise ValueError(text)


@job
def good():
    """Ends well.

    At once.
    """
    return 1


@job
def bad(text="no orders"):
    inner(text)


@job
def worse(text="no orders"):
    """Fails elsewhere."""
    raise ValueError(text)


@job
def leaves(status: int):
    os._exit(status)


@job(timeout="1h")
def holds(path: str, *, loud: bool = False):
    """Waits for a file."""
    while not os.path.exists(path):
        time.sleep(0.01)


@job
def prints(text, path=None, more="", times=1):
    print(text * times, end="", flush=True)
    while path is not None and not os.path.exists(path):
        time.sleep(0.01)
    print(more, end="", flush=True)


@job
def prints_bytes(hex):
    os.write(1, bytes.fromhex(hex))
'''


CLOCK = r"(\d\d:\d\d:\d\d|[A-Z][a-z]{2} \d\d \d\d:\d\d|\d{4}-\d\d-\d\d)"
"""How a moment is shown: of today, and of yesterday, which it may have become meanwhile."""


@contextmanager
def staged(folder: Path, *, workers: int = 2, top: str = "") -> Iterator[Daemon]:
    """The daemon; ``workers`` at most."""
    (folder / "d").mkdir()
    pool = f'pm = "dynamic"\nmax_workers = {workers}\nmin_spare = 1\nmax_spare = 1\ngrace = "30s"'
    with Daemon(folder / "d", config=CONFIG.format(top=top, app="", pool=pool), jobs=JOBS) as daemon:
        yield daemon


def rocksyd(daemon: Daemon, *words: str, say: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command without a terminal; ``say``: on its standard input."""
    command = [sys.executable, "-m", "rocksyd.cli", *words]
    return subprocess.run(
        command, env=environment(daemon), capture_output=True, text=True, timeout=TIMEOUT, check=False,
        errors="surrogateescape", **({"input": say} if say is not None else {"stdin": subprocess.DEVNULL}),
    )  # fmt: skip


def on_terminal(daemon: Daemon, *words: str) -> str:
    """What the command writes on a terminal, byte for byte."""
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "rocksyd.cli", *words], env=environment(daemon), stdin=slave, stdout=slave, stderr=slave,
        )  # fmt: skip
        os.close(slave)
        written = b""
        while data := _read(master):
            written += data
        process.wait(TIMEOUT)
    finally:
        os.close(master)
    return written.decode(errors="surrogateescape")


def _read(master: int) -> bytes:
    """What comes next; nothing when the last who had the terminal has left (EIO)."""
    try:
        return os.read(master, 65536)
    except OSError:
        return b""


def may_look() -> str:
    """Whether a process may look at another one here; why not."""
    with subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            Look(process.pid, 1, 10, idle=True).stacks()
        except CannotProfile as error:
            return str(error)
        finally:
            process.kill()
    return ""
