"""A WSGI application behind the ASGI interface: called in threads, or with ``threads = 1`` in the main thread, as php-fpm does.

What must live here: PEP 3333. What this file must not know: connections, and who counts requests.

In threads the body is read when the application reads it, and each part of the response waits until the one before is on its
way: neither is ever in memory as a whole. In the main thread nothing can be read while the application runs, so the body is
gathered before, a large one in a temporary file.
"""

from __future__ import annotations

import asyncio
import io
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper

from rocksyd.errors import JobTimeout
from rocksyd.jobs import current
from rocksyd.units import format_duration

_IN_MEMORY = 1 << 20
"""Bytes of a body that are kept in memory, in the main thread's way."""


def _no_length() -> int:
    """The length of what has none."""
    return -1


class Wsgi:
    """The ASGI application that calls the WSGI one."""

    def __init__(self, app: Callable[..., Iterable[bytes]], settings: dict[str, Any], loop: Any, page: Any) -> None:
        self._app = app
        self._loop = loop
        self._page = page
        self._threads = int(settings.get("threads", 8))
        self._timeout = float(settings.get("timeout", 0.0))
        self._grace = float(settings.get("grace", 10.0))
        self._pool = ThreadPoolExecutor(self._threads, "wsgi") if self._threads > 1 else None
        self._alarm = _Alarm(self._timeout if self._pool is None else 0.0)
        self._alone = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            raise RuntimeError(f"a WSGI application cannot serve {scope['type']}")
        first = await receive()
        if first["type"] == "http.disconnect":
            return
        if self._pool is None:
            await self._inline(scope, first, receive, send)
        else:
            await self._in_thread(scope, first, receive, send)

    async def call(self, work: Callable[[], object]) -> object:
        """Call something else of the application's as it is itself: in a thread, or in the main one while nobody else is."""
        if self._pool is None:
            async with self._alone:
                return work()
        return await self._loop.run_in_executor(self._pool, copy_context().run, work)

    # --- in the main thread -------------------------------------------------------------------------------------------
    async def _inline(self, scope: Any, message: Any, receive: Any, send: Any) -> None:
        body: Any = io.BytesIO(message["body"])
        if message.get("more_body"):
            body = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  (closed by whoever reads it)
            body.write(message["body"])
            while message.get("more_body"):
                message = await receive()
                if message["type"] == "http.disconnect":
                    body.close()
                    return
                body.write(message["body"])
            body.seek(0)
        async with self._alone:
            await self._call(environment(scope, body, self._threads), send)

    async def _call(self, environ: dict[str, Any], send: Any) -> None:
        """Nobody else's code runs meanwhile, also while a part of the response is sent."""
        response, alarm = Response(environ), self._alarm
        if self._timeout:
            self._page["deadline"] = int((time.monotonic() + self._timeout + self._grace) * 1000)
            alarm.set()
        parts: Any = None
        try:
            with environ["wsgi.input"]:
                with alarm:
                    parts = response.call(self._app)
                    left = iter(parts)
                while True:
                    with alarm:
                        part = next(left, None)
                    if part is None:
                        break
                    for written in response.written(part):
                        await send(written)
                for written in response.end():
                    await send(written)
        finally:
            alarm.off()
            _close(parts)

    # --- in threads ---------------------------------------------------------------------------------------------------
    async def _in_thread(self, scope: Any, message: Any, receive: Any, send: Any) -> None:
        ahead = message["body"]
        body = Body(self._loop, receive, ahead) if message.get("more_body") else io.BytesIO(ahead)
        environ = environment(scope, body, self._threads)
        context = copy_context()
        assert self._pool is not None
        ready = await self._loop.run_in_executor(self._pool, context.run, self._run, environ, send)
        for one in ready:
            await send(one)

    def _run(self, environ: dict[str, Any], send: Any) -> list[Any]:
        """In a thread: call it and send what it gives; what is the last of it is returned, so that no thread waits for that."""
        request = current()
        request.thread = threading.get_ident()  # type: ignore[attr-defined]
        response = Response(environ)
        response.send = lambda message: self._wait_for(send(message))
        parts = response.call(self._app)
        try:
            if type(parts) in (list, tuple) or getattr(parts, "__len__", _no_length)() == 1:
                whole = [one for part in parts for one in response.written(part)]
                return [*whole, *response.end()]
            for part in parts:
                for message in response.written(part):
                    self._wait_for(send(message))
            return response.end()
        finally:
            _close(parts)
            request.thread = None  # type: ignore[attr-defined]

    def _wait_for(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _close(parts: Any) -> None:
    close = getattr(parts, "close", None)
    if close is not None:
        close()


class Response:
    """What an application says by ``start_response``, ``write`` and its iterable, as ASGI's messages."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self._environ = environ
        self._start: dict[str, Any] | None = None
        self._started = False
        self.send: Callable[[Any], object] | None = None
        """Sends a message now; None where that cannot be done while the application runs."""
        self._kept: list[Any] = []

    def call(self, app: Callable[..., Iterable[bytes]]) -> Iterable[bytes]:
        """The application's iterable."""
        return app(self._environ, self.start_response)

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        """PEP 3333."""
        if exc_info is not None:
            try:
                if self._started:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._start is not None:
            raise AssertionError("start_response was called twice, without exc_info")
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self._start = {"type": "http.response.start", "status": int(status[:3]), "headers": encoded}
        return self._write

    def _write(self, data: bytes) -> None:
        for message in self.written(data):
            if self.send is not None:
                self.send(message)
            else:
                self._kept.append(message)

    def written(self, data: bytes) -> list[Any]:
        """The messages for another part of the body."""
        kept, self._kept = self._kept, []
        if not data:
            return kept
        return [*kept, *self._begin(), {"type": "http.response.body", "body": data, "more_body": True}]

    def _begin(self) -> list[Any]:
        if self._start is None:
            raise AssertionError("the application gave a body before it called start_response")
        if self._started:
            return []
        self._started = True
        return [self._start]

    def end(self) -> list[Any]:
        """The messages for the end."""
        kept, self._kept = self._kept, []
        start = self._start
        empty = not self._started and start is not None and start["status"] not in (204, 304)
        empty = empty and self._environ["REQUEST_METHOD"] != "HEAD"  # whose response would say how long GET's is
        if start is not None and empty and not any(name == b"content-length" for name, _ in start["headers"]):
            start["headers"].append((b"content-length", b"0"))
        return [*kept, *self._begin(), {"type": "http.response.body", "body": b"", "more_body": False}]


class Body(io.RawIOBase):
    """``wsgi.input`` in a thread: what is there is read, what is not is waited for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Any, ahead: bytes) -> None:
        self._loop, self._receive = loop, receive
        self._ahead = ahead
        self._more = True

    def readable(self) -> bool:
        """It can be read."""
        return True

    def _fill(self) -> bool:
        """Have something ahead; false at the end."""
        while not self._ahead and self._more:
            message = asyncio.run_coroutine_threadsafe(self._receive(), self._loop).result()
            if message["type"] == "http.disconnect":
                self._more = False
                raise ConnectionResetError("the client has gone in the middle of the request's body")
            self._ahead, self._more = message["body"], message.get("more_body", False)
        return bool(self._ahead)

    def readinto(self, buffer: Any) -> int:
        """As io.RawIOBase has it."""
        if not self._fill():
            return 0
        size = min(len(buffer), len(self._ahead))
        buffer[:size] = self._ahead[:size]
        self._ahead = self._ahead[size:]
        return size

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, or all; fewer only at the end."""
        parts: list[bytes] = []
        left = sys.maxsize if size is None or size < 0 else size
        while left and self._fill():
            part, self._ahead = self._ahead[:left], self._ahead[left:]
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def readline(self, size: int | None = -1) -> bytes:
        """A line."""
        parts: list[bytes] = []
        left = sys.maxsize if size is None or size < 0 else size
        while left and self._fill():
            at = self._ahead.find(b"\n") + 1
            part = self._ahead[: min(left, at or len(self._ahead))]
            self._ahead = self._ahead[len(part) :]
            parts.append(part)
            left -= len(part)
            if part.endswith(b"\n"):
                break
        return b"".join(parts)


def environment(scope: Any, body: Any, threads: int) -> dict[str, Any]:
    """PEP 3333's environ."""
    server, client = scope.get("server") or ("localhost", 80), scope.get("client")
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": str(server[0]) if server[1] is not None else "localhost",
        "SERVER_PORT": str(server[1] or 80),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": client[0] if client else "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": threads > 1,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    for name, value in scope["headers"]:
        if b"_" in name:
            continue  # else a stranger could write HTTP_X_FORWARDED_FOR as x_forwarded_for
        key, said = name.decode("latin-1").upper().replace("-", "_"), value.decode("latin-1")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        environ[key] = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{said}" if key in environ else said
    return environ


class _Alarm:
    """``with`` blocks round the application's code in the main thread: JobTimeout is raised in one when its time is up."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._inside = self._rang = False
        if timeout:
            signal.signal(signal.SIGALRM, self._ring)

    def set(self) -> None:
        """The time begins."""
        self._rang = False
        signal.setitimer(signal.ITIMER_REAL, self._timeout)

    def off(self) -> None:
        """It is over."""
        if self._timeout:
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    def __enter__(self) -> None:
        self._inside = True
        if self._rang:
            self._raise()

    def __exit__(self, *_: object) -> None:
        self._inside = False

    def _ring(self, _number: int, _frame: object) -> None:
        self._rang = True
        if self._inside:
            self._raise()

    def _raise(self) -> None:
        self._inside = self._rang = False
        raise JobTimeout(f"the request has reached its timeout of {format_duration(self._timeout)}")
