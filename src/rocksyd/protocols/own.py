"""A user's own protocol: an object with ``feed`` and ``pending``, and what else of a parser it has.

Each connection has one of its own, so it may keep what it has read in itself: a copy of the declared object (``copy.deepcopy``),
or what the declared class makes. ``pending`` are the raw bytes that are not yet a message; a hand-over feeds them to a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from rocksyd.errors import ProtocolError
from rocksyd.protocols.base import Parser, Protocol


def protocol_of(declared: Any) -> Protocol:
    """The protocol that a service has declared: one of ours, or an object or class of the user's own.

    Raises:
        TypeError: it is neither; the text says what an own one needs.
    """
    if isinstance(declared, Protocol):
        return declared
    if isinstance(declared, type) and issubclass(declared, Protocol):
        raise TypeError(f"protocol={declared.__name__}: an object is expected, such as {declared.__name__}()")
    make: Callable[[], Any] = declared if isinstance(declared, type) else lambda: deepcopy(declared)
    pattern = make()
    if not (hasattr(pattern, "feed") and hasattr(pattern, "pending")):
        raise TypeError(
            f"protocol={declared!r}: Lines(), Json(), LengthPrefixed(), Protobuf(Message), WebSocket() or an object of your own "
            "is expected, with feed(bytes), which returns messages, and pending: the bytes that are not yet a message (b'' if it "
            "keeps none), which a hand-over carries"
        )
    return Own(make, pattern)


class Own(Protocol):
    """A protocol of the user's own: each connection has what ``make`` makes; ``pattern`` is one that no connection has."""

    def __init__(self, make: Callable[[], Any], pattern: Any) -> None:
        self._make = make
        self._pattern = OwnParser(pattern, b"")

    def parser(self, pending: bytes = b"") -> Parser:
        """A connection's parser, whose own object is fed ``pending`` before anything else."""
        return OwnParser(self._make(), pending)

    def encode(self, message: Any) -> bytes:
        """What the pattern's ``encode`` makes of it; without one a message is bytes, sent as they are."""
        return self._pattern.encode(message)


class OwnParser(Parser):
    """A connection's object of a protocol of the user's own; what that does not have is as of a protocol without a handshake."""

    __slots__ = ("_failed", "_own", "_unread")

    def __init__(self, own: Any, pending: bytes) -> None:
        self._own = own
        self._unread = pending
        self._failed = False

    @property
    def ready(self) -> bool:
        """As the object says; else True."""
        return bool(getattr(self._own, "ready", True))

    @property
    def ended(self) -> bool:
        """As the object says, and once it has raised ProtocolError."""
        return self._failed or bool(getattr(self._own, "ended", False))

    @property
    def pending(self) -> bytes:
        """As the object says."""
        return self._unread or bytes(self._own.pending)

    def feed(self, data: bytes) -> list[Any]:
        """What the object returns, as a list."""
        if self.ended:
            return []
        if self._unread:
            data, self._unread = self._unread + data, b""
        messages: list[Any] = []
        try:
            # One by one: so what a generator has yielded before it raises is not lost.
            messages.extend(self._own.feed(data))
        except ProtocolError as error:
            self._failed = True
            error.messages[:0] = messages
            raise
        return messages

    def encode(self, message: Any) -> bytes:
        """What the object's ``encode`` makes of it; without one a message is bytes, sent as they are."""
        encode = getattr(self._own, "encode", None)
        encoded = message if encode is None else encode(message)
        if not isinstance(encoded, bytes | bytearray | memoryview):
            cure = "give the protocol a method encode(message) -> bytes" if encode is None else "encode must return bytes"
            raise TypeError(f"a message is bytes, not {type(encoded).__name__}: {cure}")
        return bytes(encoded)

    def to_send(self) -> bytes:
        """What the object owes, if it has such a method."""
        owed = getattr(self._own, "to_send", None)
        return b"" if owed is None else bytes(owed())

    def close(self) -> None:
        """Tell the object, if it has such a method."""
        if (close := getattr(self._own, "close", None)) is not None:
            close()
