"""Clients: their connections, and what is owed to them.

What must live here: reading and writing fairly, closing without losing what was owed.
What this file must not know: how a connection comes in (``door``), what a request means (``classic``, ``rpc``).
"""

from __future__ import annotations

import _socket
import hmac
import math
import os
import select
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from rocksyd import shelf_names
from rocksyd.config import Address
from rocksyd.master.barrier import Stranger
from rocksyd.master.desk.listeners import is_own, local_address, peer_of
from rocksyd.master.desk.page import AUTHORISED, BusyPage
from rocksyd.master.turn import Turn
from rocksyd.posix.log import log
from rocksyd.posix.loop import Loop
from rocksyd.shelf_names import BUSY
from rocksyd.units import format_duration
from rocksyd.wire.connection import Connection

READ_SIZE = 65536
MOST_OWED = 256 * 1024
"""Bytes owed to a client beyond which none of its requests is served."""
MOST_AHEAD = 2 << 20
"""Bytes of requests that wait to be served, beyond which a client is not read from."""
LINGER = 2.0
"""Seconds that what a client still sends is read and dropped after the last word to it (else its kernel drops that word)."""
LINGER_BYTES = 8 << 20
GOODBYE = 1.0
"""Seconds that a daemon which is about to end waits for clients to take what they are owed."""
_IN, _OUT, _HUP, _ERR = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP, select.EPOLLERR
Slot = list[bytes | None]


class Client(Stranger):
    """One connection. Plain attributes: the manager and the commands work on them."""

    __slots__ = (
        "address", "ahead", "authorised", "batches", "closing", "connection", "eof", "fd", "held", "inode", "linger_until",
        "lingered", "mask", "name", "number", "out", "owner", "parts", "progress_at", "prove_by", "shelved", "slot", "slots",
        "socket", "trusted", "waits",
    )  # fmt: skip

    def __init__(self, owner: Clients, socket: _socket.socket, number: int, slot: int, address: str) -> None:
        self.owner = owner
        self.socket = socket
        self.fd = socket.fileno()
        self.number = number
        self.slot = slot
        self.name = shelf_names.connection(number, slot)
        """On the shelf."""
        self.address = address
        self.connection = Connection(max_line=owner.config.max_line)
        self.ahead = 0
        """Bytes read since there was last no request waiting in the buffer: at least what waits there now."""
        self.out = bytearray()
        self.slots: deque[Slot] = deque()
        """Replies owed in order; None where one is not known yet."""
        self.batches: dict[int, list[Any]] = {}
        """JSON-RPC batches not complete: number -> [replies missing, replies]."""
        self.parts: deque[tuple[int, Any]] = deque()
        """What is left to be served of a batch, with the batch's number: a turn serves only so much of one."""
        self.waits = 0
        """Requests that are answered some time later, out of order (JSON-RPC)."""
        self.held = False
        """Whether the next request has to wait for the reply to the last one (an order to restart)."""
        self.closing = False
        self.eof = False
        self.mask = _IN
        self.shelved = False
        self.inode = 0
        """What its descriptor must still be after a hand-over; set when it goes on the shelf."""
        self.authorised = True
        self.prove_by = 0.0
        """CLOCK_MONOTONIC seconds until which it must have shown the token; of no meaning when it has."""
        self.trusted = True
        """Whether it may give orders to the daemon itself."""
        self.progress_at = 0.0
        self.linger_until = 0.0
        self.lingered = 0

    @property
    def quiet(self) -> bool:
        """Whether a hand-over has nothing to tell of it but its name: so it is with nearly all of ten thousand."""
        return self.authorised and not (
            self.out or self.waits or self.held or self.closing or self.eof or self.linger_until or self.batches
        ) and self.connection.untouched  # fmt: skip

    kind = "client"

    def __str__(self) -> str:
        return f"client {self.number} ({self.address})"

    def handle(self, events: int) -> None:
        """What epoll says."""
        self.owner.on_events(self, events)

    def broken(self, reason: str) -> None:
        """Its turn has raised what nobody expected: it does not get another."""
        self.owner.close(self)

    @property
    def pressing(self) -> bool:
        """Whether there is something to serve for it now."""
        return bool((self.connection.has_line or self.parts) and not self.held)

    @property
    def may_be_read(self) -> bool:
        """Whether more is read: what of a flood does not fit waits in the client's own buffers, not in ours."""
        if self.eof or self.held or self.linger_until:
            return False
        return self.ahead < MOST_AHEAD or not self.connection.has_line

    @property
    def deadline(self) -> float:
        """CLOCK_MONOTONIC seconds until which it is awaited to take what it is owed, to close, to show the token."""
        until = self.linger_until or (self.progress_at + self.owner.config.write_timeout if self.progress_at else math.inf)
        return until if self.authorised else min(until, self.prove_by)

    def want(self, mask: int) -> None:
        """Wait for these events of its socket from now on."""
        if mask != self.mask and self.number in self.owner.by_number:
            self.mask = mask
            self.owner.loop.modify(self.fd, mask)

    def show_token(self, shown: str) -> bool:
        """Whether ``shown`` is the token. A client that shows a wrong one is no longer listened to."""
        token = self.owner.token
        if token is None or hmac.compare_digest(token.encode(), shown.encode("utf-8", "surrogatepass")):
            self.authorised = True
            if not self.progress_at:
                self.owner.awaited.discard(self)
            return True
        self.closing = True
        self.connection.end()
        return False

    # --- what is owed -------------------------------------------------------------------------------------------------
    def reserve(self) -> Slot:
        """A place in the order of replies, to be filled later."""
        slot: Slot = [None]
        self.slots.append(slot)
        return slot

    def fill(self, slot: Slot, data: bytes) -> None:
        """Fill a place; everything that is complete up to the next empty place goes out."""
        slot[0] = data
        slots = self.slots
        while slots and slots[0][0] is not None:
            self.out += slots.popleft()[0] or b""
        self.owner.dirty.add(self)

    def reply(self, data: bytes) -> None:
        """The next reply in the order of requests."""
        if self.slots:
            self.slots.append([data])
        else:
            self.out += data
            self.owner.dirty.add(self)

    def send(self, data: bytes) -> None:
        """A reply or notification that carries its own id: in no order."""
        self.out += data
        self.owner.dirty.add(self)


