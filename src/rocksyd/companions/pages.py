"""Pages over HTTP from listening sockets that this process was given: GET and HEAD, one request a connection, everything bounded.

What must live here: accepting, the deadlines of a connection, the end without a request lost.
What this file must not know: what a page says.

The standard library's handler of requests, with a server that differs in two things: the head of a request has to be there within
a time as a whole (a header a second would otherwise keep a thread for good), and no more connections are accepted than there are
threads for; further ones wait in the kernel's queue.
"""

from __future__ import annotations

import io
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple

MOST = 32
"""Connections at the same time."""
HEAD_TIMEOUT = 3.0
"""Seconds in which the head of a request has to be there."""
WRITE_TIMEOUT = 3.0
"""Seconds in which a page has to be taken."""
MAX_HEAD = 16384
"""Bytes of the head of a request."""


class Page(NamedTuple):
    """An answer."""

    status: int
    kind: str
    """The content type."""
    body: bytes


Answer = Callable[[str, str], Page]
"""The page for a path and the value of the header ``Accept``."""


class Pages:
    """A server on one listening socket. ``start``, and in the end ``stop``."""

    def __init__(self, listening: socket.socket, answer: Answer) -> None:
        self.answer = answer
        self._listening = listening
        self._room = threading.BoundedSemaphore(MOST)
        self._connections = ThreadPoolExecutor(MOST, "page")
        self._stopped = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._accept, name="pages")

    def start(self) -> None:
        """Accept connections, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Accept no more, answer those that were accepted, close this process's copy of the socket."""
        os.eventfd_write(self._stopped, 1)
        self._thread.join()
        self._connections.shutdown()
        self._listening.close()
        os.close(self._stopped)

    def _accept(self) -> None:
        poller = select.poll()
        poller.register(self._stopped, select.POLLIN)
        poller.register(self._listening, select.POLLIN)
        while all(fd != self._stopped for fd, _ in poller.poll()):
            with self._room:  # wait until there is room
                pass
            try:
                connection, _ = self._listening.accept()
            except OSError:  # the successor was quicker, or the client has gone
                continue
            self._connections.submit(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with self._room, connection:
            try:
                _Handler(connection, self.answer)
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                return  # a client that went away or was too slow is nobody's business


class _Handler(BaseHTTPRequestHandler):
    server_version = "rocksyd"
    sys_version = ""

    def __init__(self, connection: socket.socket, answer: Answer) -> None:
        self._answer = answer
        # It asks a server for nothing but a name to resolve, which is not done here.
        super().__init__(connection, ("", 0), None)  # type: ignore[arg-type]

    def setup(self) -> None:
        """Read the whole head first, within its time."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BytesIO(self._head())
        self.connection.settimeout(WRITE_TIMEOUT)

    def _head(self) -> bytes:
        until, head = time.monotonic() + HEAD_TIMEOUT, b""
        while b"\r\n\r\n" not in head and b"\n\n" not in head and len(head) <= MAX_HEAD:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.connection.settimeout(left)
            data = self.connection.recv(4096)
            if not data:
                break
            head += data
        return head

    def do_GET(self) -> None:
        """The page."""
        page = self._answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
        self.send_response(page.status)
        self.send_header("Content-Type", page.kind)
        self.send_header("Content-Length", str(len(page.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    do_HEAD = do_GET  # noqa: N815  (http.server finds it by this name)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """As text: no browser reads it."""
        text = message or HTTPStatus(code).phrase
        self.send_response(code, text)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(f"{code} {text}\n".encode(errors="replace"))

    def log_message(self, *_: object) -> None:
        """The daemon's log is not a log of requests."""
