"""Where a job's output goes: straight into its own file, whoever in the process writes it.

What must live here: descriptors 0, 1, 2 and Python's objects for them.
What this file must not know: jobs, messages.

Descriptors 1 and 2 themselves are the file, so what C code and subprocesses print goes there too, in order.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

from rocksyd.posix import libc


def prepare() -> None:
    """Once in the zygote: standard output line by line and in UTF-8 that never fails, in Python and in C."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    libc.line_buffer_stdout()


def attach(log: str, fd: int = -1) -> None:
    """Make descriptors 1 and 2 the file ``log``, opened append; "" for ``/dev/null``. ``fd``: it has been opened already.

    Raises:
        OSError: it cannot be opened; the message names it.
    """
    if fd < 0:
        fd = _open(log or os.devnull)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    if fd > 2:
        os.close(fd)


def detach() -> None:
    """Between two jobs: flush, then make 0, 1 and 2 ``/dev/null``, and replace what the last job closed or put in their place."""
    flush()
    fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in (0, 1, 2):
        if fd != number:
            os.dup2(fd, number)
        else:
            os.set_inheritable(fd, True)
    if fd > 2:
        os.close(fd)


def _open(path: str, tries: int = 5) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except FileNotFoundError:  # somebody has removed the folder of the day, or is about to
        if not tries:
            raise
        with contextlib.suppress(FileNotFoundError):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    return _open(path, tries - 1)


class Spool:
    """A file of the worker's own that jobs print into one after another; what one has printed becomes that job's file.

    To make a file is the dearest thing that a short job asks of the system, and most print nothing.
    """

    def __init__(self) -> None:
        self._path = ""
        self._file: tuple[int, int] | None = None
        self._null: tuple[int, int] | None = None

    def attach(self, path: str) -> None:
        """Make descriptors 1 and 2 the file ``path``, opened append, if they are not already.

        Raises:
            OSError: it cannot be opened; the message names it.
        """
        if path != self._path or not self._attached:
            attach(path)
            self._path, self._file = path, identity(1)

    def keep(self, log: str) -> bool:
        """The job has ended: what it printed is the file ``log`` from now on. False when it printed nothing, which is no file."""
        flush()
        try:
            if not (os.fstat(1).st_size if self._attached else os.stat(self._path).st_size):
                return False
            os.rename(self._path, log)
        except OSError:
            pass  # somebody has removed it; the next job makes another
        self._path = ""
        return True

    def rest(self) -> None:
        """Between two jobs: descriptors 0, 1 and 2 as they were, whatever the last job has made of them."""
        if identity(0) != self._null or not self._attached:
            self._path = ""
            detach()
            self._null = identity(0)

    @property
    def _attached(self) -> bool:
        return identity(1) == self._file and identity(2) == self._file


def identity(fd: int) -> tuple[int, int] | None:
    """Which file is open under this number, None for none: a job may have closed it and opened another."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Streams:
    """Python's ``sys.stdin``, ``stdout`` and ``stderr`` as they were before any job, to give them to the next."""

    def __init__(self) -> None:
        self._kept = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}

    def restore(self) -> None:
        """Put them back; one that a job has closed is opened anew."""
        for number, (name, stream) in enumerate(self._kept.items()):
            if getattr(stream, "closed", False):
                stream = self._kept[name] = _reopened(number)
            setattr(sys, name, stream)


def _reopened(number: int) -> Any:
    if number == 0:
        return open(0, encoding="utf-8", closefd=False)
    return open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def flush() -> None:
    """Write what Python and the C library still hold. A stream that is closed or broken is passed over."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    libc.flush_streams()


def note(text: str) -> None:
    """A line from rocksyd into the job's output."""
    write(f"rocksyd: {text}\n")


def write(text: str) -> None:
    """``text`` to the job's standard error, whatever the job has done to ``sys.stderr``."""
    flush()
    data = text.encode("utf-8", "backslashreplace")
    fd = _descriptor()
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(fd, data) :]


_descriptor: Callable[[], int] = lambda: 2  # noqa: E731  (the same for every job, but where several share the process)


def route(descriptor: Callable[[], int]) -> None:
    """Ask ``descriptor`` from now on where the job that is going on prints to."""
    global _descriptor
    _descriptor = descriptor
