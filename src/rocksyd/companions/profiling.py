"""Looking at a process with py-spy, from beside it and without a word to it: where its threads are, a hundred times a second.

What must live here: starting py-spy, ending it early, and what its trouble means.
What this file must not know: which run the process is at, what becomes of the stacks.

py-spy reads the memory of the other process (process_vm_readv, ptrace), so nothing has to be imported or started there, and a job
that is stuck in C is seen as well. Sources: ptrace(2) and Yama's documentation, for who may look at whom.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

from rocksyd.companions import flames

LATEST = 10.0
"""Seconds behind the time after which it should have written what it has seen."""
_CURE = (
    "the daemon's user may not look at it: run the daemon as root, or allow it to (sysctl kernel.yama.ptrace_scope=0; of a "
    "container the capability SYS_PTRACE)"
)


class CannotProfile(Exception):
    """It was not looked at; the text says why and what to do."""


def program() -> str:
    """The path of py-spy, that of this interpreter's environment first; "" where there is none."""
    beside = os.path.join(os.path.dirname(sys.executable), "py-spy")
    return beside if os.access(beside, os.X_OK) else shutil.which("py-spy") or ""


class Look:
    """One process, looked at for some seconds."""

    def __init__(self, pid: int, seconds: float, rate: int, *, idle: bool) -> None:
        """Begin. Raises CannotProfile."""
        self._folder = tempfile.TemporaryDirectory(prefix="rocksyd-profile-")
        self._file = f"{self._folder.name}/stacks"
        self._until = seconds + LATEST
        self._said = threading.Lock()
        words = [
            program() or "py-spy", "record", "--pid", str(pid), "--duration", str(max(1, round(seconds))), "--rate", str(rate),
            "--format", "raw", "--function", "--output", self._file, *(["--idle"] if idle else []),
        ]  # fmt: skip
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
            )
        except OSError as error:
            self._folder.cleanup()
            raise CannotProfile(f"{words[0]} cannot be started: {error.strerror}; pip install rocksyd[profiler]") from error

    def end(self) -> None:
        """Let it be enough: what was seen up to now counts."""
        with self._said:
            if self._process.returncode is None:
                self._process.send_signal(signal.SIGINT)

    def stacks(self) -> flames.Stacks:
        """What was seen, when it is over. Raises CannotProfile."""
        try:
            try:
                _, said = self._process.communicate(timeout=self._until)
            except subprocess.TimeoutExpired:
                self._process.kill()
                _, said = self._process.communicate()
                said += "it did not come to an end"
            try:
                with open(self._file, encoding="utf-8", errors="replace") as file:
                    return flames.read(file.read())
            except FileNotFoundError:
                raise CannotProfile(_why(said)) from None
        finally:
            self._folder.cleanup()


def _why(said: str) -> str:
    """What py-spy's words mean to who has asked."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    whole = " ".join(lines)
    if any(word in whole for word in ("Permission Denied", "Permission denied", "Operation not permitted", "os error 1)")):
        return _CURE
    if any(word in whole for word in ("No such process", "No such file or directory", "process exited")):
        return "it had ended before it could be looked at"
    if not lines:
        return "it had ended before anything was seen"
    return f"py-spy says: {whole[:500]}"
