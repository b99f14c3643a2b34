"""What every protocol of a service offers, and the one way to ask each.

What must live here: the interface. What this file must not know: any protocol.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from rocksyd.errors import RocksydError


class Parser(ABC):
    """One connection's side of a protocol: what the peer sends goes in, messages come out.

    However the bytes are cut, and whatever the parsers that they are handed to in between, the messages are the same. The cost is
    linear in the bytes, and the memory bounded by the protocol's ``max`` and the bytes of one ``feed``.
    """

    __slots__ = ()

    @property
    def ready(self) -> bool:
        """Whether messages may be sent: there is no handshake, or it is done."""
        return True

    @property
    def ended(self) -> bool:
        """Whether nothing more is read from this peer: it said goodbye, or broke the protocol. Write ``to_send()``, close."""
        return False

    @abstractmethod
    def feed(self, data: bytes) -> list[Any]:
        """Take bytes as they came; the messages that are complete now. What is fed after an error is dropped.

        Raises:
            ProtocolError: the bytes are not the protocol; ``messages`` are those that were complete before.
        """

    @abstractmethod
    def encode(self, message: Any) -> bytes:
        """The bytes that say ``message`` to this peer: ``Protocol.encode``, unless an own protocol keeps count of what it says.

        Raises:
            TypeError, ValueError: it is no message of this protocol.
        """

    @property
    @abstractmethod
    def pending(self) -> bytes:
        """What has come and is not yet a message: ``protocol.parser(pending)`` is a parser that goes on here."""

    @property
    def idle(self) -> bool:
        """Whether the peer has begun nothing that is not complete."""
        return not self.pending

    @property
    def settled(self) -> bytes:
        """``pending`` as it would be if the peer had begun nothing: what is known of a connection by a handshake."""
        return b""

    def to_send(self) -> bytes:
        """What the protocol itself owes the peer since the last call: a handshake's answer, a pong, an error, a goodbye."""
        return b""

    def close(self) -> None:
        """Say goodbye, where the protocol has a word for it: it is then in ``to_send()``."""
        return


class Protocol(ABC):
    """How bytes become messages and messages bytes. It keeps no state: one serves every connection of a service."""

    @abstractmethod
    def parser(self, pending: bytes = b"") -> Parser:
        """A connection's parser; ``pending`` is that of the parser it goes on for. ``feed`` reads it, and may refuse it."""

    @abstractmethod
    def encode(self, message: Any) -> bytes:
        """The bytes that say ``message`` to a peer, the same for every connection.

        Raises:
            TypeError, ValueError: it is no message of this protocol.
        """


def at_least_one(what: str, number: int) -> int:
    """``number``, if it can be a limit in bytes.

    Raises:
        ValueError: it cannot; the text says what can.
    """
    if type(number) is not int or number < 1:
        raise ValueError(f"{what}={number!r}: a number of bytes, at least 1, is expected")
    return number


def missing(protocol: str, package: str) -> RocksydError:
    """The error of a protocol whose package is not installed."""
    return RocksydError(
        f"{protocol} needs the package {package}, which is not there: pip install 'rocksyd[services]', or {package}, in the "
        "application's environment"
    )
