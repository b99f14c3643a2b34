"""How connections come into a web worker and go to another: accepting, and the pool's queue of kept connections.

What must live here: the listening sockets, the queue, and who may come in now.
What this file must not know: what is said over a connection, beyond whether it is between two requests (``http`` knows).

The queue is a pair of SEQPACKET sockets that every worker of the pool has: a message is one connection (SCM_RIGHTS) and the bytes
that were read of a head not yet whole. It is a second accept queue: who has room takes from it, and what nobody takes waits in
the kernel, whatever becomes of workers and masters.
"""

from __future__ import annotations

import array
import asyncio
import errno
import fcntl
import os
import socket
from contextlib import suppress
from typing import Any

from rocksyd.posix.backlog import Backlogs
from rocksyd.posix.channel import descriptors_in
from rocksyd.worker.web.engine import Engine, Open
from rocksyd.worker.web.http import Connection

_RETRY = 0.01
"""Seconds until a connection is offered again where the queue is full."""
_FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS)
_MARK = b"1"
"""Before the bytes of a half-read head, so that no message is empty."""
_LOOK = 0.05
"""Seconds between two looks at how many wait, while there is no room."""
_MOST = 1 << 18
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\n"
    b"retry-after: 1\r\nconnection: close\r\n\r\nThe server is full.\r\n"
)


class Door:
    """The ways in, and the way to another worker."""

    def __init__(self, engine: Engine, settings: dict[str, Any], fds: tuple[int, ...]) -> None:
        self._engine = engine
        self._loop = engine.loop
        self._max_queue = int(settings.get("max_queue", 256))
        self._inward, self._outward = (socket.socket(fileno=fd) for fd in fds[:2])
        self._listening = [socket.socket(fileno=fd) for fd in fds[2:]]
        for one in (self._inward, self._outward, *self._listening):
            one.setblocking(False)
        self._open = False
        self._taking = False
        """Whether it is woken by who comes: not while there is no room."""
        self._alone = False
        self._coming: set[asyncio.Task[Any]] = set()
        self._backlogs = Backlogs()
        self.closed = 0
        engine.room = self._look_for_room
        engine.give = self._give

    # --- in -----------------------------------------------------------------------------------------------------------
    def open(self) -> None:
        """Let in who comes."""
        self._open = True
        self._look_for_room()

    def _look_for_room(self) -> None:
        """Be woken by who comes, or, while there is no room, look how many wait."""
        wanted = self._open and not self._engine.full
        if wanted and not self._taking:
            for one in self._listening:
                self._loop.add_reader(one.fileno(), self._accept, one)
            self._loop.add_reader(self._outward.fileno(), self._take)
            self._taking = True
        elif not wanted and self._taking:
            for one in (*self._listening, self._outward):
                self._loop.remove_reader(one.fileno())
            self._taking = False
            if self._open:
                self._loop.call_later(_LOOK, self._refuse_some)

    def _accept(self, listening: socket.socket) -> None:
        """Take one in: others are woken as well, and may be less busy."""
        try:
            connection, _ = listening.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._pause()
            return
        self._engine.page["accepted"] += 1
        self._let_in(connection, b"")

    def _take(self) -> None:
        """Take over one that another worker has kept."""
        size = socket.CMSG_SPACE(8 * array.array("i").itemsize)
        try:
            data, ancillary, _, _ = self._outward.recvmsg(_MOST, size, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
        except OSError:
            return
        for fd in descriptors_in(ancillary):
            self._engine.page["adopted"] += 1
            self._let_in(socket.socket(fileno=fd), data[len(_MARK) :])

    def _pause(self) -> None:
        """There are no descriptors left: the kernel keeps who waits."""
        for one in (*self._listening, self._outward):
            self._loop.remove_reader(one.fileno())
        self._taking = True
        self._loop.call_later(1.0, self._again)

    def _again(self) -> None:
        self._taking = False
        self._look_for_room()

    def _let_in(self, connection: socket.socket, head: bytes) -> None:
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._engine.comes += 1
        task = self._loop.create_task(self._connect(connection, head))
        self._coming.add(task)
        task.add_done_callback(self._coming.discard)

    async def _connect(self, connection: socket.socket, head: bytes) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: Connection(self._engine, head), connection)
        except OSError:
            connection.close()
        finally:
            self._engine.comes -= 1
            self._look_for_room()

    # --- refusing -----------------------------------------------------------------------------------------------------
    def _refuse_some(self) -> None:
        """No room here: of more than ``max_queue`` that wait the oldest are told so at once."""
        if not self._open or self._taking:
            return
        self._engine.stir()
        waiting = 0
        for one in self._listening:
            here = self._backlogs.waiting(one.fileno())
            waiting += here
            if here > self._max_queue and self._alone_at(one):
                here = self._backlogs.waiting(one.fileno())
                while here > self._max_queue and self._refuse(one):
                    here -= 1
                with suppress(OSError):
                    fcntl.lockf(one, fcntl.LOCK_UN)
        self._engine.page["queue"] = waiting
        self._loop.call_later(_LOOK, self._refuse_some)

    def _alone_at(self, listening: socket.socket) -> bool:
        """Whether no other worker is refusing there: together they would refuse more than are too many."""
        try:
            fcntl.lockf(listening, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a process's, so it goes with it, whatever becomes of it
        except OSError as error:
            return error.errno not in (errno.EAGAIN, errno.EACCES)
        return True

    def _refuse(self, listening: socket.socket) -> bool:
        try:
            connection, _ = listening.accept()
        except OSError:
            return False
        self._engine.page["refused"] += 1
        self._engine.page["status_5xx"] += 1
        with connection:
            connection.setblocking(False)
            try:
                connection.send(_REFUSAL)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # what is unread would make the close a reset, and the answer be lost
                    continue
            except OSError:
                pass
        return True

    # --- out ----------------------------------------------------------------------------------------------------------
    def close(self, *, alone: bool) -> None:
        """Let nobody in any longer, and give away who is between two requests; ``alone``: there is nobody to take them."""
        self._open, self._alone = False, self._alone or alone
        self._look_for_room()
        self._engine.leaving = True
        self.give_all()

    def give_all(self) -> None:
        """Give away all that are between two requests. Who was not, because something was still to be written, may be now."""
        for one in list(self._engine.connections):
            self._give(one)

    def _give(self, one: Open) -> None:
        """Let another worker go on with a connection, if this is a moment to."""
        if not self._engine.leaving or not one.between_requests:
            return
        if self._alone:
            one.transport.close()
            return
        fd = os.dup(one.transport.get_extra_info("socket").fileno())
        try:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
            self._inward.sendmsg([_MARK + one.head], [rights], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno in _FULL:
                self._loop.call_later(_RETRY, self._give, one)
            return
        finally:
            os.close(fd)
        self._engine.page["given"] += 1
        one.let_go()

    @property
    def empty(self) -> bool:
        """Whether nothing is left here."""
        engine = self._engine
        return not engine.state.connections and not engine.state.tasks and not self._coming

    def end_all(self) -> None:
        """What is left has had its time."""
        for one in list(self._engine.state.connections):
            self.closed += 1
            one.shutdown()
            if isinstance(one, Connection):
                one.transport.close()
        for task in list(self._engine.state.tasks):
            task.cancel()
