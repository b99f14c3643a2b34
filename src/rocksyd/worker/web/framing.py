"""Where a request's body begins and ends, and a response's: what of a head says so, and what of it cannot be.

What must live here: lengths, encodings, versions. What this file must not know: who answers, connections.

Whoever reads these otherwise than a proxy in front of it can be made to take a part of one request for another one. So nothing is
guessed: what says it in an unusual way is refused.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import httptools

NO_BODY = (204, 304)
"""Statuses of responses that have none, whatever is said of it."""
_VERSIONS = ("1.1", "1.0")


class Head:
    """What the head of a request says of its frame."""

    __slots__ = ("encodings", "hosts", "length")

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.hosts = self.length = 0
        self.encodings: list[bytes] = []
        for name, value in headers:
            if name == b"content-length" and value.isdigit():
                self.length = int(value)
            elif name == b"host":
                self.hosts += 1
            elif name == b"transfer-encoding":
                self.encodings.append(value.strip(b" \t").lower())

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return self.length > 0 or bool(self.encodings)

    def problem(self, version: str, max_body: int) -> tuple[int, str] | None:
        """Why such a request is refused: status and sentence."""
        if version not in _VERSIONS:
            return 505, "HTTP/1.1 is spoken here, and HTTP/1.0."
        if self.encodings and (self.encodings != [b"chunked"] or version == "1.0"):
            return 400, "A body comes as it is, or chunked."
        if self.hosts != 1 and (self.hosts > 1 or version == "1.1"):
            return 400, "A request has one Host."
        if max_body and self.length > max_body:
            return 413, "The body of the request is too large."
        return None

    def parser_of_body(self, protocol: Any) -> Any:
        """A parser to which a head like this has been said, and which takes the body for ``protocol`` next.

        The one that has read the head takes what follows for another protocol, where ``Upgrade`` asks for one.
        """
        parser = httptools.HttpRequestParser(protocol)
        with suppress(AttributeError):  # as uvicorn does
            parser.set_dangerous_leniencies(lenient_data_after_close=True)
        frame = b"Transfer-Encoding: chunked" if self.encodings else b"Content-Length: %d" % self.length
        parser.feed_data(b"POST / HTTP/1.1\r\n" + frame + b"\r\n\r\n")
        return parser


def response(cycle: Any, message: Any) -> Any:
    """The head of a response, in which nothing is said of a body that it cannot have, or cannot have like this."""
    if cycle.waiting_for_100_continue and cycle.more_body:
        cycle.keep_alive = False  # the client waits to be told to send the body: whether it will now is not known
    old, empty = cycle.scope["http_version"] == "1.0", message["status"] in NO_BODY
    if not old and not empty:
        return message
    unsaid = (b"transfer-encoding", b"content-length") if empty else (b"transfer-encoding",)
    headers = [pair for pair in message.get("headers", ()) if pair[0].lower() not in unsaid]
    if old and not any(name.lower() == b"content-length" for name, _ in headers):
        cycle.until_close, cycle.chunked_encoding = True, False
    return {**message, "headers": headers}
