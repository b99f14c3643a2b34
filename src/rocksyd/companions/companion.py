"""What a companion is given: its settings and sockets, the way to the daemon, and its end of the channel to the master.

What must live here: saying that it is ready, answering what clients ask through the master, knowing when to leave.
What this file must not know: what any companion is for.

A companion is a function that takes a ``Companion`` and returns when it has left::

    def bell(companion: Companion) -> None:
        companion.method("bell.ring", lambda request: "ding")
        companion.ready()
        companion.serve()
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

from rocksyd import codes
from rocksyd import messages as m
from rocksyd.client import Client
from rocksyd.errors import ChannelClosed, RequestError
from rocksyd.posix.channel import Channel
from rocksyd.posix.log import log

THREADS = 8
"""Requests that are answered at the same time."""


class CannotAttend(Exception):
    """The companion cannot do its work; the text says why and what to do, and is what whoever ordered the start is told."""


class Listening(NamedTuple):
    """A listening socket that the daemon holds for the companion: it outlives it, so nobody is refused while it is replaced.

    It is not blocking, because the companion's successor accepts from it at the same time.
    """

    address: str
    """As the configuration writes it."""
    socket: socket.socket


class Request(NamedTuple):
    """What a client asks."""

    method: str
    params: dict[str, Any] | list[Any]
    trusted: bool
    """Whether the client is the daemon's own user or root."""
    address: str
    """The daemon's address that it came to."""
    who: str = ""
    """Who it is: a user of this machine by name, else where it comes from."""


class Code(NamedTuple):
    """What the code of the applications declares for the companion."""

    apps: dict[str, dict[str, Any] | None]
    """Of every application, the scripts by name; None where nobody has heard of it yet."""
    serves: bool
    """Whether this code serves. If not, it is only asked whether it may."""
    author: str
    """Who has ordered what brought it; "" where nobody has."""


class Described(TypedDict, total=False):
    """What is said of a method of a companion."""

    summary: str
    params: Sequence[dict[str, Any]]
    """OpenRPC's content descriptors."""
    trusted: bool
    """Only for the daemon's own user and root."""
    scope: Literal["read", "run", "admin"]
    """What somebody who comes by the gateway must be allowed; ``admin`` if left out."""


class Companion:
    """One companion, in its process."""

    def __init__(self, channel: Channel, order: m.Attend) -> None:
        self.name: str = order.name
        self.namespace: str = order.namespace
        self.settings: dict[str, Any] = order.settings
        """What the configuration says for it."""
        self.address: str = order.address
        """Where the daemon can be called. It begins to answer only when all companions are ready: do not wait for it before."""
        self.token: str = order.token
        """What to show at ``address``; "" for nothing."""
        self.listening = [
            Listening(address, socket.socket(fileno=fd)) for address, fd in zip(order.listen, order.fds, strict=True)
        ]
        for listening in self.listening:
            listening.socket.setblocking(False)
        self.leaving = False
        """Whether it has been told to leave, or nobody is there any more to tell it."""
        self._channel = channel
        self._said = threading.Lock()
        self._methods: dict[str, tuple[Callable[[Request], Any], dict[str, Any]]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._declared: Callable[[Code], None] | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    # --- beginning ----------------------------------------------------------------------------------------------------
    def client(self, timeout: float = 30.0, patience: float = 30.0) -> Client:
        """An ordinary client of the daemon. ``timeout`` and ``patience`` in seconds, as ``Client`` has them."""
        return Client(self.address, self.token or None, timeout=timeout, patience=patience)

    def method(self, name: str, function: Callable[[Request], Any], **described: Unpack[Described]) -> None:
        """Add a method to the daemon's protocol; to be called before ``ready``.

        ``function`` is called in a thread of its own and returns the result, or raises ``RequestError``. It may be called again
        for a request whose answer was lost.
        """
        self._methods[name] = (function, {"summary": "", **described, "params": list(described.get("params", ()))})

    def hears_code(self, function: Callable[[Code], None]) -> None:
        """Have ``function`` told what the applications' code declares, now and whenever that changes; before ``ready``.

        It is called by ``step``, and returns soon. ``RequestError`` refuses the code that is not serving yet, with its text.
        """
        self._declared = function

    def ready(self) -> None:
        """Say that the companion can do its work."""
        methods = {name: described for name, (_, described) in self._methods.items()}
        self.say(m.Attending(methods, declared=self._declared is not None))

    # --- serving ------------------------------------------------------------------------------------------------------
    def serve(self) -> None:
        """Answer what clients ask, until told to leave and all is answered."""
        signal.signal(signal.SIGTERM, lambda *_: self.leave())
        poller = select.poll()
        poller.register(self._channel.fileno(), select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while self.step():
            poller.poll()
        if self._threads is not None:
            self._threads.shutdown()

    def fileno(self) -> int:
        """For an event loop of the companion's own: when this is readable, call ``step``."""
        return self._channel.fileno()

    def step(self) -> bool:
        """Take what the master says, without waiting; false when it is time to leave."""
        try:
            while not self.leaving and (message := self._channel.receive()) is not None:
                if isinstance(message, m.Ask):
                    self._threads = self._threads or ThreadPoolExecutor(THREADS, f"{self.name}-request")
                    self._threads.submit(self._answer, message)
                elif isinstance(message, m.Declared):
                    self._hear(message)
                elif isinstance(message, m.Drain):
                    self.leaving = True
        except ChannelClosed:  # the master is gone; the next one starts a companion of its own
            self.leaving = True
        return not self.leaving

    def leave(self) -> None:
        """Let ``serve`` return. Safe in a signal handler and in any thread."""
        self.leaving = True
        os.eventfd_write(self._wake, 1)

    def _hear(self, said: m.Declared) -> None:
        try:
            if self._declared is not None:
                self._declared(Code(said.apps, said.serves, said.author))
        except RequestError as error:
            return self.say(m.Reply(said.number, error={"code": error.code, "message": str(error), "data": error.data}))
        except Exception as error:  # noqa: BLE001  (whatever it is, the deploy that waits for it goes on or is refused)
            text = f"what the code declares failed in the companion {self.name}: {type(error).__name__}: {error}"
            log(self.name, text)
            return self.say(m.Reply(said.number, error={"code": codes.INTERNAL_ERROR, "message": text}))
        return self.say(m.Reply(said.number))

    def _answer(self, ask: m.Ask) -> None:
        try:
            function, _ = self._methods[ask.method]
            result = function(Request(ask.method, ask.params, ask.trusted, ask.address, ask.who))
            json.dumps(result, allow_nan=False)
        except RequestError as error:
            return self.say(m.Reply(ask.number, error={"code": error.code, "message": str(error), "data": error.data}))
        except Exception as error:  # noqa: BLE001  (whatever it is, the client is answered)
            log(self.name, f"{ask.method} failed: {type(error).__name__}: {error}")
            text = f"{ask.method} failed in the companion {self.name}: {type(error).__name__}: {error}"
            return self.say(m.Reply(ask.number, error={"code": codes.INTERNAL_ERROR, "message": text}))
        return self.say(m.Reply(ask.number, result))

    def say(self, message: Any) -> None:
        """Say something to the master, if there is one; waits until it has gone out. For any thread."""
        poller = select.poll()
        poller.register(self._channel.fileno(), select.POLLOUT)
        with self._said:
            try:
                self._channel.send(message)
                while not self._channel.flush():
                    poller.poll()
            except ChannelClosed:
                self.leaving = True
