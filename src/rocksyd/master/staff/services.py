"""Resident services as the master has them: their sockets, and what is kept of each in case its worker dies.

What must live here: names on the shelf, the duplicates of connections and the last checkpoint, what a worker is told to serve.
What this file must not know: which worker serves (``core.services``), how a worker is forked (``web_orders``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from rocksyd import messages as m
from rocksyd import shelf_names
from rocksyd.config import Address, AppConfig, Config, parse_address
from rocksyd.core.services import GO_ON, ServicePool
from rocksyd.errors import AddressError, MessageError, RocksydError
from rocksyd.master.staff.keeper import Keeper
from rocksyd.master.staff.web_links import WebLink
from rocksyd.master.staff.web_sockets import WebSockets
from rocksyd.posix import service_page
from rocksyd.posix.channel import close_all, pair

_BATCH = 200
"""Descriptors in a message (the kernel takes 253)."""


class Services:
    """All services of one master, by the ids of their pools."""

    def __init__(self, config: Config, keeper: Keeper, sockets: WebSockets) -> None:
        self._keeper, self._sockets = keeper, sockets
        self.apps: dict[str, AppConfig] = {}
        self._config = config
        self._connections: dict[str, dict[int, int]] = {}
        """Pool id -> number -> a duplicate of the connection's descriptor."""
        self._states: dict[str, int] = {}
        """Pool id -> the memfd of its last checkpoint."""
        self.bind: Callable[[Address], int] = lambda address: -1
        """Makes a listening socket. Raises AddressError."""
        self.unbind: Callable[[Address], None] = lambda address: None
        """Takes away what is left of one that is closed."""
        self.gauges: Callable[[str, dict[str, float]], None] = lambda app, values: None
        """Told what a service says of its application."""
        self.bound: list[Address] = []
        """Those that were not listened at before this master."""
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Take other settings."""
        self._config = config
        self.apps = {pool: app for app in config.apps.values() for pool in app.service_pools().values()}

    # --- sockets ------------------------------------------------------------------------------------------------------
    def ready(self, shelf: dict[str, int]) -> None:
        """Give a master that prepares what its services have on the shelf, and make what is not there."""
        for pool in self.apps:
            inward, outward = shelf_names.queue(pool)
            page = shelf_names.page(pool)
            if inward not in shelf or outward not in shelf:
                ends = pair()
                self._new(shelf, inward, ends[0].detach())
                self._new(shelf, outward, ends[1].detach())
            if page not in shelf:
                self._new(shelf, page, service_page.create())
            for name in (inward, outward, page, *shelf_names.of(_prefix(pool), shelf)):
                self._sockets.by_name[name] = shelf[name]

    def _new(self, shelf: dict[str, int], name: str, fd: int) -> None:
        shelf[name] = fd
        self._keeper.tell(m.Shelve((name,), (fd,)))

    def listen(self, pool: str, said: dict[str, Any], shelf: dict[str, int]) -> None:
        """Have a socket for every address that the code names. Raises RocksydError: one cannot be had."""
        for text in said.get("listen", ()):
            name = f"{_prefix(pool)}{text}"
            if name in self._sockets.by_name:
                continue
            address = parse_address(str(text), self._config.folder)
            try:
                fd = self.bind(address)
            except AddressError as error:
                raise RocksydError(f"service {pool}: {error}") from error
            self.bound.append(address)
            self._new(shelf, name, fd)
            self._sockets.by_name[name] = fd

    def told(self, pool: ServicePool, number: int, said: dict[str, Any], daemon: str) -> m.Serve:
        """What a worker is to serve."""
        app = self.apps[pool.name]
        service = pool.name.partition("/")[2]
        settings = {
            **app.services[service].told(), "service": str(said.get("target", "")), "name": service, "daemon": daemon,
            "grace": pool.policy.grace, "patience": self._config.restart.adopt_timeout,
        }  # fmt: skip
        listen = tuple(str(text) for text in said.get("listen", ()))
        own = (*shelf_names.queue(pool.name), shelf_names.page(pool.name), *(f"{_prefix(pool.name)}{text}" for text in listen))
        return m.Serve(number, settings, listen, "", tuple(self._sockets.by_name[name] for name in own))

    def listen_only(self, pool: str, said: dict[str, Any], shelf: dict[str, int]) -> None:
        """The code that serves names these addresses: nobody would serve who comes to another."""
        for text, fd in self.listening(pool):
            if text not in said.get("listen", ()):
                name = f"{_prefix(pool)}{text}"
                del self._sockets.by_name[name]
                shelf.pop(name, None)
                self._keeper.tell(m.Unshelve((name,)))
                os.close(fd)
                self.unbind(parse_address(text, self._config.folder))

    def listening(self, pool: str) -> list[tuple[str, int]]:
        """Where it listens: addresses as its code has them, and descriptors."""
        names = shelf_names.of(_prefix(pool), self._sockets.by_name)
        return [(name.removeprefix(_prefix(pool)), self._sockets.by_name[name]) for name in names]

    # --- what is kept -------------------------------------------------------------------------------------------------
    def heard(self, pool: ServicePool, message: Any) -> None:
        """Of the worker that serves: what has come, what has gone, its state, its gauges. Raises MessageError."""
        match message:
            case m.Share():
                self._keep(pool.name, message)
            case m.Progress():
                self.gauges(pool.app, message.gauges)
            case m.Unshare():
                self._let_go(pool.name, message.connections)
            case m.Checkpoint() if message.fds:
                self._keeper.tell(m.Shelve((shelf_names.state(pool.name),), message.fds))
                if (before := self._states.get(pool.name)) is not None:
                    os.close(before)
                self._states[pool.name] = message.fds[0]
            case _:
                close_all(getattr(message, "fds", ()))
                raise MessageError(f"{type(message).__name__}, which is not for a master")

    def _keep(self, pool: str, message: m.Share) -> None:
        if len(message.connections) != len(message.fds):
            close_all(message.fds)
            raise MessageError(f"Share, {len(message.connections)} connections with {len(message.fds)} descriptors")
        mine = self._connections.setdefault(pool, {})
        names = tuple(shelf_names.served(pool, number) for number in message.connections)
        self._keeper.tell(m.Shelve(names, message.fds))
        for number, fd in zip(message.connections, message.fds, strict=True):
            if number in mine:
                os.close(mine[number])
            mine[number] = fd

    def _let_go(self, pool: str, numbers: tuple[int, ...]) -> None:
        mine = self._connections.get(pool, {})
        gone = [number for number in numbers if number in mine]
        for number in gone:
            os.close(mine.pop(number))
        for at in range(0, len(gone), _BATCH):
            self._keeper.tell(m.Unshelve(tuple(shelf_names.served(pool, number) for number in gone[at : at + _BATCH])))

    def checkpoint(self, pool: str) -> tuple[int | None, float | None]:
        """Of the state that is kept: bytes, and when it was written (Unix seconds); None where there is none."""
        if pool not in self._states:
            return None, None
        known = os.fstat(self._states[pool])
        return known.st_size, round(known.st_mtime, 3)

    def take(self, shelf: dict[str, int]) -> None:
        """Another master serves no longer: what it has kept is on the shelf."""
        for name in shelf_names.of(shelf_names.SERVED, list(shelf)):
            pool, number = shelf_names.served_of(name)
            self._connections.setdefault(pool, {})[number] = shelf.pop(name)
        for name in shelf_names.of(shelf_names.STATE, list(shelf)):
            self._states[name.removeprefix(shelf_names.STATE)] = shelf.pop(name)

    def forget(self, pool: str) -> None:
        """Nobody serves it any longer, and nobody will."""
        self._let_go(pool, tuple(self._connections.pop(pool, {})))
        if (fd := self._states.pop(pool, None)) is not None:
            os.close(fd)
            self._keeper.tell(m.Unshelve((shelf_names.state(pool),)))

    def tell(self, link: WebLink, pool: ServicePool, what: str) -> None:
        """Let a worker serve."""
        if what == GO_ON:
            kept = list(self._connections.get(pool.name, {}).items())
            for at in range(0, len(kept), _BATCH):
                part = kept[at : at + _BATCH]
                link.say(m.Share(tuple(number for number, _ in part), tuple(fd for _, fd in part)))
            if pool.name in self._states:
                link.say(m.Checkpoint((self._states[pool.name],)))
        app = self.apps.get(pool.name)
        settle = app.services[pool.name.partition("/")[2]].settle if app is not None else 0.0
        link.wait(settle + 2 * self._config.restart.adopt_timeout)
        link.say(m.Accept(what == GO_ON))


def _prefix(pool: str) -> str:
    """What the names of its listening sockets begin with on the shelf."""
    return shelf_names.listener("", f"svc/{pool}")
