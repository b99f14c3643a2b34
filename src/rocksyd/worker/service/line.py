"""From one service worker to the next: what the one that serves is asked by its successor, and what that does with the answers.

What must live here: the words between the two, and when each may still go back.
What this file must not know: the master; what is in a state.

    successor                          the one that serves
    SUCCEED (over the line of all) -->
    REHEARSE                       -->  CHECKPOINT, or REFUSED: it goes on as if nothing had been
    FREEZE                         -->  SHARE ..., while it serves; then it lets its methods come to their end, and freezes:
                                        dump, FROZEN, wait. All that in one call, in which nothing else can run
    ADOPTED or REFUSED             -->  RETIRED: the point of no return. Or THAW: it goes on

Whoever hears the end of the channel instead: the one that serves goes on; the successor goes on as well if it had said ADOPTED,
because then the other has died with everything handed over. In no case do both: ADOPTED is only said by one that can serve, and
RETIRED only by one that will not touch a connection again.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from rocksyd import messages
from rocksyd.errors import ChannelClosed, DescriptorsLost, JobError, MessageError
from rocksyd.posix.channel import Channel, close_all, memfd, pair, read_memfd
from rocksyd.posix.service_page import Page
from rocksyd.worker import results
from rocksyd.worker.service import state
from rocksyd.worker.service.engine import Engine

_BATCH = 200
"""Descriptors in a message (the kernel takes 253)."""
_STEP = 0.005
"""Seconds between two looks whether everything has come to its end."""
_GONE = (ChannelClosed, DescriptorsLost, MessageError, OSError)


def batches(engine: Engine) -> list[messages.Share]:
    """The connections that no successor has been sent, in as many messages as it takes."""
    fresh = [c for c in engine.connections if not c.shared]
    for c in fresh:
        c.shared = True
    parts = [fresh[at : at + _BATCH] for at in range(0, len(fresh), _BATCH)]
    return [messages.Share(tuple(c.id for c in part), tuple(c.fd for c in part)) for part in parts]


def sockets_of(message: messages.Share) -> dict[int, socket.socket]:
    """The connections of such a message by number."""
    found = {}
    for number, fd in zip(message.connections, message.fds, strict=False):
        found[number] = socket.socket(fileno=fd)
        found[number].setblocking(False)
    return found


class Predecessor:
    """What the worker that serves does for its successors."""

    def __init__(self, engine: Engine, page: Page, settings: dict[str, Any], line: Channel) -> None:
        self._engine, self._page, self._line = engine, page, line
        self._loop = asyncio.get_event_loop()
        self._settle = float(settings.get("settle", 1.0))
        self._patience = float(settings.get("patience", 30.0))
        self.retired: Callable[[], None] = lambda: None
        """Told when a successor serves: nothing may be touched any more."""
        self._successors: set[Channel] = set()
        self._busy: Channel | None = None
        """The one that it hands over to."""
        self._silent_since = 0.0

    def listen(self) -> None:
        """Hear successors from now on."""
        self._loop.add_reader(self._line.fileno(), self._introduced)

    def close(self) -> None:
        """Hear none any longer."""
        self._loop.remove_reader(self._line.fileno())
        for channel in tuple(self._successors):
            self._part(channel)

    def _introduced(self) -> None:
        try:
            while (message := self._line.receive()) is not None:
                if isinstance(message, messages.Succeed) and message.fds:
                    channel = Channel.from_fd(message.fds[0])
                    self._successors.add(channel)
                    self._loop.add_reader(channel.fileno(), self._hear, channel)
        except _GONE:
            return

    def _part(self, channel: Channel) -> None:
        if channel in self._successors:
            self._successors.discard(channel)
            self._loop.remove_reader(channel.fileno())
            channel.close()
        if self._busy is channel:
            self._go_on()

    def _hear(self, channel: Channel) -> None:
        try:
            while channel in self._successors and (message := channel.receive()) is not None:
                match message:
                    case messages.Rehearse():
                        channel.send(self._shown())
                    case messages.Freeze() if self._busy is None:
                        self._busy = channel
                        for share in batches(self._engine):
                            channel.send(share)
                        self._sent(channel)
        except _GONE:
            self._part(channel)

    def _shown(self) -> messages.Checkpoint | messages.Refused:
        try:
            return messages.Checkpoint((memfd("state", state.write(self._engine.dump())),))
        except Exception as error:  # noqa: BLE001  (the service's own code)
            return messages.Refused(f"the code that serves could not give its state: {told(error)}")

    # --- handing over -------------------------------------------------------------------------------------------------
    def _sent(self, channel: Channel) -> None:
        """Descriptors go ahead, while it serves; then it stops calling methods."""
        if self._busy is not channel:
            return
        try:
            if channel.flush():
                self._engine.settle()
                self._silent_since = time.monotonic()
                self._settled(channel, time.monotonic() + self._settle)
                return
        except ChannelClosed:
            self._part(channel)
            return
        self._loop.call_later(_STEP, self._sent, channel)

    def _settled(self, channel: Channel, until: float) -> None:
        if self._busy is not channel:
            return
        if not self._engine.calls.running:
            self._freeze(channel)
        elif time.monotonic() < until:
            self._loop.call_later(_STEP, self._settled, channel, until)
        else:
            self._call_off(channel, f"{self._engine.calls.running} calls of its methods had not returned within settle")

    def _freeze(self, channel: Channel) -> None:
        """From the dump to the answer, in one call: no callback, no byte, no signal's handler can come between."""
        self._engine.end_lost()
        if self._engine.calls.running:  # somebody has gone, and it takes time to say good-bye
            self._loop.call_later(_STEP, self._settled, channel, time.monotonic() + self._settle)
            return
        self._engine.freeze()
        fd = -1
        try:
            fd = memfd("state", state.write(self._engine.dump()))
            for share in batches(self._engine):
                channel.send(share)
            channel.send(messages.Frozen(fds=(fd,), since=self._silent_since))
            reason = _verdict(channel, self._patience)
            if not reason:
                self._page.give()
                channel.send(messages.Retired())  # the point of no return
        except _GONE:
            reason = "the new worker has died"
        except Exception as error:  # noqa: BLE001  (the service's own code)
            reason = f"the code that serves could not give its state: {told(error)}"
        finally:
            if fd >= 0:
                os.close(fd)
        if reason:
            self._page.take()
            self._call_off(channel, reason)
        else:
            self._busy = None
            self.retired()

    def _call_off(self, channel: Channel, reason: str) -> None:
        try:
            channel.send(messages.Thaw(reason))
            channel.flush()
        except _GONE:
            pass
        self._part(channel)

    def _go_on(self) -> None:
        self._busy = None
        for c in self._engine.connections:
            c.shared = False
        self._engine.open()


