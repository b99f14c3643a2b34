"""The page in which each connection of a service says whether it is busy: whoever comes after a crash closes those that were.

What must live here: which byte is whose, the count of connections, and who serves (a lock, which goes with its process).
What this file must not know: connections.

The page is a memfd on the shelf, the same for all workers of a service. A process must have it open once only: closing any
descriptor of it would give the lock back (fcntl(2), record locks).
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

SLOTS = 1 << 16
"""Connections that a service can have at the same time."""
SIZE = SLOTS + 8


class Page:
    """A mapped page."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.busy = mmap.mmap(fd, SIZE)
        """A byte for each connection, at its number modulo SLOTS."""

    def next_number(self) -> int:
        """A number that no connection of this service has had."""
        number = int.from_bytes(self.busy[SLOTS:], "little") + 1
        self.busy[SLOTS:] = number.to_bytes(8, "little")
        return number

    @property
    def taken(self) -> bool:
        """Whether another worker serves."""
        if not self.take():
            return True
        fcntl.lockf(self._fd, fcntl.LOCK_UN)
        return False

    def take(self) -> bool:
        """Be the one that serves; false while another one is."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            return False
        return True

    def give(self) -> None:
        """Serve no longer."""
        fcntl.lockf(self._fd, fcntl.LOCK_UN)


def create() -> int:
    """A new page: its descriptor."""
    fd = os.memfd_create("rocksyd-service", os.MFD_CLOEXEC)
    os.ftruncate(fd, SIZE)
    return fd
