"""A program on a terminal of its own (pty(7)): what it draws, what is typed at it, how it leaves the terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rocksyd.testing.daemon import TIMEOUT, Daemon, DaemonError
from tests.terminal.screen import Screen

JOBS = """\
import os
import time
from pathlib import Path

from rocksyd import current, job


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)


@job
def steps(folder, total=4):
    '''One step for each file that is there.'''
    for step in range(1, total + 1):
        wait_for(os.path.join(folder, str(step)))
        print(f"step {step}", flush=True)
        current().progress(step, total, f"did {step}")
        current().flush()
    wait_for(os.path.join(folder, "end"))


@job
def dots(folder):
    '''Prints without ending the line.'''
    print("before", flush=True)
    for step in (1, 2):
        print(".", end="", flush=True)
        current().progress(step, 2)
        current().flush()
    wait_for(os.path.join(folder, "end"))
    print("", flush=True)


@job(max_running=1)
def single(path):
    wait_for(path)


@job
def holds(path):
    wait_for(path)


@job
def polite(path):
    '''Does not end by TERM.'''
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(path).touch()
    while True:
        time.sleep(1)


@job
def broken(message="no orders"):
    raise ValueError(message)


@job
def greet(name: str, loud: bool = False, *, times: int = 1) -> str:
    return name * times
"""


def environment(daemon: Daemon | None, **more: str) -> dict[str, str]:
    """That of a person at a terminal."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES", "ROCKSYD_TOKEN")}
    address = {"ROCKSYD_ADDRESS": daemon.address} if daemon else {}
    return {**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1", **address, **more}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "rocksyd.cli", *words]


def rocksyd(daemon: Daemon, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The command without a terminal."""
    return subprocess.run(
        command(*words), env=environment(daemon, **more), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


class Program:
    """A program that has a terminal. Use as a context: it is ended."""

    def __init__(
        self, words: Sequence[str], env: dict[str, str], *, size: tuple[int, int] = (80, 24), cwd: Path | None = None
    ) -> None:
        self.screen = Screen(*size)
        self.master, self._slave = pty.openpty()
        self._set_size(*size)
        self.before = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            words, stdin=self._slave, stdout=self._slave, stderr=self._slave, env=env, cwd=cwd, start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509  (this process has one thread)
        )  # fmt: skip

    def __enter__(self) -> Program:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:
            sys.stderr.write(f"--- the screen\n{self.screen.text}\n---\n")
        for number in (signal.SIGCONT, signal.SIGKILL):
            if self.process.poll() is None:
                os.killpg(self.process.pid, number)
        self.hang_up()
        self.process.wait()

    # --- as a person --------------------------------------------------------------------------------------------------
    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        self.look(0)
        self.screen.resize(columns, rows)
        self._set_size(columns, rows)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        """Close the window."""
        for fd in (self._slave, self.master):
            if fd >= 0:
                os.close(fd)
        self._slave = self.master = -1

    # --- looking ------------------------------------------------------------------------------------------------------
    def look(self, timeout: float) -> bool:
        """Take in what the program has written; false when it wrote nothing in this time."""
        ready, _, _ = select.select([self.master], [], [], timeout)
        if ready:
            self.screen.feed(os.read(self.master, 65536))
        return bool(ready)

    def until(self, condition: Callable[[Screen], object], what: str = "") -> Screen:
        """Look until the screen is as wanted."""
        end = time.monotonic() + TIMEOUT
        while not condition(self.screen):
            if not self.look(0.1) and self.process.poll() is not None and not self.look(0):
                if condition(self.screen):
                    break
                raise DaemonError(f"ended with {self.process.returncode} before the screen showed {what}:\n{self.screen.text}")
            if time.monotonic() > end:
                raise DaemonError(f"the screen did not show {what}:\n{self.screen.text}")
        return self.screen

    def sees(self, *words: str) -> Screen:
        """Look until all these words are on the screen."""
        return self.until(lambda screen: all(word in screen.text for word in words), repr(words))

    def sees_no(self, word: str) -> Screen:
        return self.until(lambda screen: word not in screen.text, f"no {word!r}")

    def ends(self) -> int:
        """Wait for its end, taking in what it still writes."""
        end = time.monotonic() + TIMEOUT
        while self.process.poll() is None:
            self.look(0.05)
            assert time.monotonic() < end, self.screen.text
        while self.look(0):
            pass
        return self.process.returncode

    def assert_restored(self) -> None:
        """The terminal is as it was before."""
        now = termios.tcgetattr(self._slave)
        assert now == self.before
        assert not self.screen.is_other
        assert self.screen.modes[25]
        assert self.screen.modes[7]


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
