"""What the tests of web pools share: applications, a daemon that serves one, a client that looks at every byte."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon, until
from rocksyd.testing.daemon import PACKAGE, TIMEOUT, Conversation

pytest.importorskip("uvicorn")
pytest.importorskip("httptools")

WSGI = """
import os
VERSION = 1
def application(environ, start_response):
    path = environ["PATH_INFO"]
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{VERSION} {os.getpid()} {path} {len(body)}".encode()]
"""
ASGI = """
import asyncio, os
VERSION = 1
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            await send({"type": "websocket.send", "text": f"{VERSION} {message['text']}"})
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    if scope["path"] == "/stream":
        for number in range(int(scope["query_string"] or b"10")):
            await send({"type": "http.response.body", "body": f"{VERSION} {number}\\n".encode(), "more_body": True})
            await asyncio.sleep(0.02)
    await send({"type": "http.response.body", "body": f"{VERSION} {os.getpid()} {scope['path']} {size}".encode()})
"""
CONFIG = """
listen = ["unix://d.sock"]
state_dir = "var"
{top}
[apps.app]
path = "app"
jobs = ["jobs"]
[apps.app.pool]
grace = "30s"
[apps.app.web]
{interface} = "website:application"
listen = ["unix://web.sock", "http://127.0.0.1:0"]
{web}
[apps.app.pools.web]
{pool}
"""
POOL = 'pm = "static"\nmax_workers = 2\ngrace = "30s"'
JOBS = """
from rocksyd import current, job
@job
def add(a, b):
    return a + b
@job
def asked():
    return current().request_id
"""


def site(
    folder: Path,
    text: str,
    *,
    interface: str = "asgi",
    pool: str = POOL,
    more: dict[str, str] | None = None,
    package: Path = PACKAGE,
    **parts: str,
) -> Daemon:
    """A daemon, not started yet, whose application answers requests by ``website:application`` as in ``text``.

    ``more``: further modules, by their file's name.
    """
    config = CONFIG.format(**{"top": "", "web": "", **parts}, interface=interface, pool=pool)
    daemon = Daemon(folder, JOBS, config=config, package=package)
    (daemon.app / "website.py").unlink(missing_ok=True)
    for name, module in {"website.py": text, **(more or {})}.items():
        (daemon.app / name).write_text(module)
    return daemon


def row(daemon: Daemon) -> dict[str, Any]:
    """What ``pools`` says of the web pool."""
    with Conversation(daemon.connect()) as talk:  # closed at once: a test may ask for a minute
        (found,) = (row for row in talk.rpc("pools") if row["pool"] == "app/web")
    assert isinstance(found, dict)
    return found


def port(daemon: Daemon) -> int:
    """The port it listens on."""
    (where,) = (one for one in row(daemon)["listen"] if one.startswith("http"))
    return int(where.rpartition(":")[2])


def connect(daemon: Daemon, name: str = "web.sock") -> socket.socket:
    """A connection to a unix socket."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(TIMEOUT)
    connection.connect(str(daemon._link / name))
    return connection


class Kept(http.client.HTTPConnection):
    """A kept connection over the unix socket, or over TCP; it never connects a second time."""

    def __init__(self, daemon: Daemon, at: int = 0) -> None:
        super().__init__("localhost", at or 80, timeout=TIMEOUT)
        self.sock = socket.create_connection(("127.0.0.1", at), TIMEOUT) if at else connect(daemon)
        self.auto_open = 0

    def ask(self, path: str = "/", method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, str]:
        """One request over it; status and body."""
        self.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = self.getresponse()
        return answer.status, answer.read().decode()


def get(daemon: Daemon, path: str = "/", method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, str]:
    """One request over a connection of its own."""
    connection = Kept(daemon)
    try:
        return connection.ask(path, method, body, **headers)
    finally:
        connection.close()


class Load:
    """Clients with kept connections, think times and GETs and POSTs, who count what fails; ``fresh``: a connection a request."""

    def __init__(self, daemon: Daemon, clients: int = 8, at: int = 0, *, fresh: bool = False) -> None:
        self.daemon, self._at, self._fresh = daemon, at, fresh
        self.answered = 0
        self.failed: list[str] = []
        self.versions: set[str] = set()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        until(lambda: self.answered >= len(self._threads), "the first answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        connection = Kept(self.daemon, self._at)
        count = 0
        try:
            while not self._over.is_set():
                count += 1
                body = b"x" * (count * 997 % 20_000) if count % 3 == 0 else None
                status, text = connection.ask(f"/{number}/{count}", "POST" if body else "GET", body)
                version, _, rest = text.partition(" ")
                if status != 200 or rest.partition(" ")[2] != f"/{number}/{count} {len(body or b'')}":
                    self.failed.append(f"{status} {text!r} for /{number}/{count}")
                self.versions.add(version)
                self.answered += 1
                if self._fresh:
                    connection.close()
                    connection = Kept(self.daemon, self._at)
                self._over.wait(count * 37 % 101 / 1000)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is what is counted)
            self.failed.append(f"{type(error).__name__}: {error} after {count} requests")
        finally:
            connection.close()

    def more(self, count: int = 30) -> None:
        """Wait for so many further answers."""
        before = self.answered
        until(lambda: self.answered >= before + count or self.failed, f"{count} more answers")


class Difficult(Load):
    """Clients with kept connections whose heads come in two parts, whose bodies do, and several of whose requests in one."""

    def _ask(self, number: int) -> None:
        connection, count = connect(self.daemon), 0
        try:
            while not self._over.is_set():
                count += 1
                path = f"/{number}/{count}"
                request = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789".encode()
                stream = b"GET /stream?4 HTTP/1.1\r\nHost: a\r\n\r\n"
                parts, times = [
                    ([request * 3], 3),
                    ([request[:20], request[20:]], 1),
                    ([request[:-5], request[-5:]], 1),
                    ([stream], 1),
                ][count % 4]
                for part in parts:
                    connection.sendall(part)
                    self._over.wait(count * 37 % 101 / 1000)
                data = b""
                while data.count(b"\r\n0\r\n\r\n") < times:
                    more = connection.recv(65536)
                    if not more:
                        raise ConnectionError(f"it was closed behind {data!r}")
                    data += more
                path, size = ("/stream", 0) if parts == [stream] else (path, 10)
                found = re.findall(rb"(\d+) \d+ (/\S+) (\d+)", data)
                if [(one[1].decode(), int(one[2])) for one in found] != [(path, size)] * times:
                    self.failed.append(f"{data!r} for {times} x {path}")
                self.versions.update(one[0].decode() for one in found)
                self.answered += 1
        except Exception as error:  # noqa: BLE001  (whatever it is, it is what is counted)
            self.failed.append(f"{type(error).__name__}: {error} after {count} turns")
        finally:
            connection.close()


@contextmanager
def served(folder: Path, text: str, **parts: Any) -> Iterator[Daemon]:
    """As ``site``, started."""
    with site(folder, text, **parts) as daemon:
        yield daemon


def web_workers(daemon: Daemon) -> list[int]:
    """PIDs of the web workers."""
    return daemon.children("rocksyd: worker app/web (accepting)")


__all__ = [
    "ASGI",
    "WSGI",
    "Difficult",
    "Kept",
    "Load",
    "connect",
    "get",
    "json",
    "os",
    "port",
    "row",
    "served",
    "site",
    "time",
    "web_workers",
]
