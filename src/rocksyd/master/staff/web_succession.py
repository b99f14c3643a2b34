"""Web workers across a hand-over, and after a crash.

What must live here: what is carried of web pools, and how another master goes on with their workers.
What this file must not know: what is decided of them; the rest of the snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rocksyd import messages as m
from rocksyd import shelf_names
from rocksyd.config import Address, PoolConfig
from rocksyd.core.web import WebPool
from rocksyd.core.web_crew import FIRST, is_web, place_in
from rocksyd.master.snapshot import Snapshot
from rocksyd.master.staff.web import Web
from rocksyd.posix import webpage
from rocksyd.posix.loop import Loop


def ready(
    web: Web, shelf: dict[str, int], known_as: Callable[[str], Address], loop: Loop, tell_keeper: Callable[[Any], None]
) -> None:
    """Give the web pools of a master that prepares what they are going to need: listening sockets, queues, and who wakes them."""
    web.links.loop = loop
    for name in web.sockets.provide_queues(shelf):
        tell_keeper(m.Shelve((name,), (shelf[name],)))
    for name, _ in web.sockets.wanted():
        web.sockets.use(name, shelf[name], known_as(name))
    for pool in web.sockets.apps:
        for name in shelf_names.queue(pool):
            web.sockets.use(name, shelf[name])
    web.shelf = shelf
    web.services.ready(shelf)


def carry(web: Web, snapshot: Snapshot, tell_keeper: Callable[[Any], None]) -> None:
    """Carry web workers. Where a version that knows none takes over, their channels are closed, and they leave."""
    snapshot.channels.append(web.links.channels)
    snapshot.loose.append(web.links.loose)
    snapshot.manifest.append(web.sockets.by_name.items)
    snapshot.adopted_parts["web"] = (lambda: dump(web), lambda state: load(web, snapshot, state, tell_keeper))


def dump(web: Web) -> dict[str, Any]:
    """What the next master has to know of web workers, beyond what they say themselves."""
    sizes = web.sizes
    return {
        "pools": {
            name: {**pool.dump(), "gone": sizes.gone.get(name, []), "peak": sizes.peaks.get(name, 0)}
            for name, pool in web.pools.items()
        },
        "parents": [[link.number, link.parent, link.app] for link in web.links.values()],
    }


def load(web: Web, snapshot: Snapshot, state: dict[str, Any], tell_keeper: Callable[[Any], None]) -> None:
    """Go on with the web workers of the master before: the new ones are here already."""
    now = time.monotonic()
    web.services.take(snapshot.shelf)
    parents = {number: (parent, app) for number, parent, app, *_ in state.get("parents", ())}
    for name, fields in state.get("pools", {}).items():
        pool = web.pools.get(name)
        if pool is None:
            place = place_in(next((row[0] for row in fields["workers"]), FIRST))
            pool = web.pools[name] = WebPool(name, PoolConfig(), 1, place)
        rows = [row for row in fields["workers"] if shelf_names.worker(row[0]) in snapshot.shelf and row[0] not in web.links]
        pool.recycled += int(fields.get("recycled", 0))
        web.sizes.gone[name] = [a + b for a, b in zip(fields.get("gone") or webpage.nothing(), webpage.nothing(), strict=False)]
        web.sizes.peaks[name] = int(fields.get("peak", 0))
        for number in pool.load(rows, now):
            parent, app = parents.get(number, ("", pool.app))
            on_shelf = shelf_names.worker(number)
            link = web.links.link((number, pool.workers[number].pid), app, parent, snapshot.shelf.pop(on_shelf))
            tell_keeper(m.Unshelve((on_shelf,)))
            link.served = True
            web.ask(link)
        if name not in web.sockets.apps and name not in web.services.apps:  # the configuration has it no longer
            pool.stop(now)
            web.act(pool)


def adopt_orphans(web: Web, shelf: dict[str, int]) -> None:
    """After a crash: web workers whose zygote had died before. Their channels are on the shelf; they say whose they are."""
    for name in shelf_names.of(shelf_names.WORKER, list(shelf)):
        number = shelf_names.worker_of(name)
        if is_web(number) and number not in web.links:
            link = web.links.link((number, 0), "", "", shelf.pop(name))
            link.shelved = link.served = True
            web.ask(link)
