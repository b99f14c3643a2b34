"""Requests and answers of HTTP, as the rest of the gateway sees them, and which function answers which path.

What must live here: reading a request within its bounds, writing an answer, routes.
What this file must not know: who may ask what, and what it means.

No framework stands between: what is served is described by the daemon itself (``rpc.discover``), as JSON Schema and not as types
of Python, and a run's key may be any text, so that a path is split before it is decoded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from rocksyd.companions.gateway.connections import Receive, Send
from rocksyd.jsontext import loads
from rocksyd.units import format_duration

BODY_TIMEOUT = 30.0
"""Seconds in which the whole body of a request has to be there."""
DISCARDED, DISCARD_TIMEOUT = 16 << 20, 2.0
"""Bytes, and seconds, of a body that is too large which are still read: who is still sending would not see the answer."""
MAX_FIELDS = 64
"""Parameters of a query."""
HTML, JSON, EVENTS = "text/html; charset=utf-8", "application/json", "text/event-stream"


class Refused(Exception):
    """The request is not served; the text says why, and what to do."""

    def __init__(self, status: HTTPStatus, text: str, code: int = 0, data: object = None) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        """Of JSON-RPC; 0 for what only HTTP has."""
        self.data = data


class Request:
    """What a client asks."""

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, most: int) -> None:
        self.verb: str = scope["method"]
        self.raw_path: str = scope["raw_path"].decode("ascii", "replace")
        self.scheme: str = scope["scheme"]
        self.client: str = (scope.get("client") or ("",))[0]
        self.listener: Any = scope.get("listener")
        self.headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text
        self.query_string: str = scope["query_string"].decode("ascii", "replace")
        self.caller: Any = None
        """Who asks, once that is known."""
        self._receive = receive
        self._most = most

    @property
    def segments(self) -> list[str]:
        """The parts of the path, each decoded by itself."""
        return [unquote(part) for part in self.raw_path.split("/")[1:]]

    def query(self) -> dict[str, str]:
        """The parameters behind the path."""
        try:
            return dict(parse_qsl(self.query_string, keep_blank_values=True, max_num_fields=MAX_FIELDS))
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST, f"more than {MAX_FIELDS} parameters in the query: leave some out") from None

    def cookie(self, name: str) -> str:
        """The value of a cookie; "" where there is none."""
        try:
            found = SimpleCookie(self.headers.get("cookie", "")).get(name)
        except CookieError:
            return ""
        return found.value if found else ""

    def accepts(self, kind: str) -> bool:
        """Whether the client says that it wants this very kind of answer."""
        return kind in self.headers.get("accept", "")

    async def body(self) -> bytes:
        """The whole body. Raises Refused when it is too large or too slow."""
        length = self.headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._most:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large())
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                more = True
                while more:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(HTTPStatus.BAD_REQUEST, "the connection ended in the middle of the request")
                    part, more = message.get("body", b""), message.get("more_body", False)
                    parts.append(part)
                    size += len(part)
                    if size > self._most:
                        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large())
        except TimeoutError:
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, f"the body has not come within {format_duration(BODY_TIMEOUT)}") from None
        return b"".join(parts)

    async def discard(self) -> None:
        """Read what is left of a body that nobody wants, within bounds."""
        size, more = 0, True
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_TIMEOUT):
                while more and size < DISCARDED:
                    message = await self._receive()
                    size += len(message.get("body", b""))
                    more = message.get("more_body", False)

    def _too_large(self) -> str:
        return f"the body has more than {self._most} bytes: send less, or raise max_body in [gateway]"

    async def json(self) -> Any:
        """The body as JSON; None when there is none. Raises Refused."""
        data = await self.body()
        if not data.strip():
            return None
        try:
            return loads(data.decode())
        except ValueError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}", -32700) from None

    async def gone(self) -> None:
        """Return when the client has gone. Only when the body has been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Response(NamedTuple):
    """An answer, as a whole or, in ``parts``, piece by piece."""

    body: bytes = b""
    kind: str = JSON
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = {}
    parts: AsyncIterator[bytes] | None = None


def as_json(value: Any, status: int = HTTPStatus.OK, **headers: str) -> Response:
    """An answer in JSON."""
    return Response(json.dumps(value, separators=(",", ":")).encode(), JSON, status, headers)


def as_text(text: str, status: int = HTTPStatus.OK) -> Response:
    """An answer in words."""
    return Response(text.encode("utf-8", "replace"), "text/plain; charset=utf-8", status)


def redirect(where: str, **headers: str) -> Response:
    """Look there."""
    return Response(b"", "text/plain; charset=utf-8", HTTPStatus.SEE_OTHER, {"Location": where, **headers})


def quoted(text: str) -> str:
    """Any text as one part of a path."""
    return quote(text, safe="", errors="replace")


Handler = Callable[..., Awaitable[Response]]
"""Takes the request, and the parts of the path that its route leaves open."""


class Route(NamedTuple):
    """Which function answers what."""

    verb: str
    path: str
    """With ``{name}`` for what is open."""
    scope: str
    """What the caller must be allowed; "" for nothing."""
    handler: Handler


class Routes:
    """All of them."""

    def __init__(self, routes: list[Route]) -> None:
        self.all = routes

    def find(self, request: Request) -> tuple[Route, list[str]]:
        """The route of a request, and what stands in the open parts. Raises Refused."""
        segments, verbs = request.segments, set()
        verb = "GET" if request.verb == "HEAD" else request.verb
        for route in self.all:
            given = _match(route.path, segments)
            if given is None:
                continue
            if route.verb == verb:
                return route, given
            verbs.add(route.verb)
        if verbs:
            allowed = ", ".join(sorted(verbs | ({"HEAD"} if "GET" in verbs else set())))
            raise Refused(
                HTTPStatus.METHOD_NOT_ALLOWED, f"{request.verb} is not for this path: {allowed}", data={"allow": allowed}
            )
        raise Refused(HTTPStatus.NOT_FOUND, "nothing is at this path; /openapi.json says what there is")


def _match(path: str, segments: list[str]) -> list[str] | None:
    parts = path.split("/")[1:]
    if len(parts) != len(segments):
        return None
    given = []
    for part, segment in zip(parts, segments, strict=True):
        if part.startswith("{"):
            if not segment:
                return None
            given.append(segment)
        elif part != segment:
            return None
    return given


async def send_response(request: Request, response: Response, send: Send, more: Mapping[str, str]) -> None:
    """Write an answer; its pieces until they end or the client has gone."""
    headers = {"Content-Type": response.kind, **more, **response.headers}
    if response.parts is None:
        headers["Content-Length"] = str(len(response.body))
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(response.status), "headers": encoded})
    if response.parts is None or request.verb == "HEAD":
        await send({"type": "http.response.body", "body": b"" if request.verb == "HEAD" else response.body})
        return
    writing = asyncio.ensure_future(_write(response.parts, send))
    gone = asyncio.ensure_future(request.gone())
    try:
        await asyncio.wait((writing, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (writing, gone):
            task.cancel()
        await asyncio.gather(writing, gone, return_exceptions=True)


async def _write(parts: AsyncIterator[bytes], send: Send) -> None:
    async for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
