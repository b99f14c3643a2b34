"""Zygotes and workers as the engine's world has them: they obey or refuse, live or die, and what they say waits to be heard."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from rocksyd import messages as m
from rocksyd.config import AppConfig, Config, PoolConfig
from rocksyd.core import events as ev
from rocksyd.messages import NOTHING_RUN
from rocksyd.model import Run

LIMITS = {"one": 1, "two": 2}
LEAVES = 3
"""The retcode of a run that leaves something in its worker, which takes no other one then."""
"""``max_running`` of targets."""
JOBS = {
    name: {"target": f"jobs:{name}", "settings": {"max_running": LIMITS.get(name, 0), "retries": int(name == "again")}}
    for name in ("free", "one", "two", "again")
}


def config(**pools: PoolConfig) -> Config:
    """A configuration with these pools, by their pool id; where an application has a pool ``side``, target ``two`` runs in it."""
    apps = {}
    for name, pool in pools.items():
        if "/" not in name:
            others = {other.partition("/")[2]: p for other, p in pools.items() if other.startswith(f"{name}/")}
            two = {"grace": 3.0, **({"pool": "side"} if "side" in others else {})}
            apps[name] = AppConfig(name, f"/{name}", pool=pool, pools=others, jobs_settings={"two": two})
    return Config("/rocksyd.toml", "/", (), "/var", apps=apps)


def zygote_ready(app: str, generation: int, jobs: dict[str, Any]) -> ev.HeardZygote:
    """The zygote of this generation is to be forked from."""
    return ev.HeardZygote(app, generation, 0, m.Ready(app, generation, jobs=jobs))


def template_ready(app: str, generation: int, pool: str, template: int, before: int, cost: int) -> ev.HeardZygote:
    """A template is to be forked from."""
    said = m.Ready(app, generation, template=template, pool=pool, before=before, private=cost)
    return ev.HeardZygote(app, generation, template, said)


def forked(worker: int, pid: int) -> ev.HeardZygote:
    """A zygote has forked this worker."""
    return ev.HeardZygote("app", 1, 0, m.Forked(worker, pid))


def fork_failed(worker: int, reason: str) -> ev.HeardZygote:
    """A zygote could not fork it."""
    return ev.HeardZygote("app", 1, 0, m.ForkFailed(worker, "app", reason))


def measured(order: ev.MeasurePool, sizes: tuple[tuple[int, int], ...]) -> ev.HeardZygote:
    """What workers have for themselves."""
    return ev.HeardZygote(order.app, order.generation, order.template, m.Measured(order.pool, sizes))


@dataclass
class Process:
    """One worker's process."""

    number: int
    zygote: Zygote
    slot: int
    pool: str
    inbox: deque[Any] = field(default_factory=deque)
    outbox: deque[Any] = field(default_factory=deque)
    job: ev.StartJob | None = None
    last: bool = False
    identity: tuple[str, int, int] = ("", 0, 0)
    """Key, sequence and attempt of the run it has, or had last."""
    result: m.Result | None = None
    """Said, and not acknowledged yet."""
    waiting: deque[ev.StartJob] = field(default_factory=deque)
    draining: bool = False
    cut_off: bool = False
    """Nobody holds the other end of its channel any more."""
    told_to_end: bool = False
    alive: bool = True
    capacity: int = 1
    """More than one where runs share it, as in ``worker/concurrent.py``; then it has ``jobs`` and ``results``."""
    jobs: dict[str, ev.StartJob] = field(default_factory=dict)
    results: dict[str, m.Result] = field(default_factory=dict)

    @property
    def going_on(self) -> list[Run]:
        """What it is at."""
        return [order.run for order in (*self.jobs.values(), *([self.job] if self.job is not None else []))]

    @property
    def pid(self) -> int:
        return 10_000 + self.number


@dataclass
class Zygote:
    """One application's process that forks: a zygote, or a template with the number of the worker that it was."""

    app: str
    generation: int
    inbox: deque[Any] = field(default_factory=deque)
    outbox: deque[Any] = field(default_factory=deque)
    exits: dict[int, ev.WorkerExited] = field(default_factory=dict)
    """Not acknowledged yet."""
    retiring: bool = False
    alive: bool = True
    template: int = 0
    pool: str = ""
    counting: bool = False
    """Whether its inventory is awaited."""

    @property
    def kin(self) -> tuple[str, int]:
        return self.app, self.generation


