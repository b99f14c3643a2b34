"""The client for asyncio code: one connection, many calls on it at once.

    async with AsyncClient() as client:
        run = await client.run("shop.reports:daily", day="2026-01-31")
        record = await run.wait()

What a restart or crash of the daemon interrupts is asked again, as the blocking client does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

from rocksyd.client.address import Place, find
from rocksyd.client.conversation import ENDED, FOLLOW, Call, follow_calls
from rocksyd.client.link import CONNECT_TIMEOUT, LinkLost, no_daemon
from rocksyd.client.patience import Patience
from rocksyd.client.protocol import ClientProtocol, Notification, Reply, is_done_already, order
from rocksyd.client.records import failure, records_of, timed_out
from rocksyd.errors import MessageError, NoDaemon, NotAllowed, TimedOut

Record = dict[str, Any]
"""What the daemon shows of a run: ``key``, ``state``, ``outcome``, ``retcode`` ..."""

_MARGIN = 1.0
"""Seconds that the answer "not ended in time" may take beyond the time waited for."""
_CHUNK = 1 << 18


class _Connection:
    """One connection and the task that reads it."""

    def __init__(self, place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.address = place.address
        self.opened_at = time.monotonic()
        self.lost: Exception | None = None
        self.notifications: asyncio.Queue[Notification | None] = asyncio.Queue()
        """What was said without a call; None at the connection's end."""
        self._protocol = ClientProtocol(place.token)
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._next = 1
        writer.write(self._protocol.opening())
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, place: Place) -> _Connection:
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

    async def ask(self, call: Call) -> Reply:
        """Raises LinkLost when the connection ends before the answer."""
        if self.lost is not None:
            raise self.lost
        number = self._next
        self._next += 1
        line = self._protocol.call(number, call.method, call.params_at(time.monotonic()))
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._writer.write(line)
            await self._drain()
            return await answer
        finally:
            self._waiting.pop(number, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, also when sending failed first: asyncio complains of those nobody looked at

    async def told_of_end(self, call: Call) -> None:
        """Ask to be told that a run has ended; then the notifications end too."""
        try:
            reply = await self.ask(call)
        except (LinkLost, NoDaemon, NotAllowed):
            return  # the reader has ended the notifications
        if reply.error is None:
            self.notifications.put_nowait(None)

    async def _drain(self) -> None:
        try:
            await self._writer.drain()
        except OSError as error:
            raise LinkLost(f"the connection to {self.address} was lost ({error})") from error

    async def _read(self) -> None:
        end: Exception = LinkLost(f"the daemon at {self.address} closed the connection")
        try:
            while data := await self._reader.read(_CHUNK):
                for event in self._protocol.receive(data):
                    if isinstance(event, Notification):
                        self.notifications.put_nowait(event)
                    elif event.id in self._waiting and not self._waiting[event.id].done():
                        self._waiting[event.id].set_result(event)
        except OSError as error:
            end = LinkLost(f"the connection to {self.address} was lost ({error})")
        except MessageError as error:
            end = NoDaemon(f"{self.address}: {error}")
        except NotAllowed as error:
            end = error
        finally:
            self.lost = end
            self._writer.close()
            self.notifications.put_nowait(None)
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(end)

    async def close(self) -> None:
        self._writer.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._writer.wait_closed()
        except OSError:
            pass


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
        self._connection: _Connection | None = None
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
            raise NoDaemon(
                f"the daemon at {self.place.address} has not answered {method!r} for {self.timeout:g} s: "
                "it is stuck or overloaded; see its log, or wait longer with timeout="
            ) from None
        return _result(reply)

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
                await _pause(patience, error, connected_at)
                attempt += 1
            else:
                repeated = attempt > 0 and reply.error is not None and is_done_already(call.method, reply.error)
                return Reply(reply.id, result={}) if repeated else reply

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._connection is None or self._connection.lost is not None:
                await self.close()
                self._connection = await _Connection.open(self.place)
            return self._connection

    async def run(
        self, target: object, *args: Any, params: Any = None, options: dict[str, Any] | None = None, **kwargs: Any
    ) -> AsyncRun:
        """Order a run; ``options`` are ``key``, ``app``, ``timeout`` ... of ``Client.run``. Raises what that raises."""
        ordered = order(target, args, kwargs, {**(options or {}), "params": params})
        return AsyncRun(self, ordered["key"], await self.request("run", ordered))

    async def call(
        self, target: object, *args: Any, params: Any = None, options: dict[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        """Order a run, wait until it has ended, return what it returned. Raises JobFailed, and what ``run`` raises."""
        ordered = order(target, args, kwargs, {**(options or {}), "params": params})
        result = await self.request("call", ordered, wait=True)
        return result.get("result") if isinstance(result, dict) else result

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
        late = TimedOut(f"not ended within {timeout} s: it goes on; wait for it again, or terminate it")
        try:
            async with asyncio.timeout(None if timeout is None else timeout + _MARGIN):
                record = _result(await self._ask(Call("wait", {"key": str(key)}, until)))
        except TimeoutError:
            raise late from None
        if timed_out(record):
            raise late
        found: Record = record
        return found

    async def terminate(self, key: object, signal: int | None = None) -> None:
        """End a run. Raises NotFound, NotNow."""
        await self.request("terminate", {"key": str(key)} if signal is None else {"key": str(key), "signal": signal})

    async def free(self, key: object) -> None:
        """Let the daemon forget an ended run. Raises NotFound, NotNow."""
        await self.request("free", {"key": str(key)})

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

    async def _follow(self, key: str, position: int) -> AsyncIterator[tuple[str, int]]:
        """Pieces of output with the position behind each. On a connection of its own: it may be left at any moment."""
        patience = Patience(self.patience)
        first = True
        while True:
            connection: _Connection | None = None
            ended: asyncio.Task[None] | None = None
            try:
                connection = await _Connection.open(self.place)
                first = False
                calls = follow_calls(key, position)
                ended = asyncio.create_task(connection.told_of_end(calls[ENDED]))
                async with asyncio.timeout(self.timeout):
                    reply = await connection.ask(calls[FOLLOW])
                chunk: dict[str, Any] | None = _result(reply)
                while chunk is not None:
                    patience.success()
                    if chunk.get("offset", 0) > position:
                        position = chunk["offset"]
                        yield chunk.get("text", ""), position
                    if chunk.get("ended"):
                        return
                    chunk = await _next_chunk(connection, key)
                if connection.lost is None:
                    return
                raise connection.lost
            except (LinkLost, NoDaemon) as error:
                if isinstance(error, NoDaemon) and (first or connection is not None):
                    raise
                await _pause(patience, error, connection.opened_at if connection else None)
            except TimeoutError:
                raise NoDaemon(f"the daemon at {self.place.address} has not answered 'logs' for {self.timeout:g} s") from None
            finally:
                if ended is not None:
                    ended.cancel()
                if connection is not None:
                    await connection.close()

    async def stats(self) -> dict[str, Any]:
        """Numbers about the daemon."""
        stats: dict[str, Any] = await self.request("stats")
        return stats


class AsyncRun:
    """One run at the daemon. ``record`` is what was last heard of it."""

    __slots__ = ("client", "key", "record")

    def __init__(self, client: AsyncClient, key: str, record: Record) -> None:
        self.client = client
        self.key = key
        self.record = record

    async def status(self) -> Record:
        """Ask for the record as it is now."""
        self.record = await self.client.status(self.key)
        return self.record

    async def wait(self, timeout: float | None = None) -> Record:  # noqa: ASYNC109
        """The record when the run has ended, however it ended. Raises TimedOut after ``timeout`` seconds."""
        self.record = await self.client.wait(self.key, timeout)
        return self.record

    async def result(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """What the job returned. Raises JobFailed when it ended otherwise than well."""
        record = await self.wait(timeout)
        error = failure(record)
        if error is not None:
            raise error
        return record.get("result")

    def logs(self, *, follow: bool = False, offset: int = 0) -> AsyncIterator[str]:
        """Its output from byte ``offset`` on, in pieces."""
        return self.client.logs(self.key, follow=follow, offset=offset)

    async def terminate(self, signal: int | None = None) -> None:
        """End it."""
        await self.client.terminate(self.key, signal)

    async def free(self) -> None:
        """Let the daemon forget it."""
        await self.client.free(self.key)


async def _next_chunk(connection: _Connection, key: str) -> dict[str, Any] | None:
    """The next piece of output; None at the end of the run or of the connection."""
    while True:
        notification = await connection.notifications.get()
        if notification is None:
            return None
        if notification.method == "logs" and notification.params.get("key") == key:
            return notification.params


async def _pause(patience: Patience, error: Exception, connected_at: float | None) -> None:
    seconds = patience.failure(time.monotonic(), connected_at)
    if seconds is None:
        raise NoDaemon(f"{error}; tried again for {patience.limit:g} s: see the daemon's log") from error
    await asyncio.sleep(seconds)


def _result(reply: Reply) -> Any:
    if reply.error is not None:
        raise reply.error
    return reply.result
