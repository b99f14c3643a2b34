"""The door: listening sockets, and how many may come in.

What must live here: accepting, and not accepting while there is no room.
What this file must not know: what is done with a connection (``clients``, ``exec``).
"""

from __future__ import annotations

import _socket
import errno
import os
import resource
import select
import time
from collections.abc import Callable, Iterator

from rocksyd.config import FEWEST_CLIENTS, Address, Config
from rocksyd.master.barrier import Stranger
from rocksyd.master.desk import listeners
from rocksyd.master.desk.clients import Clients
from rocksyd.master.desk.page import SLOTS
from rocksyd.master.turn import Turn
from rocksyd.posix.log import log
from rocksyd.posix.loop import Loop

AT_ONCE = 64
"""Connections that are accepted from one socket before others have their turn."""
TRY_AGAIN_AFTER = 1.0
"""Seconds after which it is tried to accept again when the system, not the configuration, had no room."""
TOLD_EVERY = 60.0
"""Seconds between two lines in the log about connections that have to wait."""

Take = Callable[[_socket.socket, Address], None]
"""Takes in a connection, and the address that it came to."""


class Listener(Stranger):
    """A listening socket."""

    def __init__(self, door: Door, socket: _socket.socket, address: Address, take: Take, *, ours: bool) -> None:
        socket.setblocking(False)
        self._door = door
        self.socket = socket
        self.fd = socket.fileno()
        self.address = address
        self.take = take
        self.ours = ours
        """False for one that a service manager passed: it goes on listening when we stop, and a unix socket's file is its own."""
        self.for_callers = socket.type == _socket.SOCK_SEQPACKET
        """Whether callers of ``rocksyd exec`` come here."""

    kind = "client"

    def __str__(self) -> str:
        return f"a client that connected to {self.address}"

    def handle(self, events: int) -> None:
        """What epoll says."""
        self._door.accept(self)

    def broken(self, reason: str) -> None:
        """Taking a connection in has raised what nobody expected: it is gone, and others may come."""


class Door:
    """Every socket that is listened on for clients and for callers of ``rocksyd exec``."""

    def __init__(self, turn: Turn, clients: Clients, loop: Loop) -> None:
        self._loop = loop
        self._inside = clients.by_number
        self._aside = 0
        self.listeners: dict[str, Listener] = {}
        """By their names on the shelf."""
        self.paused = False
        self._again_at = 0.0
        """When to try again to accept; 0 when the end of a connection is waited for, or nothing is."""
        self._told_at = 0.0
        self.configure(turn.engine.config)
        clients.gone.append(lambda client: self.resume())
        turn.due(lambda: self._again_at or None, self._try_again)

    def descriptors(self) -> Iterator[tuple[str, int]]:
        """Names and descriptors of the sockets."""
        return ((name, listener.fd) for name, listener in self.listeners.items())

    def configure(self, config: Config) -> None:
        """Take other settings."""
        self._most = config.max_connections
        self._services = config.service_connections
        self.limit = limit_of(config)

    def open(self, sockets: listeners.Sockets, take: Take, take_caller: Take) -> Iterator[str]:
        """Listen for clients and callers from now on; the names of sockets that were listened on and are not wanted."""
        for name, fd, ours in sockets.claim():
            socket = listeners.view(fd, own=True)
            if name in sockets.for_clients:
                self.listen(name, socket, listeners.known_as(socket, sockets.for_clients[name]), take, ours=ours)
            elif name in sockets.for_callers:
                self.listen(name, socket, sockets.for_callers[name], take_caller)
            else:
                if ours:
                    listeners.remove(listeners.local_address(socket))
                socket.close()
                yield name

    def listen(self, name: str, socket: _socket.socket, address: Address, take: Take, *, ours: bool = True) -> None:
        """Accept from this socket from now on."""
        listener = self.listeners[name] = Listener(self, socket, address, take, ours=ours)
        self._loop.register(listener.fd, listener, select.EPOLLIN)

    def close(self) -> tuple[str, ...]:
        """Listen no longer, because the daemon stops; returns the names of the sockets."""
        closed, self.listeners = self.listeners, {}
        for listener in closed.values():
            self._loop.unregister(listener.fd)
            if listener.ours:
                listeners.remove(listener.address)
            listener.socket.close()
        return tuple(closed)

    # --- coming in ----------------------------------------------------------------------------------------------------
    def accept(self, listener: Listener) -> None:
        """Take in some of those that wait."""
        for _ in range(AT_ONCE):
            if self._is_full():
                return
            try:
                fd, _ = listener.socket._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._again_at = time.monotonic() + TRY_AGAIN_AFTER
                    self._pause(f"{error.strerror}: raise the limit of open files (LimitNOFILE=, ulimit -n)")
                    return
                continue
            os.set_inheritable(fd, False)
            socket = _socket.socket(fileno=fd)
            socket.setblocking(False)
            listener.take(socket, listener.address)

    def _is_full(self) -> bool:
        """Whether nobody more can be accepted now; then nobody is, until there is room."""
        full = len(self._inside) + self._aside >= self.limit
        if full:
            self._pause(f"there are {len(self._inside)} ({self.why_limited})")
        return full

    def _pause(self, why: str) -> None:
        """Accept nobody until a connection has gone: the kernel's backlog holds them."""
        if self.paused:
            return
        self.paused = True
        now = time.monotonic()
        if not self._told_at or now >= self._told_at + TOLD_EVERY:
            self._told_at = now
            log("master", f"no more connections are accepted until one is closed: {why}")
        for listener in self.listeners.values():
            self._loop.unregister(listener.fd)

    def resume(self) -> None:
        """Accept again, if it was stopped and there is room."""
        if not self.paused or len(self._inside) + self._aside >= self.limit:
            return
        self.paused, self._again_at = False, 0.0
        for listener in self.listeners.values():
            self._loop.register(listener.fd, listener, select.EPOLLIN)

    def set_aside(self, files: int) -> None:
        """So many of the files there may be are callers' of ``rocksyd exec``."""
        self._aside = files
        if not self._again_at:
            self.resume()

    @property
    def why_limited(self) -> str:
        """What ``limit`` comes from."""
        if self.limit == self._most:
            return "max_connections"
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        services = f", services may have {self._services} connections" if self._services else ""
        return f"{files} files may be open, max_connections is {self._most}{services}: raise LimitNOFILE= or ulimit -n"

    def _try_again(self, now: float) -> None:
        self._again_at = 0.0
        self.resume()


def limit_of(config: Config) -> int:
    """Connections there may be: ``max_connections``, or fewer where the limit of open files leaves no room for so many.

    Keeper and master hold a descriptor for every connection, those of services as well. Without one to spare neither could
    restart nor even be told of a worker, so the limit is not found out by running into it.
    """
    most = min(config.max_connections, SLOTS)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return most
    return min(most, max(FEWEST_CLIENTS, files - config.other_files - config.service_connections))