class Actors:
    """All of them, and a count of what really ran."""

    def __init__(self) -> None:
        self.zygotes: list[Zygote] = []
        self.processes: dict[int, Process] = {}
        self.orphans: dict[int, ev.WorkerExited] = {}
        """Exits that the keeper has reaped, not acknowledged yet."""
        self.links: set[int] = set()
        """Workers whose channels the master listens to."""
        self.executions: Counter[tuple[str, int, int]] = Counter()

    # --- zygotes ------------------------------------------------------------------------------------------------------
    def start_zygote(self, app: str) -> Zygote:
        """A new generation that is ready."""
        generation = max((zygote.generation for zygote in self.zygotes), default=0) + 1
        zygote = Zygote(app, generation)
        zygote.outbox.append(self.ready(zygote))
        self.zygotes.append(zygote)
        return zygote

    @staticmethod
    def ready(zygote: Zygote) -> ev.HeardZygote:
        if zygote.template:
            return template_ready(*zygote.kin, zygote.pool, zygote.template, 16 << 20, 16 << 20)
        return zygote_ready(zygote.app, zygote.generation, JOBS)

    def zygote_reads(self, zygote: Zygote, refuses: bool = False) -> None:
        """It carries out one order."""
        match zygote.inbox.popleft():
            case ev.ForkWorker() as order if refuses or zygote.retiring:
                zygote.outbox.append(fork_failed(order.worker, "no"))
            case ev.ForkWorker() as order:
                assert order.worker not in self.processes, "a worker's number is never given twice"
                self.processes[order.worker] = process = Process(order.worker, zygote, order.slot, order.pool)
                process.capacity = order.capacity
                zygote.outbox.append(forked(order.worker, process.pid))
            case ev.RetireZygote() | ev.RetireTemplate():
                zygote.retiring = True
            case "become" if refuses:
                self.zygote_dies(zygote)
            case "become":
                zygote.outbox.append(self.ready(zygote))
            case ev.MeasurePool() as order:
                size = 16 << 20 if not zygote.template or zygote.template % 2 else 1 << 20
                sizes = tuple((process.number, size) for process in self.of(zygote) if process.pool == order.pool)
                zygote.outbox.append(measured(order, sizes))
            case "inventory":
                found = [process.number for process in self.of(zygote)]
                zygote.outbox.append(("workers", found, list(zygote.exits.values()), not zygote.retiring))

    def of(self, zygote: Zygote) -> list[Process]:
        """Its living workers."""
        return [process for process in self.processes.values() if process.zygote is zygote and process.alive]

    def zygote_dies(self, zygote: Zygote) -> None:
        """Its workers live on; exits that it was the only one to know are lost with it."""
        zygote.alive = False
        zygote.inbox.clear()
        zygote.outbox.append("gone")
        for process in self.of(zygote):
            carried = any(process.number in _carried(message) for message in zygote.outbox)
            process.cut_off = process.number not in self.links and not carried

    def promote(self, process: Process) -> Zygote:
        """The worker becomes a template, if it lives to read the order."""
        template = Zygote(*process.zygote.kin, template=process.number, pool=process.pool, alive=process.alive)
        self.zygotes.append(template)
        if process.alive:
            process.alive = False
            template.inbox.append("become")
        else:
            template.outbox.append("gone")
        return template

    # --- workers ------------------------------------------------------------------------------------------------------
    def can_act(self, process: Process) -> bool:
        return process.alive and bool(process.inbox or process.waiting or process.cut_off or process.going_on)

    def act(self, process: Process, retcode: int, pick: int = 0) -> None:
        """It ends a job, or takes a message."""
        if process.capacity == 1 and process.job is not None:
            self.finish(process, retcode)
        elif process.capacity == 1:
            self.worker_reads(process)
        elif process.jobs and (pick % 2 or not process.inbox):
            self.finish_one(process, list(process.jobs)[pick % len(process.jobs)], retcode)
        else:
            self.shared_worker_reads(process)

    def shared_worker_reads(self, process: Process) -> None:
        """It takes one message, as ``worker/concurrent.py`` does, whatever it is at."""
        if not process.inbox:
            return self.die(process, 0, NOTHING_RUN)  # nobody is at the other end, and all it had is done
        match process.inbox.popleft():
            case ev.StartJob() as order:
                assert len(process.jobs) < process.capacity
                process.jobs[order.run.key] = order
                self.count(process, order.run)
            case ev.CancelRun(_, run) if run.key in process.jobs:
                self.finish_one(process, run.key, 143)
            case ev.AckResult(_, key):
                process.results.pop(key, None)
            case ev.AskWorker(_, epoch):
                process.outbox.extend(ev.Heard(process.number, result) for result in process.results.values())
                held = (*process.jobs, *process.results)
                answer = (
                    m.Holding(process.number, process.pid, epoch, held) if held else m.Idle(process.number, process.pid, epoch)
                )
                process.outbox.append(ev.Heard(process.number, answer))
            case ev.DrainWorker():
                process.draining = True
        if process.draining and not process.jobs and not process.results:
            self.die(process, 0)
        return None

    def finish_one(self, process: Process, key: str, retcode: int) -> None:
        """One of the jobs that share it has ended."""
        del process.jobs[key]
        process.results[key] = m.Result(key, retcode == 0, retcode)
        if not process.cut_off:
            process.outbox.append(ev.Heard(process.number, process.results[key]))

    def worker_reads(self, process: Process) -> None:
        """It takes one message, as ``worker/main.py`` does."""
        if process.job is not None:
            return  # busy with user code
        if process.result is None and process.waiting:
            self.begin(process, process.waiting.popleft())
            return
        if not process.inbox:
            if process.cut_off:
                self.die(process, 0, process.result.retcode if process.result else NOTHING_RUN)
            return
        match process.inbox.popleft():
            case ev.StartJob() as order if process.result is not None:
                assert not process.result.leaves, "a run is given to a worker that takes none"
                process.waiting.append(order)
            case ev.StartJob() as order:
                self.begin(process, order)
            case ev.AckResult(_, key) if process.result is not None and process.result.key == key:
                process.result = None
                if process.last or (process.draining and not process.waiting):
                    self.die(process, 0)
            case ev.AskWorker(_, epoch):
                process.outbox.append(ev.Heard(process.number, process.result or m.Idle(process.number, process.pid, epoch)))
            case ev.DrainWorker() if process.result is not None:
                process.draining = True
            case ev.DrainWorker():
                self.die(process, 0)

    def begin(self, process: Process, order: ev.StartJob) -> None:
        process.job, process.last = order, order.last
        self.count(process, order.run)

    def count(self, process: Process, run: Run) -> None:
        """A run's code begins."""
        process.identity = run.key, run.sequence, run.attempt.number
        self.executions[process.identity] += 1
        assert self.executions[process.identity] == 1, f"{process.identity} is executed twice"
        limit = LIMITS.get(run.order.name, 0)
        going = [run for other in self.processes.values() if other.alive for run in other.going_on]
        same = sum((other.order.app, other.order.target) == (run.order.app, run.order.target) for other in going)
        assert not limit or same <= limit, f"{same} of {run.order.name} run at once"

    def finish(self, process: Process, retcode: int) -> None:
        """User code has returned or raised."""
        assert process.job is not None
        key = process.identity[0]
        process.job = None
        if process.cut_off:
            self.die(process, 0, retcode)
        else:
            process.last = process.last or retcode == LEAVES
            process.result = m.Result(key, retcode == 0, retcode, leaves=retcode == LEAVES)
            process.outbox.append(ev.Heard(process.number, process.result))

    def die(self, process: Process, number: int, retcode: int = 0) -> None:
        """The process ends, by a signal or by itself."""
        process.alive, process.job = False, None
        exited = ev.WorkerExited(process.number, number or retcode << 8)
        if process.zygote.alive:
            process.zygote.exits[process.number] = exited
            process.zygote.outbox.append(exited)
        else:
            self.orphans[process.number] = exited


def _carried(message: Any) -> list[int]:
    """Workers whose channels are on their way in this message."""
    match message:
        case ev.HeardZygote(message=m.Forked()):
            return [message.worker]
        case ("workers", found, *_):
            return list(found)
    return []
