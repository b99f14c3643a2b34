"""The daemon in numbers: for ``stats``, ``pools`` and ``health``.

What must live here: names and their values.
What this file must not know: how they are shown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

from rocksyd import __version__
from rocksyd.core.companions import READY
from rocksyd.core.durations import BOUNDS, Durations
from rocksyd.core.worker import Worker
from rocksyd.master.desk.clients import Clients
from rocksyd.master.desk.door import Door
from rocksyd.master.desk.generations import Generations
from rocksyd.master.desk.methods import STATS
from rocksyd.master.desk.outlook import Problem, outlook
from rocksyd.master.desk.rates import Rates
from rocksyd.master.staff.children import Children
from rocksyd.master.staff.companions import Companions
from rocksyd.master.staff.reloading import Loading
from rocksyd.master.turn import Turn
from rocksyd.posix.processes import cpu_time, resident_memory
from rocksyd.posix.scoreboard import Entry


def _named(beginning: str) -> tuple[str, ...]:
    return tuple(name for name in STATS["properties"] if name.startswith(beginning))


WEB_TOTALS, SERVICE_TOTALS = _named("web_"), _named("service")
"""What ``stats`` says of the pools that serve requests, and of resident services."""


class WebNumbers(Protocol):
    """What is known of the pools that serve requests."""

    def rows(self) -> list[dict[str, Any]]:
        """Those of ``pools``."""

    def totals(self) -> dict[str, int]:
        """Of all of them together, by the names of ``stats``."""

    def pids(self) -> list[int]:
        """Of their workers."""

    def problems(self) -> list[tuple[str, str]]:
        """Pools that fork nothing any more, and why."""


class ServiceNumbers(Protocol):
    """What is known of resident services."""

    def rows(self) -> list[dict[str, Any]]:
        """Those of ``services``."""

    def totals(self) -> dict[str, int]:
        """Of all of them together, by the names of ``stats``."""

    def kept(self) -> dict[str, str]:
        """Services that go on in the code before, and why."""


class NoServices:
    """Where there is none."""

    def rows(self) -> list[dict[str, Any]]:
        """None."""
        return []

    def totals(self) -> dict[str, int]:
        """All of them 0."""
        return dict.fromkeys(SERVICE_TOTALS, 0)

    def kept(self) -> dict[str, str]:
        """None."""
        return {}


class NoWeb:
    """Where no application serves requests."""

    def rows(self) -> list[dict[str, Any]]:
        """None."""
        return []

    def totals(self) -> dict[str, int]:
        """All of them 0."""
        return dict.fromkeys(WEB_TOTALS, 0)

    def pids(self) -> list[int]:
        """None."""
        return []

    def problems(self) -> list[tuple[str, str]]:
        """None."""
        return []


class Numbers:
    """Reads the others, changes nothing."""

    companions: Companions
    door: Door

    def __init__(self, turn: Turn, clients: Clients, children: Children, loading: Loading, generations: Generations) -> None:
        self._turn = turn
        self._clients = clients
        self._children = children
        self._loading = loading
        self._generations = generations
        self.served: Callable[[], int] = lambda: 0
        """Requests so far."""
        self.rates = Rates()
        self.web: WebNumbers = NoWeb()
        self.services: ServiceNumbers = NoServices()

    def values(self) -> Generator[None, None, dict[str, Any]]:
        """Names and numbers of the daemon as a whole; piece by piece, because each process is asked for its memory."""
        memory = yield from self._memory()
        return dict(self._values(memory))

    def counted(self) -> dict[str, Any]:
        """The same without what only the system knows."""
        return dict(self._values(0))

    def _values(self, memory: int) -> Iterator[tuple[str, Any]]:
        clients, generations, engine = self._clients, self._generations, self._turn.engine
        yield "pid", os.getppid()
        yield "master_pid", os.getpid()
        yield "version", __version__
        yield "generation", engine.generation
        yield "rev", generations.revision
        yield "uptime", round(time.time() - generations.started_at)
        yield "time", round(time.time())
        yield "curr_connections", len(clients.by_number)
        yield "total_connections", clients.accepted
        yield "max_connections", self.door.limit
        yield "dropped_connections", clients.dropped
        yield "requests", self.served()
        now = time.monotonic()
        for seconds in (1, 10, 60):
            yield "requests_per_second" + (f"_{seconds}" if seconds > 1 else ""), round(self.rates.over(seconds, now), 3)
        yield "total_memory", memory
        yield "data_memory", sum(resident_memory(zygote.pid) for zygote in self._children.zygotes.values() if zygote.pid)
        for name in ("journal_commits", "journal_rows"):
            yield name, engine.counters[name]
        yield "runs_waiting", sum(len(queue) for queue in engine.queues.values())
        yield "runs_running", sum(pool.busy for pool in engine.pools.values())
        for name in ("submitted", "refused", "retried", "forks_failed"):
            yield f"runs_{name}" if name != "forks_failed" else name, engine.counters[name]
        yield "runs_slow", engine.counters["slow"]
        yield "runs_short_of_memory", engine.counters["short_of_memory"]
        for outcome in ("ok", "failed", "killed", "timeout", "memory", "lost", "cancelled"):
            yield f"runs_ended_{outcome}", engine.counters[f"ended_{outcome}"]
        yield "workers", len(engine.workers)
        yield "restarts", generations.restarts
        yield "crashes", generations.crashes
        yield "draining", int(engine.draining)
        yield from self.web.totals().items()
        yield from self.services.totals().items()

    def _memory(self) -> Generator[None, None, int]:
        """Resident bytes of all the daemon's processes; what they share counts for each."""
        pids = [os.getpid(), os.getppid(), *(zygote.pid for zygote in self._children.zygotes.values())]
        pids += [worker.pid for worker in self._turn.engine.workers.values()]
        pids += self.web.pids()
        pids += [process.pid for process in self.companions.processes.values()]
        memory = 0
        for pid in filter(None, pids):
            memory += resident_memory(pid)
            yield
        return memory

    def full(self) -> Generator[None, None, dict[str, Any]]:
        """Everything, with the audit of restarts; piece by piece."""
        generations = self._generations
        values = yield from self.values()
        return {
            **values,
            "gauges": self._turn.engine.gauges,
            "restart_count": generations.restarts,
            "restarts": generations.records(20),
        }

    def durations(self) -> dict[str, Any]:
        """How long runs take, by pool and target; counted from the first time that anybody asks."""
        engine = self._turn.engine
        if engine.durations is None:
            engine.durations = Durations()
        return {"bounds": BOUNDS, "rows": engine.durations.rows()}

    def pools(self) -> Generator[None, None, list[dict[str, Any]]]:
        """One row a pool; made worker by worker, because the system is asked about each."""
        engine = self._turn.engine
        rows = []
        for name, pool in list(engine.pools.items()):
            processes = []
            for worker in list(pool.workers.values()):
                processes.append(self._process(worker))
                yield
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
                    "processes": processes,
                }
            )
        return [*rows, *self.web.rows()]

    def _process(self, worker: Worker) -> dict[str, Any]:
        """One worker: from the scoreboard what it says itself, from the engine what it has not come to say yet."""
        entry = self._children.board.read(worker.slot)
        if entry is None or entry.worker != worker.number:
            entry = Entry(
                pid=worker.pid, worker=worker.number, generation=worker.generation, stage="starting", key=worker.run,
                since=worker.since, born=worker.born,
            )  # fmt: skip
        now = time.monotonic()
        run = self._turn.engine.runs.get(worker.run)
        cpu = cpu_time(entry.pid) or entry.cpu
        return {
            "worker": worker.number,
            "pid": entry.pid or None,
            "generation": entry.generation,
            "stage": entry.stage,
            "seconds": round(now - entry.since, 3) if entry.since else None,
            "age": round(now - entry.born, 3) if entry.born else None,
            "key": worker.run or entry.key or None,
            "target": run.order.name if run is not None else None,
            "running": len(worker.runs),
            "jobs": entry.jobs,
            "cpu": round(cpu, 3),
            "job_cpu": round(max(0.0, cpu - entry.cpu), 3) if worker.run and not worker.shared else None,
            "rss": resident_memory(entry.pid),
            "max_rss": entry.memory,
        }

    def _companion(self, name: str) -> dict[str, Any]:
        """One companion."""
        life, process = self.companions.lives[name], self.companions.serving.get(name)
        return {
            "name": name,
            "state": life.state,
            "pid": process.pid or None if process is not None else None,
            "restarts": life.restarts,
            "reason": life.reason or None,
            "listen": self.companions.sockets.addresses.get(name, []),
        }

    def problems(self) -> list[Problem]:
        """What keeps the daemon from doing its work."""
        turn, engine = self._turn, self._turn.engine
        found: list[Problem] = []

        def say(kind: str, text: str, cure: str) -> None:
            found.append(Problem(kind, text, cure))

        for name, app in engine.applications.items():
            if not app.ready:
                why = self._loading.trouble(name)
                say(
                    f"application:{name}",
                    f"application {name} is not loaded" + (f", which is tried again and again: {why}" if why else ""),
                    f"correct it and run `rocksyd restart`; `rocksyd doctor --app {name}` shows where loading fails"
                    if why
                    else f"wait while it is loaded; if that takes too long, `rocksyd doctor --app {name}` shows where it hangs",
                )
        parked = [(pool.name, pool.trouble.reason) for pool in engine.pools.values() if pool.trouble.parked]
        for name, reason in (*parked, *self.web.problems()):
            say(
                f"pool:{name}",
                f"pool {name} is parked: {reason}",
                "correct what its workers die of (see the log), then run `rocksyd restart`: it lets the pool fork again",
            )
        for name, reason in self.services.kept().items():
            say(
                f"service:{name}",
                f"service {name} goes on in the code before: {reason.partition(chr(10))[0]}",
                "correct what the log says of it, then run `rocksyd restart`: it hands over again",
            )
        if turn.writing.trouble:
            say(
                "journal",
                turn.writing.trouble,
                "new runs are refused until the journal can be written, which is tried again and again: see its disk and owner",
            )
        if engine.draining:
            say(
                "draining",
                "draining",
                "no more runs are taken; when none is left, stop the daemon, or restart it to have it serve again",
            )
        faults = turn.barrier.faults
        recent = turn.barrier.recent(time.monotonic())
        if recent:
            counts = ", ".join(f"{faults[kind]} of a {kind}" for kind in recent)
            say(
                "faults",
                f"faults of rocksyd were met, the last within the hour, each ended only what set it off: {counts}",
                "report the tracebacks in the log to rocksyd's developers; after an hour without another this is over",
            )
        for name, life in self.companions.lives.items():
            if life.state != READY:
                say(
                    f"companion:{name}",
                    f"companion {name} is {life.state}" + (f": {life.reason.splitlines()[0]}" if life.reason else ""),
                    "it is started again and again, and runs do not need it; what it printed is in the log",
                )
        return found

    def condition(self) -> dict[str, Any]:
        """Whether the daemon can do its work, and if not, why, and what to do about it; and what will keep it from that soon."""
        problems = self.problems()
        return {
            "ok": not problems,
            "problems": [problem.text for problem in problems],
            "advice": [problem.cure for problem in problems],
            "kinds": [problem.kind for problem in problems],
            "warnings": [{"kind": one.kind, "text": one.text, "advice": one.cure} for one in outlook(self._turn.engine)],
        }

    def news(self) -> dict[str, Any]:
        """The condition, for those who follow it."""
        return {**self.condition(), "recorded": self._generations.recorded}

    def health(self) -> dict[str, Any]:
        """The condition, and what there is."""
        turn, listeners = self._turn, self.door.listeners.values()
        return {
            **self.condition(),
            "set_aside": turn.writing.journal.set_aside(),
            "faults": dict(turn.barrier.faults),
            "generation": turn.engine.generation,
            "listen": [str(listener.address) for listener in listeners if not listener.for_callers],
            "exec": [str(listener.address) for listener in listeners if listener.for_callers],
            "companions": [self._companion(name) for name in self.companions.lives],
            "zygotes": {
                z.name: {
                    "state": z.state,
                    "pid": z.pid,
                    "memory": z.ready.memory if z.ready else 0,
                    "huge": z.ready.huge if z.ready else 0,
                }
                for z in self._children.zygotes.values()
            },
        }
