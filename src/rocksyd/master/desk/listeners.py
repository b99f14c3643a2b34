"""Listening sockets: made, taken over, taken from a service manager, given up.

What must live here: which socket is for which address; binding, and every way it can fail, with the cure.
What this file must not know: who is let in (``door``), what is said over connections.
"""

from __future__ import annotations

import _socket
import errno
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rocksyd import shelf_names
from rocksyd.config import Address
from rocksyd.config.address import MAX_UNIX_PATH
from rocksyd.errors import AddressError

BACKLOG = 4096
"""The kernel takes net.core.somaxconn if that is less (listen(2))."""
_FREEBIND_CURE = {
    errno.EADDRINUSE: "another program listens there: stop it, or change `listen`",
    errno.EADDRNOTAVAIL: "this machine has no such address: change `listen`",
    errno.EACCES: "the daemon's user may not: give it the right, or choose a port above 1023 or another folder",
    errno.ENOENT: "the folder does not exist: create it",
    errno.EAFNOSUPPORT: "this machine has no support for that kind of address: change `listen`",
}


STREAM, PACKETS = _socket.SOCK_STREAM, _socket.SOCK_SEQPACKET


def for_callers(address: Address) -> Address | None:
    """Where callers of ``rocksyd exec`` come, beside this address: none for a tcp one, or where the kernel has no room for it."""
    path = f"{address.path}.exec"
    if address.kind != "unix" or len(os.fsencode(path)) > MAX_UNIX_PATH:
        return None
    return Address("unix", path=path, mode=0o600)


def bind(address: Address, kind: int = STREAM) -> _socket.socket:
    """A new listening socket. Raises AddressError with the cause and the cure."""
    try:
        return _bind_unix(address, kind) if address.kind == "unix" else _bind_tcp(address)
    except OSError as error:
        cure = _FREEBIND_CURE.get(error.errno or 0, "see `listen` in rocksyd.toml")
        raise AddressError(f"cannot listen on {address}: {error.strerror or error}; {cure}") from error


def _bind_unix(address: Address, kind: int) -> _socket.socket:
    folder = os.path.dirname(address.path)
    os.makedirs(folder, exist_ok=True)
    _remove_stale(address, kind)
    socket = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_CLOEXEC)
    before = os.umask(0o777 & ~address.mode)
    try:
        socket.bind(address.path)
        os.chmod(address.path, address.mode)
        socket.listen(BACKLOG)
    except BaseException:
        socket.close()
        raise
    finally:
        os.umask(before)
    return socket


def _remove_stale(address: Address, kind: int) -> None:
    """Remove the socket of a daemon that is gone; one that answers, or another kind of file, is in the way for good."""
    try:
        if not stat.S_ISSOCK(os.stat(address.path).st_mode):
            raise AddressError(f"cannot listen on {address}: a file that is no socket is there; move it away, or change `listen`")
    except FileNotFoundError:
        return
    probe = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_CLOEXEC)
    try:
        probe.setblocking(False)
        probe.connect(address.path)
    except ConnectionRefusedError:
        os.unlink(address.path)
        return
    except BlockingIOError:
        pass  # its backlog is full: somebody is there
    finally:
        probe.close()
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _bind_tcp(address: Address) -> _socket.socket:
    try:
        found = _socket.getaddrinfo(address.host, address.port, 0, _socket.SOCK_STREAM, 0, _socket.AI_PASSIVE)
    except _socket.gaierror as error:
        raise AddressError(f"cannot listen on {address}: the host is not known ({error.strerror}); change `listen`") from error
    family, kind, protocol, _, where = found[0]
    socket = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, protocol)
    try:
        socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if family == _socket.AF_INET6:
            socket.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        socket.bind(where)
        socket.listen(BACKLOG)
    except BaseException:
        socket.close()
        raise
    return socket


def listen_at(address: Address) -> int:
    """The descriptor of a new socket that listens at an address. Raises AddressError."""
    return bind(address, STREAM).detach()


def view(fd: int, *, own: bool = False) -> _socket.socket:
    """A socket object for ``fd``: for a duplicate of it, unless it is to ``own`` the descriptor."""
    return _socket.socket(fileno=fd if own else os.dup(fd))


def local_address(socket: _socket.socket) -> Address:
    """The address a socket really has (for port 0, and for sockets a service manager passed)."""
    name = socket.getsockname()
    if isinstance(name, str | bytes):
        return Address("unix", path=os.fsdecode(name))
    return Address("tcp", host=name[0], port=name[1])


def known_as(socket: _socket.socket, address: Address) -> Address:
    """What clients know a socket by that was made for ``address``: where its port was left to the system, the one it got."""
    return local_address(socket) if address.kind == "tcp" and not address.port else address


def reached(fd: int, address: Address) -> Address:
    """What clients know the socket ``fd`` by, which was made for ``address``."""
    socket = view(fd)
    try:
        return known_as(socket, address)
    finally:
        socket.close()


