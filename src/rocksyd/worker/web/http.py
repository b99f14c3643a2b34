"""HTTP/1.1 in a web worker: uvicorn's protocol, with what a pool adds.

What must live here: where a connection stands between two requests, limits and timeouts, who may say for whom a request is.
What this file must not know: where connections come from and where they go (``door``), who starts and ends the worker, counting
(``engine``).

What of uvicorn is used without being documented is named in ``USED``; ``tests/web/test_engine.py`` holds each release against it.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import time
import urllib.parse
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from rocksyd.units import format_duration
from rocksyd.worker import output, results
from rocksyd.worker.web import framing
from rocksyd.worker.web.engine import Engine, running_request
from rocksyd.worker.web.request import Request, unserved

USED = (
    "_start_asgi_task", "_unset_keepalive_if_required", "_unsupported_upgrade_warning", "connections", "cycle",
    "expect_100_continue", "flow", "headers", "on_headers_complete", "on_message_begin", "on_message_complete", "parser",
    "pipeline", "scope", "url",
)  # fmt: skip
"""Members of ``HttpToolsProtocol`` that are overridden or read here."""


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
    context: contextvars.Context
    """Of the application's code."""
    request: Request
    given_up = False
    until_close = False
    """Whether the end of the connection is the end of the body, as where HTTP/1.0 is spoken and its length is not known."""

    async def send(self, message: Any) -> None:
        """As uvicorn does, counting."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if not self.response_started:
                message = framing.response(self, message)
        elif not self.response_complete:
            size = len(message.get("body", b""))
            self.sent += size
            if self.until_close:
                self.expected_content_length = size
        await super().send(message)

    def look(self, now: float) -> None:
        """Give it up when it has had its time."""
        engine = self.engine
        if self.response_started or self.given_up or not engine.timeout or now - self.touched < engine.timeout:
            return
        self.given_up = True
        engine.page["timeouts"] += 1
        if self.request.thread is not None and engine.threads > 1:  # nobody can end a thread: it goes with its process
            engine.page["spent"] = 1
            limit = format_duration(engine.timeout)
            engine.slow.tell(self, f"has reached its timeout of {limit}; its thread goes on, so its worker is replaced")
        if self.task is not None:
            self.task.cancel()
        connection = self.connection
        if connection.refused:
            connection.transport.close()
        elif not self.disconnected:
            connection.pipeline.clear()  # what waits behind it is not answered either
            connection.cycle = self
            connection.refuse(503, "The request took too long.", own=True, retry=True)
        engine.ended(self)


class Connection(HttpToolsProtocol):
    """One connection, for as long as it is this worker's."""

    cycle: Any
    transport: Any

    def __init__(self, engine: Engine, head: bytes = b"") -> None:
        super().__init__(engine.config, engine.state, engine.lifespan.state, engine.loop)
        self.engine = engine
        self.head = b""
        """What has come of a head that is not whole."""
        self._brought = head
        """What another worker had read of it."""
        self._active: Any = None
        """The request that is being answered; ``cycle`` is the one that came last."""
        self._stopped_at = 0
        """Where in what was read the parser stopped, although there is more."""
        self._ignored: framing.Head | None = None
        """A head that asked for another protocol, and whose body is still to come."""
        self._primed = True
        """Whether the parser has been told what head it is in; until then what it says is of no request."""
        self._between = 0
        """Bytes since the last of a body: sizes of chunks and their extensions, trailers."""
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
        self.engine.count()
        self.engine.watch()
        if self._brought:
            self.data_received(self._brought)
            self._brought = b""

    def connection_lost(self, exc: Exception | None) -> None:
        """Its end, for whatever reason."""
        self._gone = True
        self.engine.connections.discard(self)
        super().connection_lost(exc)
        self.engine.count()

    def handle_websocket_upgrade(self) -> None:
        """It is no HTTP any longer."""
        if self.refused:
            return
        self.engine.connections.discard(self)
        self.engine.page["requests"] += 1
        self.engine.page["status_1xx"] += 1
        super().handle_websocket_upgrade()
        self.engine.count()

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
        while data and not self.refused:
            if not self._in_message:
                self.touched = time.monotonic()
                self.head = data
            elif self.head:
                self.head += data
            if self.cycle is not None:
                self.cycle.touched = time.monotonic()
            self._between += len(data)
            self._stopped_at = len(data)
            super().data_received(data)
            data = data[self._stopped_at :]
        if len(self.head) > self.engine.max_head and self._in_message:
            self.refuse(431, "The head of the request is too large.")
        elif self._in_body and self._between > self.engine.max_head:
            self.refuse(431, "There is too much between the chunks of the body, or behind them.", own=True)

    def _unsupported_upgrade_warning(self) -> None:
        """It wants to go on with another protocol than HTTP, and does not get it: its body follows, or the next request."""
        error = sys.exception()
        if isinstance(error, httptools.HttpParserUpgrade):
            self._stopped_at = int(error.args[0])
        if self._ignored is not None and not self.refused:
            self._primed = False
            self.parser = self._ignored.parser_of_body(self)
            self._primed, self._ignored = True, None

    def on_message_begin(self) -> None:
        """A head begins; at the beginning of what was read, unless something stood before it."""
        if not self._primed:
            return
        self._unknown = self._in_message or not self.head
        self._in_message = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Its end. What comes now in the same bytes begins at a place that nobody knows."""
        if self._ignored is not None:
            return
        self._in_message = self._unknown = self._in_body = False
        self.head = b""
        if not self.refused:
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """Some of a body, of which there may be so much."""
        self._size += len(body)
        self._between = 0
        if self.refused:
            return
        if self.engine.max_body and self._size > self.engine.max_body:
            self.refuse(413, "The body of the request is too large.", own=True)
            return
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """A head is whole: refuse what is not to be served, else begin."""
        if not self._primed:
            return
        self.head, self._size, self._between, self._unknown, self._in_body = b"", 0, 0, False, True
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
        head = framing.Head(self.headers)
        if self.parser.should_upgrade():
            if not self._should_upgrade():
                self._ignored = head if head.has_body else None
            elif head.has_body or self.parser.get_method() != b"GET":
                return 400, "A WebSocket begins with a GET that has no body."
            elif self.cycle is not None and not self.cycle.response_complete:
                return 400, "A WebSocket does not begin before all requests are answered."
        return head.problem(self.parser.get_http_version(), self.engine.max_body)

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
        self.headers = []  # for trailers, which nobody has looked at: they are not the request's
        app = engine.pages.app_for(scope["path"]) or engine.config.loaded_app
        if first:
            self._start_asgi_task(cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Begin to answer."""
        cycle.began = cycle.touched = time.monotonic()
        self._active = cycle
        self.engine.began(cycle)
        cycle.context = contextvars.copy_context()
        cycle.context.run(running_request.set, cycle.request)
        cycle.task = task = self.loop.create_task(cycle.run_asgi(app), context=cycle.context)
        self.tasks.add(task)
        task.add_done_callback(lambda done: self._task_over(done, cycle))

    def _task_over(self, task: Any, cycle: Cycle) -> None:
        self.tasks.discard(task)
        self.engine.ended(cycle)
        self.engine.do_rest(cycle.request, cycle.context)  # also of one that was cut off

    def _through(self, cycle: Cycle) -> None:
        """A response is through: the next request, or the moment to be given away."""
        self.touched = time.monotonic()
        self.engine.ended(cycle)
        self.engine.do_rest(cycle.request, cycle.context.copy())
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
        if own and self.pipeline:  # it waits behind others: they are answered, and then the connection is closed
            self.pipeline.popleft()
            cycle, own = self.pipeline[0][0] if self.pipeline else self._active, False
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
                if self.engine.access:
                    known = (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
                    line = b"%s %s HTTP/%s" % known if self._in_body else self.head.partition(b"\n")[0]
                    request = cycle.request if own and cycle is not None else unserved(self.client, line)
                    self.engine.access.note(request, status, len(body), time.monotonic() - self.touched)
        if self.transport.can_write_eof():
            # What is unread would make the close a reset, and the client would not see the answer.
            self.transport.write_eof()
            self.loop.call_later(1.0, self.transport.close)
        else:
            self.transport.close()
