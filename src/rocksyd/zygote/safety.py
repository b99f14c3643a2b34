"""What importing an application left behind that does not survive a fork, and whose doing it was.

What must live here: threads, sockets and child processes, before and after each step of the preload.
What this file must not know: what is done about it.

A forked child has none of its parent's threads but their locks, and shares its parent's connections: two processes that
speak on one TLS session or one database connection break it for both.

Sources: proc(5) (``task``, ``fd``, ``task/<tid>/children``), fork(2).
"""

from __future__ import annotations

import _socket
import os
import socket
import sys
import sysconfig
import threading
import time
import warnings
from types import FrameType
from typing import Any, NamedTuple

from rocksyd.posix.processes import children_of

_SETTLE = 0.5
"""Seconds that what is on its way out gets: a joined thread is in /proc a moment longer."""
_SHARED = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
"""Kinds of sockets that two processes cannot share. Datagrams (syslog, statsd) they can."""


_HARMLESS = ("jemalloc_bg_thd",)
"""Names of threads that may be missing in a fork. jemalloc (in pyarrow) gives memory back in that one, and does so by itself in a
forked child, where its pthread_atfork handlers have switched the thread off (jemalloc, ``src/background_thread.c``)."""


class Left(NamedTuple):
    """A thread or a socket that the preload left behind. As text: the sentence that says so."""

    kind: str
    """``thread`` or ``socket``."""
    step: str
    """What was being loaded: ``preload entry 'shop.urls'``."""
    name: str
    """``'poller'``, ``descriptor 5 connected to ('10.0.0.7', 5432)``."""
    origin: str
    """The line that made it, as ``module (file:line)``; "" where C code did."""
    number: int
    """The thread's number, or the socket's inode."""

    def __str__(self) -> str:
        verb = "left a thread running:" if self.kind == "thread" else "left a socket open:"
        return f"{self.step} {verb} {self.name}{f', by {self.origin}' if self.origin else ''}"


class Watch:
    """Compares now with before, step by step, and knows which line started a thread or opened a socket.

    Python's own threads and sockets are seen at their start (``Thread.start`` and ``socket.__init__`` are wrapped while
    the preload lasts); those of C code are found by the comparison, and named by the step only.
    """

    def __init__(self) -> None:
        self._step_of_thread = dict.fromkeys(native_threads(), "")
        self._step_of_socket = dict.fromkeys(open_sockets(), "")
        self._step_of_child = dict.fromkeys(children_of(os.getpid()), "")
        self._thread_origins: dict[int, str] = {}
        self._socket_origins: dict[int, str] = {}
        self._originals: tuple[Any, Any] = (threading.Thread.start, socket.socket.__init__)
        self._wrap()

    def mark(self, step: str) -> None:
        """What is new since the last mark is the doing of ``step``."""
        for seen, now in (
            (self._step_of_thread, native_threads()),
            (self._step_of_socket, open_sockets()),
            (self._step_of_child, children_of(os.getpid())),
        ):
            for number in now:
                seen.setdefault(number, step)

    def problems(self) -> list[Left]:
        """Threads and sockets that are still there and were not at first."""
        if self._threads_left():
            _fork_once()
        give_up = time.monotonic() + _SETTLE
        while self._threads_left() and time.monotonic() < give_up:
            time.sleep(0.01)
        found = [self._thread_problem(self._step_of_thread[number], number) for number in sorted(self._threads_left())]
        for inode, fd in sorted(open_sockets().items(), key=lambda item: item[1]):
            if self._step_of_socket.get(inode):
                found.append(self._socket_problem(self._step_of_socket[inode], inode, fd))
        return found

    def _threads_left(self) -> list[int]:
        """Those that came with the preload, are still there, and would be missed in a fork."""
        new = [number for number in native_threads() if self._step_of_thread.get(number)]
        return [number for number in new if thread_name(number) not in _HARMLESS]

    def children_left(self) -> list[str]:
        """Sentences on child processes that still run. Those that have ended are reaped."""
        found = []
        for pid, step in self._step_of_child.items():
            try:
                if step and os.waitpid(pid, os.WNOHANG)[0] == 0:
                    found.append(f"{step} left a child process running: {pid} ({_command(pid)})")
            except ChildProcessError:
                continue
        return found

    def close(self) -> None:
        """Take the wrappers off again, unless somebody has put their own over them."""
        start, init = self._originals
        if getattr(threading.Thread.start, "_rocksyd", False):
            threading.Thread.start = start  # type: ignore[method-assign]
        if getattr(socket.socket.__init__, "_rocksyd", False):
            socket.socket.__init__ = init  # type: ignore[method-assign]

    def _wrap(self) -> None:
        start, init = self._originals

        def start_seen(thread: threading.Thread) -> None:
            start(thread)
            if thread.native_id is not None:
                self._thread_origins[thread.native_id] = _origin()

        def init_seen(made: socket.socket, *args: Any, **kwargs: Any) -> None:
            init(made, *args, **kwargs)
            self._socket_origins[_inode(made.fileno())] = _origin()

        start_seen._rocksyd = init_seen._rocksyd = True  # type: ignore[attr-defined]
        threading.Thread.start = start_seen  # type: ignore[assignment,method-assign]
        socket.socket.__init__ = init_seen  # type: ignore[assignment,method-assign]

    # --- saying -------------------------------------------------------------------------------------------------------
    def _thread_problem(self, step: str, number: int) -> Left:
        thread = next((t for t in threading.enumerate() if t.native_id == number), None)
        name = repr(thread.name) if thread is not None else f"{thread_name(number)!r} (started by C code)"
        return Left("thread", step, name, self._thread_origins.get(number, ""), number)

    def _socket_problem(self, step: str, inode: int, fd: int) -> Left:
        return Left("socket", step, f"descriptor {fd}{_peer(fd)}", self._socket_origins.get(inode, ""), inode)


