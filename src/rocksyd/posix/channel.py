"""A channel: messages and descriptors between two of rocksyd's processes, over one ``SOCK_SEQPACKET`` socket.

What must live here: datagrams, ``SCM_RIGHTS``, the memfd for what is too large for a datagram, the outbox.
What this file must not know: what any message means.

Sources: unix(7) (SCM_RIGHTS: at most SCM_MAX_FD = 253 descriptors a datagram; ETOOMANYREFS), memfd_create(2).
"""

from __future__ import annotations

import _socket
import array
import errno
import os
from collections import deque

from rocksyd import messages
from rocksyd.errors import ChannelClosed, DescriptorsLost, MessageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_FDS = 253
"""Descriptors the kernel takes in one datagram (SCM_MAX_FD)."""
MAX_INLINE = 128 * 1024
"""Bytes of a message that go into the datagram itself; a larger one travels in a memfd."""
MAX_BODY = 256 << 20
"""Bytes of a message in a memfd that are taken from a process that runs an application's code, which may say anything."""

_buffer = memoryview(bytearray(MAX_INLINE + 1))
"""Where every datagram is received: memory for the largest, asked for each time, costs more than the system call itself."""
_ANCILLARY = _socket.CMSG_SPACE(MAX_FDS * 4)
_SEND_FLAGS = _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT
_RECEIVE_FLAGS = _socket.MSG_CMSG_CLOEXEC | _socket.MSG_DONTWAIT
_FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS)


def pair() -> tuple[_socket.socket, _socket.socket]:
    """Two connected non-inheritable SEQPACKET sockets with room for bursts."""
    ends = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
    for end in ends:
        end.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, 1 << 20)
    return ends


