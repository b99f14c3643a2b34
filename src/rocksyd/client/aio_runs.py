"""One run, and the news, as asyncio code holds them.

What must live here: what one can ask of a run one has; an iterator over what ``news`` makes of what is heard.
What this file must not know: how it is asked (``aio``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rocksyd.client.news import Event, News
from rocksyd.client.protocol import Notification, Reply, result_of
from rocksyd.client.records import failure, returned

if TYPE_CHECKING:
    from rocksyd.client.aio import AsyncClient

Record = dict[str, Any]
Progress = Callable[[dict[str, Any]], object]


class AsyncRun:
    """One run at the daemon. ``record`` is what was last heard of it."""

    __slots__ = ("client", "key", "record")

    def __init__(self, client: AsyncClient, key: str, record: Record) -> None:
        self.client = client
        self.key = key
        self.record = record

    def __repr__(self) -> str:
        return f"AsyncRun({self.key!r}, {self.record.get('target')!r}, {self.record.get('state')!r})"

    async def status(self) -> Record:
        """Ask for the record as it is now."""
        self.record = await self.client.status(self.key)
        return self.record

    async def wait(self, timeout: float | None = None, *, progress: Progress | None = None) -> Record:  # noqa: ASYNC109
        """The record when the run has ended, however it ended. Raises TimedOut after ``timeout`` seconds.

        ``progress`` is called with ``done``, ``total`` and ``note`` whenever the job tells how far it is.
        """
        if progress is None:
            self.record = await self.client.wait(self.key, timeout)
        else:
            self.record = await self.client.watch(self.key, progress, timeout)
        return self.record

    async def result(self, timeout: float | None = None, *, progress: Progress | None = None) -> Any:  # noqa: ASYNC109
        """What the job returned. Raises JobFailed when it ended otherwise than well, ResultDropped."""
        record = await self.wait(timeout, progress=progress)
        error = failure(record)
        if error is not None:
            raise error
        return returned(record)

    def logs(self, *, follow: bool = False, offset: int = 0) -> AsyncIterator[str]:
        """Its output from byte ``offset`` on, in pieces."""
        return self.client.logs(self.key, follow=follow, offset=offset)

    async def terminate(self, signal: int | None = None) -> None:
        """End it."""
        await self.client.terminate(self.key, signal)

    async def stack(self) -> str:
        """Where each of its threads is, as text. Raises NotNow (it does not run, or cannot say)."""
        return await self.client.stack(self.key)

    async def free(self) -> None:
        """Let the daemon forget it."""
        await self.client.free(self.key)

    async def retry(self) -> AsyncRun:
        """Run it again under its key, once it has ended."""
        return await self.client.retry(self.key)


class AsyncSubscription:
    """What happens at the daemon, as an asynchronous iterator that ends when it is closed.

    A task of its own listens: waiting for the next event may be given up (``asyncio.timeout``) and nothing is lost.
    """

    def __init__(self, said: AsyncGenerator[Reply | Notification], news: News) -> None:
        self._said = said
        self._news = news
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._listen())

    async def begin(self) -> None:
        """Wait until the daemon has taken the subscription."""
        try:
            await self._subscribed
        except BaseException:
            await self.close()
            raise

    async def _listen(self) -> None:
        try:
            async for event in self._said:
                for new in self._new(event):
                    self._events.put_nowait(new)
        except Exception as error:  # noqa: BLE001  (raised again by whoever waits)
            if self._subscribed.done():
                self._events.put_nowait(error)
            else:
                self._subscribed.set_exception(error)

    def _new(self, event: Reply | Notification) -> list[Event]:
        if isinstance(event, Notification):
            return self._news.heard(event)
        result_of(event)
        if not self._subscribed.done():
            self._subscribed.set_result(None)
        return self._news.subscribed(event)

    @property
    def position(self) -> int:
        """Give this to ``subscribe`` to go on from here, in another process or at another time."""
        return self._news.position or 0

    def __aiter__(self) -> AsyncSubscription:
        return self

    async def __anext__(self) -> Event:
        if self._task.done() and self._events.empty():
            raise StopAsyncIteration
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event

    async def close(self) -> None:
        """Hear no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._said.aclose()

    async def __aenter__(self) -> AsyncSubscription:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
