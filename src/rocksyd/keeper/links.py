"""A link: the keeper's end of one master's channel, with the queue that keeps what is said in order.

Descriptors of the shelf are queued by **name** and looked up when the kernel has room for them: a shelf of 15,000 would
otherwise be duplicated once more for a master that has not read yet, and no limit of open files would be high enough.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable

from rocksyd import messages
from rocksyd.errors import ChannelClosed
from rocksyd.keeper.shelf import Shelf
from rocksyd.posix.channel import Channel
from rocksyd.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BATCH = 250
"""Descriptors in one FDS message (the kernel takes 253)."""


class _Word(Value):
    message: Any
    owned: int
    """A descriptor in the message that is closed when it has been sent; -1 for none."""


class _Names(Value):
    names: tuple[str, ...]


class Link:
    """One master: its number, its process, its channel."""

    def __init__(self, number: int, pid: int, channel: Channel) -> None:
        self.number = number
        self.pid = pid
        self.channel = channel
        self.ended = False
        """Nothing can be read from it any more."""
        self.gone = False
        """Nothing can be sent to it any more."""
        self.stalled = False
        """The kernel said it is writable and took nothing (descriptors in flight): try again later, do not poll."""
        self.announced = False
        """PREPARE was sent, so changes of the shelf have to be passed on."""
        self._queue: deque[_Word | _Names] = deque()

    def fileno(self) -> int:
        """The channel's descriptor."""
        return self.channel.fileno()

    @property
    def busy(self) -> bool:
        """Whether something waits to be sent."""
        return not self.gone and (bool(self._queue) or self.channel.pending > 0)

    def say(self, message: Any, owned: int = -1) -> None:
        """Queue ``message``; descriptor ``owned`` in it is closed once it is sent."""
        if self.gone:
            _close(owned)
            return
        self._queue.append(_Word(message, owned))

    def say_shelved(self, names: Iterable[str]) -> None:
        """Queue FDS for these names of the shelf, in batches."""
        names = tuple(names)
        for start in range(0, len(names), BATCH):
            self._queue.append(_Names(names[start : start + BATCH]))

    def pump(self, shelf: Shelf) -> None:
        """Send what the kernel takes now. A link whose other end is gone forgets what it had to say."""
        if self.gone:
            return
        try:
            if self.channel.pending:
                before = self.channel.pending
                self.stalled = not self.channel.flush() and self.channel.pending == before
            while self._queue and not self.channel.pending:
                self._send(self._queue.popleft(), shelf)
        except ChannelClosed:
            self._forget()

    def _send(self, item: _Word | _Names, shelf: Shelf) -> None:
        if isinstance(item, _Names):
            kept = [(name, fd) for name in item.names if (fd := shelf.get(name)) is not None]
            if kept:
                self.channel.send(messages.Fds(tuple(name for name, _ in kept), tuple(fd for _, fd in kept)))
            return
        try:
            self.channel.send(item.message)
        finally:
            _close(item.owned)

    def _forget(self) -> None:
        for item in self._queue:
            if isinstance(item, _Word):
                _close(item.owned)
        self._queue.clear()
        self.gone = True

    def close(self) -> None:
        """Close the channel and what waits to be sent."""
        self._forget()
        self.channel.close()


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
