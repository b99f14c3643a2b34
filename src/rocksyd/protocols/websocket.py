"""WebSocket (RFC 6455) by the sans-I/O protocol of the package ``websockets``; compression is off.

What must live here: where the request and each frame end (so that what is not yet a message is known byte for byte), fragments
that become one message, and what of it travels in a hand-over. What this file must not know: what a message says.

``pending`` begins with how far the connection is: ``H`` shaking hands, followed by the request so far; ``O`` open, followed by
the request's length in four bytes, the request, and frames: what has come of an unfinished message as one fragment, then the part
of the next frame; ``E`` ended. Pings in between were answered and do not travel.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, NamedTuple, NoReturn

from rocksyd.errors import ProtocolError
from rocksyd.protocols.base import Parser, Protocol, at_least_one, missing

MAX_REQUEST = 16 * 1024
"""Bytes of the request that asks for a WebSocket, its headers included."""
_END = b"\r\n\r\n"
_TEXT, _BINARY, _CONTINUED = 1, 2, 0
_INVALID_DATA = 1007


class Request(NamedTuple):
    """What a peer asked for when it opened a WebSocket."""

    path: str
    headers: dict[str, str]
    """By lower-case name; of a name that came several times, the values with commas between."""


class WebSocket(Protocol):
    """A message is ``str`` (a text message) or ``bytes`` (a binary one). Fragments, pings and the goodbye are seen to.

    ``max``: bytes of a message. ``origins``: values of the header ``Origin`` that may connect (None in it: a peer without one);
    left out, every origin may. ``subprotocols``: those spoken, the preferred first; a peer has to
    ask for one. It needs the package ``websockets``.
    """

    def __init__(
        self,
        max: int = 1024 * 1024,  # noqa: A002
        *,
        origins: list[str | None] | None = None,
        subprotocols: list[str] | None = None,
    ) -> None:
        self.max = at_least_one("max", max)
        self.origins = origins
        self.subprotocols = subprotocols
        try:
            from websockets import frames, protocol, server  # noqa: PLC0415 - only who uses it needs it
        except ImportError:
            raise missing("WebSocket", "websockets") from None
        self._frames: Any = frames
        self._states: Any = protocol.State
        self._server: Any = server.ServerProtocol

    def parser(self, pending: bytes = b"") -> WebSocketParser:
        """A connection's parser; ``pending`` is that of the parser it goes on for."""
        return WebSocketParser(self, pending)

    def encode(self, message: str | bytes) -> bytes:
        """The message in one frame: ``str`` as text, bytes as binary."""
        if isinstance(message, str):
            return self.frame(_TEXT, message.encode())
        if isinstance(message, bytes | bytearray | memoryview):
            return self.frame(_BINARY, bytes(message))
        raise TypeError(f"a message is str or bytes, not {type(message).__name__}")

    def frame(self, opcode: int, data: bytes, *, from_peer: bool = False, last: bool = True) -> bytes:
        """A frame as it is sent to a peer, or (masked) as one would send it."""
        made = self._frames.Frame(self._frames.Opcode(opcode), data, last)
        encoded: bytes = made.serialize(mask=from_peer)
        return encoded

    def connection(self, *, opened: bool) -> Any:
        """What answers handshakes and checks frames."""
        return self._server(
            origins=self.origins,
            subprotocols=self.subprotocols,
            state=self._states.OPEN if opened else self._states.CONNECTING,
            max_size=self.max,
        )


