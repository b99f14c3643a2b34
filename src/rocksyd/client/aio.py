"""The client for asyncio code: one connection, many calls on it at once.

    async with AsyncClient() as client:
        run = await client.run("shop.reports:daily", day="2026-01-31")
        record = await run.wait()

What a restart or crash of the daemon interrupts is asked again, as the blocking client does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

from rocksyd.client.address import Place, find
from rocksyd.client.aio_link import Connection, listen, pause
from rocksyd.client.aio_runs import AsyncRun, AsyncSubscription
from rocksyd.client.conversation import ENDED, Call, follow_calls
from rocksyd.client.link import LinkLost
from rocksyd.client.news import News
from rocksyd.client.patience import Patience
from rocksyd.client.protocol import Notification, Reply, chunk_of, is_done_already, order, result_of
from rocksyd.client.records import records_of, returned, timed_out
from rocksyd.client.room import Room
from rocksyd.errors import NoDaemon, TimedOut, TooBusy

Record = dict[str, Any]
"""What the daemon shows of a run: ``key``, ``state``, ``outcome``, ``retcode`` ..."""

_MARGIN = 1.0
"""Seconds that the answer "not ended in time" may take beyond the time waited for."""


class AsyncClient:
    """Calls to one daemon, as many at once as you like. Arguments and errors as those of ``rocksyd.Client``."""

    def __init__(
        self, address: str | None = None, token: str | None = None, *, timeout: float = 30.0, patience: float = 30.0
    ) -> None:
        place = find(address)
        if token is not None:
            place = Place(place.address, token, place.config)
        self.place = place
        self.timeout = timeout
        self.patience = patience
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. The client can still be used; it connects again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    # --- asking -------------------------------------------------------------------------------------------------------
    async def request(self, method: str, params: dict[str, Any] | None = None, *, wait: bool = False) -> Any:
        """Call any method of the protocol and return its result; ``wait``: it may take as long as it likes.

        Raises:
            RequestError: NotFound, InUse, NotAllowed, TooBusy, NotNow, or another error the daemon answers with.
            NoDaemon: nobody answers (in time).
        """
        try:
            async with asyncio.timeout(None if wait else self.timeout):
                reply = await self._ask(Call(method, params or {}))
        except TimeoutError:
            raise self._no_answer(method) from None
        return result_of(reply)

    def _no_answer(self, method: str) -> NoDaemon:
        return NoDaemon(
            f"the daemon at {self.place.address} has not answered {method!r} for {self.timeout:g} s: "
            "it is stuck or overloaded; see its log, or wait longer with timeout="
        )

    async def _ask(self, call: Call) -> Reply:
        """Ask until it is answered, on as many connections as it takes."""
        patience = Patience(self.patience)
        attempt = 0
        while True:
            connected_at: float | None = None
            try:
                connection = await self._connected()
                connected_at = connection.opened_at
                reply = await connection.ask(call)
            except (LinkLost, NoDaemon) as error:
                if isinstance(error, NoDaemon) and (attempt == 0 or connected_at is not None):
                    raise
                await pause(patience, error, connected_at)
                attempt += 1
            else:
                repeated = attempt > 0 and reply.error is not None and is_done_already(call.method, reply.error)
                return Reply(reply.id, result={}) if repeated else reply

    async def _connected(self) -> Connection:
        async with self._connecting:
            if self._connection is None or self._connection.lost is not None:
                await self.close()
                self._connection = await Connection.open(self.place)
            return self._connection

    # --- runs ---------------------------------------------------------------------------------------------------------
    async def run(  # noqa: PLR0913  (the options of the method `run`, all of them by name)
        self,
        target: object,
        *args: Any,
        key: str | None = None,
        app: str | None = None,
        priority: int | None = None,
        timeout: float | str | None = None,  # noqa: ASYNC109  (the run's, not this call's)
        start_within: float | str | None = None,
        delay: float | str | None = None,
        retries: int | None = None,
        env: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
        concurrency_key: str | None = None,
        params: Any = None,
        **kwargs: Any,
    ) -> AsyncRun:
        """Order a run; it is in the daemon's journal when this returns. Arguments and errors as those of ``Client.run``."""
        options = {
            "key": key, "app": app, "priority": priority, "timeout": timeout, "start_within": start_within, "delay": delay,
            "retries": retries, "env": env, "labels": labels, "concurrency_key": concurrency_key,
            "params": params,
        }  # fmt: skip
        ordered = order(target, args, kwargs, options)
        return AsyncRun(self, ordered["key"], await self.request("run", ordered))

    async def call(self, target: object, *args: Any, key: str | None = None, params: Any = None, **kwargs: Any) -> Any:
        """Order a run, wait until it has ended, return what it returned. Raises JobFailed, and what ``run`` raises."""
        ordered = order(target, args, kwargs, {"key": key, "params": params})
        result = await self.request("call", ordered, wait=True)
        return returned(result)

    async def map(self, target: object, *iterables: Iterable[Any], ahead: int = 1000, **options: Any) -> AsyncIterator[Any]:
        """As the built-in ``map``, every call a run: what they return, in order. As ``Client.map``."""
        waiting: list[asyncio.Task[Any]] = []
        room = Room()
        arguments = zip(*iterables, strict=False)
        try:
            while True:
                for args in arguments:
                    waiting.append(asyncio.create_task(self.call_ordered(order(target, args, {}, dict(options)), room)))
                    if len(waiting) >= ahead:
                        break
                if not waiting:
                    return
                result = await waiting[0]
                del waiting[0]
                yield result
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def call_ordered(self, ordered: dict[str, Any], room: Room) -> Any:
        """``call`` with the parameters of the method as ``protocol.order`` makes them; waits while the daemon is too busy."""
        tries = 0
        while True:
            try:
                result = await self.request("call", ordered, wait=True)
            except TooBusy:
                await room.wait(tries)
                tries += 1
            except BaseException:
                room.free()
                raise
            else:
                room.free()
                return returned(result)

    async def as_completed(
        self,
        runs: Iterable[AsyncRun],
        timeout: float | None = None,  # noqa: ASYNC109  (as the blocking one)
    ) -> AsyncIterator[AsyncRun]:
        """The runs, each when it has ended, however it ended. Raises TimedOut after ``timeout`` seconds, NotFound."""
        until = None if timeout is None else time.monotonic() + timeout

        async def ended(run: AsyncRun) -> AsyncRun:
            await run.wait(None if until is None else max(0.0, until - time.monotonic()))
            return run

        tasks = [asyncio.create_task(ended(run)) for run in runs]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def get(self, key: object) -> AsyncRun:
        """The run with this key. Raises NotFound."""
        return AsyncRun(self, str(key), await self.status(key))

    async def status(self, key: object) -> Record:
        """The record of a run. Raises NotFound."""
        record: Record = await self.request("status", {"key": str(key)})
        return record

    async def runs(self, **filters: Any) -> list[Record]:
        """The records of all runs that fit: ``app``, ``state``, ``limit``, ``after`` ..."""
        return records_of(await self.request("list", {name: value for name, value in filters.items() if value is not None}))

    async def wait(self, key: object, timeout: float | None = None) -> Record:  # noqa: ASYNC109  (as the blocking one)
        """The record of a run when it has ended. Raises NotFound; TimedOut after ``timeout`` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        try:
            async with asyncio.timeout(None if timeout is None else timeout + _MARGIN):
                record: Record = result_of(await self._ask(Call("wait", {"key": str(key)}, until)))
        except TimeoutError:
            raise _late(timeout) from None
        if timed_out(record):
            raise _late(timeout)
        return record

    async def watch(
        self,
        key: object,
        progress: Callable[[dict[str, Any]], object],
        timeout: float | None = None,  # noqa: ASYNC109  (as the blocking one)
    ) -> Record:
        """Wait for the end of a run; ``progress`` is called whenever the job tells how far it is. As ``Client.watch``."""
        subscription = await self.subscribe(keys=[str(key)], events=["run.progress"])

        last: Any = None

        async def tell() -> None:
            nonlocal last
            async for event in subscription:
                last = event.record["progress"]
                progress(last)

        async with subscription:
            telling = asyncio.create_task(tell())
            try:
                record = await self.wait(key, timeout)
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
        told = record.get("progress")
        if told and told != last:  # the run had ended before anybody listened
            progress(told)
        return record

    async def terminate(self, key: object, signal: int | None = None) -> None:
        """End a run. Raises NotFound, NotNow."""
        await self.request("terminate", {"key": str(key)} if signal is None else {"key": str(key), "signal": signal})

    async def stack(self, key: object) -> str:
        """Where each thread of a running job is, as text. Raises NotFound, NotNow (it does not run, or cannot say)."""
        return str((await self.request("stack", {"key": str(key)}, wait=True))["text"])

    async def free(self, key: object) -> None:
        """Let the daemon forget an ended run. Raises NotFound, NotNow."""
        await self.request("free", {"key": str(key)})

    async def retry(self, key: object) -> AsyncRun:
        """Run an ended run again under its key. Raises NotFound, NotNow."""
        return AsyncRun(self, str(key), await self.request("retry", {"key": str(key)}))

    async def logs(self, key: object, *, follow: bool = False, offset: int = 0) -> AsyncIterator[str]:
        """The output of a run from byte ``offset`` on, in pieces; ``follow``: until it has ended. Raises NotFound."""
        position = offset
        if follow:
            async for text, behind in self._follow(str(key), offset):
                position = behind
                yield text
        while True:
            chunk = await self.request("logs", {"key": str(key), "offset": position})
            if not chunk.get("text") or chunk["offset"] <= position:
                return
            position = chunk["offset"]
            yield chunk["text"]

    async def _follow(self, key: str, position: int) -> AsyncGenerator[tuple[str, int]]:
        """Pieces of output with the position behind each."""
        said = self._listen(lambda: follow_calls(key, position))
        try:
            async for event in said:
                if isinstance(event, Reply) and event.id == ENDED:
                    if event.error is None:
                        return
                    continue
                chunk = chunk_of(event, key)
                if chunk.get("offset", 0) > position:
                    position = chunk["offset"]
                    yield chunk.get("text", ""), position
                if chunk.get("ended"):
                    return
        except TimeoutError:
            raise self._no_answer("logs") from None
        finally:
            await said.aclose()

    def _listen(self, calls: Callable[[], dict[int, Call]]) -> AsyncGenerator[Reply | Notification]:
        return listen(self.place, calls, self.timeout, self.patience)

    async def subscribe(
        self,
        *,
        app: str | None = None,
        target: str | None = None,
        keys: Sequence[str] | None = None,
        labels: dict[str, str] | None = None,
        events: Sequence[str] | None = None,
        position: int | None = None,
    ) -> AsyncSubscription:
        """Hear what happens from now on: an asynchronous iterator of events. As ``Client.subscribe``."""
        filters = {"app": app, "target": target, "keys": keys and list(keys), "labels": labels, "events": events and list(events)}
        news = News(filters, position)
        subscription = AsyncSubscription(self._listen(lambda: {0: news.call()}), news)
        try:
            await subscription.begin()
        except TimeoutError:
            raise self._no_answer("subscribe") from None
        return subscription

    # --- the daemon ---------------------------------------------------------------------------------------------------
    async def stats(self) -> dict[str, Any]:
        """Numbers about the daemon."""
        stats: dict[str, Any] = await self.request("stats")
        return stats

    async def restart(self) -> int:
        """Load everything anew and hand over; returns the generation that serves then. Raises NotNow with the reason."""
        return int((await self.request("restart", wait=True))["generation"])


def _late(timeout: float | None) -> TimedOut:
    return TimedOut(f"not ended within {timeout} s: it goes on; wait for it again, or terminate it")
