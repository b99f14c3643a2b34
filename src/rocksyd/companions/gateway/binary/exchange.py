"""Connections that speak Protocol Buffers: a request and its reply are each one message with its length in front.

What must live here: what a connection may take of memory and time, who is on it, and that each request has its reply.
What this file must not know: the methods; what HTTP's connections do (they share the bound of how many there may be).

A connection that nobody has shown a token on may send little, and not for long. Leaving: each connection is served on until its
client has seen in a reply that it should go, or has asked nothing for as long as any connection may be idle then.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from rocksyd import codes
from rocksyd.companions.gateway.access import ANYBODY, Access, Caller, unauthorised
from rocksyd.companions.gateway.binary import requests
from rocksyd.companions.gateway.binary.requests import LENGTH, LONGEST
from rocksyd.companions.gateway.connections import HEAD_TIMEOUT, KEEP_ALIVE, WRITE_TIMEOUT, Served
from rocksyd.companions.gateway.web import BODY_TIMEOUT, Refused
from rocksyd.errors import ProtocolError
from rocksyd.posix.log import log
from rocksyd.protocols import LengthPrefixed
from rocksyd.units import format_duration

Perform = Callable[[Caller, str, dict[str, Any]], Awaitable[Any]]

MAX_BEFORE_TOKEN = 64 << 10
"""Bytes of a message where a token is needed, and was not shown so far."""
AT_ONCE = 16
"""Requests of a connection that are answered at the same time; the next ones are read when one of them is."""
ASK_FIRST = "the first request is auth, with what is in the token's file"
FAULT = "a fault of the gateway; its log has it"


class Deadline:
    """Calls ``late`` when the time is up, unless it is set anew before."""

    def __init__(self, late: Callable[[], None]) -> None:
        self._late = late
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float | None) -> None:
        """So many seconds from now on; None for never."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._late)


