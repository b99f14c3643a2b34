"""Asking a daemon until it has answered, on as many connections as it takes.

What must live here: the calls of ``calls`` on the connections of ``aio_connections``; listening to what is said without a call.
What this file must not know: what the methods mean.
"""

from __future__ import annotations

import os
import time
from asyncio import sleep
from collections.abc import AsyncGenerator, Callable, Iterable
from types import TracebackType

from rocksyd.client.aio_connections import Connections, Exchange
from rocksyd.client.calls import Backoff, Call, Outstanding, earliest, no_answer
from rocksyd.client.daemon_socket import ConnectionLost
from rocksyd.client.endpoint import Place
from rocksyd.client.news import Event, News
from rocksyd.client.protocol import Notification, Reply, result_of
from rocksyd.errors import NoDaemon
from rocksyd.units import format_duration


class AsyncAsker:
    """Asks one daemon. A lost connection is replaced, with growing pauses, for ``patience`` seconds; so is what was asked on it.

    ``timeout`` is the seconds within which the daemon must read what is sent, and answer what it can answer at once.
    """

    __slots__ = ("connections", "patience", "place", "timeout")

    def __init__(self, place: Place, timeout: float, patience: float) -> None:
        self.place = place
        self.timeout = timeout
        self.patience = patience
        self.connections = Connections(place)

    async def ask(self, calls: Iterable[Call], deadline: float | None = None, *, ahead: int = 0) -> AsyncGenerator[Reply]:
        """Ask ``calls``; yield the answers as they come, ``id`` being the call's place in ``calls``. ``ahead``: see Outstanding.

        Raises NoDaemon, TypeError; TimeoutError at the monotonic time ``deadline``.
        """
        waiting = Outstanding(calls, ahead)
        backoff = Backoff(self.patience)
        while waiting.fill(time.monotonic()) or waiting.left:
            exchange = await self.connect(backoff)
            try:
                await exchange.ask(waiting.open, self.timeout)
                while waiting.left:
                    for reply in await _replies(exchange, waiting, deadline):
                        settled = waiting.answered(reply, time.monotonic())
                        backoff.success()
                        if settled is not None:
                            yield settled
                    fresh = waiting.fill(time.monotonic())
                    if fresh:
                        await exchange.ask(fresh, self.timeout)
            except ConnectionLost as error:
                exchange.close()
                waiting.repeated = True
                await pause(backoff, error, exchange.opened_at)
            except GeneratorExit:  # the caller has heard enough
                self.connections.give_back(exchange)
                raise
            except BaseException:
                exchange.close()
                raise
            else:
                self.connections.give_back(exchange)

    def listen(self, calls: Callable[[], dict[int, Call]], until: float | None = None) -> AsyncListener:
        """What is said on a connection of its own that begins with ``calls()``. Arguments and errors as those of the listener."""
        return AsyncListener(AsyncAsker(self.place, self.timeout, self.patience), calls, until)

    async def connect(self, backoff: Backoff) -> Exchange:
        """A connection. A daemon that was never reached is reported at once; one that was is waited for. Raises NoDaemon."""
        while True:
            try:
                exchange = await self.connections.take()
            except NoDaemon as error:
                if not backoff.reached:
                    raise
                await pause(backoff, error, None)
            else:
                backoff.reached = True
                return exchange


class AsyncListener:
    """What is said on one connection, replies to ``calls()`` among it: an iterator that ends when it is closed.

    A lost connection is replaced, and ``calls()`` are asked on the new one. Waiting for the next event may be given up: nothing
    is lost by it. Call number 0 is answered at once, and if not the daemon is stuck; afterwards it may be silent for as long as
    it wants. Raises NoDaemon; TimeoutError at the monotonic time ``until``.
    """

    def __init__(self, asker: AsyncAsker, calls: Callable[[], dict[int, Call]], until: float | None) -> None:
        self._asker = asker
        self._calls = calls
        self._until = until
        self._backoff = Backoff(asker.patience)
        self._exchange: Exchange | None = None
        self._limit: float | None = None
        """The monotonic time at which call number 0 must be answered."""
        self._events: list[Reply | Notification] = []
        self._closed = False

    def __aiter__(self) -> AsyncListener:
        return self

    async def __anext__(self) -> Reply | Notification:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            try:
                self._events += await self._said()
            except ConnectionLost as error:
                await self._lost(error)
        event = self._events.pop(0)
        if isinstance(event, Reply) and event.id == 0:
            self._limit = None
        return event

    async def _said(self) -> list[Reply | Notification]:
        exchange = self._exchange
        if exchange is None:
            exchange = self._exchange = await self._asker.connect(self._backoff)
            try:
                await exchange.ask(self._calls(), self._asker.timeout)
            except BaseException:
                await self._hang_up()
                raise
            self._limit = time.monotonic() + self._asker.timeout
        try:
            events = await exchange.events(earliest(self._limit, self._until))
        except TimeoutError:
            if self._limit is None or time.monotonic() < self._limit:
                raise
            raise no_answer(self._asker.place, self._calls()[0].method, self._asker.timeout) from None
        self._backoff.success()
        return events

    async def _lost(self, error: ConnectionLost) -> None:
        opened_at = self._exchange.opened_at if self._exchange is not None else None
        await self._hang_up()
        if not self._closed:
            await pause(self._backoff, error, opened_at)

    async def _hang_up(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.close()
        await self._asker.connections.close()

    async def close(self) -> None:
        """Hear no more."""
        self._closed = True
        await self._hang_up()


class AsyncSubscription:
    """What happens at the daemon, as an iterator that ends when it is closed. Made by ``AsyncClient.subscribe``."""

    def __init__(self, asker: AsyncAsker, news: News) -> None:
        self._news = news
        self._said = asker.listen(lambda: {0: news.call()})
        self._events: list[Event] = []
        self._taken = False

    async def begin(self) -> AsyncSubscription:
        """Wait until the daemon has taken the subscription. Raises NoDaemon, RequestError."""
        try:
            while not self._taken:
                await self._take()
        except BaseException:
            await self.close()
            raise
        return self

    @property
    def position(self) -> int:
        """Give this to ``subscribe`` to go on from here, in another process or at another time."""
        return self._news.position or 0

    def __aiter__(self) -> AsyncSubscription:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            await self._take()
        return self._events.pop(0)

    async def _take(self) -> None:
        event = await anext(self._said)
        if isinstance(event, Notification):
            self._events += self._news.heard(event)
        else:
            result_of(event)
            self._taken = True
            self._events += self._news.subscribed(event)

    async def close(self) -> None:
        """Hear no more; also from another place of the same thread."""
        await self._said.close()

    async def __aenter__(self) -> AsyncSubscription:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()


async def _replies(exchange: Exchange, waiting: Outstanding, deadline: float | None) -> list[Reply]:
    """Those that have come; none when it is time to ask something again."""
    try:
        events = await exchange.events(earliest(deadline, waiting.again_at))
    except TimeoutError:
        if deadline is not None and time.monotonic() >= deadline:
            raise
        return []
    return [event for event in events if isinstance(event, Reply)]


async def pause(backoff: Backoff, error: Exception, connected_at: float | None) -> None:
    """Sleep before the next try, or give up with NoDaemon."""
    seconds = backoff.failure(time.monotonic(), connected_at)
    if seconds is None:
        raise NoDaemon(f"{error}; tried again for {format_duration(backoff.limit)}: see the daemon's log") from error
    if seconds:
        # Up to half as much again, so that a thousand clients of one crash do not come back in the same instant.
        await sleep(seconds * (1 + os.urandom(1)[0] / 512))
