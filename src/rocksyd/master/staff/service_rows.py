"""What is shown of resident services: a row a service, and what ``stats`` says of all of them.

What must live here: reading pools, pages and what is kept, for people. What this file must not know: who asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rocksyd.config import Address, parse_address
from rocksyd.core.pools import Pool
from rocksyd.core.services import ServicePool
from rocksyd.core.worker import LEAVING, Worker
from rocksyd.master.staff.web import Web
from rocksyd.posix import webpage
from rocksyd.posix.processes import cpu_time, resident_memory


class ServiceRows:
    """The rows."""

    def __init__(self, web: Web, gauges: Callable[[str], dict[str, float]], reached: Callable[[int, Address], Address]) -> None:
        self._web, self._gauges, self._reached = web, gauges, reached

    @property
    def _pools(self) -> list[ServicePool]:
        there = self._web.services.apps
        return [pool for name, pool in self._web.pools.items() if isinstance(pool, ServicePool) and name in there]

    def rows(self) -> list[dict[str, Any]]:
        """All of them."""
        return [self._row(pool) for pool in self._pools]

    def totals(self) -> dict[str, int]:
        """What ``stats`` says of all of them together."""
        pages = [page for pool in self._pools if (page := self._page(_serving(pool))) is not None]
        return {
            "services": len(self._pools),
            "service_workers": sum(len(pool.workers) for pool in self._pools),
            "service_connections": sum(page["connections"] for page in pages),
            "service_unsent": sum(page["unsent"] for page in pages),
            "service_messages": sum(self._messages(pool) for pool in self._pools),
        }

    def kept(self) -> dict[str, str]:
        """Services that go on in the code before, and why."""
        pools = self._web.pools.items()
        return {name: pool.kept for name, pool in pools if isinstance(pool, ServicePool) and pool.kept}

    def _row(self, pool: ServicePool) -> dict[str, Any]:
        services, now = self._web.services, time.monotonic()
        app, worker = services.apps[pool.name], _serving(pool)
        name, page = pool.name.partition("/")[2], self._page(worker)
        crew = pool.sets.get(pool.current) or Pool(pool.name, pool.policy)
        size, at = services.checkpoint(pool.name)
        took_over = page["taken_over"] if page is not None else 0
        pid = worker.pid if worker is not None else 0
        return {
            "service": pool.name,
            "app": pool.app,
            "name": name,
            "listen": [str(self._reached(fd, parse_address(text))) for text, fd in services.listening(pool.name)],
            "pid": pid or None,
            "state": _state(pool, worker, parked=crew.trouble.parked),
            "generation": worker.generation if worker is not None else pool.current,
            "connections": page["connections"] if page is not None else 0,
            "max_connections": app.services[name].max_connections,
            "messages": self._messages(pool),
            "messages_per_second": round(page.rate(int(now * 1000)), 1) if page is not None else 0.0,
            "unsent": page["unsent"] if page is not None else 0,
            "gauges": self._gauges(pool.app),
            "checkpoint_bytes": size,
            "checkpoint_at": at,
            "taken_over_at": took_over / 1000 if took_over else None,
            "silence": page["silence"] / 1e6 if page is not None and took_over else None,
            "kept": pool.kept or None,
            "trouble": crew.trouble.reason or None,
            "age": round(now - page["born"] / 1000, 3) if page is not None else None,
            "cpu": round(cpu_time(pid), 3) if pid else 0.0,
            "rss": resident_memory(pid) if pid else 0,
        }

    def _page(self, worker: Worker | None) -> webpage.Page | None:
        link = self._web.links.get(worker.number) if worker is not None else None
        return link.page if link is not None else None

    def _messages(self, pool: ServicePool) -> int:
        """Those that workers have handled, which are no more as well."""
        pages = [self._page(worker) for worker in pool.workers.values()]
        return self._web.sizes.counted(pool.name, [page for page in pages if page is not None])[0]


def _serving(pool: ServicePool) -> Worker | None:
    return next((one for one in pool.workers.values() if one.number in pool.accepting and one.state != LEAVING), None)


def _state(pool: ServicePool, worker: Worker | None, *, parked: bool) -> str:
    if worker is not None:
        return "handing over" if pool.swapping else "serving"
    if pool.stopping or not pool.workers:
        return "parked" if parked and not pool.stopping else "none"
    return "starting" if any(one.state != LEAVING for one in pool.workers.values()) else "leaving"