class Channel:
    """One end. ``send`` never blocks: what the kernel does not take now waits in the outbox until ``flush``.

    The descriptors of a message in the outbox are duplicated, so the caller may close its own at once.
    """

    __slots__ = ("_blocking", "_max_body", "_outbox", "_takes", "heard", "socket")

    def __init__(self, socket: _socket.socket, max_body: int = MAX_BODY, *, takes_descriptors: bool = True) -> None:
        socket.setblocking(False)
        self.socket = socket
        self._max_body = max_body
        self._takes = takes_descriptors
        """Whether what is heard may bring any. Those of a process that has none to give are closed, whatever it says."""
        self._blocking = False
        self.heard = 0
        """Bytes of the messages that were received, all in all."""
        self._outbox: deque[tuple[bytes, tuple[int, ...]]] = deque()

    @classmethod
    def from_fd(cls, fd: int, max_body: int = MAX_BODY, *, takes_descriptors: bool = True) -> Channel:
        """Take over ``fd`` (the channel closes it)."""
        # The socket is told what it is, so that the system need not be asked.
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)
        return cls(socket, max_body, takes_descriptors=takes_descriptors)

    def fileno(self) -> int:
        """The descriptor's number, for a selector."""
        return self.socket.fileno()

    @property
    def pending(self) -> int:
        """Messages in the outbox: while there are any, wait for writability and call ``flush``."""
        return len(self._outbox)

    @property
    def readable(self) -> bool:
        """Whether there is a message, or the end."""
        try:
            self.socket.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass  # told by whoever reads
        return True

    def send(self, message: Any) -> None:
        """Send, or keep for ``flush``. Raises ChannelClosed when nobody is at the other end."""
        data, fds = messages.encode(message)
        if len(fds) + (len(data) > MAX_INLINE) > MAX_FDS:
            raise ValueError(f"{len(fds)} descriptors do not fit into one message: send them in batches")
        if self._outbox or not self._transmit(data, fds):
            self._outbox.append((data, tuple(os.dup(fd) for fd in fds)))

    def post(self, message: Any) -> bool:
        """Send a message without descriptors now, or not at all; from any thread, and past those in the outbox.

        Raises ChannelClosed when nobody is at the other end.
        """
        return self._transmit(*messages.encode(message))

    def flush(self) -> bool:
        """Send what waits; true when nothing is left. Raises ChannelClosed."""
        while self._outbox:
            data, fds = self._outbox[0]
            if not self._transmit(data, fds):
                return False
            self._outbox.popleft()
            for fd in fds:
                os.close(fd)
        return True

    def _transmit(self, data: bytes, fds: tuple[int, ...]) -> bool:
        body = -1
        if len(data) > MAX_INLINE:
            body = memfd("message", data)
            data, fds = b"M", (*fds, body)
        try:
            if fds:
                rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))
                self.socket.sendmsg([data], [rights], _SEND_FLAGS)
            else:
                self.socket.send(data, _SEND_FLAGS)
        except OSError as error:
            if error.errno in _FULL:
                return False
            raise ChannelClosed(f"the other end of a channel is gone ({error.strerror})") from error
        finally:
            if body >= 0:
                os.close(body)
        return True

    def receive(self) -> Any:
        """The next message; None when there is none now.

        Raises:
            ChannelClosed: at the end.
            DescriptorsLost: this process has no room for what came with a message.
            MessageError: on garbage.

        A message that this version does not know is dropped, its descriptors closed; so are descriptors that it may not carry.
        """
        return self._receive(_RECEIVE_FLAGS)

    def _receive(self, how: int) -> Any:
        while True:
            try:
                size, ancillary, flags, _ = self.socket.recvmsg_into([_buffer], _ANCILLARY, how)
            except BlockingIOError:
                return None
            except ConnectionResetError:
                # Said once, and before what the other end has sent, when it went with something unread (unix(7)): read on.
                continue
            except ConnectionError as error:
                raise ChannelClosed(f"the other end of a channel is gone ({error.strerror})") from error
            fds = descriptors_in(ancillary) if ancillary else ()
            if not size:
                close_all(fds)
                raise ChannelClosed("the other end of a channel was closed")
            data = bytes(_buffer[:size])
            if flags & _socket.MSG_CTRUNC:
                close_all(fds)
                raise DescriptorsLost(messages.decode(data) if data != b"M" else None)
            message, kept = None, ()
            try:
                if data == b"M":
                    if not fds:
                        raise MessageError("a message that should be in a memfd came without one")
                    data = read_body(fds[-1], self._max_body)
                    message = messages.decode(data, fds[:-1] if self._takes else (), typed=True)
                else:
                    message = messages.decode(data, fds if self._takes else (), typed=True)
                kept = getattr(message, "fds", ())
            finally:
                if fds:
                    close_all(fds[len(kept) :])
            self.heard += len(data)
            if message is not None:
                return message

    def wait(self, timeout: float | None = None) -> Any:
        """Block until the next message (for processes with nothing else to do). None when ``timeout`` seconds passed."""
        if timeout is None:
            if not self._blocking:
                self._blocking = True
                self.socket.setblocking(True)  # and it stays so: everything else says MSG_DONTWAIT
            return self._receive(_socket.MSG_CMSG_CLOEXEC)
        self.socket.settimeout(timeout)
        try:
            return self.receive()
        except TimeoutError:
            return None
        finally:
            self._blocking = False
            self.socket.setblocking(False)

    def close(self) -> None:
        """Close this end and what waits in the outbox."""
        while self._outbox:
            close_all(self._outbox.popleft()[1])
        self.socket.close()


def memfd(name: str, data: bytes) -> int:
    """A sealed memfd that holds ``data``: nobody can change it any more, and it can be read twice (``os.pread``)."""
    import fcntl  # noqa: PLC0415  (only senders of large messages need it)

    fd = os.memfd_create(f"rocksyd-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return fd


def read_body(fd: int, most: int) -> bytes:
    """The bytes of a message that came in a memfd, if it is one that can be read and that nobody can change.

    Raises:
        MessageError: it is something else, or holds more than ``most`` bytes; nothing of it is read.
    """
    import fcntl  # noqa: PLC0415  (only receivers of large messages need it)

    sealed = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK
    try:
        # Only a memfd has seals; of a pipe, a device or a file of a network, reading itself could be endless.
        size, seals = os.fstat(fd).st_size, fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        if size > most or seals & sealed != sealed:
            what = f"has {size} bytes, and {most} are taken" if size > most else "is not sealed"
            raise MessageError(f"the memfd of a message {what}")
        return read_memfd(fd)
    except OSError as error:
        raise MessageError(f"what should be the memfd of a message cannot be read: {error.strerror}") from error


def read_memfd(fd: int) -> bytes:
    """All of a memfd, from its start, whatever its offset is."""
    size = os.fstat(fd).st_size
    parts = []
    at = 0
    while at < size:
        part = os.pread(fd, size - at, at)
        if not part:
            break
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def descriptors_in(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, ...]:
    """The descriptors that came with a datagram (SCM_RIGHTS); whoever asks owns them."""
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return tuple(fds)


def close_all(fds: tuple[int, ...]) -> None:
    """Close each of them."""
    for fd in fds:
        os.close(fd)
