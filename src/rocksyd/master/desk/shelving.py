"""Connections on their way to the keeper's shelf, and off it.

What must live here: which connections are on the shelf, and when the keeper is told.
What this file must not know: what is said over them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from rocksyd import messages as m
from rocksyd import shelf_names
from rocksyd.master.desk.clients import Client, Clients
from rocksyd.master.turn import Turn

SHELVE_AFTER = 0.05
"""Seconds a connection lives before it costs the keeper a message."""
AT_ONCE = 200
"""Descriptors in one message."""


class Shelving:
    """What is to be said to the keeper of connections that have come and gone."""

    def __init__(self, turn: Turn, clients: Clients, tell_keeper: Callable[[Any], None]) -> None:
        self._turn = turn
        self._clients = clients
        self._tell_keeper = tell_keeper
        self._unshelved: dict[Client, None] = {}
        self._due_at = 0.0
        self._closed: list[str] = []
        clients.came.append(self._came)
        clients.gone.append(self._gone)
        turn.due(lambda: self._due_at or None, lambda now: None)  # being awake is enough: it is done at each turn's end
        turn.ends(self._shelve)

    def _came(self, client: Client) -> None:
        self._unshelved[client] = None
        self._due_at = self._due_at or self._turn.now.mono + SHELVE_AFTER

    def _gone(self, client: Client) -> None:
        self._unshelved.pop(client, None)
        if client.shelved:
            self._closed.append(client.name)

    def not_shelved(self, name: str) -> None:
        """The keeper has no room for this connection: it travels with the snapshot, and is tried again with the next one's."""
        client = self._clients.by_number.get(shelf_names.connection_of(name)[0])
        if client is not None:
            client.shelved = False
            self._unshelved[client] = None

    def loose(self) -> Iterator[tuple[str, int]]:
        """Names and descriptors of those that are not on the shelf, and are going to be what they are now."""
        for client in self._unshelved:
            client.inode = os.fstat(client.fd).st_ino
            yield client.name, client.fd

    def _shelve(self) -> None:
        if self._due_at and self._turn.now.mono >= self._due_at:
            self._due_at = 0.0
            descriptors = list(self.loose())
            for client in self._unshelved:
                client.shelved = True
            self._unshelved = {}
            for at in range(0, len(descriptors), AT_ONCE):
                names, fds = zip(*descriptors[at : at + AT_ONCE], strict=True)
                self._tell_keeper(m.Shelve(names, fds))
        if self._closed:
            closed, self._closed = self._closed, []
            for at in range(0, len(closed), AT_ONCE):
                self._tell_keeper(m.Unshelve(tuple(closed[at : at + AT_ONCE])))
