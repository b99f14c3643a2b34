"""Clients: their sockets, what is owed to them, and the page that says who was in the middle of something.

What must live here: accepting, reading and writing fairly, closing without losing what was owed.
What this file must not know: what a request means (``commands``).

A connection's byte in the ``busy`` page is set before the first byte of a request is read and cleared when all is answered
and sent: after a crash a quiet connection simply goes on, a busy one is closed, so that no client is left out of step.
"""

from __future__ import annotations

import _socket
import errno
import hmac
import mmap
import os
import resource
import select
import struct
import time
from collections import deque
from collections.abc import Callable, Container
from typing import Any

from rocksyd.config import Address, Config
from rocksyd.master.listeners import local_address
from rocksyd.posix.log import log
from rocksyd.wire.connection import Connection

BUSY, AUTHORISED = 1, 2
SLOTS = 65536
READ_SIZE = 65536
MOST_OWED = 256 * 1024
"""Bytes owed to a client beyond which none of its requests is served."""
MOST_AHEAD = 2 << 20
"""Bytes of requests that wait to be served, beyond which a client is not read from."""
SHELVE_AFTER = 0.05
"""Seconds a connection lives before it costs the keeper a message."""
LINGER = 2.0
"""Seconds that what a client still sends is read and dropped after the last word to it (else its kernel drops that word)."""
LINGER_BYTES = 8 << 20
GOODBYE = 1.0
"""Seconds that a daemon which is about to end waits for clients to take what they are owed."""
OTHER_FILES = 64
"""Descriptors that are neither a client's nor a worker's, at most."""
FEWEST = 16
"""Connections that are accepted whatever the limit of open files."""
TRY_AGAIN_AFTER = 1.0
"""Seconds after which it is tried to accept again when the system, not the configuration, had no room."""
TOLD_EVERY = 60.0
"""Seconds between two lines in the log about connections that have to wait."""

_IN, _OUT, _HUP, _ERR = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP, select.EPOLLERR
_GONE = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)

Slot = list[bytes | None]


