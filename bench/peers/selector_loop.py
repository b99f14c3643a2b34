"""The floor for requests: epoll, split, json.loads, a dictionary, send. No limits, no second dialect, nothing kept anywhere."""

from __future__ import annotations

import json
import select
import socket
import sys
from typing import Any

ENDED = {1: {"retcode": 0}}


def main(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    connections: dict[int, socket.socket] = {}
    rests: dict[int, bytes] = {}
    poller = select.epoll()
    poller.register(listener.fileno(), select.EPOLLIN)
    print("ready", flush=True)
    while True:
        for fd, _ in poller.poll():
            if fd == listener.fileno():
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                rests[connection.fileno()] = b""
                poller.register(connection.fileno(), select.EPOLLIN)
                continue
            try:
                data = connections[fd].recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                connections.pop(fd).close()
                continue
            *lines, rests[fd] = (rests[fd] + data).split(b"\n")
            connections[fd].send(b"".join([answer(line) for line in lines]))


def answer(line: bytes) -> bytes:
    command, _, argument = line.partition(b" ")
    hash_ = json.loads(argument)["hash"]
    reply: Any = ENDED.get(hash_, {"error_text": "Hash not found"}) if command == b"check" else {"error_text": "?"}
    return json.dumps(reply).encode() + b"\n"


if __name__ == "__main__":
    main(int(sys.argv[1]))
