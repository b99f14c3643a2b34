"""The pages as a whole: how one is made and kept up to date, its assets, logging in and out.

What must live here: rendering, what every page has around it. What this file must not know: what stands on a page.

A page is made on the server. It is kept up to date by one stream of server-sent events, ``/changes``, which only says that
something has changed; the script then asks for the page again and exchanges what differs. So there is one way to make a page,
and a page that was asked for by many within a second is made once.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import lru_cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rocksyd import __version__
from rocksyd.companions.gateway.access import Access, Caller, log_out
from rocksyd.companions.gateway.daemon import Daemon
from rocksyd.companions.gateway.pages import charts, wording
from rocksyd.companions.gateway.streams import Pieces, Streams, event_of
from rocksyd.companions.gateway.web import HTML, Refused, Request, Response, Route, as_json, as_text, quoted, redirect
from rocksyd.errors import NoDaemon, RequestError

Context = dict[str, Any]
Make = Callable[..., Awaitable[Context]]
"""Finds what a page shows: takes the parameters of the query, and the open parts of the path."""

PAGES = (
    ("/", "Now", "n"),
    ("/targets", "Targets", "t"),
    ("/schedules", "Schedules", "s"),
    ("/restarts", "Restarts", "r"),
    ("/errors", "Errors", "e"),
    ("/search", "Search", "f"),
)
"""Path, name, and the key behind g."""
FRESH = 1.0
"""Seconds for which a page is good for everybody who asks."""
TICK = 5.0
"""Seconds after which pages are looked at again although nothing is known to have happened: times pass."""
PAUSE = 1.0
"""Seconds between two changes that are told, at least."""
_KINDS = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "txt": "text/plain; charset=utf-8",
          "svg": "image/svg+xml"}  # fmt: skip


_AROUND = {"query": {}, "health": {"ok": True, "problems": [], "advice": [], "generation": wording.NOTHING}}
"""What stands around a page for which the daemon is not asked."""


class Site:
    """The pages of one gateway."""

    def __init__(self, daemon: Daemon, access: Access, streams: Streams) -> None:
        self._daemon = daemon
        self._access = access
        self._streams = streams
        self._changes = Changes(daemon)
        self._templates = Environment(
            loader=PackageLoader("rocksyd.companions.gateway"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        self._templates.filters.update(wording.FILTERS)
        self._templates.globals.update(charts=charts, asset=asset, pages=PAGES, quoted=quoted, version=__version__)

    def routes(self, pages: list[tuple[str, str, Make]]) -> list[Route]:
        """Those of ``pages`` (path, template, what finds its contents), and those that all need."""
        return [
            *(self._page(*page) for page in pages),
            Route("GET", "/changes", "read", self._news),
            Route("GET", "/static/{name}", "", self._static),
            Route("GET", "/login", "", self._login_page),
            Route("POST", "/login", "", self._login),
            Route("POST", "/logout", "", self._logout),
        ]

    def _page(self, path: str, template: str, make: Make) -> Route:
        async def handler(request: Request, *given: str) -> Response:
            here = request.raw_path + "?" + request.query_string
            found = await self._daemon.remembered(f"page {here}", lambda: self._found(make, request.query(), given), FRESH)
            context = {**found, "path": request.raw_path, "query": request.query()}
            return self._rendered(template, context, request.caller)

        return Route("GET", path, "read", handler)

    async def _found(self, make: Make, query: dict[str, str], given: tuple[str, ...]) -> Context:
        found = await make(query, *given)
        (health,) = await self._daemon.answers(("health", {}))
        return {
            **found,
            "health": health or {"ok": False, "problems": ["the daemon does not say"], "advice": [], "generation": 0},
        }

    def _rendered(self, template: str, context: Context, caller: Caller | None, status: int = HTTPStatus.OK) -> Response:
        who = caller or Caller("", ())
        text = self._templates.get_template(template).render(**context, caller=who, tokens=bool(self._access.tokens))
        return Response(text.encode("utf-8", "replace"), HTML, status)

    def refused(self, request: Request, refused: Refused) -> Response:
        """What somebody with a browser is told instead of a page."""
        told = {"status": int(refused.status), "phrase": refused.status.phrase, "text": str(refused), "data": refused.data}
        return self._rendered("refused.html", {**_AROUND, "path": request.raw_path, **told}, request.caller, refused.status)

    # --- changes ------------------------------------------------------------------------------------------------------
    async def _news(self, request: Request) -> Response:
        async def nothing() -> None:
            pass

        return self._streams.response(self._changes.pieces(), nothing)

    # --- assets and logging in ----------------------------------------------------------------------------------------
    async def _static(self, request: Request, name: str) -> Response:
        found = _assets().get(name)
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such file")
        kind = _KINDS[name.rpartition(".")[2]]
        return Response(found[0], kind, headers={"Cache-Control": "public, max-age=31536000, immutable"})

    async def _login_page(self, request: Request) -> Response:
        return self._rendered(
            "login.html", {**_AROUND, "path": "/login", "next": _inside(request.query().get("next", "/"))}, None
        )

    async def _login(self, request: Request) -> Response:
        body = await request.json()
        shown = body.get("token") if isinstance(body, dict) else None
        caller = self._access.by_secret(shown.strip()) if isinstance(shown, str) else None
        if caller is None:
            raise Refused(HTTPStatus.FORBIDDEN, "that is no token of this daemon")
        cookie = self._access.cookie(caller, secure=request.scheme == "https")
        return as_json({"name": caller.name, "next": _inside(body.get("next"))}, HTTPStatus.OK, **{"Set-Cookie": cookie})

    async def _logout(self, request: Request) -> Response:
        return as_json({}, HTTPStatus.OK, **{"Set-Cookie": log_out(secure=request.scheme == "https")})


class Changes:
    """That something has changed, for everybody who looks; the daemon is listened to only while somebody does."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._listening: asyncio.Task[None] | None = None
        self._looking = 0
        self._happened = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        """What is going to tell of a change that has been heard of."""
        self._told_at = -math.inf
        self._number = 0

    async def pieces(self) -> Pieces:
        """An event for each change, none sooner than a moment after the one before."""
        self._looking += 1
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        try:
            while True:
                happened = self._happened  # before the page is made: what happens from here on is told with the next one
                yield event_of("changed", {}, self._number)
                await asyncio.sleep(PAUSE)
                with suppress(TimeoutError):
                    async with asyncio.timeout(TICK):
                        await happened.wait()
                self._number += 1
        finally:
            self._looking -= 1
            if not self._looking and self._listening is not None:
                self._listening.cancel()
                self._listening = None

    def _tell_soon(self) -> None:
        """What comes together is one change."""
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_at(max(loop.time(), self._told_at + PAUSE / 4), self._tell)

    def _tell(self) -> None:
        self._timer, self._told_at = None, asyncio.get_running_loop().time()
        self._happened, told = asyncio.Event(), self._happened
        told.set()

    async def _listen(self) -> None:
        while True:
            try:
                async with await self._daemon.client.subscribe() as events:
                    async for _ in events:  # to its end: what is not read now would be kept until it is
                        self._tell_soon()
            except (NoDaemon, RequestError):
                await asyncio.sleep(TICK)


@lru_cache(1)
def _assets() -> dict[str, tuple[bytes, str]]:
    """All files there are, each with its checksum, which is in the address: it can be kept for ever."""
    folder = files("rocksyd.companions.gateway") / "static"
    read = {one.name: one.read_bytes() for one in folder.iterdir() if one.name.rpartition(".")[2] in _KINDS}
    return {name: (data, hashlib.sha256(data).hexdigest()[:12]) for name, data in read.items()}


def asset(name: str) -> str:
    """The address of a file."""
    return f"/static/{name}?{_assets()[name][1]}"


def _inside(where: object) -> str:
    """A path of this site, whatever was asked for."""
    good = isinstance(where, str) and where.startswith("/") and not where.startswith(("//", "/\\")) and where.isprintable()
    return where if good and isinstance(where, str) else "/"


__all__ = ["Site", "as_text", "redirect"]
