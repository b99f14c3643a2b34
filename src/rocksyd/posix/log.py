"""The log: one line each on standard error, which must never stop the service.

What must live here: the form of a line, and what happens when nobody reads.
What this file must not know: who logs what.

A reader that is gone costs nothing (EPIPE), a reader that is stuck costs the line, not the service: a pipe that says POLLOUT
has room for PIPE_BUF bytes (pipe(7)), so a line of at most that is written without waiting or not at all.
"""

from __future__ import annotations

import os
import select
import stat
import time

PIPE_BUF = 4096
_lost = 0


def line(who: str, text: str) -> str:
    """The line for ``text``: time (UTC), process, text without line breaks of its own."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    body = text.replace("\n", "\n    ")
    return f"{stamp}.{int(now * 1000) % 1000:03d}Z {who}[{os.getpid()}] {body}\n"


def log(who: str, text: str, fd: int = 2) -> None:
    """Write one line, or drop it when it cannot be written now. The next one that can says how many were dropped."""
    global _lost  # one process, one standard error
    data = line(who, text).encode(errors="backslashreplace")
    if _lost:
        data = line(who, f"({_lost} lines before this one could not be written)").encode() + data
    if len(data) > PIPE_BUF:
        data = data[: PIPE_BUF - 1] + b"\n"
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    try:
        if poller.poll(0) and os.write(fd, data):
            _lost = 0
            return
    except OSError:
        pass
    _lost += 1


def reopen(who: str, pid: int) -> None:
    """After a rotation: let descriptors 1 and 2 be the file that process ``pid`` logs to now. What is no file stays as it is."""
    try:
        path = f"/proc/{pid}/fd/2"
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError as error:
        return log(who, f"the log cannot be reopened, the old one is still written: {error.strerror}")
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    return None
