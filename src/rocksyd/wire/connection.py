"""One client's connection without the socket: bytes in, requests out.

What must live here: which dialect a line is in, and what ends a conversation.
What this file must not know: sockets, time, what becomes of a request; the inside of a dialect is in its own module.

The first bytes of a line choose its dialect, so one connection may mix them. Whatever the bytes are, ``next_request`` does not
raise: what cannot be understood becomes an ``Answer`` in the dialect it was said in.
"""

from __future__ import annotations

from rocksyd import codes
from rocksyd.wire import classic, encode, jsonrpc, memcached
from rocksyd.wire.lines import LineBuffer, LineTooLong
from rocksyd.wire.requests import Answer, Bye, Check, Quit, Request

MAX_LINE = 1 << 20
"""Bytes of a line, unless the configuration says otherwise."""

_new = tuple.__new__  # half the cost of the named tuple's own constructor, on the path of every pipelined check


class Connection:
    """What a client has said and what of it is still to be read.

    Use: ``receive_data`` with what the socket gave, then ``next_request`` until it gives None. To be fair to others take only
    some, and read from the socket again when ``has_line`` is false. ``closed`` is true once nothing more will be read: after
    ``Bye``, ``Quit``, an ``Answer`` that closes, or ``end``.
    """

    __slots__ = ("_lines", "closed")

    def __init__(self, *, max_line: int = MAX_LINE) -> None:
        self._lines = LineBuffer(max_line)
        self.closed = False

    @classmethod
    def restore(cls, buffered: bytes, *, max_line: int = MAX_LINE, closed: bool = False) -> Connection:
        """The connection whose ``buffered`` and ``closed`` another process has told."""
        connection = cls(max_line=max_line)
        connection.receive_data(buffered)
        connection.closed = closed
        return connection

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the client. Dropped when the conversation is over."""
        if not self.closed:
            self._lines.append(data)

    @property
    def buffered(self) -> bytes:
        """The bytes received that no request has come from yet, for a hand-over."""
        return self._lines.remaining()

    @property
    def untouched(self) -> bool:
        """Whether it is as a new connection: a hand-over has nothing to tell of it."""
        return self._lines.empty and not self.closed

    @property
    def has_line(self) -> bool:
        """Whether ``next_request`` has a line to look at (it may turn out blank). Costs next to nothing."""
        return bool(self._lines)

    def next_request(self) -> Request | None:
        """The next request; None when another line must arrive first. Never raises."""
        while True:
            try:
                line = self._lines.next_line()
            except LineTooLong as error:
                return self._end(_refusal(error.start, str(error)))
            if line is None:
                return None
            match = classic.match_check(line)
            if match is not None:
                return _new(Check, (match[1].decode(),))
            if not line or line.isspace():
                continue
            request = self._understand(line)
            if request is not None:
                return request

    def _understand(self, line: bytes) -> Request | None:
        """The request in a line that is not blank; None for one that is neither served nor answered."""
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            return self._end(_refusal(line, f"a line is not UTF-8 (byte {error.start}): send text as UTF-8"))
        request: Request | None
        if text[0] in "{[":
            return jsonrpc.parse(text)
        if memcached.is_command(text):
            request = memcached.parse(text)
        else:
            request = classic.parse(text)
        if isinstance(request, (Bye, Quit)):
            return self._end(request)
        return request

    def end(self) -> None:
        """Nothing more is read, whatever has been or will be received."""
        self.closed = True
        self._lines.clear()

    def _end(self, last: Request) -> Request:
        """Nothing is read after ``last``."""
        self.end()
        return last


def _refusal(line: bytes, reason: str) -> Answer:
    """The error for a line that is not even text, in the dialect its beginning shows, and the end of the connection."""
    if line[:1] in (b"{", b"["):
        return Answer(encode.rpc_error(None, codes.PARSE_ERROR, "Parse error", reason), close=True)
    if memcached.is_command(line[:80].decode(errors="replace")):
        return Answer(encode.memcached_error(reason), close=True)
    return Answer(encode.classic_error(reason), close=True)
