"""One connection of a service: what has been read and not handled, what is owed and not sent.

What must live here: buffers, the parser, the order of messages. What this file must not know: who wakes it, hand-overs.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Any, Protocol

from rocksyd.errors import ProtocolError
from rocksyd.protocols import Parser
from rocksyd.worker.service.state import Carried

READ = 1 << 16
"""Bytes read at once."""


class Place(Protocol):
    """Where it is among others."""

    def moved(self, c: Conn, before: str | None, /) -> None:
        """It is in another room."""


class Owner(Protocol):
    """Who serves it."""

    live: bool
    """Whether it is this process that reads and writes."""
    max_unsent: int
    unsent: int
    """Bytes that all its connections are owed."""

    @property
    def connections(self) -> Place:
        """Where it is."""

    def want(self, connection: Conn) -> None:
        """What it waits for may have changed."""

    def lose(self, connection: Conn, why: str) -> None:
        """It is over; said in the middle of anything."""


class Conn:
    """What a service's methods get as ``c``."""

    __slots__ = (
        "_parser", "_raw", "_room", "_socket", "closing", "events", "fd", "greeted", "handled", "id", "lost", "out", "owner",
        "peer", "queue", "shared", "state", "working",
    )  # fmt: skip

    def __init__(self, owner: Owner, number: int, parser: Parser, sock: socket.socket | None, peer: str = "") -> None:
        self.owner, self.id, self.peer = owner, number, peer
        self.state: Any = None
        self._room: str | None = None
        self._socket = sock
        self.fd = sock.fileno() if sock is not None else -1
        self._parser = parser
        self._raw = b""
        """What the messages in ``queue`` were read from, and behind it what is no message yet."""
        self.handled = 0
        """Messages at the beginning of ``_raw`` that were handled."""
        self.queue: deque[Any] = deque()
        """Messages that have come and are not handled."""
        self.out = bytearray()
        self.events = 0
        """What epoll is to look for."""
        self.greeted = self.closing = self.lost = self.working = False
        """``working``: a method is called for it, and has not returned."""
        self.shared = False
        """Whether a successor has been sent its descriptor."""

    # --- for the service's code ---------------------------------------------------------------------------------------
    @property
    def room(self) -> str | None:
        """What ``announce`` reaches it by."""
        return self._room

    @room.setter
    def room(self, name: str | None) -> None:
        before, self._room = self._room, name
        self.owner.connections.moved(self, before)

    def send(self, message: Any) -> None:
        """Send a message; it waits for nobody. Before a handshake is done, and to one that is closed, nothing is sent."""
        if not self.lost and not self.closing and self._parser.ready:
            self.write(self._parser.encode(message))

    def close(self) -> None:
        """Close it when all that was sent is written."""
        if self.closing or self.lost:
            return
        self._parser.close()
        self.queue.clear()
        if owed := self._parser.to_send():
            self.write(owed)
        self.closing = True
        if self.out or not self.owner.live:
            self.owner.want(self)
        else:
            self.owner.lose(self, "")

    def __repr__(self) -> str:
        return f"<connection {self.id}{' ' if self.peer else ''}{self.peer}>"

    # --- bytes --------------------------------------------------------------------------------------------------------
    def write(self, data: bytes) -> None:
        """Send bytes, now or as soon as the peer takes them."""
        sent = 0
        if not self.out and self.owner.live and self._socket is not None:
            try:
                sent = self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                pass
            except OSError:
                return self.owner.lose(self, "")
        if sent < len(data):
            self.out += data[sent:] if sent else data
            self.owner.unsent += len(data) - sent
            if len(self.out) > self.owner.max_unsent:
                return self.owner.lose(self, f"its peer does not read: more than {self.owner.max_unsent} bytes are unsent")
            self.owner.want(self)
        return None

    def flush(self) -> None:
        """Send what is owed, as far as the peer takes it."""
        assert self._socket is not None
        try:
            while self.out:
                sent = self._socket.send(self.out, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                del self.out[:sent]
                self.owner.unsent -= sent
        except BlockingIOError:
            pass
        except OSError:
            return self.owner.lose(self, "")
        if not self.out and self.closing:
            return self.owner.lose(self, "")
        self.owner.want(self)
        return None

    def read(self) -> bytes | None:
        """What has come; None for nothing now, b"" for the end."""
        assert self._socket is not None
        try:
            return self._socket.recv(READ, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def feed(self, data: bytes) -> None:
        """Bytes of the peer's. Raises ProtocolError, when what was whole before is in ``queue``, and what an own parser does."""
        if not self.queue and not self.working:
            self._raw, self.handled = self._parser.pending, 0
        self._raw += data
        self.queue.extend(self._read(data))

    def _read(self, data: bytes) -> list[Any]:
        messages = self._parser.feed(data)
        if not self._parser.ended and (owed := self._parser.to_send()):
            self.write(owed)
        return messages

    def next(self) -> Any:
        """The message to be handled next."""
        self.handled += 1
        return self.queue.popleft()

    @property
    def ready(self) -> bool:
        """Whether messages may be sent and come."""
        return self._parser.ready

    @property
    def ended(self) -> bool:
        """Whether nothing more will come, and all that has come is handled."""
        return self._parser.ended and not self.queue and not self.working

    @property
    def unread(self) -> tuple[bytes, int]:
        """What is to be read again by whoever comes next, and how many messages at its beginning were handled."""
        return (self._raw, self.handled) if self.queue or self.working else (self._parser.pending, 0)

    @property
    def quiet(self) -> bool:
        """Whether it is between two messages, and nothing is owed."""
        busy = self.queue or self.working or self.out or self.closing or not self.greeted
        return not busy and self._parser.idle

    # --- from one worker to the next ----------------------------------------------------------------------------------
    def dump(self) -> Carried:
        """What is carried of it."""
        unread, handled = self.unread
        return Carried(
            self.id, self.peer, self._room, self.state, unread, handled, bytes(self.out), self.greeted, self.closing,
            self._parser.settled,
        )  # fmt: skip

    def load(self, carried: Carried) -> None:
        """Go on where another worker was, with a parser that was made of ``unread``. Raises what an own parser does."""
        self.peer, self._room, self.greeted, self.closing = carried.peer, carried.room, carried.greeted, carried.closing
        self._raw, self.handled = carried.unread, carried.handled
        try:
            messages = self._parser.feed(b"")
        except ProtocolError as error:  # it was found before, and is told when these are handled
            messages = error.messages
        if not self._parser.ended:
            self._parser.to_send()  # it has been sent
        self.queue.extend(messages[carried.handled :])
        self.out += carried.unsent
        self.owner.unsent += len(carried.unsent)

    def end(self) -> None:
        """Close the socket. The shelf has a duplicate: without a shutdown the peer would not hear of it."""
        self.owner.unsent -= len(self.out)
        self.out.clear()
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self._socket.close()
            self._socket, self.fd = None, -1
