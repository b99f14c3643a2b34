"""Connections of asyncio code: one, with many calls on it at once.

What must live here: streams and tasks. ``connections`` has the same names, for blocking code.
What this file must not know: what the calls mean, and what is asked again (``aio_asking``).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any

from rocksyd.client.calls import Call
from rocksyd.client.daemon_socket import CONNECT_TIMEOUT, ConnectionLost, no_daemon, not_reading
from rocksyd.client.endpoint import Place
from rocksyd.client.protocol import ClientProtocol, Notification, Reply
from rocksyd.errors import MessageError, NoDaemon, NotAllowed

_CHUNK = 1 << 18


class Exchange:
    """One caller's calls on a connection that it may share, and what is said to it."""

    __slots__ = ("_arrived", "_connection", "_events", "opened_at", "unanswered")

    def __init__(self, connection: SharedConnection) -> None:
        self._connection = connection
        self._events: list[Reply | Notification] = []
        self._arrived = asyncio.Event()
        self.opened_at = connection.opened_at
        self.unanswered: dict[int, int] = {}
        """Number of a call on the connection -> its index."""
        connection.exchanges.add(self)

    async def ask(self, calls: dict[int, Call], timeout: float | None) -> None:
        """Send these calls (by their index) in one write. Raises ConnectionLost, NoDaemon, TypeError, RequestError."""
        await self._connection.ask(self, calls, timeout)

    async def events(self, deadline: float | None) -> list[Reply | Notification]:
        """What has been said, replies with the index of their call as ``id``. Waiting may be given up, and nothing is lost by it.

        Raises ConnectionLost; TimeoutError at the monotonic time ``deadline``; NoDaemon when the other end is no rocksyd daemon;
        NotAllowed when it refuses the token.
        """
        if not self._events and self._connection.lost is None:
            self._arrived.clear()
            async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                await self._arrived.wait()
        if self._events:
            events, self._events = self._events, []
            return events
        raise self._connection.lost or ConnectionLost("closed")

    def arrived(self, *events: Reply | Notification) -> None:
        """Called by the connection: this was said; nothing when the connection has ended."""
        for event in events:
            if isinstance(event, Reply):
                event = event._replace(id=self.unanswered.pop(event.id))
            self._events.append(event)
        self._arrived.set()

    def close(self) -> None:
        """Listen no longer: whoever waits for events gets ConnectionLost. The connection stays."""
        self._connection.exchanges.discard(self)
        for number in self.unanswered:
            self._connection.owed.pop(number, None)
        self._arrived.set()


class SharedConnection:
    """One connection and the task that reads it."""

    def __init__(self, place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.address = place.address
        self.opened_at = time.monotonic()
        self.lost: Exception | None = None
        """Why it has ended."""
        self.exchanges: set[Exchange] = set()
        self.owed: dict[int, Exchange] = {}
        """Number of a call -> who asked it."""
        self._protocol = ClientProtocol(place.token)
        self._reader = reader
        self._writer = writer
        self._next = 1
        writer.write(self._protocol.opening())
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, place: Place) -> SharedConnection:
        """Connect. Raises NoDaemon."""
        address = place.address
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if address.kind == "unix":
                    reader, writer = await asyncio.open_unix_connection(address.path)
                else:
                    reader, writer = await asyncio.open_connection(address.host, address.port)
        except OSError as error:
            raise no_daemon(address, error) from error
        return cls(place, reader, writer)

    async def ask(self, exchange: Exchange, calls: dict[int, Call], timeout: float | None) -> None:
        """Send these calls; their answers go to ``exchange``. Raises ConnectionLost, NoDaemon, TypeError, RequestError."""
        if self.lost is not None:
            raise self.lost
        now, lines = time.monotonic(), []
        for number, call in enumerate(calls.values(), self._next):
            lines.append(self._protocol.call(number, call.method, call.params_at(now)))
        for index in calls:
            self.owed[self._next] = exchange
            exchange.unanswered[self._next] = index
            self._next += 1
        self._writer.write(b"".join(lines))
        try:
            async with asyncio.timeout(timeout):
                await self._writer.drain()
        except TimeoutError:
            raise not_reading(self.address) from None
        except OSError as error:
            if self._protocol.refused:
                return  # what was too long is answered; the rest hears of the connection's end where it waits for answers
            raise ConnectionLost(f"the connection to {self.address} was lost ({error})") from error

    async def _read(self) -> None:
        end: Exception = ConnectionLost(f"the daemon at {self.address} closed the connection")
        try:
            while not self._protocol.refused and (data := await self._reader.read(_CHUNK)):
                for event in self._protocol.receive(data):
                    if isinstance(event, Notification):
                        for exchange in self.exchanges:
                            exchange.arrived(event)
                    elif event.id in self.owed:
                        self.owed.pop(event.id).arrived(event)
        except OSError as error:
            end = ConnectionLost(f"the connection to {self.address} was lost ({error})")
        except MessageError as error:
            end = NoDaemon(f"{self.address}: {error}")
        except NotAllowed as error:
            end = error
        finally:
            self.lost = end
            self._writer.transport.abort()  # what could not be sent by now would be sent for nobody
            for exchange in self.exchanges:
                exchange.arrived()

    async def close(self) -> None:
        """End it, and the task."""
        self._writer.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._writer.wait_closed()
        except OSError:
            pass


class Connections:
    """The connection to one daemon; a lost one is replaced at the next call."""

    __slots__ = ("_connection", "_opening", "_place")

    def __init__(self, place: Place) -> None:
        self._place = place
        self._connection: SharedConnection | None = None
        self._opening = asyncio.Lock()

    async def take(self) -> Exchange:
        """A part in the connection, which is opened if there is none. Raises NoDaemon."""
        async with self._opening:
            if self._connection is None or self._connection.lost is not None:
                await self.close()
                self._connection = await SharedConnection.open(self._place)
            return Exchange(self._connection)

    def give_back(self, exchange: Exchange) -> None:
        """The caller has heard enough."""
        exchange.close()

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


class AsyncRecords(Coroutine[Any, Any, dict[str, Any]]):
    """Records of runs, each when its run has ended: an asynchronous iterator. Awaited, it gives the last of them.

    So ``await client.wait(key)`` is the record of one run, and ``async for record in client.wait(*keys)`` those of several.
    """

    def __init__(self, records: AsyncGenerator[dict[str, Any]]) -> None:
        self._records = records
        self._last: Coroutine[Any, Any, dict[str, Any]] | None = None

    def __aiter__(self) -> AsyncGenerator[dict[str, Any]]:
        return self._records

    def __await__(self) -> Generator[Any, Any, dict[str, Any]]:
        return self._awaited().__await__()

    def send(self, value: Any) -> Any:
        """As a coroutine has it, so that ``asyncio.create_task`` takes this; so have ``throw`` and ``close``."""
        return self._awaited().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise in what is awaited."""
        return self._awaited().throw(*error)

    def close(self) -> None:
        """Give up what is awaited."""
        if self._last is not None:
            self._last.close()

    def _awaited(self) -> Coroutine[Any, Any, dict[str, Any]]:
        if self._last is None:
            self._last = _last(self._records)
        return self._last


async def _last(records: AsyncGenerator[dict[str, Any]]) -> dict[str, Any]:
    last: dict[str, Any] = {}
    async for record in records:
        last = record
    return last


async def wait_gone(fd: int) -> None:
    """Wait until the process behind this descriptor of ``keeper_process.watch`` has exited, and close the descriptor."""
    loop, exited = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, exited.set)
    try:
        await exited.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
