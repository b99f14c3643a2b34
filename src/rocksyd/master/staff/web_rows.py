"""What is shown of web pools: a row a pool, with the fields that pools of jobs have, and those of requests.

What must live here: reading pages and pools for people. What this file must not know: who asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rocksyd.core import web_crew as decisions
from rocksyd.core.pools import Pool
from rocksyd.core.worker import BUSY, IDLE, LEAVING, STARTING, Worker
from rocksyd.master.staff.web import Web
from rocksyd.posix import webpage
from rocksyd.posix.processes import cpu_time, resident_memory

PERCENTILES = (0.5, 0.9, 0.99)
COUNTED = ("requests", "refused", "timeouts", "slow", "status_1xx", "status_2xx", "status_3xx", "status_4xx", "status_5xx")
"""What ``stats`` says of all web pools together, beside what is so now."""


class WebRows:
    """The rows."""

    def __init__(self, web: Web, began: Callable[[], float]) -> None:
        self._web = web
        self._began = began
        """When the service was started (Unix)."""

    def rows(self) -> list[dict[str, Any]]:
        """All of them."""
        return [self.row(name) for name in self._web.pools if name in self._web.sockets.apps]

    def row(self, name: str) -> dict[str, Any]:
        """One pool's."""
        web, pool = self._web, self._web.pools[name]
        crew = pool.sets.get(pool.current) or Pool(name, pool.policy)
        counted = self._counted(name)
        said = dict(zip(webpage.GROWING, counted, strict=False))
        pages = self._pages(name)
        queue = web.sizes.waiting(name)
        states = [worker.state for worker in pool.workers.values()]
        requests = said["requests"]
        return {
            "pool": name,
            "app": pool.app,
            "kind": "web",
            "pm": pool.policy.pm,
            "generation": pool.current,
            "ready": pool.ready,
            "workers": len(pool.workers),
            "idle": states.count(IDLE),
            "busy": states.count(BUSY),
            "starting": states.count(STARTING),
            "leaving": states.count(LEAVING),
            "max_workers": pool.policy.max_workers,
            "concurrency": pool.capacity,
            "peak_busy": crew.peak_busy,
            "waiting": queue,
            "max_queue": pool.policy.max_queue,
            "served": requests,
            "memory": sum(resident_memory(worker.pid) for worker in pool.workers.values() if worker.pid),
            "max_workers_reached": crew.max_reached,
            "peak_waiting": web.sizes.peaks.get(name, 0),
            "recycled": pool.recycled,
            "replacing": len(crew.recycling.replaced),
            "parked": crew.trouble.parked,
            "failures": crew.trouble.failures,
            "trouble": crew.trouble.reason or None,
            "processes": [self._process(worker) for worker in pool.workers.values()],
            "listen": web.sockets.addresses.get(name, []),
            "in_flight": sum(page["in_flight"] for page in pages),
            "connections": sum(page["connections"] for page in pages),
            "websockets": sum(page["websockets"] for page in pages),
            "requests_per_second": round(web.sizes.rate(name, requests, time.monotonic()), 1),
            "latency": {f"p{share * 100:g}": webpage.percentile(counted, share) for share in PERCENTILES},
            "status": {one: said[f"status_{one}"] for one in ("1xx", "2xx", "3xx", "4xx", "5xx")},
            **{one: said[one] for one in ("accepted", "adopted", "given", "refused", "timeouts", "slow", "bad", "bytes_sent")},
            "seconds": said["micros"] / 1e6,
            "durations": {"bounds": webpage.BOUNDS, "counts": webpage.histogram(counted), "sum": said["micros"] / 1e6},
            "uptime": round(time.time() - self._began()),
        }

    def totals(self) -> dict[str, int]:
        """What ``stats`` says of all web pools together."""
        web = self._web
        names = [name for name in web.pools if name in web.sockets.apps]
        counted = [dict(zip(webpage.GROWING, self._counted(name), strict=False)) for name in names]
        pages = [page for name in names for page in self._pages(name)]
        return {
            "web_workers": sum(len(web.pools[name].workers) for name in names),
            **{f"web_{what}": sum(page[what] for page in pages) for what in ("connections", "in_flight")},
            "web_waiting": sum(web.sizes.waiting(name) for name in names),
            **{f"web_{what}": sum(one[what] for one in counted) for what in COUNTED},
        }

    def pids(self) -> list[int]:
        """Of all workers that stay, those of services as well."""
        return [link.pid for link in self._web.links.values() if link.pid]

    def problems(self) -> list[tuple[str, str]]:
        """Pools that fork nothing any more, and why."""
        found = []
        for name, pool in self._web.pools.items():
            crew = pool.sets.get(pool.current)
            if crew is not None and crew.trouble.parked:
                found.append((name, crew.trouble.reason))
        return found

    def fpm(self, name: str) -> dict[str, Any]:
        """What the status page shows, by the names that php-fpm has for it."""
        row = self.row(name)
        began = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(self._began()))
        return {
            "pool": name, "process manager": row["pm"], "start time": began, "start since": row["uptime"],
            "accepted conn": row["accepted"], "listen queue": row["waiting"], "max listen queue": row["peak_waiting"],
            "listen queue len": row["max_queue"], "idle processes": row["idle"], "active processes": row["busy"],
            "total processes": row["workers"], "max active processes": row["peak_busy"],
            "max children reached": row["max_workers_reached"], "slow requests": row["slow"],
            "requests": row["served"], "in flight": row["in_flight"], "generation": row["generation"],
            "requests per second": row["requests_per_second"],
            **{f"latency {share}": value for share, value in row["latency"].items()},
            **{f"status {code}": count for code, count in row["status"].items()}, "refused": row["refused"],
        }  # fmt: skip

    def _counted(self, name: str) -> list[int]:
        """What workers have counted, those that are no more as well."""
        return self._web.sizes.counted(name, self._pages(name))

    def _pages(self, name: str) -> list[webpage.Page]:
        workers = self._web.pools[name].workers
        return [link.page for number, link in self._web.links.items() if number in workers and link.page is not None]

    def _process(self, worker: Worker) -> dict[str, Any]:
        link = self._web.links.get(worker.number)
        page = link.page if link is not None else None
        now = time.monotonic()
        stage = webpage.STAGES[page["stage"]] if page is not None else "starting"
        return {
            "worker": decisions.count_of(worker.number),
            "title": decisions.title(worker.number),
            "pid": worker.pid or None,
            "generation": worker.generation,
            "stage": stage,
            "seconds": round(now - worker.since, 3),
            "age": round(now - page["born"] / 1000, 3) if page is not None else None,
            "key": None,
            "target": None,
            "running": page["in_flight"] if page is not None else 0,
            "jobs": page["requests"] if page is not None else 0,
            "cpu": round(cpu_time(worker.pid), 3) if worker.pid else 0.0,
            "job_cpu": None,
            "rss": resident_memory(worker.pid) if worker.pid else 0,
            "max_rss": 0,
        }
