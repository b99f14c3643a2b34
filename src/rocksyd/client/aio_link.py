"""One connection of asyncio code, and how a lost one is replaced.

What must live here: streams and tasks.
What this file must not know: what is said over them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from rocksyd.client.address import Place
from rocksyd.client.conversation import Call
from rocksyd.client.link import CONNECT_TIMEOUT, LinkLost, no_daemon
from rocksyd.client.patience import Patience
from rocksyd.client.protocol import ClientProtocol, Notification, Reply
from rocksyd.errors import MessageError, NoDaemon, NotAllowed

_CHUNK = 1 << 18


class Connection:
    """One connection and the task that reads it."""

    def __init__(self, place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.address = place.address
        self.opened_at = time.monotonic()
        self.lost: Exception | None = None
        self.said: asyncio.Queue[Reply | Notification | None] = asyncio.Queue()
        """What was said without a call, or in answer to one of ``ask_too``; None at the connection's end."""
        self._protocol = ClientProtocol(place.token)
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._too: dict[int, int] = {}
        self._next = 1
        writer.write(self._protocol.opening())
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, place: Place) -> Connection:
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

    async def ask_too(self, calls: dict[int, Call]) -> None:
        """Ask these; the answers come in ``said``, with the index of the call as ``id``. Raises LinkLost."""
        if self.lost is not None:
            raise self.lost
        for index, call in calls.items():
            self._too[self._next] = index
            self._writer.write(self._protocol.call(self._next, call.method, call.params_at(time.monotonic())))
            self._next += 1
        await self._drain()

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
                        self.said.put_nowait(event)
                    elif event.id in self._too:
                        self.said.put_nowait(event._replace(id=self._too.pop(event.id)))
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
            self.said.put_nowait(None)
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(end)

    async def close(self) -> None:
        """End it, and the task."""
        self._writer.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._writer.wait_closed()
        except OSError:
            pass


async def listen(
    place: Place,
    calls: Callable[[], dict[int, Call]],
    timeout: float,  # noqa: ASYNC109  (of the first answer only)
    patience_limit: float,
) -> AsyncGenerator[Reply | Notification]:
    """Ask ``calls()`` on a connection of its own, and again on each that replaces it; yield everything that is said.

    Call number 0 is answered within ``timeout`` seconds, or the daemon is stuck; afterwards it may be silent for as long as it
    likes. Ends never by itself. Raises NoDaemon, NotAllowed, TimeoutError.
    """
    patience = Patience(patience_limit)
    first = True
    while True:
        connection: Connection | None = None
        try:
            connection = await Connection.open(place)
            first, owed = False, True
            await connection.ask_too(calls())
            limit = asyncio.get_running_loop().time() + timeout
            while True:
                async with asyncio.timeout_at(limit if owed else None):
                    event = await connection.said.get()
                if event is None:
                    assert connection.lost is not None
                    raise connection.lost
                patience.success()
                owed = owed and not (isinstance(event, Reply) and event.id == 0)
                yield event
        except (LinkLost, NoDaemon) as error:
            if isinstance(error, NoDaemon) and (first or connection is not None):
                raise
            await pause(patience, error, connection.opened_at if connection else None)
        finally:
            if connection is not None:
                await connection.close()


async def pause(patience: Patience, error: Exception, connected_at: float | None) -> None:
    """Sleep before the next try, or give up with NoDaemon."""
    seconds = patience.failure(time.monotonic(), connected_at)
    if seconds is None:
        raise NoDaemon(f"{error}; tried again for {patience.limit:g} s: see the daemon's log") from error
    await asyncio.sleep(seconds)
