"""`rocksyd serve` in a terminal: it says what to type next, and Ctrl-C ends it in order."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.test_cli import command, environment, rocksyd

JOBS = """
from rocksyd import job

@job
def needs(argument):
    return argument

@job(timeout="10s")
def greet(name="you"):
    return f"hello {name}"
"""
CONFIG = '[apps.demo]\npath = "."\njobs = ["jobs"]\n'


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        (path / "jobs.py").write_text(JOBS)
        (path / "rocksyd.toml").write_text(CONFIG)
        yield path


def read_until(terminal: int, word: bytes = b"") -> bytes:
    """What the terminal shows, up to the line with ``word``; without it all there is until nobody has the other side any more."""
    seen = b""
    while not word or word not in seen or not seen.endswith(b"\n"):
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # EIO
            return seen
    return seen


def test_in_a_terminal_serve_says_what_to_type_next_and_ctrl_c_stops_it_in_order(folder: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        words = command("serve")
        os.execve(words[0], words, environment())
    rest = ""
    try:
        seen = read_until(terminal, b"serves demo").decode()
        suggested = next(line.split("  ")[1] for line in seen.splitlines() if "rocksyd run" in line)
        assert f"unix://{folder}/run/rocksyd.sock" in seen
        # What it suggests works.
        done = rocksyd(None, *suggested.split()[1:], cwd=folder)
        assert (done.returncode, done.stdout.splitlines()[1]) == (0, '"hello you"')
        os.write(terminal, b"\x03")
        rest = read_until(terminal).decode()
        assert "stopping (ordered by SIGINT)" in rest
        assert "exiting with status 0" in rest
    finally:
        os.close(terminal)  # after a failure: what is still there gets SIGHUP, and then its own end
        if not rest:
            os.kill(pid, signal.SIGTERM)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_without_a_terminal_serve_says_nothing_but_its_log(folder: Path) -> None:
    with subprocess.Popen(command("serve"), cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.terminate()
        process.stderr.read()
    assert "serves demo at" in line
    assert process.returncode == 0


def test_what_cannot_be_read_is_no_reason_not_to_start(folder: Path) -> None:
    from rocksyd import config
    from rocksyd.cli.banner import banner

    loaded = config.load(str(folder / "rocksyd.toml"))
    (folder / "jobs.py").write_text("def broken(:\n")
    assert "rocksyd run NAME --wait" in banner(loaded)
    (folder / "jobs.py").unlink()
    assert "rocksyd run NAME --wait" in banner(loaded)
