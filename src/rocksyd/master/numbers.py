"""The daemon in numbers: for ``stats``, ``pools`` and ``health``.

What must live here: names and their values.
What this file must not know: how they are shown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rocksyd import __version__
from rocksyd.core.pools import Worker
from rocksyd.posix.processes import cpu_time, resident_memory
from rocksyd.posix.scoreboard import Entry

if TYPE_CHECKING:
    from rocksyd.master.server import Server


class Numbers:
    """Reads the server, changes nothing."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def _values(self) -> Iterator[tuple[str, Any]]:
        server, engine = self._server, self._server.engine
        yield "pid", os.getppid()
        yield "master_pid", os.getpid()
        yield "version", __version__
        yield "generation", engine.generation
        yield "uptime", round(time.time() - server.generations.started_at)
        yield "time", round(time.time())
        yield "curr_connections", len(server.clients.by_number)
        yield "total_connections", server.clients.accepted
        yield "max_connections", server.clients.limit
        yield "dropped_connections", server.clients.dropped
        yield "requests", server.commands.served
        yield "runs_waiting", sum(len(queue) for queue in engine.queues.values())
        yield "runs_running", sum(pool.busy for pool in engine.pools.values())
        for name in ("submitted", "refused", "retried", "forks_failed"):
            yield f"runs_{name}" if name != "forks_failed" else name, engine.counters[name]
        yield "runs_slow", engine.counters["slow"]
        for outcome in ("ok", "failed", "killed", "timeout", "memory", "lost", "cancelled"):
            yield f"runs_ended_{outcome}", engine.counters[f"ended_{outcome}"]
        yield "workers", len(engine.workers)
        yield "restarts", server.generations.restarts
        yield "crashes", server.generations.crashes
        yield "draining", int(engine.draining)

    def flat(self, arguments: tuple[str, ...]) -> list[tuple[str, Any]]:
        """Pairs for memcached's ``stats``; ``stats restarts`` and ``stats pools`` show those."""
        if arguments[:1] == ("restarts",):
            rows = self._server.generations.records(20)
            return [(f"{number}:{name}", value) for number, row in enumerate(rows) for name, value in row.items()]
        if arguments[:1] == ("pools",):
            return [(f"{pool['pool']}:{name}", value) for pool in self.pools() for name, value in pool.items() if name != "pool"]
        return list(self._values())

    def full(self) -> dict[str, Any]:
        """Everything, with the audit of restarts."""
        generations = self._server.generations
        return {**dict(self._values()), "restart_count": generations.restarts, "restarts": generations.records(20)}

    def pools(self) -> list[dict[str, Any]]:
        """One row a pool."""
        engine = self._server.engine
        rows = []
        for name, pool in engine.pools.items():
            queue = engine.queues.get(name)
            app = engine.applications.get(pool.app)
            rows.append(
                {
                    "pool": name,
                    "app": pool.app,
                    "pm": pool.policy.pm,
                    "generation": app.generation if app else 0,
                    "ready": bool(app and app.ready),
                    "workers": len(pool.workers),
                    "idle": len(pool.idle),
                    "busy": pool.busy,
                    "starting": pool.starting,
                    "leaving": pool.leaving,
                    "max_workers": pool.policy.max_workers,
                    "concurrency": pool.policy.concurrency,
                    "peak_busy": pool.peak_busy,
                    "waiting": len(queue) if queue is not None else 0,
                    "max_queue": pool.policy.max_queue,
                    "served": pool.served,
                    "memory": pool.memory.total(len(pool.workers)),
                    "max_workers_reached": pool.max_reached,
                    "peak_waiting": pool.peak_waiting,
                    "recycled": pool.recycling.done,
                    "replacing": len(pool.recycling.replaced),
                    "parked": pool.trouble.parked,
                    "failures": pool.trouble.failures,
                    "trouble": pool.trouble.reason or None,
                    "processes": [self._process(worker) for worker in pool.workers.values()],
                }
            )
        return rows

    def _process(self, worker: Worker) -> dict[str, Any]:
        """One worker: from the scoreboard what it says itself, from the engine what it has not come to say yet."""
        entry = self._server.board.read(worker.slot)
        if entry is None or entry.worker != worker.number:
            entry = Entry(
                pid=worker.pid, worker=worker.number, generation=worker.generation, stage="starting", key=worker.run,
                since=worker.since, born=worker.born,
            )  # fmt: skip
        now = time.monotonic()
        run = self._server.engine.runs.get(worker.run)
        cpu = cpu_time(entry.pid) or entry.cpu
        return {
            "worker": worker.number,
            "pid": entry.pid or None,
            "generation": entry.generation,
            "stage": entry.stage,
            "seconds": round(now - entry.since, 3) if entry.since else None,
            "age": round(now - entry.born, 3) if entry.born else None,
            "key": worker.run or entry.key or None,
            "target": run.name if run is not None else None,
            "running": len(worker.runs),
            "jobs": entry.jobs,
            "cpu": round(cpu, 3),
            "job_cpu": round(max(0.0, cpu - entry.cpu), 3) if worker.run and not worker.shared else None,
            "rss": resident_memory(entry.pid),
            "max_rss": entry.memory,
        }

    def health(self) -> dict[str, Any]:
        """Whether the daemon can do its work, and if not, why."""
        server = self._server
        problems = []
        for name, app in server.engine.applications.items():
            if not app.ready:
                why = server.loading.trouble(name)
                problems.append(f"application {name} is not loaded" + (f", which is tried again and again: {why}" if why else ""))
        for pool in server.engine.pools.values():
            if pool.trouble.parked:
                problems.append(f"pool {pool.name} is parked: {pool.trouble.reason}")
        if server.writing.trouble:
            problems.append(server.writing.trouble)
        if server.engine.draining:
            problems.append("draining")
        return {
            "ok": not problems,
            "problems": problems,
            "generation": server.engine.generation,
            "listen": [str(listener.address) for listener in server.clients.listeners.values() if not listener.for_callers],
            "exec": [str(listener.address) for listener in server.clients.listeners.values() if listener.for_callers],
            "zygotes": {
                z.name: {
                    "state": z.state,
                    "pid": z.pid,
                    "memory": z.ready.memory if z.ready else 0,
                    "huge": z.ready.huge if z.ready else 0,
                }
                for z in server.children.zygotes.values()
            },
        }
