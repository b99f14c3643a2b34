"""HTTP/1.1 in a web worker: uvicorn's protocol, with what a pool adds.

What must live here: where a connection stands between two requests, limits and timeouts, who may say for whom a request is,
counting. What this file must not know: where connections come from and where they go (``door``), who starts and ends the worker.

What of uvicorn is used without being documented is named in ``USED``; ``tests/web/test_engine.py`` holds each release against it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from rocksyd.errors import JobError
from rocksyd.worker import output, results
from rocksyd.worker.web.access import AccessLog
from rocksyd.worker.web.pages import Pages
from rocksyd.worker.web.proxies import Proxies
from rocksyd.worker.web.request import Request

USED = (
    "_start_asgi_task", "_unset_keepalive_if_required", "connections", "cycle", "expect_100_continue", "flow", "headers",
    "on_headers_complete", "on_message_begin", "on_message_complete", "parser", "pipeline", "scope", "url",
)  # fmt: skip
"""Members of ``HttpToolsProtocol`` that are overridden or read here."""

_running: contextvars.ContextVar[Request | None] = contextvars.ContextVar("rocksyd request", default=None)
_NO_NEWS = ("Invalid HTTP request", "Unsupported upgrade", "No supported WebSocket")
_SWEEP = 0.25
"""Seconds between two looks at connections that have a deadline."""


def running() -> Request | None:
    """The request whose code this is."""
    return _running.get()


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
        self.connections: set[Connection] = set()
        self.comes = 0
        """Connections on their way in."""
        self.leaving = False
        self.give: Callable[[Connection], None] = lambda connection: None
        self.room: Callable[[], None] = lambda: None
        self.stir: Callable[[], None] = lambda: None
        self.ask: Callable[[str], Awaitable[Any]]
        self.in_flight: set[Cycle] = set()
        self.lifespan = LifespanOn(self.config)
        self._sweeping = False
        self._second = 0

    async def _enter(self, scope: Any, receive: Any, send: Any) -> None:
        """The application as uvicorn calls it."""
        if scope["type"] == "websocket":
            request = self.proxies.read(scope, scope["headers"], trusted=self.proxies.trust(scope["client"]))
            _running.set(request)
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

    async def call(self, path: str) -> int:
        """Make a request to the application without a connection; the status of its answer."""
        path, _, query = path.partition("?")
        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": urllib.parse.unquote(path), "raw_path": path.encode(), "query_string": query.encode(),
            "root_path": "", "headers": [(b"host", b"localhost"), (b"user-agent", b"rocksyd smoke request")], "state": {},
            "client": ("127.0.0.1", 0), "server": ("localhost", 80),
        }  # fmt: skip
        scope["state"] = self.lifespan.state.copy()
        answered: asyncio.Future[int] = self.loop.create_future()
        gone = asyncio.Event()
        bodies = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> dict[str, Any]:
            body = next(bodies, None)
            if body is not None:
                return body
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start" and not answered.done():
                answered.set_result(message["status"])
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                gone.set()

        context = contextvars.copy_context()
        context.run(_running.set, self.proxies.read(scope, scope["headers"], trusted=False))
        task = self.loop.create_task(self.app(scope, receive, send), context=context)
        try:
            await asyncio.wait({task, answered}, timeout=self.timeout or None, return_when=asyncio.FIRST_COMPLETED)
            if not answered.done() and task.done():
                task.result()
                raise JobError(f"smoke_request: {path} was not answered")
            if not answered.done():
                raise JobError(f"smoke_request: {path} was not answered in time (timeout)")
            return answered.result()
        finally:
            gone.set()
            await asyncio.wait({task}, timeout=1.0)
            task.cancel()

    # --- numbers ------------------------------------------------------------------------------------------------------
    @property
    def full(self) -> bool:
        """Whether there is no room for another connection now."""
        return len(self.in_flight) + self.comes >= self.capacity

    def began(self, cycle: Cycle) -> None:
        """A request has begun."""
        self.in_flight.add(cycle)
        self.page["in_flight"] = len(self.in_flight)
        if self.timeout and len(self.in_flight) == 1:  # at once: its code may be what never lets anybody look
            self.page["deadline"] = int((cycle.began + self.timeout + self.grace + 1.0) * 1000)
        self.stir()
        self.watch()
        if len(self.in_flight) >= self.capacity:
            self.room()

    def ended(self, cycle: Cycle) -> None:
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
            self.access.note(cycle, took)
        if was_full:
            self.room()

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What every response has."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now))
            self.defaults = self.state.default_headers = [(b"date", date.encode()), (b"server", b"rocksyd")]
        return self.defaults

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
        self.page["connections"] = len(self.state.connections)
        self.page["websockets"] = len(self.state.connections) - len(self.connections)
        if self.in_flight:
            self.stir()
            next_look = now + _SWEEP
        self._sweeping = bool(self.connections or self.in_flight)
        if self._sweeping:
            self.loop.call_later(max(_SWEEP, (next_look or now + 1.0) - now), self._sweep)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it is worth a line: what strangers say that is no HTTP is counted, what was given up has been answered."""
    given_up = record.exc_info is not None and record.exc_info[0] is asyncio.CancelledError
    return not given_up and not str(record.msg).startswith(
        ("Invalid HTTP request", "Unsupported upgrade", "No supported WebSocket")
    )