class Client:
    """One connection. Plain attributes: the manager and the commands work on them."""

    __slots__ = (
        "address", "ahead", "authorised", "batches", "closing", "connection", "eof", "fd", "held", "inode", "linger_until",
        "lingered", "mask", "name", "number", "out", "owner", "progress_at", "prove_by", "shelved", "slot", "slots", "socket",
        "trusted",
        "waits",
    )  # fmt: skip

    def __init__(self, owner: Clients, socket: _socket.socket, number: int, slot: int, address: str) -> None:
        self.owner = owner
        self.socket = socket
        self.fd = socket.fileno()
        self.number = number
        self.slot = slot
        self.name = f"conn:{number}:{slot}"
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

    def handle(self, events: int) -> None:
        """What epoll says."""
        self.owner.on_events(self, events)

    def show_token(self, token: str | None, shown: str) -> bool:
        """Whether ``shown`` is the token. Who shows a wrong one is not listened to any more."""
        if token is None or hmac.compare_digest(token.encode(), shown.encode("utf-8", "surrogatepass")):
            self.authorised = True
            self.owner.strangers.discard(self)
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

    def __init__(self, config: Config, serve: Callable[[Client, int], None], register: Any) -> None:
        self.configure(config)
        self._serve = serve
        self._loop = register
        self.by_number: dict[int, Client] = {}
        self.listeners: dict[str, Listener] = {}
        self.dirty: set[Client] = set()
        self.waiting: dict[Client, None] = {}
        """Clients with requests in their buffer that this turn did not get to."""
        self.unshelved: dict[Client, None] = {}
        self.shelve_at = 0.0
        self.stuck: set[Client] = set()
        """Clients that do not take what they are owed, and those that are lingering."""
        self.strangers: set[Client] = set()
        """Clients that have not shown the token yet, and must."""
        self.closed_names: list[str] = []
        self.accepted = 0
        self.dropped = 0
        self.paused = False
        self.accept_at = 0.0
        """When to try again to accept; 0 when the end of a connection is waited for, or nothing is."""
        self._told_at = 0.0
        self._aside = 0
        self._number = 0
        self._free: list[int] = []
        self._next_slot = 0
        self.page_fd = -1
        self.page: mmap.mmap | bytearray = bytearray(SLOTS)
        self.listening: Container[int] = ()
        """Numbers of clients that more will be said to unasked. They count as busy: a new master would not know of them."""
        self.gone: Callable[[Client], None] = lambda client: None
        """Told of every client that is closed."""

    def configure(self, config: Config) -> None:
        """Take other settings."""
        self.config = config
        self.limit = limit_of(config)

    # --- the busy page ------------------------------------------------------------------------------------------------
    def use_page(self, fd: int) -> None:
        """Share the page in the memfd ``fd``."""
        self.page_fd = fd
        self.page = mmap.mmap(fd, SLOTS)

    @staticmethod
    def new_page() -> int:
        """A memfd for the page."""
        fd = os.memfd_create("rocksyd-busy", os.MFD_CLOEXEC)
        os.ftruncate(fd, SLOTS)
        return fd

    def _mark(self, client: Client, busy: int) -> None:
        self.page[client.slot] = busy | (AUTHORISED if client.authorised else 0)

    # --- coming and going ---------------------------------------------------------------------------------------------
    def listen(self, name: str, listener: Listener) -> None:
        """Accept from this socket from now on."""
        self.listeners[name] = listener
        self._loop.register(listener.fd, listener, _IN)

    def unlisten(self, name: str) -> Listener:
        """Accept no more from this socket; the caller closes it."""
        listener = self.listeners.pop(name)
        if not self.paused:
            self._loop.unregister(listener.fd)
        return listener

    def pause(self, why: str) -> None:
        """Accept nobody until a connection has gone: the kernel's backlog holds them."""
        if not self.paused:
            self.paused = True
            now = time.monotonic()
            if not self._told_at or now >= self._told_at + TOLD_EVERY:
                self._told_at = now
                log("master", f"no more connections are accepted until one is closed: {why}")
            for listener in self.listeners.values():
                self._loop.unregister(listener.fd)

    def resume(self) -> None:
        """Accept again."""
        self.accept_at = 0.0
        if self.paused and len(self.by_number) + self._aside < self.limit:
            self.paused = False
            for listener in self.listeners.values():
                self._loop.register(listener.fd, listener, _IN)

    def accept(self, listener: Listener, most: int = 64) -> None:
        """Take in up to ``most`` of those that wait."""
        for _ in range(most):
            if self.is_full():
                return
            try:
                fd, _ = listener.socket._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as error:
                if self.has_no_room(error):
                    return
                continue
            os.set_inheritable(fd, False)
            self._take(_socket.socket(fileno=fd), listener)
        return

    def is_full(self) -> bool:
        """Whether nobody more can be accepted now; then nobody is, until there is room."""
        full = len(self.by_number) + self._aside >= self.limit
        if full:
            self.pause(f"there are {len(self.by_number)} ({self.why_limited})")
        return full

    def has_no_room(self, error: OSError) -> bool:
        """Whether accepting failed because the system has no room; then it is tried again a little later."""
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            return False
        self.accept_at = time.monotonic() + TRY_AGAIN_AFTER
        self.pause(f"{error.strerror}: raise the limit of open files (LimitNOFILE=, ulimit -n)")
        return True

    def set_aside(self, files: int) -> None:
        """So many of the files there may be are callers' of ``rocksyd exec``."""
        self._aside = files
        if self.paused and not self.accept_at:
            self.resume()

    @property
    def why_limited(self) -> str:
        """What ``limit`` comes from."""
        if self.limit == self.config.max_connections:
            return "max_connections"
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"{files} files may be open, max_connections is {self.config.max_connections}: raise LimitNOFILE= or ulimit -n"

    def _take(self, socket: _socket.socket, listener: Listener) -> None:
        self._number += 1
        client = Client(self, socket, self._number, self._slot(), str(listener.address))
        self.accepted += 1
        self._begin(client, listener.address)
        if not self.shelve_at:
            self.shelve_at = time.monotonic() + SHELVE_AFTER
        self.unshelved[client] = None
        client.authorised = listener.address.kind == "unix" or self.config.auth == "none"
        if not client.authorised:
            self._await_token(client)
        self._mark(client, 0)

    def _await_token(self, client: Client) -> None:
        client.prove_by = time.monotonic() + self.config.auth_timeout
        self.strangers.add(client)

    def _begin(self, client: Client, address: Address) -> None:
        client.socket.setblocking(False)
        if address.kind == "tcp":
            client.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            client.socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)  # a peer that has vanished is noticed
        else:
            client.trusted = is_own(client.socket)
        self.by_number[client.number] = client
        self._loop.register(client.fd, client, client.mask)

    def adopt(self, name: str, fd: int) -> Client:
        """Take over a connection from the shelf, without reading from it yet."""
        _, number, slot = name.split(":")
        socket = _socket.socket(fileno=fd)
        address = local_address(socket)
        client = Client(self, socket, int(number), int(slot), str(address))
        client.shelved = True
        client.inode = os.fstat(fd).st_ino
        self._number = max(self._number, client.number)
        self._begin(client, address)
        return client

    def discard(self, name: str) -> None:
        """Forget a connection that was taken over, and that the serving master has ended since."""
        client = self.by_number.pop(int(name.split(":")[1]), None)
        if client is not None:
            self._loop.unregister(client.fd)
            client.socket.close()

    def adopted_all(self) -> None:
        """Every connection has been taken over: the other slots of the page are free, and who is authorised stands in it."""
        used = set()
        for client in self.by_number.values():
            used.add(client.slot)
            client.authorised = self.page[client.slot] & AUTHORISED != 0
            if not client.authorised:
                self._await_token(client)  # a hand-over says until when, a crash does not
        self._next_slot = max(used, default=-1) + 1
        self._free = [slot for slot in range(self._next_slot) if slot not in used]

    def _slot(self) -> int:
        if self._free:
            return self._free.pop()
        self._next_slot += 1
        return self._next_slot - 1

    def close(self, client: Client) -> None:
        """End a connection now. ``shutdown`` as well: a duplicate on the shelf would keep it alive."""
        if self.by_number.pop(client.number, None) is None:
            return
        self._loop.unregister(client.fd)
        try:
            client.socket.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass
        client.socket.close()
        if client.shelved:
            self.closed_names.append(client.name)
        self.unshelved.pop(client, None)
        self.waiting.pop(client, None)
        self.dirty.discard(client)
        self.stuck.discard(client)
        self.strangers.discard(client)
        self.page[client.slot] = 0
        self._free.append(client.slot)
        self.gone(client)
        if self.paused:
            self.resume()

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
        self.page[client.slot] |= BUSY
        try:
            data = client.socket.recv(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return self.close(client)
        if client.linger_until:
            return self._linger(client, data)
        if not data:
            client.eof = True
            self._want(client, client.mask & ~_IN)
        else:
            client.ahead = len(data) + (client.ahead if client.connection.has_line else 0)
            client.connection.receive_data(data)
        return self.serve(client)

    def serve(self, client: Client) -> None:
        """Serve requests from the client's buffer, a bounded part of them, then send."""
        if len(client.out) < MOST_OWED:
            self._serve(client, 256)
            if client.connection.has_line and not client.held:
                self.waiting[client] = None
        self.flush(client)

    def serve_waiting(self) -> None:
        """The next part for everybody the last turn did not finish."""
        for client in list(self.waiting):
            del self.waiting[client]
            if client.number in self.by_number:
                self.serve(client)

    def release(self, client: Client) -> None:
        """The reply that held the client's requests up is there."""
        client.held = False
        if client.connection.has_line:
            self.waiting[client] = None

    # --- writing ------------------------------------------------------------------------------------------------------
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
                self.stuck.add(client)
            return self._want(client, _OUT | (_IN if self._may_read(client) else 0))
        if client in self.stuck and not client.linger_until:
            self.stuck.discard(client)
        if connection.has_line and not client.held:
            self.waiting[client] = None
        owes = client.slots or client.waits or client.held or client.batches or client in self.waiting
        if (connection.closed or client.closing or client.eof) and not owes:
            return self._last_word(client)
        self._want(client, _IN if self._may_read(client) else 0)
        if not owes and not connection.buffered and client.number not in self.listening:
            self._mark(client, 0)
        return None

    @staticmethod
    def _may_read(client: Client) -> bool:
        """Whether more is read: what of a flood does not fit waits in the client's own buffers, not in ours."""
        if client.eof or client.held or client.linger_until:
            return False
        return client.ahead < MOST_AHEAD or not client.connection.has_line

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
        self.stuck.add(client)
        return self._want(client, _IN)

    def _linger(self, client: Client, data: bytes) -> None:
        client.lingered += len(data)
        if not data or client.lingered > LINGER_BYTES:
            self.close(client)

    def _want(self, client: Client, mask: int) -> None:
        if mask != client.mask and client.number in self.by_number:
            client.mask = mask
            self._loop.modify(client.fd, mask)

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
        """CLOCK_MONOTONIC seconds of the next thing to do without an event; None for never."""
        moments = [moment for moment in (self.shelve_at, self.accept_at) if moment]
        moments += [client.prove_by for client in self.strangers]
        for client in self.stuck:
            moments.append(client.linger_until or client.progress_at + self.config.write_timeout)
        return min(moments, default=None)

    def on_time(self, now: float) -> None:
        """Drop who does not read, close who has lingered, try again to accept."""
        if self.accept_at and now >= self.accept_at:
            self.resume()
        for client in [stranger for stranger in self.strangers if now >= stranger.prove_by]:
            self._drop(client, f"did not show the token within {self.config.auth_timeout:g} s")
        for client in list(self.stuck):
            if client.linger_until:
                if now >= client.linger_until:
                    self.close(client)
            elif client.progress_at and now >= client.progress_at + self.config.write_timeout:
                self._drop(client, f"did not read for {self.config.write_timeout:g} s")

    def _drop(self, client: Client, why: str) -> None:
        self.dropped += 1
        log("master", f"client {client.number} ({client.address}) {why}: dropped")
        self.close(client)

    def not_shelved(self, name: str) -> None:
        """The keeper has no room for this connection: it travels with the snapshot, and is tried again with the next one's."""
        client = self.by_number.get(int(name.split(":")[1]))
        if client is not None:
            client.shelved = False
            self.unshelved[client] = None

    def to_shelve(self, now: float) -> list[Client]:
        """Those that have lived long enough to be put on the shelf."""
        if not self.shelve_at or now < self.shelve_at:
            return []
        self.shelve_at = 0.0
        clients, self.unshelved = list(self.unshelved), {}
        for client in clients:
            client.shelved = True
            client.inode = os.fstat(client.fd).st_ino
        return clients


def limit_of(config: Config) -> int:
    """Connections there may be: ``max_connections``, or fewer where the limit of open files leaves no room for so many.

    Keeper and master hold a descriptor for every connection. Without one to spare neither could restart nor even be told
    of a worker, so the limit is not found out by running into it.
    """
    most = min(config.max_connections, SLOTS)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return most
    workers = sum(2 * pool.max_workers for app in config.apps.values() for pool in app.every_pool().values())
    return min(most, max(FEWEST, files - OTHER_FILES - workers - 4 * len(config.apps)))


class Listener:
    """A listening socket."""

    def __init__(
        self, socket: _socket.socket, address: Address, accept: Callable[[Listener], None], *, ours: bool = True
    ) -> None:
        socket.setblocking(False)
        self.socket = socket
        self.fd = socket.fileno()
        self.address = address
        self.ours = ours
        """False for one that a service manager passed: it goes on listening when we stop, and a unix socket's file is its own."""
        self.for_callers = socket.type == _socket.SOCK_SEQPACKET
        """Whether callers of ``rocksyd exec`` come here."""
        self._accept = accept

    def handle(self, events: int) -> None:
        """What epoll says."""
        self._accept(self)


def is_own(socket: _socket.socket) -> bool:
    """Whether the peer of a unix socket has the daemon's own user or is root (SO_PEERCRED, unix(7))."""
    try:
        _, uid, _ = struct.unpack("3i", socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12))
    except OSError:
        return False
    return uid in (0, os.geteuid())
