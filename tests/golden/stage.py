"""A master's state without its processes: what a hand-over writes down and takes over, in one process."""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from rocksyd.config import Config
from rocksyd.master.desk import page, succession
from rocksyd.master.server import Server
from tests.unit.served import served


@contextmanager
def server(config: Config, connections: list[str]) -> Iterator[Server]:
    """A server with these connections from the shelf."""
    with served(config) as server:
        fd = page.create()
        server.clients.page.use(fd)
        shared = server.clients.page.of
        assert isinstance(shared, mmap.mmap)
        others = []
        for name in connections:
            ours, theirs = socket.socketpair()
            others.append(theirs)
            server.clients.adopt(name, ours.detach())
        succession.adopted_all(server.clients)
        try:
            yield server
        finally:
            for client in list(server.clients.by_number.values()):
                server.clients.close(client)
            for other in others:
                other.close()
            shared.close()
            os.close(fd)
