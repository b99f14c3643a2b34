"""The page that says of each connection whether it is in the middle of something, for whoever comes after a crash.

What must live here: the slots of the page, and what their bits mean.
What this file must not know: clients, when one is busy.

The page is a memfd on the keeper's shelf. A connection's byte in it is set before the first byte of a request is read and
cleared when all is answered and sent: after a crash a quiet connection simply goes on, a busy one is closed, so that no client
is left out of step.
"""

from __future__ import annotations

import mmap
import os

AUTHORISED = 2
"""The bit of a connection's byte which says that it has shown the token, or need not."""
SLOTS = 65536


def create() -> int:
    """A memfd for a page."""
    fd = os.memfd_create("rocksyd-busy", os.MFD_CLOEXEC)
    os.ftruncate(fd, SLOTS)
    return fd


class BusyPage:
    """A byte for each slot of a connection, and which slots are free."""

    def __init__(self) -> None:
        self.of: mmap.mmap | bytearray = bytearray(SLOTS)
        """The byte of each slot."""
        self._free: list[int] = []
        self._next = 0

    def use(self, fd: int) -> None:
        """Share the page in the memfd ``fd``."""
        self.of = mmap.mmap(fd, SLOTS)

    def take(self) -> int:
        """A slot that is free."""
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1

    def give_back(self, slot: int) -> None:
        """This slot is free again."""
        self.of[slot] = 0
        self._free.append(slot)

    def taken(self, slots: set[int]) -> None:
        """These slots are taken, and all others are free."""
        self._next = max(slots, default=-1) + 1
        self._free = [slot for slot in range(self._next) if slot not in slots]