class Clients:
    """All connections of the daemon."""

    def __init__(self, turn: Turn, loop: Loop) -> None:
        self.config = turn.engine.config
        """What of it counts here does not change with a reload."""
        self.loop = loop
        self._barrier = turn.barrier
        self.page = BusyPage()
        self.serve_requests: Callable[[Client, int], None] = lambda client, budget: None
        """Serves requests from a client's buffer, as many as the budget allows (``classic``)."""
        self.token: str | None = None
        """What a client that must prove itself has to show."""
        self.by_number: dict[int, Client] = {}
        self.dirty: set[Client] = set()
        """Clients that are owed something new."""
        self.waiting: dict[Client, None] = {}
        """Clients with requests in their buffer that this turn did not get to."""
        self.awaited: set[Client] = set()
        """Clients that have a ``deadline``."""
        self.accepted = 0
        self.dropped = 0
        self._number = 0
        self.listening: Mapping[int, int] = {}
        """Numbers of clients that more will be said to unasked. They count as busy: a new master would not know of them."""
        self.came: list[Callable[[Client], None]] = []
        """Told of every client that has come in."""
        self.gone: list[Callable[[Client], None]] = []
        """Told of every client that is closed."""
        turn.due(self.next_deadline, self.on_time)

    # --- coming and going ---------------------------------------------------------------------------------------------
    def take(self, socket: _socket.socket, address: Address) -> None:
        """Take in a connection that came to this address."""
        client = self._begin(socket, (self._number + 1, self.page.take()), address)
        self.accepted += 1
        client.authorised = address.kind == "unix" or self.config.auth == "none"
        self.page.of[client.slot] = AUTHORISED * client.authorised
        if not client.authorised:
            self.await_token(client)
        for tell in self.came:
            tell(client)

    def adopt(self, name: str, fd: int) -> None:
        """Take over a connection from the shelf, without reading from it yet."""
        socket = _socket.socket(fileno=fd)
        client = self._begin(socket, shelf_names.connection_of(name), local_address(socket))
        client.shelved = True
        client.inode = os.fstat(fd).st_ino

    def _begin(self, socket: _socket.socket, named: tuple[int, int], address: Address) -> Client:
        socket.setblocking(False)
        client = Client(self, socket, *named, str(address))
        if address.kind == "tcp":
            socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)  # a peer that has vanished is noticed
        else:
            client.trusted = is_own(socket)
        self._number = max(self._number, client.number)
        self.by_number[client.number] = client
        self.loop.register(client.fd, client, client.mask)
        return client

    def await_token(self, client: Client) -> None:
        """Close this client unless it shows the token in time."""
        client.prove_by = time.monotonic() + self.config.auth_timeout
        self.awaited.add(client)

    def discard(self, name: str) -> None:
        """Forget a connection that was taken over, and that the serving master has ended since."""
        client = self.by_number.pop(shelf_names.connection_of(name)[0], None)
        if client is not None:
            self.loop.unregister(client.fd)
            client.socket.close()

    def close(self, client: Client) -> None:
        """End a connection now. ``shutdown`` as well: a duplicate on the shelf would keep it alive."""
        if self.by_number.pop(client.number, None) is None:
            return
        self.loop.unregister(client.fd)
        try:
            client.socket.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass
        client.socket.close()
        self.waiting.pop(client, None)
        self.dirty.discard(client)
        self.awaited.discard(client)
        self.page.give_back(client.slot)
        for tell in self.gone:
            tell(client)

    # --- reading ------------------------------------------------------------------------------------------------------
    def on_events(self, client: Client, events: int) -> None:
        """Read, serve, write: one client's share of a turn."""
        if events & _IN:
            self._read(client)
        elif events & (_HUP | _ERR):
            return self.close(client)
        if events & _OUT and client.number in self.by_number:
            self.flush(client)
        return None

    def _read(self, client: Client) -> None:
        self.page.of[client.slot] |= BUSY
        try:
            data = client.socket.recv(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return self.close(client)
        if client.linger_until:
            client.lingered += len(data)
            return self.close(client) if not data or client.lingered > LINGER_BYTES else None
        if not data:
            client.eof = True
            client.want(client.mask & ~_IN)
        else:
            client.ahead = len(data) + (client.ahead if client.connection.has_line else 0)
            client.connection.receive_data(data)
        return self.serve(client)

    def serve(self, client: Client) -> None:
        """Serve requests from the client's buffer, a bounded part of them, then send."""
        if len(client.out) < MOST_OWED:
            self.serve_requests(client, 256)
            if client.pressing:
                self.waiting[client] = None
        self.flush(client)

    def serve_waiting(self) -> None:
        """The next part for everybody the last turn did not finish."""
        for client in list(self.waiting):
            del self.waiting[client]
            if client.number in self.by_number:
                try:
                    self.serve(client)
                except Exception as error:  # noqa: BLE001  (the barrier)
                    self._barrier.stop(client, error)

    # --- writing ------------------------------------------------------------------------------------------------------
    def send_owed(self) -> None:
        """Send whatever has become owed since the last time."""
        while self.dirty:
            client = next(iter(self.dirty))
            try:
                self.flush(client)
            except Exception as error:  # noqa: BLE001  (the barrier)
                self.dirty.discard(client)
                self._barrier.stop(client, error)

    def broken(self, number: int, error: Exception) -> None:
        """What was to be said to this client has raised what nobody expected; it may have gone."""
        client = self.by_number.get(number)
        if client is not None:
            self._barrier.stop(client, error)
        else:
            self._barrier.note("client", f"client {number}, which has gone", error)

    def flush(self, client: Client) -> None:
        """Send what is owed as far as the client takes it, and settle what to wait for next."""
        self.dirty.discard(client)
        if client.number not in self.by_number:
            return None
        if client.out:
            try:
                sent = client.socket.send(client.out, _socket.MSG_NOSIGNAL)
                del client.out[:sent]
                client.progress_at = 0.0
            except BlockingIOError:
                pass
            except OSError:
                return self.close(client)
        return self._settle(client)

    def _settle(self, client: Client) -> None:
        connection = client.connection
        if client.out:
            if not client.progress_at:
                client.progress_at = time.monotonic()
                self.awaited.add(client)
            return client.want(_OUT | (_IN if client.may_be_read else 0))
        if client in self.awaited and client.authorised and not client.linger_until:
            self.awaited.discard(client)
        if client.pressing:
            self.waiting[client] = None
        owes = client.slots or client.waits or client.held or client.batches or client in self.waiting
        if (connection.closed or client.closing or client.eof) and not owes:
            return self._last_word(client)
        client.want(_IN if client.may_be_read else 0)
        if not owes and not connection.buffered and client.number not in self.listening:
            self.page.of[client.slot] = AUTHORISED * client.authorised
        return None

    def _last_word(self, client: Client) -> None:
        """All is sent. A client that may still be sending is read from a little longer, so that it gets to read our word."""
        if client.eof:
            return self.close(client)
        client.linger_until = time.monotonic() + LINGER
        client.closing = True
        try:
            client.socket.shutdown(_socket.SHUT_WR)
        except OSError:
            return self.close(client)
        self.awaited.add(client)
        return client.want(_IN)

    def say_goodbye(self) -> None:
        """Give everybody what they are owed, as far as they take it within ``GOODBYE`` seconds in all, and close."""
        until = time.monotonic() + GOODBYE
        for client in list(self.by_number.values()):
            self.flush(client)
        while (owed := [c for c in self.by_number.values() if c.out]) and (left := until - time.monotonic()) > 0:
            poll = select.poll()
            by_fd = {client.fd: client for client in owed}
            for fd in by_fd:
                poll.register(fd, select.POLLOUT)
            for fd, _ in poll.poll(left * 1000):
                self.flush(by_fd[fd])
        for client in list(self.by_number.values()):
            self.close(client)

    # --- time ---------------------------------------------------------------------------------------------------------
    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which the first client has been awaited long enough; None for never."""
        return min((client.deadline for client in self.awaited), default=None)

    def on_time(self, now: float) -> None:
        """End those who have been awaited long enough."""
        for client in list(self.awaited):
            try:
                if now >= client.deadline:
                    self._late(client, now)
            except Exception as error:  # noqa: BLE001  (the barrier: the moments of others are still to come)
                self._barrier.stop(client, error)

    def _late(self, client: Client, now: float) -> None:
        if not client.authorised and now >= client.prove_by:
            why = f"did not show the token within {format_duration(self.config.auth_timeout)}"
        elif client.linger_until:
            return self.close(client)
        else:
            why = f"did not read for {format_duration(self.config.write_timeout)}"
        self.dropped += 1
        log("master", f"{client} {why}: dropped")
        return self.close(client)


def who(clients: Clients, number: int) -> str:
    """Who a client is (``listeners.peer_of``)."""
    client = clients.by_number.get(number)
    return peer_of(client.socket) if client is not None else "a client that has gone"
