"""The connections of a service and their one epoll: who is read, which method of the service is called for it, and when.

What must live here: accepting, the calls of the service's methods, timers, what is dumped and loaded.
What this file must not know: the master, other workers (``life``, ``line``).

The epoll hangs in the event loop as one descriptor, so both buffers and the sockets are ours and can be given to another process
at any moment between two callbacks. Transports of asyncio would hide them, and cost three times as much a line.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Callable
from typing import Any

from rocksyd.errors import ProtocolError
from rocksyd.posix.service_page import SLOTS, Page
from rocksyd.protocols import protocol_of
from rocksyd.services import service_of
from rocksyd.worker import output
from rocksyd.worker.service.calls import Calls, Inside
from rocksyd.worker.service.connection import Conn
from rocksyd.worker.service.state import Carried, Whole

_AT_ONCE = 256
_AGAIN = 1.0
"""Seconds until it is accepted again where there were no descriptors left."""
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class Engine:
    """One service, with a page and a loop; without, it is only tried whether it can go on with a state (a rehearsal)."""

    def __init__(self, cls: type, settings: dict[str, Any], loop: asyncio.AbstractEventLoop, page: Page | None) -> None:
        said = service_of(cls)
        assert said is not None
        self.name: str = said["name"]
        self._protocol, self.version = protocol_of(said["protocol"]), int(said["state_version"])
        self._loop, self._page = loop, page
        self._most = int(settings.get("max_connections", SLOTS))
        self.max_unsent = int(settings.get("max_unsent", 1 << 20))
        self.connections = Inside()
        self.calls = Calls(self.name, cls, loop, self.connections)
        self.calls.broken = lambda c: self.lose(c, "")
        self.calls.returned = self._returned
        self.messages = self.unsent = 0
        """Messages that were handled; bytes that are owed."""
        self.live = False
        self.settling = False
        """While this is set no method is called any more, so that those that are being called come to their end."""
        self.came: list[Conn] = []
        self.went: list[int] = []
        """Since the master was told last."""
        self.tell: Callable[[], None] = lambda: None
        self._by_fd: dict[int, Conn] = {}
        self._slots: set[int] = set()
        self._listening: dict[int, socket.socket] = {}
        self._lost: list[tuple[Conn, str]] = []
        self._poll: select.epoll | None = None

    # --- calls --------------------------------------------------------------------------------------------------------
    def _returned(self, c: Conn | None) -> None:
        if c is not None and not c.lost:
            self.work(c)
        self.end_lost()
        self.tell()

    def work(self, c: Conn) -> None:
        """Call the service for what has come over a connection, one after another."""
        while not self.settling and not c.working and not c.lost:
            if not c.greeted and c.ready:
                c.greeted = True
                self.calls.call(c, self.calls.service.connected, c)
            elif c.queue:
                self.messages += 1
                self.calls.call(c, self.calls.service.message, c, c.next())
            else:
                break
        if c.ended:
            c.close()
        if not c.lost:
            self._mark(c)
            self.want(c)

    def _mark(self, c: Conn) -> None:
        if self._page is not None and self.live:
            self._page.busy[c.id % SLOTS] = 0 if c.quiet else 1

    # --- the epoll ----------------------------------------------------------------------------------------------------
    def listen(self, sockets: list[socket.socket]) -> None:
        """Those that connections come by."""
        self._listening = {one.fileno(): one for one in sockets}

    def open(self) -> None:
        """From now on it is this process that reads and writes."""
        self.live, self.settling = True, False
        if self._poll is None:
            self._poll = select.epoll()
            for fd in self._listening:
                self._poll.register(fd, _IN)
            for c in self.connections:
                self._poll.register(c.fd, 0)
                c.events = 0
        self._loop.add_reader(self._poll.fileno(), self._turn)
        self.calls.allow(True)
        for c in self.connections:
            if c.closing and not c.out:
                self.lose(c, "")
            else:
                self.work(c)
        self.end_lost()
        self.tell()

    def settle(self) -> None:
        """Read nothing more and call nothing more; what is being called may come to its end, and send."""
        self.settling = True
        self.calls.allow(False)
        if self._poll is not None:
            self._loop.remove_reader(self._poll.fileno())

    def freeze(self) -> None:
        """Neither read nor write: every connection stays as it is."""
        self.live = False

    def shut(self) -> None:
        """Nobody comes in any longer."""
        for fd in self._listening:
            if self._poll is not None:
                self._poll.unregister(fd)
        self._listening = {}

    def want(self, c: Conn) -> None:
        """Look for what this connection waits for."""
        if self._poll is None or c.fd < 0 or c.lost:
            return
        reads = not (c.working or c.queue or c.closing or self.settling)
        events = (_IN if reads else 0) | (_OUT if c.out else 0)
        if events != c.events:
            c.events = events
            self._poll.modify(c.fd, events)
        if c.out:
            self._mark(c)

    def _turn(self) -> None:
        assert self._poll is not None
        for fd, events in self._poll.poll(0, _AT_ONCE):
            c = self._by_fd.get(fd)
            if c is None:
                self._accept(self._listening.get(fd))
                continue
            if events & _OUT and c.out:
                c.flush()
                self._mark(c)
            if not c.lost and events & (_IN | select.EPOLLHUP | select.EPOLLERR):
                self._read(c, events)
        self.end_lost()
        self.tell()

    def _read(self, c: Conn, events: int) -> None:
        if not events & _IN:
            self.lose(c, "")
            return
        if self._page is not None:
            self._page.busy[c.id % SLOTS] = 1
        data = c.read()
        if data:
            self.calls.changed = True
            try:
                c.feed(data)
            except ProtocolError as error:
                output.note(f"service {self.name}: {c} is closed: {error}")
                c.queue.extend(error.messages)
            except Exception as error:  # noqa: BLE001  (a parser of the application's own)
                self.calls.failed(c, c.feed, error)
        elif data is not None:
            self.lose(c, "")
        if not c.lost:
            self.work(c)

    def _accept(self, listening: socket.socket | None) -> None:
        if listening is None or self._poll is None or self._page is None:
            return
        try:
            sock, where = listening.accept()
        except OSError as error:
            if error.errno in _FULL:
                self._poll.modify(listening.fileno(), 0)
                self._loop.call_later(_AGAIN, self._attend)
            return
        if len(self.connections) >= self._most:
            sock.close()
            return
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = self._page.next_number()
        while number % SLOTS in self._slots:
            number = self._page.next_number()
        c = Conn(
            self, number, self._protocol.parser(), sock, f"{where[0]}:{where[1]}" if isinstance(where, tuple) and where else ""
        )
        self._page.busy[number % SLOTS] = 1
        self._let_in(c)
        self.came.append(c)
        self._poll.register(c.fd, 0)
        self.work(c)

    def _attend(self) -> None:
        """Accept, after a pause for want of descriptors, in which the kernel keeps who waits."""
        for fd in self._listening:
            assert self._poll is not None
            self._poll.modify(fd, _IN)

    def _let_in(self, c: Conn) -> None:
        self.connections.add(c)
        self._slots.add(c.id % SLOTS)
        if c.fd >= 0:
            self._by_fd[c.fd] = c

    # --- the end of a connection --------------------------------------------------------------------------------------
    def lose(self, connection: Conn, why: str) -> None:
        """It is over; closed at the end of this turn, since somebody may be going through the connections."""
        if not connection.lost and self.live:
            connection.lost = True
            self._lost.append((connection, why))
            self._loop.call_soon(self.end_lost)

    def end_lost(self) -> None:
        """Close those that are over."""
        while self._lost:
            c, why = self._lost.pop(0)
            if why:
                output.note(f"service {self.name}: {c} is closed: {why}")
            self.connections.remove(c)
            self._slots.discard(c.id % SLOTS)
            self._by_fd.pop(c.fd, None)
            if self._poll is not None and c.fd >= 0:
                self._poll.unregister(c.fd)  # closing does not, while there is a duplicate on the shelf
            c.end()
            if c in self.came:
                self.came.remove(c)
            else:
                self.went.append(c.id)
            if c.greeted:
                self.calls.call(None, self.calls.service.disconnected, c)

    # --- from one worker to the next ----------------------------------------------------------------------------------
    def dump(self) -> Whole:
        """All of it. Raises what the service's ``dump`` does."""
        timers = [(timer.at, timer.method, timer.args) for timer in self.calls.timers]
        return Whole(self.version, self.calls.service.dump(), [c.dump() for c in self.connections], timers)

    def load(self, whole: Whole, sockets: dict[int, socket.socket]) -> None:
        """Go on with what another worker had, without reading or writing a connection. Raises what the service's methods do."""
        self.calls.service.load(whole.state, whole.version)
        for carried in whole.connections:
            c = Conn(self, carried.number, self._protocol.parser(carried.unread), sockets.get(carried.number))
            c.load(carried)
            self._let_in(c)
            self.calls.service.load_connection(c, carried.state, whole.version)
        for at, method, args in whole.timers:
            self.calls.set(at, method, args)

    def restore(self, whole: Whole | None, sockets: dict[int, socket.socket]) -> None:
        """After a crash: with the state that was kept last, if any, and the connections that were quiet. Raises as ``load``."""
        assert self._page is not None
        quiet = {}
        settled = {one.number: one.settled for one in whole.connections} if whole is not None else {}
        plain = self._protocol.parser().ready
        for number, sock in sockets.items():
            if self._page.busy[number % SLOTS] or not (plain or settled.get(number)):
                self.went.append(number)
                Conn(self, number, self._protocol.parser(), sock).end()
            else:
                quiet[number] = sock
        if whole is not None:
            known = [
                Carried(one.number, one.peer, one.room, one.state, one.settled)
                for one in whole.connections
                if one.number in quiet
            ]
            self.load(whole._replace(connections=known), quiet)
        for number, sock in quiet.items():
            c = self.connections.get(number)
            if c is None:
                c = Conn(self, number, self._protocol.parser(), sock, _peer(sock))
                c.greeted = True
                self._let_in(c)
            self.calls.service.restored(c)


def _peer(sock: socket.socket) -> str:
    try:
        where = sock.getpeername()
    except OSError:
        return ""
    return f"{where[0]}:{where[1]}" if isinstance(where, tuple) else ""
