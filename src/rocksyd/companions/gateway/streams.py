"""Server-sent events: what happens at the daemon, and what a run prints, as long as somebody listens.

What must live here: the form of an event, the sign of life, how a stream ends and goes on.
What this file must not know: what the events mean.

Every event has an ``id``, a position. A client that lost its connection says the last one it has seen (``Last-Event-ID``, which
browsers do by themselves), and what came meanwhile comes first.

Source: the HTML standard, "Server-sent events".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

from rocksyd import codes
from rocksyd.companions.gateway.connections import Served
from rocksyd.companions.gateway.daemon import Daemon, refusal
from rocksyd.companions.gateway.web import EVENTS, Refused, Request, Response, Route
from rocksyd.errors import NoDaemon, RequestError

MOST = 200
"""Streams at the same time."""
ALIVE = 15.0
"""Seconds of silence after which a comment is sent, so that whoever stands between does not think that all is over."""
AGAIN = 1000
"""Milliseconds after which a browser comes back."""

Pieces = AsyncIterator[bytes]


class Streams:
    """The streams of one gateway."""

    def __init__(self, daemon: Daemon, served: Callable[[], Served]) -> None:
        self._daemon = daemon
        self._served = served
        self._open = 0

    def routes(self) -> list[Route]:
        """The one of news; that of output is beside what has been printed (``logs``)."""
        return [Route("GET", "/events", "read", self._news)]

    def response(self, pieces: Pieces, close: Callable[[], Awaitable[None]]) -> Response:
        """A stream of these pieces, which ends when they do or when the gateway leaves; ``close`` is called in the end.

        Raises Refused when there are too many.
        """
        if self._open >= MOST:
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, f"{MOST} streams are open: close one", codes.TOO_BUSY)
        return Response(b"", EVENTS, HTTPStatus.OK, {"X-Accel-Buffering": "no"}, self._alive(pieces, close))

    async def _alive(self, pieces: Pieces, close: Callable[[], Awaitable[None]]) -> Pieces:
        """The same pieces with signs of life between them."""
        self._open += 1
        leaving = asyncio.ensure_future(self._served().leaving.wait())
        coming: asyncio.Future[bytes] | None = None
        try:
            yield f"retry: {AGAIN}\n\n".encode()
            while True:
                coming = coming or asyncio.ensure_future(_next(pieces))
                await asyncio.wait((leaving, coming), timeout=ALIVE, return_when=asyncio.FIRST_COMPLETED)
                if leaving.done():
                    return
                if not coming.done():
                    yield b":\n\n"
                    continue
                piece, coming = coming.result(), None
                if not piece:
                    return
                yield piece
        except NoDaemon:
            return  # the client comes back, and is then told with a status
        finally:
            self._open -= 1
            leaving.cancel()
            if coming is not None:
                coming.cancel()
            await asyncio.gather(leaving, *(() if coming is None else (coming,)), return_exceptions=True)
            await close()

    # --- news ---------------------------------------------------------------------------------------------------------
    async def _news(self, request: Request) -> Response:
        filters: dict[str, Any] = {}
        for name, value in request.query().items():
            if name in ("app", "target"):
                filters[name] = value
            elif name in ("keys", "events"):
                filters[name] = [part for part in value.split(",") if part]
            elif name == "labels":
                filters[name] = _labels(value)
            elif name != "position":
                raise Refused(
                    HTTPStatus.BAD_REQUEST,
                    f"there is no filter {name[:60]!r}: app, target, keys, events, labels, position",
                    codes.INVALID_PARAMS,
                )
        position = _place(request, "position")
        if self._open >= MOST or request.verb == "HEAD":
            return self.response(_nothing(), _closed)
        try:
            events = await self._daemon.client.subscribe(position=position, **filters)
        except RequestError as error:
            raise refusal(error) from error
        except NoDaemon as error:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error), codes.NOT_NOW) from error
        return self.response(self._written(events), events.close)

    async def _written(self, events: Any) -> Pieces:
        async for event in events:
            yield event_of(event.name, await self._daemon.shown(event.record), events.position)

    # --- output -------------------------------------------------------------------------------------------------------
    async def output(self, request: Request, key: str) -> Response:
        """What a run prints, from a byte on, until it has ended."""
        await self._daemon.ask("status", {"key": key})
        offset = _place(request, "offset") or 0
        pieces = self._daemon.client.pieces(key, offset)
        return self.response(self._printed(key, pieces, offset), pieces.aclose)

    async def _printed(self, key: str, pieces: AsyncIterator[tuple[str, int]], behind: int) -> Pieces:
        reason = ""
        try:
            async for text, behind in pieces:  # noqa: PLR1704  (it begins where the request says)
                yield event_of("output", {"text": text, "offset": behind}, behind)
            while (rest := await self._daemon.client.request("logs", {"key": key, "offset": behind}))["offset"] > behind:
                behind = rest["offset"]
                yield event_of("output", {"text": rest["text"], "offset": behind}, behind)
        except RequestError as error:
            reason = str(error)  # it was forgotten meanwhile
        yield event_of("end", {"reason": reason})


def event_of(name: str, data: Any, position: object = "") -> bytes:
    """One event. JSON has no line feed of its own, so it is one line of data."""
    number = f"id: {position}\n" if position != "" else ""
    return f"{number}event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def _nothing() -> Pieces:
    pieces: tuple[bytes, ...] = ()
    for piece in pieces:
        yield piece


async def _closed() -> None:
    pass


async def _next(pieces: Pieces) -> bytes:
    return await anext(pieces, b"")


def _place(request: Request, name: str) -> int | None:
    given = request.headers.get("last-event-id") or request.query().get(name)
    if given is None:
        return None
    if not given.isascii() or not given.isdecimal() or len(given) > 18:
        raise Refused(HTTPStatus.BAD_REQUEST, f"{name} is a number, as an event before had it as id", codes.INVALID_PARAMS)
    return int(given)


def _labels(text: str) -> dict[str, str]:
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise Refused(HTTPStatus.BAD_REQUEST, 'labels is an object such as {"shop":"north"}', codes.INVALID_PARAMS)
    return labels
