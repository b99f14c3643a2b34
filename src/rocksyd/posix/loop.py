"""The selector: descriptors, who handles them, and waiting until one is ready or a moment has come.

What must live here: epoll, and nothing that wakes by itself.
What this file must not know: who the handlers are.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from typing import Protocol


class Handler(Protocol):
    """Whoever is told what epoll says of a descriptor."""

    def handle(self, events: int) -> None:
        """Deal with ``events`` (EPOLLIN and so on)."""


class Loop:
    """A thin layer over epoll(7): level-triggered, made anew in every process (an inherited one keeps stale registrations)."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._masks: dict[int, int] = {}

    def register(self, fd: int, handler: Handler, mask: int) -> None:
        """Tell ``handler`` of ``fd``."""
        self._epoll.register(fd, mask)
        self._handlers[fd] = handler
        self._masks[fd] = mask

    def modify(self, fd: int, mask: int) -> None:
        """Wait for something else on ``fd``; nothing happens when it is not registered."""
        if fd in self._handlers:
            self._epoll.modify(fd, mask)
            self._masks[fd] = mask

    def rehandle(self, fd: int, handler: Handler) -> None:
        """Tell somebody else of ``fd``."""
        self._handlers[fd] = handler

    def unregister(self, fd: int) -> None:
        """Forget ``fd`` (before it is closed); nothing happens when it is not registered."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def wait(self, until: float | None) -> Iterator[tuple[Handler, int]]:
        """Handlers with what is ready for them, at the latest at ``until`` (CLOCK_MONOTONIC s; None: no such moment).

        A handler may unregister another: that one is passed over, also when its descriptor's number is somebody else's by then.
        """
        # epoll counts whole milliseconds: rounded up, else the last one before a deadline is spent spinning.
        timeout = -1.0 if until is None else max(0.0, until - time.monotonic())
        if timeout > 0:
            timeout = min(timeout + 0.001, 86400.0)
        ready = [(fd, self._handlers.get(fd), events) for fd, events in self._epoll.poll(timeout, 512)]
        return ((handler, events) for fd, handler, events in ready if handler is not None and self._handlers.get(fd) is handler)

    def absorb(self, other: Loop) -> None:
        """Take over everything registered with ``other``, which is closed."""
        for fd, handler in other._handlers.items():
            self.register(fd, handler, other._masks[fd])
        other.close()

    def close(self) -> None:
        """Give the epoll descriptor back."""
        self._epoll.close()