class WebSocketParser(Parser):
    """A connection's parser. What it reads is cut into frames here, and each frame is judged by ``websockets``.

    ``websockets`` itself sees complete frames only, so it never keeps bytes of which nobody knows whether they were read.
    It is asked when there is something to read: 5,000 quiet connections cost a hand-over nothing.
    """

    __slots__ = ("_asked", "_buffer", "_connection", "_ended", "_kind", "_message", "_opened", "_owed", "_protocol", "_searched")

    def __init__(self, protocol: WebSocket, pending: bytes) -> None:
        stage, rest = pending[:1], pending[1:]
        self._protocol = protocol
        self._connection: Any = None
        self._opened = stage == b"O"
        self._ended = stage == b"E"
        length = 4 + int.from_bytes(rest[:4], "big") if self._opened else 0
        self._asked = rest[4:length]
        self._buffer = bytearray(rest[length:])
        self._searched = 0
        self._kind = 0
        self._message = bytearray()
        self._owed = b""

    @property
    def ready(self) -> bool:
        """Whether the handshake is done."""
        return self._opened

    @property
    def ended(self) -> bool:
        """Whether the peer or this side said goodbye, or the handshake failed."""
        return self._ended

    @property
    def request(self) -> Request | None:
        """What the peer asked for when it opened the connection; None before it has."""
        if not self._asked:
            return None
        connection = self._protocol.connection(opened=False)
        connection.receive_data(self._asked)
        (asked,) = connection.events_received()
        headers: dict[str, str] = {}
        for name, value in asked.headers.raw_items():
            headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
        return Request(asked.path, headers)

    def encode(self, message: str | bytes) -> bytes:
        """The message in one frame."""
        return self._protocol.encode(message)

    @property
    def pending(self) -> bytes:
        """What has come and is not yet a message; the handshake that was made is in it."""
        if self._ended:
            return b"E"
        if not self._opened:
            return b"H" + self._buffer
        begun = self._protocol.frame(self._kind, bytes(self._message), from_peer=True, last=False) if self._kind else b""
        return self.settled + begun + self._buffer

    @property
    def idle(self) -> bool:
        """Whether it is open, between two messages."""
        return self._opened and not self._ended and not self._kind and not self._buffer

    @property
    def settled(self) -> bytes:
        """The handshake that was made."""
        return b"O" + len(self._asked).to_bytes(4, "big") + self._asked if self._opened and not self._ended else b""

    def feed(self, data: bytes) -> list[str | bytes]:
        """Take bytes as they came; the messages that are complete now."""
        messages: list[str | bytes] = []
        if self._ended:
            return messages
        self._buffer += data
        try:
            if not self._opened:
                self._shake_hands()
            if self._opened and not self._ended:
                self._read_frames(messages)
        except ProtocolError as error:
            self._ended = True
            error.messages[:0] = messages
            raise
        finally:
            self._collect()
            if self._ended:
                self._buffer, self._message = bytearray(), bytearray()
        return messages

    def to_send(self) -> bytes:
        """The handshake's answer, pongs, the goodbye."""
        owed, self._owed = self._owed, b""
        return owed

    def close(self) -> None:
        """Say goodbye (1000); what the peer still sends is dropped."""
        if self._opened and not self._ended:
            self._judge().send_close(1000)
            self._collect()
            self._ended = True

    def _judge(self) -> Any:
        if self._connection is None:
            self._connection = self._protocol.connection(opened=self._opened)
        return self._connection

    def _collect(self) -> None:
        """Take over what ``websockets`` wants to be sent; an empty piece is its sign for the end."""
        if self._connection is not None:
            for piece in self._connection.data_to_send():
                self._owed += piece
                self._ended = self._ended or not piece

    def _shake_hands(self) -> None:
        end = self._buffer.find(_END, max(0, self._searched - len(_END)))
        self._searched = len(self._buffer)
        if end + len(_END) > MAX_REQUEST or (end < 0 and len(self._buffer) > MAX_REQUEST):
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the request is longer than {MAX_REQUEST} bytes")
        if end < 0:
            return
        connection = self._judge()
        asked = bytes(self._buffer[: end + len(_END)])
        connection.receive_data(asked)
        requests = connection.events_received()
        if not requests:
            self._refuse(HTTPStatus.BAD_REQUEST, f"not a request for a WebSocket: {connection.handshake_exc}")
        response = connection.accept(requests[0])
        connection.send_response(response)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            raise ProtocolError(response.body.decode().strip())
        del self._buffer[: end + len(_END)]
        self._asked = asked
        self._opened = True

    def _refuse(self, status: HTTPStatus, text: str) -> NoReturn:
        """Answer a request that ``websockets`` has not understood, for which it has no answer itself."""
        self._connection = self._protocol.connection(opened=False)
        self._connection.send_response(self._connection.reject(status, text + "\n"))
        raise ProtocolError(text)

    def _read_frames(self, messages: list[str | bytes]) -> None:
        """Give ``websockets`` frame by frame, and the beginning of one that it is going to refuse."""
        start = 0
        try:
            while not self._ended and (end := self._frame_end(start)) is not None:
                connection = self._judge()
                connection.receive_data(bytes(self._buffer[start:end]))
                start = end
                for frame in connection.events_received():
                    self._take(frame, messages)
                if connection.parser_exc is not None:
                    raise ProtocolError(str(connection.parser_exc))
                self._collect()
        finally:
            del self._buffer[:start]

    def _frame_end(self, start: int) -> int | None:
        """Where the frame that begins at ``start`` ends; None while it is not complete. RFC 6455, section 5.2."""
        buffer = self._buffer
        there = len(buffer) - start
        if there < 2:
            return None
        code = buffer[start + 1] & 0x7F
        bytes_of_length = {126: 2, 127: 8}.get(code, 0)
        if there < 2 + bytes_of_length:
            return None
        length = int.from_bytes(buffer[start + 2 : start + 2 + bytes_of_length], "big") if bytes_of_length else code
        if length > self._protocol.max or not buffer[start + 1] & 0x80:
            return len(buffer)  # too long or not masked: its beginning is enough to refuse it
        size = 2 + bytes_of_length + 4 + length
        return start + size if there >= size else None

    def _take(self, frame: Any, messages: list[str | bytes]) -> None:
        opcode = int(frame.opcode)
        if opcode in (_TEXT, _BINARY):
            self._kind = opcode
        elif opcode != _CONTINUED:
            return  # answered already, where it wants an answer
        self._message += frame.data
        if not frame.fin:
            return
        whole, kind = bytes(self._message), self._kind
        self._message, self._kind = bytearray(), 0
        if kind == _BINARY:
            messages.append(whole)
            return
        try:
            messages.append(whole.decode())
        except UnicodeDecodeError:
            text = "a text message is not UTF-8"
            self._connection.fail(_INVALID_DATA, text)
            raise ProtocolError(text) from None
