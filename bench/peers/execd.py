"""A daemon of the exec kind, as short as it can be: it restarts by executing itself, keeping its sockets.

The same lines, the same application imported; ``restart`` puts everything into a memfd, calls ``execv``, and the new image
imports the application again and goes on. Nobody is served between the two: that is what is measured.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from typing import Any

RUNS: dict[int, dict[str, Any]] = {1: {"retcode": 0}}


class Daemon:
    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.poller = select.epoll()
        self.poller.register(listener.fileno(), select.EPOLLIN)
        self.connections: dict[int, socket.socket] = {}
        self.rests: dict[int, bytes] = {}
        self.asker = -1

    def add(self, connection: socket.socket, rest: bytes = b"") -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections[connection.fileno()] = connection
        self.rests[connection.fileno()] = rest
        self.poller.register(connection.fileno(), select.EPOLLIN)

    def serve(self) -> None:
        if self.asker >= 0:
            self.connections[self.asker].send(b'{"error_text":"Restarted successfully"}\n')
        while True:
            for fd, _ in self.poller.poll():
                if fd == self.listener.fileno():
                    self.add(self.listener.accept()[0])
                else:
                    self.read(fd)

    def read(self, fd: int) -> None:
        try:
            data = self.connections[fd].recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.poller.unregister(fd)
            self.connections.pop(fd).close()
            del self.rests[fd]
            return
        *lines, self.rests[fd] = (self.rests[fd] + data).split(b"\n")
        for line in lines:
            command, _, argument = line.partition(b" ")
            if command == b"restart":
                self.asker = fd
                self.restart()
            reply = RUNS.get(json.loads(argument)["hash"], {"error_text": "Hash not found"})
            self.connections[fd].send(json.dumps(reply).encode() + b"\n")

    def restart(self) -> None:
        state = {
            "listener": self.listener.fileno(),
            "connections": {fd: self.rests[fd].decode() for fd in self.connections},
            "asker": self.asker,
        }
        memfd = os.memfd_create("state", 0)
        os.write(memfd, json.dumps(state).encode())
        for fd in (state["listener"], *self.connections):
            os.set_inheritable(fd, True)
        os.execv(sys.executable, [sys.executable, __file__, "restarted", str(memfd)])


def main() -> None:
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "application"))
    import bench_loaded  # type: ignore[import-not-found]  # noqa: F401

    if sys.argv[1] == "restarted":
        state = json.loads(os.pread(int(sys.argv[2]), 1 << 24, 0))
        os.close(int(sys.argv[2]))
        daemon = Daemon(socket.socket(fileno=state["listener"]))
        for fd, rest in state["connections"].items():
            daemon.add(socket.socket(fileno=int(fd)), rest.encode())
        daemon.asker = state["asker"]
    else:
        daemon = Daemon(socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024))
        print("ready", flush=True)
    daemon.serve()


if __name__ == "__main__":
    main()
