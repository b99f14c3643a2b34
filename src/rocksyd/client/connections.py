"""Connections of blocking code: one for each call at a time, kept for the next call.

What must live here: waiting for bytes, and which connection is free. ``aio_connections`` has the same names, for asyncio code.
What this file must not know: what the calls mean, and what is asked again (``asking``).
"""

from __future__ import annotations

import os
import time

from rocksyd.client.calls import Call
from rocksyd.client.daemon_socket import DaemonSocket
from rocksyd.client.endpoint import Place
from rocksyd.client.keeper_process import wait_gone as wait_gone  # noqa: PLC0414  (the counterpart of that in ``aio_connections``)
from rocksyd.client.protocol import ClientProtocol, Notification, Reply
from rocksyd.errors import MessageError, NoDaemon


class Exchange:
    """Calls on one connection, and what is said on it. Not for several threads at once."""

    __slots__ = ("_next", "_protocol", "opened_at", "socket", "unanswered")

    def __init__(self, place: Place) -> None:
        self.socket = DaemonSocket(place.address)
        self.opened_at = time.monotonic()
        self.unanswered: dict[int, int] = {}
        """Number of a call on this connection -> its index."""
        self._protocol = ClientProtocol(place.token)
        self._next = 1

    def ask(self, calls: dict[int, Call], timeout: float | None) -> None:
        """Send these calls (by their index) in one write. Raises ConnectionLost, NoDaemon, TypeError, RequestError."""
        lines = [self._protocol.opening()] if self._next == 1 else []
        now = time.monotonic()
        for index, call in calls.items():
            lines.append(self._protocol.call(self._next, call.method, call.params_at(now)))
            self.unanswered[self._next] = index
            self._next += 1
        self.socket.send(b"".join(lines), timeout)

    def events(self, deadline: float | None) -> list[Reply | Notification]:
        """What has been said, replies with the index of their call as ``id``.

        Raises ConnectionLost; TimeoutError at the monotonic time ``deadline``; NoDaemon when the other end is no rocksyd daemon.
        """
        timeout = None if deadline is None else deadline - time.monotonic()
        if timeout is not None and timeout <= 0:
            raise TimeoutError
        try:
            events = self._protocol.receive(self.socket.receive(timeout))
        except MessageError as error:
            raise NoDaemon(f"{self.socket.address}: {error}") from error
        if self._protocol.refused:
            self.close()  # nothing more is answered on it, though the daemon leaves it open until it has read what was sent
        answers: list[Reply | Notification] = []
        for event in events:
            if not isinstance(event, Reply):
                answers.append(event)
            elif event.id in self.unanswered:
                answers.append(event._replace(id=self.unanswered.pop(event.id)))
        return answers

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


class Connections:
    """Connections to one daemon; idle ones are used again. Threads may share them."""

    __slots__ = ("_idle", "_pid", "_place")

    def __init__(self, place: Place) -> None:
        self._place = place
        self._idle: list[Exchange] = []
        self._pid = os.getpid()

    def take(self) -> Exchange:
        """An idle connection, or a new one. Raises NoDaemon."""
        if self._pid != os.getpid():
            # A fork shares its parent's connections; two processes on one would get each other's answers.
            self.close()
            self._pid = os.getpid()
        while self._idle:
            try:
                exchange = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if exchange.socket.is_quiet():
                return exchange
            exchange.close()
        return Exchange(self._place)

    def give_back(self, exchange: Exchange) -> None:
        """Keep the connection for the next call, unless answers are still to come on it."""
        if exchange.unanswered:
            exchange.close()
        else:
            self._idle.append(exchange)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()