def _verdict(channel: Channel, patience: float) -> str:
    """Why the successor does not serve; "" when it can. Raises ChannelClosed."""
    until = time.monotonic() + patience
    while (left := until - time.monotonic()) > 0:
        channel.flush()
        match channel.wait(min(left, 0.02) if channel.pending else left):
            case messages.Adopted():
                return ""
            case messages.Refused() as refused:
                return refused.reason or "the new worker refused the state"
    return "the new worker had not taken the state in time (adopt_timeout)"


Adopt = Callable[[state.Whole, dict[int, socket.socket]], None]
"""Goes on with a state and the connections of it."""


class Failed(Exception):
    """The hand-over does not come about, and whoever serves goes on. The message says why."""


class Successor:
    """What a worker that is to serve asks of the one that serves."""

    def __init__(self, line: Channel) -> None:
        self._loop = asyncio.get_event_loop()
        self._channel: Channel | None = None
        self._line = line
        self._heard: asyncio.Queue[Any] = asyncio.Queue()
        self._sockets: dict[int, socket.socket] = {}
        self.silent_since = 0.0
        """Since when no message is handled (CLOCK_MONOTONIC seconds); 0 where that was not said."""
        self.taken = False
        """Whether everything is here: whoever served will not touch it again, unless it says so."""

    def _begin(self, what: Any) -> None:
        ours, theirs = pair()
        self._channel = Channel(ours)
        self._line.send(messages.Succeed((theirs.fileno(),)))
        theirs.close()
        self._channel.send(what)
        self._loop.add_reader(self._channel.fileno(), self._listen)

    def _listen(self) -> None:
        assert self._channel is not None
        try:
            while (message := self._channel.receive()) is not None:
                self._heard.put_nowait(message)
        except _GONE:
            self._loop.remove_reader(self._channel.fileno())
            self._heard.put_nowait(None)

    def close(self) -> None:
        """Whatever was begun: it is called off."""
        if self._channel is not None:
            self._loop.remove_reader(self._channel.fileno())
            self._channel.close()
            self._channel = None
        for one in self._sockets.values():
            one.close()
        self._sockets = {}

    async def _next(self, patience: float) -> Any:
        """What is said next; ``...`` where nothing is for so long."""
        try:
            return await asyncio.wait_for(self._heard.get(), patience)
        except TimeoutError:
            return ...

    async def rehearse(self, page: Page, patience: float) -> state.Whole | None:
        """The state of the worker that serves, which goes on; None where none serves. Raises Failed."""
        while page.taken:
            self._begin(messages.Rehearse())
            try:
                while page.taken:
                    message = await self._next(patience)
                    if message is None:
                        break
                    if isinstance(message, messages.Refused):
                        raise Failed(message.reason)
                    if isinstance(message, messages.Checkpoint) and message.fds:
                        return _read(message.fds)
            finally:
                self.close()
        return None

    async def take_over(self, adopt: Adopt, page: Page, patience: float) -> int:
        """Be handed over everything; ``adopt`` is called with it. The memfd of the state. Raises Failed."""
        self._begin(messages.Freeze())
        assert self._channel is not None
        fd = -1
        while True:
            match await self._next(patience):
                case messages.Share() as share:
                    self._sockets |= sockets_of(share)
                case messages.Frozen() as frozen if frozen.fds:
                    fd, self.silent_since = frozen.fds[0], frozen.since
                    sockets, self._sockets = self._sockets, {}
                    self._adopt(adopt, fd, sockets)
                    self.taken = True
                case messages.Retired() if self.taken:
                    return fd
                case messages.Thaw() as thaw:
                    raise Failed(thaw.reason)
                case None if self.taken:
                    return fd
                case None:
                    raise Failed("")
                case _ if not self.taken and not page.taken:  # it has died before it has heard us
                    raise Failed("")

    def _adopt(self, adopt: Adopt, fd: int, sockets: dict[int, Any]) -> None:
        assert self._channel is not None
        try:
            adopt(state.read(read_memfd(fd)), sockets)
        except BaseException as error:
            reason = f"the new code could not go on with the state: {told(error)}"
            self._channel.send(messages.Refused(reason))
            raise Failed(reason) from error
        try:
            self._channel.send(messages.Adopted())
        except ChannelClosed:
            return  # it has died with everything handed over; the end of the channel is heard next


def _read(fds: tuple[int, ...]) -> state.Whole:
    try:
        return state.read(read_memfd(fds[0]))
    finally:
        close_all(fds)


def told(error: BaseException) -> str:
    """An error of the service's code for whoever has ordered the deploy: in a sentence, and where."""
    if isinstance(error, JobError):
        return str(error)
    return f"{type(error).__name__}: {error}\n{results.traceback_of(error).rstrip()}"