def from_here(address: Address) -> Address:
    """Where this machine reaches what listens at ``address``: one for every interface is at the loopback one as well."""
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host)
    return address if loopback is None else replace(address, host=loopback)


def matches(socket: _socket.socket, address: Address) -> bool:
    """Whether a socket that was passed in is the one that ``address`` asks for."""
    real = local_address(socket)
    if real.kind != address.kind:
        return False
    if address.kind == "unix":
        return os.path.abspath(real.path) == address.path
    if real.port != address.port:
        return False
    wanted = {
        info[4][0] for info in _socket.getaddrinfo(address.host, address.port, 0, _socket.SOCK_STREAM, 0, _socket.AI_PASSIVE)
    }
    return real.host in wanted


def remove(address: Address) -> None:
    """Take a unix socket's file away, when nobody is to connect any more."""
    if address.kind == "unix":
        try:
            os.unlink(address.path)
        except OSError:
            return


def is_own(socket: _socket.socket) -> bool:
    """Whether the peer of a unix socket has the daemon's own user or is root."""
    return _credentials(socket)[1] in (0, os.geteuid())


def peer_of(socket: _socket.socket) -> str:
    """Who has connected: ``uid 1000, pid 4711`` of this machine, else ``HOST:PORT``. To ask for a name may take long."""
    pid, uid = _credentials(socket)
    if uid >= 0:
        return f"uid {uid}, pid {pid}"
    try:
        host, port, *_ = socket.getpeername()
    except (OSError, ValueError):
        return "a client that has gone"
    return f"{host}:{port}"


def user_of(socket: _socket.socket) -> str:
    """The user at the other end of a unix socket, by name or ``uid 1000``; of any other socket where it comes from."""
    _, uid = _credentials(socket)
    if uid < 0:
        return peer_of(socket)
    import pwd  # noqa: PLC0415  (a C module, and asked for by hand only)

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return f"uid {uid}"


def group_of(socket: _socket.socket) -> int:
    """The process group of the peer of a unix socket; 0 where nobody knows: over TCP, from another PID namespace, ended."""
    pid, _ = _credentials(socket)
    try:
        return os.getpgid(pid) if pid > 0 else 0
    except OSError:
        return 0


def _credentials(socket: _socket.socket) -> tuple[int, int]:
    """PID and user of the peer of a unix socket (SO_PEERCRED, unix(7)); -1 for any other."""
    try:
        pid, uid, _ = struct.unpack("3i", socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12))
    except OSError:
        return -1, -1
    return (pid, uid) if socket.family == _socket.AF_UNIX else (-1, -1)


class Sockets:
    """Listening sockets by their names on the shelf, whose descriptors are in ``shelf``."""

    def __init__(
        self, shelf: dict[str, int], listen: Sequence[Address] = (), companions: Iterable[tuple[str, Address]] = ()
    ) -> None:
        self._shelf = shelf
        self.for_clients = {shelf_names.listener(address): address for address in listen}
        self.for_callers = {shelf_names.listener(a): a for a in map(for_callers, listen) if a is not None}
        self.for_companions = dict(companions)
        self._wanted = {**self.for_clients, **self.for_callers, **self.for_companions}
        self.bound: list[Address] = []
        """Addresses that were not served before."""

    def provide(self) -> Iterator[str]:
        """Have a socket for every address; the names of those that have come to the shelf. Raises AddressError."""
        passed = [self._shelf[name] for name in shelf_names.passed_by_place(self._shelf)]
        for name, address in self._wanted.items():
            if name in self._shelf:
                continue
            found = next((fd for fd in passed if _is_for(fd, address)), None)
            if found is not None:
                self._shelf[name] = os.dup(found)
            else:
                kind = PACKETS if name in self.for_callers else STREAM
                self._shelf[name] = bind(address, kind).detach()
                self.bound.append(address)
            yield name

    def unused(self) -> list[str]:
        """Names of the sockets that the service manager has passed and no address asks for."""
        passed = shelf_names.passed_by_place(self._shelf)
        return sorted(n for n in passed if not any(_is_for(self._shelf[n], address) for address in self._wanted.values()))

    def known_as(self, name: str) -> Address:
        """What to connect to for this socket."""
        return from_here(reached(self._shelf[name], self._wanted[name]))

    def claim(self) -> Iterator[tuple[str, int, bool]]:
        """Take all from the shelf: name, descriptor, and whether it is ours and not one that the service manager has passed."""
        passed = {os.fstat(self._shelf[name]).st_ino for name in shelf_names.of(shelf_names.PASSED, self._shelf)}
        for name in shelf_names.of(shelf_names.LISTENER, self._shelf):
            fd = self._shelf.pop(name)
            yield name, fd, os.fstat(fd).st_ino not in passed

    def give_up(self) -> None:
        """Leave nothing behind of what is served by nobody."""
        for address in self.bound:
            remove(address)


def _is_for(fd: int, address: Address) -> bool:
    socket = view(fd)
    try:
        return matches(socket, address)
    finally:
        socket.close()
