"""HTTP connections on the sockets that this process was given: everything bounded, and no request lost at the end.

What must live here: accepting, the deadlines of a connection, how many there may be, and leaving.
What this file must not know: what is asked over them.

The bytes are uvicorn's (h11 underneath). Its own server is not used: it wakes ten times a second, has no limit of time for the
head of a request, and closes idle connections when it leaves, on which a client may just have sent something. Used are its
``Config``, its ``ServerState`` and its protocol's class, which ``--http`` takes as well; a test holds what of them is relied on.

Leaving: no further connection is accepted; each that is open is answered once more, with ``Connection: close``, or ends by
itself after the time for which any connection may be idle.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from rocksyd.posix.log import log

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Make = Callable[[], asyncio.Protocol]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MOST = 512
"""Connections at the same time, if as many files may be open; one more closes the one that has been idle for longest."""
MAX_HEAD = 16 << 10
"""Bytes of the head of a request."""
HEAD_TIMEOUT = 10.0
"""Seconds in which the head of a request has to be there, from its first byte on (of a new connection: from its beginning)."""
KEEP_ALIVE = 15.0
"""Seconds for which a connection may be idle."""
WRITE_TIMEOUT = 30.0
"""Seconds in which a client that is owed something has to take a part of it."""


class Connection(H11Protocol):
    """One connection: uvicorn's, with deadlines."""

    def __init__(self, served: Served, config: Config) -> None:
        super().__init__(config, served.state, {})
        self._served = served
        self._deadline: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self.idle_since = 0.0

    @property
    def active(self) -> bool:
        """Whether a request is being answered."""
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        self._until(HEAD_TIMEOUT)
        if len(self.connections) > self._served.most:
            self._served.make_room()

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        if self.transport.is_closing():
            return
        if not self.active and self.idle_since:
            self.idle_since = 0.0
            self._until(HEAD_TIMEOUT)
        super().data_received(data)
        if self.active:
            self._until(None)

    def on_response_complete(self) -> None:
        """A request has been answered."""
        self.idle_since = self.loop.time()
        self._until(KEEP_ALIVE)
        super().on_response_complete()
        if self.active:  # the next one was there already
            self._until(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self._until(None)
        if self._stuck is not None:
            self._stuck.cancel()
        super().connection_lost(exc)
        self._served.ended()

    def _until(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        if not self.idle_since and not self.transport.is_closing():
            self.refuse(HTTPStatus.REQUEST_TIMEOUT)
        self.transport.close()

    def leave(self) -> None:
        """The gateway is being replaced: it is answered once more, or ends by itself when it has been idle."""

    def refuse(self, status: HTTPStatus) -> None:
        """Answer a client that has not said what it wants."""
        text = f"{status.value} {status.phrase}\n"
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n"
        self.transport.write(f"{head}Connection: close\r\n\r\n{text}".encode())
        self.transport.close()

    # --- a client that does not read ----------------------------------------------------------------------------------
    def pause_writing(self) -> None:
        """More is owed to it than is kept for it."""
        super().pause_writing()
        self._stuck = self.loop.call_later(WRITE_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None


class Served:
    """Listening sockets, their connections, and the application that answers."""

    def __init__(self, application: Application) -> None:
        self.state = ServerState()
        self.leaving = asyncio.Event()
        """Set when nothing further is accepted: what goes on for long is to end."""
        self.most = min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._application = application
        self._accepting: dict[socket.socket, Callable[[], None]] = {}
        self._beginning: dict[asyncio.Task[None], None] = {}
        """Connections that were accepted and are none of ``state`` so far, the oldest first: TLS shakes hands before."""
        self._empty = asyncio.Event()

    def listen(self, listening: socket.socket, make: Make, context: ssl.SSLContext | None = None) -> None:
        """Accept on this socket; ``make`` makes what a connection speaks."""
        listening.setblocking(False)
        self._accepting[listening] = lambda: self._accept(listening, make, context)
        asyncio.get_running_loop().add_reader(listening, self._accepting[listening])

    def http(self, state: object = None) -> Make:
        """What makes connections that speak HTTP; ``state`` is in the scope of each of their requests as ``listener``."""

        async def answer(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
            scope["listener"] = state
            await self._application(scope, receive, self._closing(send))

        config = Config(
            answer,
            http=H11Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=3600,  # the deadlines are those of ``Connection``
            h11_max_incomplete_event_size=MAX_HEAD,
        )
        config.load()
        return lambda: Connection(self, config)

    def _accept(self, listening: socket.socket, make: Make, context: ssl.SSLContext | None) -> None:
        """A client has come. (A server of asyncio's loses one that comes in the moment at which it is closed.)"""
        try:
            client, _ = listening.accept()
        except (BlockingIOError, ConnectionError, InterruptedError):
            return  # the successor was quicker, or the client has gone
        except OSError as error:  # no descriptor is left: it waits in the kernel's queue
            log("gateway", f"cannot accept: {error}")
            loop = asyncio.get_running_loop()
            loop.remove_reader(listening)
            loop.call_later(1.0, self._accept_again, listening)
            return
        task = asyncio.ensure_future(self._begin(client, make, context))
        self._beginning[task] = None
        task.add_done_callback(self._beginning.pop)
        if len(self._beginning) > self.most:
            next(iter(self._beginning)).cancel()

    def _accept_again(self, listening: socket.socket) -> None:
        if not self.leaving.is_set():
            asyncio.get_running_loop().add_reader(listening, self._accepting[listening])

    async def _begin(self, client: socket.socket, make: Make, context: ssl.SSLContext | None) -> None:
        client.setblocking(False)
        handshake, goodbye = (None, None) if context is None else (HEAD_TIMEOUT, 2.0)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                make,
                client,
                ssl=context,
                ssl_handshake_timeout=handshake,
                ssl_shutdown_timeout=goodbye,
            )
        except (OSError, EOFError, asyncio.CancelledError):
            client.close()  # it has gone, or does not speak TLS, or too many are as slow

    def _closing(self, send: Send) -> Send:
        """The same, but an answer that begins while this process leaves is the connection's last."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and self.leaving.is_set():
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        return sent

    def make_room(self) -> None:
        """One connection too many: the one that has been idle for longest ends, or if all are busy the newest is refused."""
        every: set[Any] = self.state.connections
        connections = [one for one in every if not one.transport.is_closing()]
        silent = [one for one in connections if not one.active]
        if len(connections) > self.most and silent:
            min(silent, key=lambda one: one.idle_since).transport.abort()

    def ended(self) -> None:
        """A connection has ended."""
        if not self.state.connections:
            self._empty.set()

    async def leave(self) -> None:
        """Accept nothing further, answer what is there, and return when it has ended."""
        self.leaving.set()
        for listening in self._accepting:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()
        every: set[Any] = self.state.connections
        for connection in list(every):
            connection.leave()
        await asyncio.gather(*self._beginning, return_exceptions=True)
        while self.state.connections:
            self._empty.clear()
            await self._empty.wait()
        await asyncio.gather(*self.state.tasks, return_exceptions=True)
