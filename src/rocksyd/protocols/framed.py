"""Protocols whose messages stand one after another, each by itself: lines, and bodies with their length in front.

What must live here: where a message ends, and what its bytes mean. What this file must not know: handshakes.

Every byte is searched once: ``_searched`` remembers how far. What is complete is cut off the buffer once a ``feed``.
"""

from __future__ import annotations

import codecs
import json
from abc import abstractmethod
from typing import Any

from rocksyd import jsontext
from rocksyd.errors import ProtocolError
from rocksyd.protocols.base import Parser, Protocol, at_least_one, missing

_LENGTH = 4
"""Bytes of a length, the most significant first."""


class Framed(Protocol):
    """A protocol of messages that stand one after another. ``max``: bytes that a message may have, without its end or length."""

    def __init__(self, max: int) -> None:  # noqa: A002 - what the public contract calls it
        self.max = at_least_one("max", max)

    def parser(self, pending: bytes = b"") -> Parser:
        """A connection's parser; ``pending`` is that of the parser it goes on for."""
        return FramedParser(self, pending)

    @abstractmethod
    def find(self, buffer: bytearray, start: int, searched: int) -> tuple[int, int, int] | None:
        """Where the message that begins at ``start`` has its bytes, and where the next one begins: (from, to, next).

        None while it is not complete. Up to ``searched`` its end was looked for already.

        Raises:
            ProtocolError: it is longer than ``max``.
        """

    @abstractmethod
    def decode(self, body: bytes) -> Any:
        """The message that ``body`` is; ``NOTHING`` for none.

        Raises:
            ProtocolError: it is none of this protocol.
        """

    def complaint(self, text: str) -> bytes:
        """How the peer is told what is wrong with what it sent, where the protocol has words for it."""
        return b""


NOTHING = object()
"""What was read is no message (a blank line)."""


class FramedParser(Parser):
    """A connection's parser of a Framed protocol."""

    __slots__ = ("_buffer", "_failed", "_owed", "_protocol", "_searched")

    def __init__(self, protocol: Framed, pending: bytes) -> None:
        self._protocol = protocol
        self._buffer = bytearray(pending)
        self._searched = 0
        self._failed = False
        self._owed = b""

    @property
    def ended(self) -> bool:
        """Whether the peer broke the protocol."""
        return self._failed

    def encode(self, message: Any) -> bytes:
        """The message as the protocol has it."""
        return self._protocol.encode(message)

    @property
    def pending(self) -> bytes:
        """What has come and is not yet a message; what is not the protocol is in it, so that it is refused again."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[Any]:
        """Take bytes as they came; the messages that are complete now."""
        messages: list[Any] = []
        if self._failed:
            return messages
        buffer, find, decode = self._buffer, self._protocol.find, self._protocol.decode
        buffer += data
        start = 0
        try:
            while (found := find(buffer, start, self._searched)) is not None:
                begin, end, after = found
                if (message := decode(bytes(buffer[begin:end]))) is not NOTHING:
                    messages.append(message)
                start = self._searched = after
        except ProtocolError as error:
            self._failed = True
            self._owed = self._protocol.complaint(str(error))
            error.messages[:0] = messages
            raise
        finally:
            del buffer[:start]
            self._searched = 0 if self._failed else len(buffer)
        return messages

    def to_send(self) -> bytes:
        """What the peer is told about what it sent, once."""
        owed, self._owed = self._owed, b""
        return owed


class _OfLines(Framed):
    """A message is a line. ``\\n`` and ``\\r\\n`` both end one."""

    def find(self, buffer: bytearray, start: int, searched: int) -> tuple[int, int, int] | None:
        end = buffer.find(b"\n", searched if searched > start else start)
        whole = end >= 0
        if not whole:
            end = len(buffer)
        # A carriage return that came last may be the beginning of the line's end.
        body = end - 1 if end > start and buffer[end - 1] == 13 else end
        if body - start > self.max:
            del buffer[start + self.max + 2 :]  # enough to be refused again
            raise ProtocolError(f"a line is longer than {self.max} bytes")
        return (start, body, end + 1) if whole else None


class Lines(_OfLines):
    """A message is a line of text, without its end: ``\\n`` or ``\\r\\n`` when it is read, ``\\n`` when it is sent.

    ``max``: bytes of a line without its end. ``encoding``: one in which only the end of a line has the byte of ``\\n``.
    A peer that sends something else is told so in a line that begins with ``error:``.
    """

    def __init__(self, max: int = 64 * 1024, encoding: str = "utf-8") -> None:  # noqa: A002
        super().__init__(max)
        try:
            self.encoding = codecs.lookup(encoding).name
            fits = "a\n".encode(encoding) == b"a\n"
        except (LookupError, UnicodeError):
            fits = False
        if not fits:
            raise ValueError(f"encoding={encoding!r}: an encoding that leaves ASCII as it is, as utf-8 does, is expected")

    def decode(self, body: bytes) -> str:
        """The line's text."""
        try:
            return body.decode(self.encoding)
        except UnicodeError:
            raise ProtocolError(f"a line is not {self.encoding}") from None

    def encode(self, message: str) -> bytes:
        """The line with its end. A ``message`` with a ``\\n`` in it would be two, and is refused."""
        if not isinstance(message, str):
            raise TypeError(f"a line is text, not {type(message).__name__}")
        if "\n" in message:
            raise ValueError("a line has no \\n in it: send several lines one by one")
        return message.encode(self.encoding) + b"\n"

    def complaint(self, text: str) -> bytes:
        """A line that says it."""
        return f"error: {text}\n".encode(self.encoding)


