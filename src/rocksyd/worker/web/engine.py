"""One web worker's application with what goes on in it: beginning and end, counting, deadlines.

What must live here: limits and timeouts as they were ordered, the numbers on the page, when to look at what.
What this file must not know: how HTTP is spoken (``http``), where connections come from and where they go (``door``).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from rocksyd.errors import JobError
from rocksyd.worker import results
from rocksyd.worker.web.access import AccessLog
from rocksyd.worker.web.pages import Pages
from rocksyd.worker.web.proxies import Proxies
from rocksyd.worker.web.request import Request
from rocksyd.worker.web.slow import Slow

running_request: contextvars.ContextVar[Request | None] = contextvars.ContextVar("rocksyd request", default=None)
_SWEEP = 0.25
"""Seconds between two looks at connections that have a deadline."""
_SELDOM = 10.0
"""Seconds between two looks where there are only WebSockets."""


def running() -> Request | None:
    """The request whose code this is."""
    return running_request.get()


class InFlight(Protocol):
    """A request that is being answered."""

    began: float
    """CLOCK_MONOTONIC seconds."""
    touched: float
    """When something of the request came last."""
    status: int
    sent: int
    response_started: bool
    task: Any
    request: Request

    def look(self, now: float) -> None:
        """Give it up when it has had its time."""


class Open(Protocol):
    """A connection, as long as it speaks HTTP."""

    transport: Any

    @property
    def between_requests(self) -> bool:
        """Whether another process could go on with it, given ``head``."""

    @property
    def head(self) -> bytes:
        """What has come of a head that is not whole."""

    def let_go(self) -> None:
        """Another process has it."""

    def look(self, now: float) -> float:
        """Close it when it has been idle for too long, or its head is slow. When to look again."""


class Socket:
    """A WebSocket, as the access log has it when it has ended."""

    def __init__(self, scope: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        self._send = send
        query = scope.get("query_string", b"")
        self.url: bytes = (scope.get("raw_path") or scope["path"].encode()) + (b"?" + query if query else b"")
        self.status = self.sent = 0

    async def send(self, message: Any) -> None:
        """As it was, counting."""
        self.status = self.status or _STATUS.get(message["type"], lambda _: 0)(message)
        said = message.get("text")
        self.sent += len(said.encode("utf-8", "replace") if said is not None else message.get("bytes") or b"")
        await self._send(message)


_STATUS: dict[str, Callable[[Any], int]] = {
    "websocket.accept": lambda _: 101,
    "websocket.close": lambda _: 403,
    "websocket.http.response.start": lambda message: int(message["status"]),
}
"""What the first word of an application means for the client that wants a WebSocket."""


class Engine:
    """One worker's application and its connections."""

    def __init__(self, app: Any, settings: dict[str, Any], page: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.page = page
        self.wsgi = bool(settings.get("wsgi"))
        self.timeout = float(settings.get("timeout", 30.0))
        self.grace = float(settings.get("grace", 10.0))
        self.keep_alive = float(settings.get("keep_alive", 75.0))
        self.head_timeout = float(settings.get("head_timeout", 10.0))
        self.max_body = int(settings.get("max_body", 0))
        self.max_head = int(settings.get("max_head", 65536))
        self.slow_after = float(settings.get("slow_after", 0.0))
        self.threads = int(settings.get("threads", 1)) if self.wsgi else 1
        self.capacity = int(settings.get("capacity", 200))
        self.most = self.capacity + int(settings.get("max_queue", 256))
        """Requests in flight beyond which further ones, on kept connections, are refused."""
        self.proxies = Proxies(settings.get("trusted_proxies", ()))
        self.access = AccessLog(str(settings.get("access_log", "")), str(settings.get("access_format", "combined")), loop)
        self.pages = Pages(str(settings.get("status", "")), str(settings.get("ping", "")), self)
        self.config = Config(
            self._enter, log_config=None, access_log=False, proxy_headers=False, lifespan="off" if self.wsgi else "auto",
            ws="none" if self.wsgi else "auto", http=HttpToolsProtocol, timeout_keep_alive=10**6, interface="asgi3",
        )  # fmt: skip
        self.config.load()
        self.app = app
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        self.state: Any = ServerState()
        self.defaults: list[tuple[bytes, bytes]] = []
        """The headers that every response has."""
        self.connections: set[Open] = set()
        self.comes = 0
        """Connections on their way in."""
        self.leaving = False
        self.give: Callable[[Open], None] = lambda connection: None
        self.room: Callable[[], None] = lambda: None
        self.stir: Callable[[], None] = lambda: None
        self.ask: Callable[[str], Awaitable[Any]]
        self.in_flight: set[InFlight] = set()
        self.slow = Slow(self.slow_after, self.in_flight, loop)
        self.lifespan = LifespanOn(self.config)
        self._call: Callable[[Callable[[], object]], Awaitable[object]] = app.call if self.wsgi else asyncio.to_thread
        """Calls a function of the application's that may block."""
        self._sweeping = False
        self._second = 0

    async def _enter(self, scope: Any, receive: Any, send: Any) -> None:
        """The application as uvicorn calls it."""
        if scope["type"] == "websocket":
            request = self.proxies.read(scope, scope["headers"], trusted=self.proxies.trust(scope["client"]))
            running_request.set(request)
            socket = Socket(scope, send)
            began = time.monotonic()
            try:
                await self.app(scope, receive, socket.send)
            finally:
                self.do_rest(request, contextvars.copy_context())
                if self.access:
                    request.method, request.version, request.url = "GET", scope["http_version"], socket.url
                    self.access.note(request, socket.status, socket.sent, time.monotonic() - began)
        else:
            await self.app(scope, receive, send)

    # --- beginning and end --------------------------------------------------------------------------------------------
    async def startup(self) -> None:
        """ASGI's lifespan. Raises JobError when the application says that it cannot start."""
        self.access.open()
        if self.wsgi:
            return
        said: list[str] = []
        logger: Any = self.lifespan.logger
        before = logger.error
        logger.error = lambda text, *rest, **named: said.append(_told(text, rest, named))
        try:
            await self.lifespan.startup()
        finally:
            logger.error = before
        if self.lifespan.startup_failed:
            raise JobError("the application's lifespan startup failed" + (f": {said[0]}" if said else ""))

    async def shutdown(self) -> None:
        """The end of ASGI's lifespan."""
        self.access.flush()
        if not self.wsgi and not self.lifespan.error_occurred:
            await self.lifespan.shutdown()

    # --- numbers ------------------------------------------------------------------------------------------------------
    @property
    def full(self) -> bool:
        """Whether there is no room for another connection now."""
        return len(self.in_flight) + self.comes >= self.capacity

    def began(self, cycle: InFlight) -> None:
        """A request has begun."""
        self.in_flight.add(cycle)
        self.page["in_flight"] = len(self.in_flight)
        if self.timeout and len(self.in_flight) == 1:  # at once: its code may be what never lets anybody look
            self.page["deadline"] = int((cycle.began + self.timeout + self.grace + 1.0) * 1000)
        self.slow.began()
        self.stir()
        self.watch()
        if len(self.in_flight) >= self.capacity:
            self.room()

    def ended(self, cycle: InFlight) -> None:
        """A request is over: answered, or given up by its client."""
        if cycle not in self.in_flight:
            return
        was_full = self.full
        self.in_flight.discard(cycle)
        took = time.monotonic() - cycle.began
        page, micros = self.page, int(took * 1e6)
        page["in_flight"] = len(self.in_flight)
        page["requests"] += 1
        page["micros"] += micros
        page.bucket_up(micros)
        if cycle.status:
            page[f"status_{cycle.status // 100}xx"] += 1
            page["bytes_sent"] += cycle.sent
        if self.slow_after and took >= self.slow_after:
            page["slow"] += 1
        if not self.in_flight:
            page["deadline"] = 0
        if self.access:
            self.access.note(cycle.request, cycle.status, cycle.sent, took)
        if was_full:
            self.room()

    def do_rest(self, request: Request, context: contextvars.Context) -> None:
        """Begin with what was left for the time after the response, if there is anything; a worker that leaves waits for it."""
        if request.has_more:
            task = self.loop.create_task(request.rest(self._call), context=context)
            self.state.tasks.add(task)
            task.add_done_callback(self.state.tasks.discard)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What every response has."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now))
            self.defaults = self.state.default_headers = [(b"date", date.encode()), (b"server", b"rocksyd")]
        return self.defaults

    def count(self) -> None:
        """Connections have come, gone, or become WebSockets."""
        self.page["connections"] = len(self.state.connections)
        self.page["websockets"] = len(self.state.connections) - len(self.connections)

    # --- time ---------------------------------------------------------------------------------------------------------
    def watch(self) -> None:
        """Look now and then at what has a deadline."""
        if not self._sweeping:
            self._sweeping = True
            self.loop.call_later(_SWEEP, self._sweep)

    def _sweep(self) -> None:
        now = time.monotonic()
        oldest = 0.0
        for cycle in list(self.in_flight):
            cycle.look(now)
            if not cycle.response_started and (not oldest or cycle.touched < oldest):
                oldest = cycle.touched
        self.page["deadline"] = int((oldest + self.timeout + self.grace + 1.0) * 1000) if oldest and self.timeout else 0
        next_look = 0.0
        for connection in list(self.connections):
            due = connection.look(now)
            next_look = min(next_look, due) if next_look else due
        self.count()
        if self.in_flight:
            self.stir()
            next_look = now + _SWEEP
        self._sweeping = bool(self.state.connections or self.in_flight)
        if self._sweeping:
            self.loop.call_later(max(_SWEEP, (next_look or now + _SELDOM) - now), self._sweep)


_NO_NEWS = ("Invalid HTTP request", "Unsupported upgrade", "No supported WebSocket")


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it is worth a line: what strangers say that is no HTTP is counted, what was given up has been answered."""
    given_up = record.exc_info is not None and record.exc_info[0] is asyncio.CancelledError
    return not given_up and not str(record.msg).startswith(_NO_NEWS)


def _told(text: str, rest: tuple[Any, ...], named: dict[str, Any]) -> str:
    if named.get("exc_info") is not None:
        return results.traceback_of(named["exc_info"]).strip()
    return str(text % rest if rest else text)
