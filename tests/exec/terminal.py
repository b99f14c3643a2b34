"""A terminal with a person at it: a pseudo-terminal, and a shell that does nothing but job control."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from rocksyd.testing import Daemon
from tests.exec.stage import environment

TIMEOUT = 60.0
SHELL = """
import os, signal, sys
said, told = int(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGQUIT, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    for number in (signal.SIGTTOU, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    os.close(said)
    os.close(told)
    os.execvp(sys.argv[3], sys.argv[3:])
while True:
    _, status = os.waitpid(pid, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpid())
    if not os.WIFSTOPPED(status):
        os.write(said, b"ended %d\\n" % os.waitstatus_to_exitcode(status))
        break
    os.write(said, b"stopped %d\\n" % os.WSTOPSIG(status))
    if os.read(told, 1) == b"f":
        os.tcsetpgrp(0, pid)
    os.kill(-pid, signal.SIGCONT)
"""


class Terminal:
    """A command in the foreground of a terminal of its own. Use as a context manager."""

    def __init__(self, command: str, folder: Path, daemon: Daemon, size: tuple[int, int] = (24, 80)) -> None:
        self.fd, inside = pty.openpty()
        self._resize(size)
        self._said, said = os.pipe()
        told, self._told = os.pipe()
        words = [sys.executable, "-I", "-S", "-c", SHELL, str(said), str(told), *command.split(" ")]
        env = {
            **environment(daemon),
            "TERM": "xterm",
            "PYTHONDONTWRITEBYTECODE": "1",
            "INPUTRC": "/dev/null",
            "HOME": str(folder),
        }
        self._shell = subprocess.Popen(
            words, stdin=inside, stdout=inside, stderr=inside, cwd=folder, env=env, start_new_session=True, pass_fds=(said, told),
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  (there is no other thread)
        )  # fmt: skip
        for fd in (inside, said, told):
            os.close(fd)
        self.text = ""
        self._looked = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self.fd, self._said, self._told):
            os.close(fd)
        if self._shell.poll() is None:
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait(TIMEOUT)

    def wait(self, text: str) -> None:
        """Read until ``text`` has been shown, since the last time that something was waited for."""
        until = time.monotonic() + TIMEOUT
        while text not in self.text[self._looked :]:
            if not self._read(max(0.0, until - time.monotonic())):
                raise AssertionError(f"{text!r} was not shown; what was: {self.text!r}")
        self._looked = self.text.index(text, self._looked) + len(text)

    def _read(self, timeout: float) -> bool:
        if not select.select([self.fd], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # nobody has the other end open
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.fd, keys.encode())

    def _resize(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))

    def resize(self, rows: int, columns: int) -> None:
        """Make the window as large."""
        self._resize((rows, columns))

    def heard(self) -> str:
        """What the shell says next of the command: ``stopped SIGNAL`` or ``ended STATUS``."""
        until = time.monotonic() + TIMEOUT
        while not select.select([self._said], [], [], 0)[0]:
            if time.monotonic() > until:
                raise AssertionError(f"the command neither stopped nor ended; shown: {self.text!r}")
            self._read(0.01)
        word = os.read(self._said, 64).decode().strip()
        assert word, f"the shell itself has ended; shown: {self.text!r}"
        while self._read(0.05 if word.startswith("ended") else 0.0):
            pass
        return word

    def go_on(self, *, foreground: bool = True) -> None:
        """``fg``, or ``bg``."""
        os.write(self._told, b"f" if foreground else b"b")

    def transcript(self, folder: Path) -> str:
        """Everything that was shown, without what differs from run to run."""
        return re.sub(r"0x[0-9a-f]+", "<address>", self.text.replace(str(folder), "<here>"))
