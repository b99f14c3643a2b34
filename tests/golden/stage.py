"""A master's state without its processes: what a hand-over writes down and takes over, in one process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from rocksyd.config import Config
from rocksyd.core.engine import Engine
from rocksyd.master.clients import Clients
from rocksyd.master.orders import Orders
from rocksyd.master.waiters import Waiters


class NoLoop:
    """Nothing is waited for here."""

    def register(self, fd: int, handler: Any, mask: int) -> None: ...
    def modify(self, fd: int, mask: int) -> None: ...
    def unregister(self, fd: int) -> None: ...


@contextmanager
def server(config: Config, connections: list[str]) -> Iterator[Any]:
    """What ``handover`` needs of a server, with these connections from the shelf."""
    clients = Clients(config, lambda client, request: None, NoLoop())  # type: ignore[arg-type]
    page = Clients.new_page()
    clients.use_page(page)
    others = []
    for name in connections:
        ours, theirs = socket.socketpair()
        others.append(theirs)
        clients.adopt(name, ours.detach())
    clients.adopted_all()
    try:
        yield SimpleNamespace(
            config=config,
            engine=Engine(config),
            clients=clients,
            waiters=Waiters(),
            generations=SimpleNamespace(
                orders=Orders(lambda order: None, lambda order, failure: None), started_at=0.0, restarts=0, crashes=0
            ),
            stopping=SimpleNamespace(signals=0, when_drained=False),
            children=SimpleNamespace(zygotes={}, workers={}),
            commands=SimpleNamespace(served=0),
        )
    finally:
        for client in list(clients.by_number.values()):
            client.socket.close()
        for other in others:
            other.close()
        clients.page.close()
        os.close(page)