CURE = (
    "Threads and connections do not survive a fork: start them in a function marked @rocksyd.jobs.after_fork,"
    ' close them in one marked @rocksyd.jobs.before_fork, or set unsafe = "warn" to load the application all the same'
)


def _fork_once() -> None:
    """Let libraries that end their threads at each fork, and start them again when they are needed, do so (pthread_atfork(3)).

    OpenBLAS is one, and with it numpy: it has a thread for each core from its import on, which no fork ever meets.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later warn of a fork beside threads
        pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


CURE_OF_TEMPLATES = (
    "Workers can be forked from a worker only when it has neither threads nor connections nor children: end them in a function"
    " marked @rocksyd.jobs.after_job or before_fork, or remove refork_after"
)


def left_over(known: set[int]) -> list[str]:
    """Sentences on threads, sockets and children that this process has now and had better not have when it is forked.

    Args:
        known: descriptors that may be open.
    """
    if len(native_threads()) > 1:
        _fork_once()
    give_up = time.monotonic() + _SETTLE
    while len(native_threads()) > 1 and time.monotonic() < give_up:
        time.sleep(0.01)
    found = []
    for number in native_threads():
        if number != os.getpid() and thread_name(number) not in _HARMLESS:
            thread = next((t for t in threading.enumerate() if t.native_id == number), None)
            name = repr(thread.name) if thread is not None else f"{thread_name(number)!r} (started by C code)"
            found.append(f"a thread runs: {name}")
    found += [f"a socket is open: descriptor {fd}{_peer(fd)}" for fd in open_sockets().values() if fd not in known]
    found += [f"a child process runs: {pid} ({_command(pid)})" for pid in children_of(os.getpid())]
    return found


def _origin() -> str:
    """The innermost frame that is neither the standard library's nor ours, as ``module (file:line)``."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_NOT_THEIRS) or "site-packages" in file or "dist-packages" in file:
            return f"{frame.f_globals.get('__name__', '?')} ({file}:{frame.f_lineno})"
        frame = frame.f_back
    return ""


_NOT_THEIRS = (
    "<frozen ",
    sysconfig.get_paths()["stdlib"] + os.sep,
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
)


def _inode(fd: int) -> int:
    try:
        return os.fstat(fd).st_ino
    except OSError:
        return -1


def native_threads() -> list[int]:
    """Numbers of all threads of this process, Python's and others."""
    return [int(name) for name in os.listdir("/proc/self/task")]


def open_sockets() -> dict[int, int]:
    """Inode -> descriptor of the sockets that must not be shared."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and _is_shared_kind(fd):
            found[_inode(fd)] = fd
    return found


def _is_shared_kind(fd: int) -> bool:
    try:
        if not os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
            return False
        # The C type, and not socket.socket: that one is being watched.
        opened = _socket.socket(fileno=os.dup(fd))
    except OSError:
        return False
    try:
        return opened.type in _SHARED
    finally:
        opened.close()


def _peer(fd: int) -> str:
    opened = _socket.socket(fileno=os.dup(fd))
    try:
        if opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return f" listening on {opened.getsockname()!r}"
        peer = opened.getpeername()
    except OSError:
        return ""
    finally:
        opened.close()
    return f" connected to {peer!r}" if peer else " (a socket pair, as event loops have)"


def thread_name(number: int) -> str:
    """The kernel's name of a thread of this process."""
    try:
        with open(f"/proc/self/task/{number}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return str(number)


def _command(pid: int) -> str:
    # A program that is being started this instant has a name already, but no arguments yet.
    for name in ("cmdline", "comm"):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as file:
                found = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if found:
            return found
    return "?"