class Json(_OfLines):
    """A message is one JSON value (RFC 8259) in a line of UTF-8. Blank lines are skipped.

    ``max``: bytes of a line without its end. A peer that sends something else is told so by ``{"error": "..."}``.
    """

    def __init__(self, max: int = 1024 * 1024) -> None:  # noqa: A002
        super().__init__(max)

    def decode(self, body: bytes) -> Any:
        """The value."""
        try:
            text = body.decode("utf-8")
            return jsontext.loads(text) if text.strip() else NOTHING
        except UnicodeDecodeError:
            raise ProtocolError("a line is not UTF-8") from None
        except jsontext.NotJson as error:
            raise ProtocolError(f"a line is not JSON: {error}") from None

    def encode(self, message: Any) -> bytes:
        """The value in a line."""
        return json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"

    def complaint(self, text: str) -> bytes:
        """An object that says it."""
        return self.encode({"error": text})


class LengthPrefixed(Framed):
    """A message is bytes; in front of them stands how many they are, in four bytes, the most significant first.

    ``max``: bytes of a message without the length. A peer that sends more is closed: there are no words for it.
    """

    def __init__(self, max: int = 1024 * 1024) -> None:  # noqa: A002
        super().__init__(max)
        if max >= 1 << 8 * _LENGTH:
            raise ValueError(f"max={max}: a length has {_LENGTH} bytes, so a message has less than {1 << 8 * _LENGTH}")

    def find(self, buffer: bytearray, start: int, searched: int) -> tuple[int, int, int] | None:
        """Where the message is, from its length."""
        begin = start + _LENGTH
        if len(buffer) < begin:
            return None
        length = int.from_bytes(buffer[start:begin], "big")
        if length > self.max:
            raise ProtocolError(f"a message of {length} bytes is longer than {self.max}")
        end = begin + length
        return (begin, end, end) if len(buffer) >= end else None

    def decode(self, body: bytes) -> Any:
        """The bytes themselves."""
        return body

    def encode(self, message: Any) -> bytes:
        """The message with its length in front."""
        if not isinstance(message, bytes | bytearray | memoryview):
            raise TypeError(f"a message is bytes, not {type(message).__name__}")
        body = bytes(message)
        return len(body).to_bytes(_LENGTH, "big") + body


class Protobuf(LengthPrefixed):
    """A message is a ``Message`` (a class that ``protoc`` made) with its length in front, as ``LengthPrefixed`` has it.

    ``max``: bytes of a message without the length. It needs the package ``protobuf``.
    """

    def __init__(self, Message: type[Any], max: int = 1024 * 1024) -> None:  # noqa: A002, N803 - it is a class
        super().__init__(max)
        try:
            from google.protobuf import message  # noqa: PLC0415 - only who uses it needs it
        except ImportError:
            raise missing("Protobuf", "protobuf") from None
        if not issubclass(Message, message.Message):
            raise TypeError(f"Protobuf takes a class of messages that protoc made, not {Message!r}")
        self.Message = Message
        self._wrong: type[Exception] = message.DecodeError

    def decode(self, body: bytes) -> Any:
        """The message."""
        try:
            return self.Message.FromString(body)
        except self._wrong:
            raise ProtocolError(f"a message is not a {self.Message.DESCRIPTOR.full_name}") from None

    def encode(self, message: Any) -> bytes:
        """The message with its length in front."""
        if not isinstance(message, self.Message):
            raise TypeError(f"a message is a {self.Message.DESCRIPTOR.full_name}, not {type(message).__name__}")
        return super().encode(message.SerializeToString())
