"""The keeper replaces itself in place: same PID, same children, same descriptors, new code.

The new code is tried first: a child process runs it up to the point where it would take over, with a copy of the real state
and the real descriptors. Only then does this process execute it. Nobody waits meanwhile: the keeper is not in the path of data.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable

from rocksyd.keeper.options import Options
from rocksyd.posix.channel import memfd
from rocksyd.posix.processes import Command, start
from rocksyd.values import Value

PATIENCE = 30.0
"""Seconds the new code may take to read the state."""
_FOLDERS = ("posix", "keeper")
_FILES = (
    "__init__.py", "boot.py", "bounds.py", "errors.py", "exit_status.py", "messages.py", "shapes.py", "shelf_names.py",
    "units.py", "values.py",
)  # fmt: skip

Fingerprint = tuple[tuple[str, int, int], ...]
"""(file, size, hash) of every file the keeper is made of. Hashes differ between processes: to be compared within one only."""


def fingerprint(boot: str) -> Fingerprint:
    """Of the keeper's code on disk now; a file that cannot be read has the size -1."""
    package = os.path.dirname(boot)
    names = list(_FILES)
    for folder in _FOLDERS:
        try:
            names.extend(os.path.join(folder, name) for name in os.listdir(os.path.join(package, folder)) if name.endswith(".py"))
        except OSError:
            names.append(folder)
    return tuple((name, *_measure(os.path.join(package, name))) for name in sorted(names))


def _measure(path: str) -> tuple[int, int]:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return -1, 0
    return len(data), hash(data)


class Successor(Value):
    """A process that tries the new code."""

    pid: int
    output: int
    """Read end of a pipe: what it says of a failure."""
    deadline: float
    code: Fingerprint
    """What is being tried."""


def arguments(options: Options, word: str, state: int) -> list[str]:
    """The command line of a keeper that reads ``state``; ``word`` is ``--resume`` or ``--check``."""
    return [options.python, "-I", "-S", options.boot, "keeper", word, str(state), "--subreaper"]


def try_code(options: Options, state: bytes, fds: Iterable[int], code: Fingerprint, now: float) -> Successor:
    """Start the new code on a copy of the state. Raises OSError."""
    # The copy's number must not be one of the state's own.
    copy = memfd("state", state)
    output, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        command = Command(arguments(options, "--check", copy), os.environ, keep=(copy, *fds), output=theirs)
        started = start(command)
    except OSError:
        os.close(output)
        raise
    finally:
        os.close(copy)
        os.close(theirs)
    os.close(started.verdict)  # its exit status says enough
    return Successor(started.pid, output, now + PATIENCE, code)


def last_words(output: int) -> str:
    """The last line a failed successor wrote."""
    try:
        text = os.read(output, 65536).decode(errors="replace").strip()
    except OSError:
        return ""
    return text.splitlines()[-1] if text else ""


def replace(options: Options, state: bytes, fds: Iterable[int]) -> None:
    """Execute the new code in this process; returns only by raising.

    Raises:
        OSError: the exec did not come about; everything is as before.
    """
    copy = memfd("state", state)
    carried = [copy, *fds]
    try:
        for fd in carried:
            os.set_inheritable(fd, True)
        os.execve(options.python, arguments(options, "--resume", copy), os.environ)
    finally:
        for fd in carried:
            fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        os.close(copy)
