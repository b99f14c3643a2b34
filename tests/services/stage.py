"""What the tests of services share: an application, a daemon that serves it, a client."""

from __future__ import annotations

import socket
from pathlib import Path

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import TIMEOUT

CHAT = """
import os
from rocksyd import Lines, gauge, service
VERSION = 1
@service(listen="unix://chat.sock", protocol=Lines(max=4096), state_version=1)
class Chat:
    def __init__(self):
        self.lines = 0
        self.later = []
    async def connected(self, c):
        c.state = {"count": 0}
    async def message(self, c, line):
        if line == "raise":
            raise ValueError("what was asked for")
        self.lines += 1
        c.state["count"] += 1
        if line == "who":
            c.send(f"{VERSION} {os.getpid()} {self.lines} {c.state['count']} {len(self.connections)}")
        elif line.startswith("later "):
            self.after(float(line.split()[1]), "ring", c.id)
        elif line.startswith("all "):
            self.announce(None, line[4:])
        elif line.startswith("gauge "):
            gauge("online", float(line[6:]))
        else:
            c.send(line)
    def ring(self, number):
        c = self.connections.get(number)
        if c is not None:
            c.send("ring")
    def dump(self):
        return {"lines": self.lines}
    def load(self, state, version):
        self.lines = state["lines"]
"""
CONFIG = """
listen = ["unix://d.sock"]
state_dir = "var"
{top}
[apps.app]
path = "app"
jobs = ["jobs"]
[apps.app.services.chat]
{service}
"""


def chatting(folder: Path, text: str = CHAT, *, service: str = "", top: str = "") -> Daemon:
    """A daemon, not started yet, whose application has the service in ``text``."""
    return Daemon(folder, text, config=CONFIG.format(service=service, top=top))


def connect(daemon: Daemon, name: str = "chat.sock") -> socket.socket:
    """A connection to the service."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(TIMEOUT)
    try:
        connection.connect(str(daemon._link / name))
    except OSError:
        connection.close()
        raise
    return connection


class Client:
    """A client that speaks lines, and never connects a second time."""

    def __init__(self, daemon: Daemon) -> None:
        self.socket = connect(daemon)
        self._rest = b""

    def send(self, text: str) -> None:
        """A line."""
        self.socket.sendall(f"{text}\n".encode())

    def line(self) -> str:
        """The next line. Raises EOFError at the end."""
        while b"\n" not in self._rest:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(f"it was closed behind {self._rest!r}")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def ask(self, text: str) -> str:
        """A line, and the answer."""
        self.send(text)
        return self.line()

    def who(self) -> dict[str, int]:
        """Which code and which process serves, and what it knows."""
        names = ("version", "pid", "lines", "count", "connections")
        return dict(zip(names, map(int, self.ask("who").split()), strict=True))

    @property
    def closed(self) -> bool:
        """Whether the service has closed it; waits for one or the other."""
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except ConnectionError:
            return True

    def close(self) -> None:
        """Go."""
        self.socket.close()
