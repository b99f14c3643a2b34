"""The keeper's log: one line each on stderr, never blocking, never fatal.

A log pipe nobody reads must not stop the service. ``O_NONBLOCK`` on descriptor 2 itself would be shared with every process that
has the same pipe, so a pipe or a terminal is opened once more through ``/proc/self/fd/2``: that open file has flags of its own.

Sources: open(2) on ``/proc/<pid>/fd``, pipe(7) (a non-blocking write of at most PIPE_BUF bytes is all or nothing).
"""

from __future__ import annotations

import os
import select
import stat

from rocksyd.posix.log import JOURNAL, JSON, form_of, json_line, to_journal
from rocksyd.posix.log import line as entry

_PIPE_BUF = 4096


class Log:
    """Writes to descriptor 2, which is the file ``path`` if one is given."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.own = -1
        """A non-blocking descriptor of our own for what descriptor 2 is; -1: use descriptor 2."""
        self.reopen_own()

    def line(self, text: str) -> None:
        """Write one line, with the time (UTC) and the PID; what does not fit now is lost."""
        body = " | ".join(part.strip() for part in text.splitlines() if part.strip())
        form = form_of(2)
        if form == JOURNAL and to_journal("keeper", body, {}):
            return
        shown = json_line("keeper", body, {}) if form == JSON else entry("keeper", body)
        _write(self.own if self.own >= 0 else 2, shown.encode(errors="replace")[:_PIPE_BUF])

    def point_to_file(self) -> None:
        """Let descriptors 1 and 2 be the file ``path``, opened (again) for appending; without a path do nothing.

        Raises:
            OSError: it cannot be opened; the descriptors stay what they were.
        """
        if not self.path:
            return
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        os.close(fd)
        self.reopen_own()

    def reopen_own(self) -> None:
        """Open descriptor 2 once more with flags of our own, where it is a pipe or a terminal."""
        if self.own >= 0:
            os.close(self.own)
        self.own = -1
        try:
            mode = os.fstat(2).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
                self.own = os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return  # not ours to open (or its reader has gone already): polling before each write has to do

    def close(self) -> None:
        """Close what was opened for the log."""
        if self.own >= 0:
            os.close(self.own)
            self.own = -1


def write_text(fd: int, text: str, patience: float = 1.0) -> None:
    """Write all of ``text`` to ``fd``, but give up after ``patience`` seconds in which it takes nothing, or an error."""
    data = text.encode(errors="replace")
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    while data and poller.poll(patience * 1000):
        try:
            data = data[os.write(fd, data[:_PIPE_BUF]) :]
        except OSError:
            return


def _write(fd: int, data: bytes) -> None:
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    try:
        if poller.poll(0):
            os.write(fd, data)
    except OSError:
        return