def _told(text: str, rest: tuple[Any, ...], named: dict[str, Any]) -> str:
    if named.get("exc_info") is not None:
        return results.traceback_of(named["exc_info"]).strip()
    return str(text % rest if rest else text)


class Cycle(RequestResponseCycle):
    """One request and its response."""

    engine: Engine
    connection: Connection
    status = 0
    sent = 0
    began = 0.0
    touched = 0.0
    """When something of the request came last."""
    task: Any = None
    request: Request
    given_up = False
    slow_told = False

    async def send(self, message: Any) -> None:
        """As uvicorn does, counting."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif not self.response_complete:
            self.sent += len(message.get("body", b""))
        await super().send(message)

    def look(self, now: float) -> None:
        """Give it up when it has had its time; say where it is when it is slow."""
        engine = self.engine
        if engine.slow_after and not self.slow_told and now - self.began >= engine.slow_after:
            self.slow_told = True
            self.request.print_stack(self.task, now - self.began)
        if self.response_started or self.given_up or not engine.timeout or now - self.touched < engine.timeout:
            return
        self.given_up = True
        engine.page["timeouts"] += 1
        if self.task is not None:
            self.task.cancel()
        if self.connection.refused:
            self.connection.transport.close()
        elif not self.disconnected:
            self.connection.refuse(503, "The request took too long.", own=True, retry=True)
        engine.ended(self)


class Connection(HttpToolsProtocol):
    """One connection, for as long as it is this worker's."""

    cycle: Any
    transport: Any

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.config, engine.state, engine.lifespan.state, engine.loop)
        self.engine = engine
        self.head = b""
        """What has come of a head that is not whole."""
        self._in_message = False
        self._unknown = False
        """Whether a message began in the middle of what was read: then nobody knows its bytes."""
        self._in_body = False
        self._size = 0
        self.refused = False
        self._gone = False
        self.trusted = False
        self.touched = time.monotonic()
        """When it was last spoken over, or began a head."""

    # --- coming and going ---------------------------------------------------------------------------------------------
    def connection_made(self, transport: Any) -> None:
        """As uvicorn, and it is watched."""
        super().connection_made(transport)
        self.trusted = self.engine.proxies.trust(self.client)
        self.engine.connections.add(self)
        self.engine.watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Its end, for whatever reason."""
        self._gone = True
        self.engine.connections.discard(self)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """It is no HTTP any longer."""
        self.engine.connections.discard(self)
        self.engine.page["requests"] += 1
        self.engine.page["status_1xx"] += 1
        super().handle_websocket_upgrade()

    @property
    def between_requests(self) -> bool:
        """Whether another process could go on with it, given ``head``."""
        done = self.cycle is None or self.cycle.response_complete
        known = not self._in_message or bool(self.head)
        free = done and known and not self._unknown and not self.pipeline and not self.refused and not self._gone
        return free and not self.transport.is_closing() and not self.transport.get_write_buffer_size()

    def let_go(self) -> None:
        """Another process has it: close this end without a word."""
        self._gone = True
        self._unset_keepalive_if_required()
        self.transport.pause_reading()
        self.transport.abort()

    def look(self, now: float) -> float:
        """Close it when it has been idle for too long, or its head is slow. When to look again."""
        if self._in_message and (self.head or self._unknown):
            if now - self.touched >= self.engine.head_timeout:
                self.refuse(408, "The head of the request did not come in time.")
            return self.touched + self.engine.head_timeout
        if self.cycle is None or self.cycle.response_complete:
            if now - self.touched >= self.engine.keep_alive:
                self.transport.close()
            return self.touched + self.engine.keep_alive
        return now + self.engine.keep_alive

    # --- reading ------------------------------------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        """Follow where messages begin and end, and let uvicorn read."""
        if self.refused:
            return
        if not self._in_message:
            self.touched = time.monotonic()
            self.head = data
        elif self.head:
            self.head += data
        if self.cycle is not None:
            self.cycle.touched = time.monotonic()
        super().data_received(data)
        if len(self.head) > self.engine.max_head and self._in_message:
            self.refuse(431, "The head of the request is too large.")

    def on_message_begin(self) -> None:
        """A head begins; at the beginning of what was read, unless something stood before it."""
        self._unknown = self._in_message or not self.head
        self._in_message = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Its end. What comes now in the same bytes begins at a place that nobody knows."""
        self._in_message = self._unknown = self._in_body = False
        self.head = b""
        if not self.refused:
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """Some of a body, of which there may be so much."""
        self._size += len(body)
        if self.refused:
            return
        if self.engine.max_body and self._size > self.engine.max_body:
            self.refuse(413, "The body of the request is too large.", own=True)
            return
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """A head is whole: refuse what is not to be served, else begin."""
        self.head, self._size, self._unknown, self._in_body = b"", 0, False, True
        if self.refused:
            return
        engine = self.engine
        wrong = self._wrong()
        if wrong is not None:
            engine.page["bad"] += 1
            self.refuse(*wrong)
            return
        request = engine.proxies.read(self.scope, self.headers, trusted=self.trusted)
        self._begin(request)

    def _wrong(self) -> tuple[int, str] | None:
        """What is wrong with a head that could be read."""
        hosts = length = 0
        for name, value in self.headers:
            if name == b"content-length" and value.isdigit():
                length = int(value)
            elif name == b"host":
                hosts += 1
        if hosts != 1 and (hosts > 1 or self.parser.get_http_version() == "1.1"):
            return 400, "A request has one Host."
        if self.engine.max_body and length > self.engine.max_body:
            return 413, "The body of the request is too large."
        return None

    def _begin(self, request: Request) -> None:
        """As uvicorn's own, with a cycle that counts."""
        engine, scope = self.engine, self.scope
        version = self.parser.get_http_version()
        scope["method"] = self.parser.get_method().decode("ascii")
        if version != "1.1":
            scope["http_version"] = version
        request.method, request.version = scope["method"], version
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        try:
            parsed = httptools.parse_url(self.url)
            raw = parsed.path or b"/"
            path = raw.decode("ascii")
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            engine.page["bad"] += 1
            self.refuse(400, "The address of the request cannot be read.")
            return
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"], scope["query_string"] = raw, parsed.query or b""
        request.url = self.url
        before = self.cycle
        cycle: Any = Cycle(
            scope=scope, transport=self.transport, flow=self.flow, logger=self.logger, access_logger=self.access_logger,
            access_log=False, default_headers=engine.headers(), message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue, keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=lambda: self._through(cycle),
        )  # fmt: skip
        cycle.engine, cycle.connection, cycle.request = engine, self, request
        self.cycle = cycle
        first = before is None or before.response_complete
        if first and len(engine.in_flight) >= engine.most:
            engine.page["refused"] += 1
            self.refuse(503, "The server is full.", own=True, retry=True)
            return
        app = engine.pages.app_for(scope["path"]) or engine.config.loaded_app
        if first:
            self._start_asgi_task(cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Begin to answer."""
        cycle.began = cycle.touched = time.monotonic()
        self.engine.began(cycle)
        context = contextvars.copy_context()
        context.run(_running.set, cycle.request)
        task = self.loop.create_task(cycle.run_asgi(app), context=context)
        cycle.task = task
        self.tasks.add(task)
        task.add_done_callback(lambda done: self._task_over(done, cycle))

    def _task_over(self, task: Any, cycle: Cycle) -> None:
        self.tasks.discard(task)
        self.engine.ended(cycle)
        cycle.request.close()

    def _through(self, cycle: Cycle) -> None:
        """A response is through: the next request, or the moment to be given away."""
        self.touched = time.monotonic()
        self.engine.ended(cycle)
        if cycle.request.has_more and not self.engine.wsgi:
            cycle.request.do_rest()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.engine.leaving:
            self.loop.call_soon(self.engine.give, self)

    # --- refusing -----------------------------------------------------------------------------------------------------
    def send_400_response(self, msg: str) -> None:
        """What cannot be read as HTTP."""
        error = sys.exception()
        if isinstance(error, httptools.HttpParserCallbackError):
            output.write(f"rocksyd: a request was met with a fault, please report this:\n{results.traceback_of(error)}")
        self.engine.page["bad"] += 1
        self.refuse(400, "The request cannot be read.", own=self._in_body and self.cycle is not None)

    def refuse(self, status: int, text: str, *, own: bool = False, retry: bool = False) -> None:
        """Answer at once, and close; ``own``: it is the last request itself, and not one behind it, that is refused.

        A response that is under way is cut off, which its client can see, or finished, if what is refused comes behind it.
        """
        if self.refused or self.transport.is_closing():
            return
        self.refused = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not own:
            cycle.keep_alive = False
            return
        begun = own and cycle is not None and cycle.response_started
        if own and cycle is not None:
            cycle.status = status
            cycle.disconnected = cycle.response_complete = True
            cycle.message_event.set()
        if not begun:
            body = text.encode() + b"\r\n"
            lines = [STATUS_LINE[status], b"content-type: text/plain; charset=utf-8\r\n"]
            lines += [
                b"content-length: %d\r\n" % len(body),
                b"retry-after: 1\r\n" if retry else b"",
                b"connection: close\r\n\r\n",
            ]
            self.transport.write(b"".join([*lines, body]))
            if cycle is None or not own or cycle not in self.engine.in_flight:
                self.engine.page[f"status_{status // 100}xx"] += 1
        if self.transport.can_write_eof():
            # What is unread would make the close a reset, and the client would not see the answer.
            self.transport.write_eof()
            self.loop.call_later(1.0, self.transport.close)
        else:
            self.transport.close()