class Exchange(asyncio.Protocol):
    """One connection."""

    def __init__(self, served: Served, access: Access, perform: Perform, max_body: int) -> None:
        self._served = served
        self._access = access
        self._perform = perform
        self._most = min(max_body, LONGEST)
        self._caller: Caller | None = None if access.tokens else ANYBODY
        self._parser = LengthPrefixed(self._most if self._caller else min(MAX_BEFORE_TOKEN, self._most)).parser()
        self._unread = 0
        """Bytes of a message that is not complete."""
        self._waiting: deque[Any] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._full = self._no_more = False
        self._deadline = Deadline(self._late)
        self._stuck: Deadline
        self._loop = asyncio.get_running_loop()
        self.transport: Any = None
        self.idle_since = 0.0

    @property
    def active(self) -> bool:
        """Whether something is being asked or answered."""
        return bool(self._tasks or self._waiting or self._unread)

    # --- what asyncio calls -------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self.transport = transport
        self._stuck = Deadline(self.transport.abort)
        self.idle_since = self._loop.time()
        connections: set[Any] = self._served.state.connections
        connections.add(self)
        if self._caller is None:
            self._deadline.set(HEAD_TIMEOUT)
        if len(connections) > self._served.most:
            self._served.make_room()

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        if self._no_more or self.transport.is_closing():
            return
        parser, was_unread = self._parser, bool(self._unread)
        failure: ProtocolError | None = None
        try:
            bodies = parser.feed(data)
        except ProtocolError as error:
            bodies, failure = error.messages, error
        self._unread += len(data) - sum(LENGTH + len(body) for body in bodies)
        if not all(self._asked(body) for body in bodies):
            return
        if self._parser is not parser:  # more may be sent now: what was too long is read again
            self.data_received(b"")
        elif failure is not None:
            self._end(f"{failure}: send less, or raise max_body in [gateway]")
        else:
            self._time(begun=bool(self._unread) and (bool(bodies) or not was_unread))

    def eof_received(self) -> bool:
        """The client sends nothing further, and may still wait for what it has asked."""
        self._no_more = True
        return bool(self._tasks or self._waiting)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended; whoever still waits for an answer waits for nobody."""
        self._deadline.set(None)
        self._stuck.set(None)
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        self._served.state.connections.discard(self)
        self._served.ended()

    def pause_writing(self) -> None:
        """More is owed to the client than is kept for it: nothing further is answered until it has read."""
        self._full = True
        self.transport.pause_reading()
        self._stuck.set(WRITE_TIMEOUT)

    def resume_writing(self) -> None:
        """It has read."""
        self._full = False
        self._stuck.set(None)
        self._begin()

    def leave(self) -> None:
        """The gateway is being replaced."""
        self._time(begun=False)

    # --- time ---------------------------------------------------------------------------------------------------------
    def _time(self, *, begun: bool) -> None:
        """Set the deadline anew; ``begun``: the message that is not complete has only now begun."""
        if self._caller is None:
            return  # the one from the beginning on
        if begun:
            self._deadline.set(BODY_TIMEOUT)
        elif not self._unread:
            self._deadline.set(KEEP_ALIVE if self._served.leaving.is_set() and not self.active else None)

    def _late(self) -> None:
        if self._caller is None:
            self._end(f"no token has come within {format_duration(HEAD_TIMEOUT)}: {ASK_FIRST}", codes.NOT_ALLOWED)
        elif self._unread and (self._waiting or self._full):
            self._deadline.set(BODY_TIMEOUT)  # it is not read, because others are to be answered first
        elif self._unread:
            self._end(f"the rest of a message has not come within {format_duration(BODY_TIMEOUT)}")
        else:
            self.transport.close()

    # --- asking and answering -----------------------------------------------------------------------------------------
    def _asked(self, body: bytes) -> bool:
        """A request has come. Whether another may."""
        try:
            request = requests.read(body)
        except Refused as refused:
            self._end(str(refused), refused.code)
            return False
        if request.WhichOneof("method") == "auth":
            return self._authorise(request)
        if self._caller is None:
            self._refuse(request.id, unauthorised(f"a token is needed: {ASK_FIRST}"))
        else:
            self._waiting.append(request)
            self._begin()
        return True

    def _authorise(self, request: Any) -> bool:
        found = self._access.by_secret(request.auth.token) if self._access.tokens else ANYBODY
        if found is None:
            self._end("wrong token: auth takes what is in the token's file", codes.NOT_ALLOWED, request.id)
            return False
        if self._caller is None:
            self._caller = found
            self._parser = LengthPrefixed(self._most).parser(self._parser.pending)
            self._deadline.set(None)
            self._time(begun=bool(self._unread))
        self._caller = found
        self._send(requests.replied(request.id, "auth", {"authorised": True}, leaving=self._served.leaving.is_set()))
        return True

    def _begin(self) -> None:
        """Answer what waits, as far as may be at the same time; read on when nothing waits."""
        while self._waiting and len(self._tasks) < AT_ONCE and not self._full:
            task = asyncio.ensure_future(self._answer(self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._answered)
        if self._waiting or self._full:
            self.transport.pause_reading()
        elif not self._no_more:
            self.transport.resume_reading()

    async def _answer(self, request: Any) -> None:
        try:
            result = await self._perform(self._caller or ANYBODY, *requests.asked(request))
            leaving = self._served.leaving.is_set()
            self._send(requests.replied(request.id, request.WhichOneof("method"), result, leaving=leaving))
        except Refused as refused:
            self._refuse(request.id, refused)
        except Exception as error:  # noqa: BLE001  (the barrier: it is this request's alone)
            log("gateway", f"a request by protobuf met a fault: {error!r}\n{traceback.format_exc()}")
            self._refuse(request.id, Refused(HTTPStatus.INTERNAL_SERVER_ERROR, FAULT, codes.INTERNAL_ERROR))

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.idle_since = self._loop.time()
        if self.transport.is_closing():
            return
        self._begin()
        self._close_if_done()
        self._time(begun=False)

    def _refuse(self, number: int, why: Refused) -> None:
        self._send(requests.refused(number, why, leaving=self._served.leaving.is_set()))

    def _send(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def _end(self, text: str, code: int = codes.INVALID_REQUEST, number: int = 0) -> None:
        """Say why, answer what was asked before, and close."""
        self._no_more = True
        self._refuse(number, Refused(HTTPStatus.BAD_REQUEST, text, code))
        self.transport.pause_reading()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._no_more and not self._tasks and not self._waiting:
            self._stuck.set(WRITE_TIMEOUT)  # what is owed may never be read
            self.transport.close()
