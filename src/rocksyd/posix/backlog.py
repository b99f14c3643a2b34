"""How many connections wait to be accepted at a listening socket.

What must live here: the two ways to ask the kernel. What this file must not know: what is done about it.

For TCP it is in TCP_INFO (tcpi_unacked of a listening socket, net/ipv4/tcp.c ``tcp_get_info``). For unix sockets it is told by
sock_diag(7) alone: UDIAG_SHOW_RQLEN, whose ``udiag_rqueue`` is the length of a listener's queue.
"""

from __future__ import annotations

import _socket
import os
import struct

_TCP_INFO_UNACKED = 24
_SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, _NETLINK_SOCK_DIAG = 20, 1, 4
_LISTEN_STATE, _SHOW_RQLEN, _RQLEN = 1 << 10, 0x10, 4
_REQUEST = struct.Struct("=IHHII BBHIII II")
_ANY = 0xFFFFFFFF


class Backlogs:
    """Asks for several sockets, over one netlink socket that is opened when it is first needed."""

    def __init__(self) -> None:
        self._netlink: _socket.socket | None = None

    def waiting(self, fd: int) -> int:
        """Connections that wait at this listening socket; 0 where nobody can tell."""
        socket = _socket.socket(fileno=os.dup(fd))
        try:
            if socket.family == _socket.AF_UNIX:
                return self._unix(os.fstat(fd).st_ino)
            info = socket.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, 104)
            return int(struct.unpack_from("=I", info, _TCP_INFO_UNACKED)[0])
        except (OSError, struct.error):
            return 0
        finally:
            socket.close()

    def _unix(self, inode: int) -> int:
        if self._netlink is None:
            kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
            self._netlink = _socket.socket(_socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG)
        request = _REQUEST.pack(
            _REQUEST.size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0,
            _socket.AF_UNIX, 0, 0, _LISTEN_STATE, inode & _ANY, _SHOW_RQLEN, _ANY, _ANY,
        )  # fmt: skip
        self._netlink.send(request)
        reply = self._netlink.recv(8192)
        size, kind = struct.unpack_from("=IH", reply)
        if kind != _SOCK_DIAG_BY_FAMILY:
            return 0
        at = 16 + 16
        while at + 4 <= size:
            length, name = struct.unpack_from("=HH", reply, at)
            if name == _RQLEN:
                return int(struct.unpack_from("=I", reply, at + 4)[0])
            at += max(4, (length + 3) & ~3)
        return 0

    def close(self) -> None:
        """Close the netlink socket."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None
