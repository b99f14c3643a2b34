"""Listening sockets: made, taken over, taken from a service manager, given up.

What must live here: binding, and every way it can fail, with the cure.
What this file must not know: what is said over connections.
"""

from __future__ import annotations

import _socket
import errno
import os
import stat

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
