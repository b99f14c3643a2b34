"""One blocking connection to a daemon: connect, send, receive, with a time limit each, and errors a person can act on.

What must live here: the socket.
What this file must not know: what is said over it.

``_socket`` and not ``socket``: the command line's fast path comes through here (``socket`` brings ``selectors`` and ``enum``).
"""

import _socket
import errno
import select
import time

from rocksyd.client.endpoint import Address
from rocksyd.errors import NoDaemon, RocksydError

CONNECT_TIMEOUT = 5.0
"""Seconds within which a connection must come about."""
_CHUNK = 1 << 18
LOOK_UP = 1.0
"""Seconds at most between two looks at signals: Python runs its handlers between instructions, so a Ctrl-C that comes just
before a system call begins is not heard before the call ends, which may be days later."""
_CURES = {
    errno.ENOENT: "start one with `rocksyd serve -c FILE`",
    errno.ECONNREFUSED: "start one with `rocksyd serve -c FILE`",
    errno.EACCES: "the socket is another user's; run this as the daemon's user, or loosen the mode of its address",
    errno.EPERM: "the socket is another user's; run this as the daemon's user, or loosen the mode of its address",
}


class ConnectionLost(RocksydError):
    """The connection ended before what was asked was answered; ask again on a new one."""


class DaemonSocket:
    """A connected socket. Not for several threads at once."""

    __slots__ = ("_early", "address", "socket")

    def __init__(self, address: Address, timeout: float = CONNECT_TIMEOUT) -> None:
        """Connect within ``timeout`` seconds. Raises NoDaemon."""
        self.address = address
        self.socket = _connect(address, timeout)
        self._early = b""
        """What arrived while something was being sent."""

    def send(self, data: bytes, timeout: "float | None" = None) -> None:
        """Send all of ``data``. Raises ConnectionLost; NoDaemon when the daemon does not read for ``timeout`` seconds.

        A daemon does not read from a client that does not read either, so answers are taken in while the rest has to wait.
        """
        self.socket.setblocking(False)
        rest = memoryview(data)
        try:
            while rest:
                try:
                    rest = rest[self.socket.send(rest) :]
                except BlockingIOError:
                    self._take_in(timeout)
        except OSError as error:
            # What the daemon said before it stopped reading, `receive` is to tell.
            if not self._early and not self._has_arrived():
                raise ConnectionLost(f"the connection to {self.address} was lost ({error.strerror})") from error

    def _take_in(self, timeout: "float | None") -> None:
        poll = select.poll()
        poll.register(self.socket.fileno(), select.POLLIN | select.POLLOUT)
        ready = poll.poll(None if timeout is None else timeout * 1000)
        if not ready:
            raise not_reading(self.address)
        if ready[0][1] & select.POLLIN:
            data = self.socket.recv(_CHUNK)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "the daemon closed it")
            self._early += data

    def receive(self, timeout: "float | None" = None) -> bytes:
        """What has arrived, at least a byte. Raises ConnectionLost; TimeoutError after ``timeout`` seconds."""
        if self._early:
            data, self._early = self._early, b""
            return data
        try:
            data = self._wait_for_data(timeout)
        except TimeoutError:
            raise
        except OSError as error:
            raise ConnectionLost(f"the connection to {self.address} was lost ({error.strerror})") from error
        if not data:
            raise ConnectionLost(f"the daemon at {self.address} closed the connection")
        return data

    def _wait_for_data(self, timeout: "float | None") -> bytes:
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LOOK_UP if end is None else min(end - time.monotonic(), LOOK_UP)
            self.socket.settimeout(max(left, 0.001))
            try:
                return self.socket.recv(_CHUNK)
            except TimeoutError:
                if end is not None and time.monotonic() >= end:
                    raise

    def is_quiet(self) -> bool:
        """Whether the connection stands and nothing has arrived that nobody asked for, such as its end."""
        return self._has_arrived() is None

    def _has_arrived(self) -> "bool | None":
        """Whether there is something to receive; false after the end, None as long as neither has come."""
        try:
            self.socket.setblocking(False)  # not MSG_DONTWAIT: with a time limit set, Python would wait for it first
            return bool(self.socket.recv(1, _socket.MSG_PEEK))
        except BlockingIOError:
            return None
        except OSError:
            return False

    def close(self) -> None:
        """Close the socket; more than once does no harm."""
        self.socket.close()


def not_reading(address: Address) -> NoDaemon:
    """The error for a daemon that takes nothing more from a connection."""
    return NoDaemon(f"the daemon at {address} does not read: it is stuck; see its log")


def no_daemon(address: Address, error: OSError) -> NoDaemon:
    """The error that says why nobody could be reached at ``address``, and what to do."""
    if isinstance(error, TimeoutError):
        return NoDaemon(f"the daemon at {address} does not accept connections in time: it is stuck or overloaded; see its log")
    cause = error.strerror or str(error)
    cure = _CURES.get(error.errno or 0, "check the address and the network")
    return NoDaemon(f"no daemon answers at {address} ({cause}): {cure}")


def _connect(address: Address, timeout: float) -> _socket.socket:
    deadline = time.monotonic() + timeout
    try:
        if address.kind == "unix":
            return _connect_unix(address.path, deadline)
        return _connect_tcp(address, deadline)
    except OSError as error:
        raise no_daemon(address, error) from error


def _connect_unix(path: str, deadline: float) -> _socket.socket:
    pause = 0.005
    while True:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            sock.connect(path)
        except BlockingIOError:
            # The backlog is full. With a time limit the socket is non-blocking, and unix(7) has no way to wait for a place.
            sock.close()
            if time.monotonic() + pause > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "the backlog is full") from None
            time.sleep(pause)
            pause = min(pause * 2, 0.1)
        except BaseException:
            sock.close()
            raise
        else:
            return sock


def _connect_tcp(address: Address, deadline: float) -> _socket.socket:
    """Try every address the name has, in the resolver's order."""
    failure: OSError = OSError(errno.EADDRNOTAVAIL, "the name has no address")
    for family, kind, proto, _, where in _socket.getaddrinfo(address.host, address.port, 0, _socket.SOCK_STREAM):
        sock = _socket.socket(family, kind, proto)
        try:
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            sock.connect(where)
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            # A wait may last for days; a daemon whose machine vanished would otherwise never be missed.
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure
