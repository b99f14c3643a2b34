"""Connections of a web worker without the worker: an engine on a loop of the test's own, and what is written is kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("httptools")

from rocksyd.worker.web.http import Connection, Engine
from rocksyd.worker.web.wsgi import Wsgi


class Wire(asyncio.Transport):
    """What a connection is written to; bytes that come while it does not read wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.written = b""
        self.closing = self.ended = False
        self.protocol: Any = None
        self._paused = False
        self._waiting: list[bytes] = []

    def feed(self, data: bytes) -> None:
        if self._paused:
            self._waiting.append(data)
        elif not self.closing:
            self.protocol.data_received(data)

    def write(self, data: Any) -> None:
        if self.ended:
            raise RuntimeError("written behind the end")
        if not self.closing:
            self.written += bytes(data)

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.loop.call_soon(self.protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        while self._waiting and not self._paused and not self.closing:
            self.protocol.data_received(self._waiting.pop(0))

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Page(Counter[str]):
    """The numbers that a worker counts in."""

    def bucket_up(self, micros: int) -> None:
        self["bucket"] += 1


class Inside:
    """An engine, and connections to it."""

    def __init__(self, app: Any, **settings: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self._wsgi: Any = None
        asyncio.set_event_loop(self.loop)  # what speaks WebSocket asks for it
        self.page = Page()
        settings = {"timeout": 0.0, "max_body": 20_000, "max_head": 4096, "capacity": 10_000, **settings}
        if settings.get("wsgi"):
            app = self._wsgi = Wsgi(app, settings, self.loop, self.page)
        self.engine = Engine(app, settings, self.page, self.loop)
        self.faults: list[Any] = []
        self.loop.set_exception_handler(lambda _loop, context: self.faults.append(context))

    def connect(self, head: bytes = b"") -> Wire:
        wire = Wire(self.loop)
        wire.protocol = Connection(self.engine, head)
        wire.protocol.connection_made(wire)
        return wire

    def turn(self, times: int = 1) -> None:
        """Let the loop do what it has to."""
        for _ in range(times):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def settle(self) -> None:
        """Until all requests are answered, or wait for bytes that do not come: each needs some turns, and few are under way."""
        for _ in range(40):
            self.turn()
            if not self.engine.in_flight:
                break
        self.turn(2)

    def close(self) -> None:
        for one in list(self.engine.connections):
            one.transport.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.turn(5)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        if self._wsgi is not None and self._wsgi._pool is not None:
            self._wsgi._pool.shutdown()
        asyncio.set_event_loop(None)
        self.loop.close()
