"""The sockets of web pools: where requests come in, and the queue in which kept connections wait for another worker.

What must live here: their names on the shelf, and which pool has which. What this file must not know: workers.
"""

from __future__ import annotations

from collections.abc import Iterator

from rocksyd import shelf_names
from rocksyd.config import Address, Config
from rocksyd.posix.channel import close_all, pair


class WebSockets:
    """The listening sockets and the queues of web pools, by their names on the shelf."""

    def __init__(self, config: Config) -> None:
        self.by_name: dict[str, int] = {}
        self.addresses: dict[str, list[str]] = {}
        """Pool id -> where it can really be reached."""
        self.apps = {app.web_pool: app for app in config.apps.values() if app.web is not None}

    def wanted(self) -> Iterator[tuple[str, Address]]:
        """Those that are to listen: name on the shelf, address."""
        for pool, app in self.apps.items():
            assert app.web is not None
            for text, address in app.web.listen:
                yield shelf_names.listener(text, f"web/{pool}"), address

    def provide_queues(self, shelf: dict[str, int]) -> Iterator[str]:
        """Have the queue of each pool; the names of the new ones, which are in ``shelf`` then."""
        for pool in self.apps:
            names = shelf_names.queue(pool)
            if not all(name in shelf for name in names):
                for name, end in zip(names, pair(), strict=True):
                    shelf[name] = end.detach()
                    yield name

    def use(self, name: str, fd: int, known_as: Address | None = None) -> None:
        """Here is the descriptor that has this name on the shelf."""
        self.by_name[name] = fd
        if known_as is not None:
            pool, text = shelf_names.companion_listener_of(name)
            where = str(known_as) if text.startswith("unix") else f"http{str(known_as).removeprefix('tcp')}"
            self.addresses.setdefault(pool.removeprefix("web/"), []).append(where)

    def listening(self, pool: str) -> list[int]:
        """The descriptors of the pool's listening sockets."""
        prefix = shelf_names.listener("", f"web/{pool}")
        return [fd for name, fd in self.by_name.items() if name.startswith(prefix)]

    def of(self, pool: str) -> tuple[int, ...]:
        """What a worker of the pool gets: its queue's two ends, and the listening sockets."""
        return (*(self.by_name[name] for name in shelf_names.queue(pool)), *self.listening(pool))

    def close(self) -> tuple[str, ...]:
        """Listen nowhere any longer; returns the names."""
        names = tuple(self.by_name)
        close_all(tuple(self.by_name.values()))
        self.by_name.clear()
        return names
