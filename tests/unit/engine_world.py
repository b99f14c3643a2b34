"""A world for the engine: zygotes that fork or refuse, workers that obey or die, a journal, a master that does what it is told.

What goes from one to another waits in first-in-first-out channels, and these outlive a master that dies: so a message that a
dead master did not live to read is read by the next, as it is with real sockets. The world counts what really ran.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from rocksyd.config import AppConfig, Config, JobSettings, PoolConfig
from rocksyd.core import events as ev
from rocksyd.core.engine import Engine
from rocksyd.messages import NOTHING_RUN
from rocksyd.model import ENDED, RUNNING, WAITING, Now, Run

LIMITS = {"one": 1, "two": 2}
"""``max_running`` of targets."""
JOBS = {
    name: {"target": f"jobs:{name}", "settings": {"max_running": LIMITS.get(name, 0), "retries": int(name == "again")}}
    for name in ("free", "one", "two", "again")
}


def config(**pools: PoolConfig) -> Config:
    """A configuration with these applications."""
    apps = {name: AppConfig(name, f"/{name}", pool=pool, jobs_settings={"two": JobSettings(grace=3.0)}) for name, pool in pools.items()}
    return Config("/rocksyd.toml", "/", (), "/var", apps=apps)


@dataclass
class Process:
    """One worker's process."""

    number: int
    zygote: Zygote
    slot: int
    inbox: deque[Any] = field(default_factory=deque)
    outbox: deque[Any] = field(default_factory=deque)
    job: ev.StartJob | None = None
    last: bool = False
    identity: tuple[str, int, int] = ("", 0, 0)
    """Key, sequence and attempt of the run it has, or had last."""
    result: ev.WorkerResult | None = None
    """Said, and not acknowledged yet."""
    waiting: deque[ev.StartJob] = field(default_factory=deque)
    draining: bool = False
    cut_off: bool = False
    """Nobody holds the other end of its channel any more."""
    told_to_end: bool = False
    alive: bool = True

    @property
    def pid(self) -> int:
        return 10_000 + self.number


@dataclass
class Zygote:
    """One application's process that forks."""

    app: str
    generation: int
    inbox: deque[Any] = field(default_factory=deque)
    outbox: deque[Any] = field(default_factory=deque)
    exits: dict[int, ev.WorkerExited] = field(default_factory=dict)
    """Not acknowledged yet."""
    retiring: bool = False
    alive: bool = True


class World:
    """Everything outside the engine, and the one engine that serves."""

    def __init__(self, settings: Config, start: float = 1000.0) -> None:
        self.config = settings
        self.now = Now(start, 1.7e9)
        self.engine = Engine(settings)
        self.journal: dict[str, str] = {}
        self.zygotes: list[Zygote] = []
        self.processes: dict[int, Process] = {}
        self.orphans: dict[int, ev.WorkerExited] = {}
        """Exits that the keeper has reaped, not acknowledged yet."""
        self.links: set[int] = set()
        """Workers whose channels the master listens to."""
        self.shelved: set[int] = set()
        self.dirty: dict[str, Run] = {}
        self.erased: set[str] = set()
        self.effects: list[Any] = []
        self.heard_exits: list[tuple[Zygote | None, int]] = []
        self.tickets: dict[int, str] = {}
        self.answers: Counter[int] = Counter()
        self.accepted: dict[str, int] = {}
        """Key -> sequence of every run that a caller was promised, and that was not freed."""
        self.executions: Counter[tuple[str, int, int]] = Counter()
        self.endings: Counter[tuple[str, int, int]] = Counter()
        self.take(self.engine.restore((), None, self.now))

    # --- the master ---------------------------------------------------------------------------------------------------
    def step(self, event: Any) -> None:
        effects = self.engine.step(event, self.now)
        if hasattr(event, "ticket"):
            answers = [effect for effect in effects if isinstance(effect, ev.Answer)]
            assert [answer.ticket for answer in answers] == [event.ticket], "exactly one answer a ticket, at once"
            self.tickets[event.ticket] = type(event).__name__
        self.take(effects)

    def take(self, effects: list[Any]) -> None:
        for effect in effects:
            match effect:
                case ev.Persist(run):
                    self.dirty[run.key] = run
                case ev.Erase(run):
                    self.erased.add(run.key)
                    self.dirty.pop(run.key, None)
                case ev.Ended(run):
                    identity = run.key, run.sequence, run.attempt  # now: the run may be retried before the turn is over
                    assert run.outcome != "ok" or self.executions[identity] == 1, f"{identity} is ok and never ran"
                    self.effects.append(("ended", identity))
                case ev.ForkWorker():
                    pool = self.engine.pools[effect.pool]
                    most = pool.policy.max_workers
                    assert pool.live + max(0, pool.leaving - most) <= most, "a worker too many is asked for"
                    self.effects.append(effect)
                case _:
                    self.effects.append(effect)

    def commit(self) -> None:
        for key in self.erased:
            self.journal.pop(key, None)
            self.accepted.pop(key, None)
        for key, run in self.dirty.items():
            self.journal[key] = json.dumps(run.dump())
        self.dirty, self.erased = {}, set()
        for zygote, number in self.heard_exits:
            (self.orphans if zygote is None else zygote.exits).pop(number, None)
        self.heard_exits = []

    def finish_turn(self) -> None:
        """As ``Server.finish_turn``: the journal first, then everything else."""
        while self.effects or self.dirty or self.erased or self.heard_exits:
            self.commit()
            effects, self.effects = self.effects, []
            for effect in effects:
                self.perform(effect)

    def perform(self, effect: Any) -> None:
        match effect:
            case ev.Answer(ticket, run, error):
                self.answers[ticket] += 1
                if error is None and run is not None and self.tickets[ticket] in ("Submit", "Retry") and run.key in self.journal:
                    self.accepted[run.key] = run.sequence
            case ev.ForkWorker():
                zygote = self.zygote(effect.app, effect.generation)
                if zygote is None:
                    self.step(ev.WorkerRefused(effect.worker, "its zygote is gone"))
                else:
                    zygote.inbox.append(effect)
            case ev.RetireZygote(app, generation):
                zygote = self.zygote(app, generation)
                if zygote is not None:
                    zygote.inbox.append(effect)
            case ev.KillWorker():
                self.signal(effect)
            case ("ended", identity):
                self.endings[identity] += 1
                written = json.loads(self.journal.get(identity[0], "{}"))
                same = (identity[0], written.get("sequence"), written.get("attempt", 1)) == identity
                assert not same or written["state"] == ENDED, "the journal first, then whoever waits"
            case ev.StartJob() | ev.AckResult() | ev.AskWorker() | ev.DrainWorker():
                if effect.worker in self.links:
                    self.processes[effect.worker].inbox.append(effect)
            case ev.Started() | ev.Progressed() | ev.Note():
                pass
            case _:
                raise AssertionError(f"nobody carries out {effect}")

    def zygote(self, app: str, generation: int) -> Zygote | None:
        """The living one of this name."""
        return next((z for z in self.zygotes if (z.app, z.generation, z.alive) == (app, generation, True)), None)

    def signal(self, order: ev.KillWorker) -> None:
        process = self.processes.get(order.worker)
        if process is None or not process.alive or order.worker not in self.links:
            return
        process.told_to_end = True
        if order.number == 9:
            self.die(process, 9)

    def tick(self) -> None:
        self.step(ev.Tick())
        due = self.engine.next_deadline()
        assert due is None or due > self.now.mono, "after a tick nothing is due any more"

    def pass_time(self, seconds: float) -> None:
        self.now = Now(self.now.mono + seconds, self.now.wall + seconds)

    # --- what the master hears ----------------------------------------------------------------------------------------
    def channels(self) -> list[Zygote | Process]:
        """Those that have something to say to the master."""
        speaking: list[Zygote | Process] = [zygote for zygote in self.zygotes if zygote.outbox]
        return speaking + [self.processes[number] for number in sorted(self.links) if self.processes[number].outbox]

    def hear(self, speaker: Zygote | Process) -> None:
        """Read one message."""
        message = speaker.outbox.popleft()
        if isinstance(speaker, Process):
            return self.step(message)
        match message:
            case "gone":
                for process in self.of(speaker):
                    if process.number in self.links:
                        self.shelved.add(process.number)
                self.step(ev.ZygoteGone(speaker.app, speaker.generation))
            case ev.WorkerForked(worker):
                self.links.add(worker)
                self.step(message)
            case ev.WorkerExited():
                self.hear_exit(speaker, message)
            case ("workers", found, exits, ready):
                for number in found:
                    self.links.add(number)
                    process = self.processes[number]
                    self.step(ev.WorkerFound(number, process.pid, speaker.app, process.slot, speaker.app, speaker.generation))
                for exited in exits:
                    self.hear_exit(speaker, exited)
                self.step(ev.InventoryDone(speaker.app, speaker.generation))
                known = self.engine.applications.get(speaker.app)
                if ready and (known is None or speaker.generation > known.generation or not known.ready):
                    self.step(self.ready(speaker))
            case _:
                self.step(message)
        return None

    def hear_exit(self, zygote: Zygote | None, message: ev.WorkerExited) -> None:
        """As ``Children.worker_exited``: hear its last words first."""
        process = self.processes[message.worker]
        if message.worker in self.links:
            while process.outbox:
                self.step(process.outbox.popleft())
            unread = any(isinstance(order, ev.StartJob) for order in process.inbox)
            self.links.discard(message.worker)
            message = message._replace(unread=unread)
        self.step(message)
        self.heard_exits.append((zygote, message.worker))

    def hear_orphans(self) -> None:
        """What the keeper says of workers whose zygote is gone."""
        for message in list(self.orphans.values()):
            self.hear_exit(None, message)

    # --- zygotes ------------------------------------------------------------------------------------------------------
    def start_zygote(self, app: str) -> Zygote:
        """A new generation that is ready."""
        generation = max([self.engine.generation, *(z.generation for z in self.zygotes)]) + 1
        zygote = Zygote(app, generation)
        zygote.outbox.append(self.ready(zygote))
        self.zygotes.append(zygote)
        return zygote

    @staticmethod
    def ready(zygote: Zygote) -> ev.ZygoteReady:
        return ev.ZygoteReady(zygote.app, zygote.generation, JOBS)

    def zygote_reads(self, zygote: Zygote, refuses: bool = False) -> None:
        """It carries out one order."""
        match zygote.inbox.popleft():
            case ev.ForkWorker() as order if refuses or zygote.retiring:
                zygote.outbox.append(ev.WorkerRefused(order.worker, "no"))
            case ev.ForkWorker() as order:
                assert order.worker not in self.processes, "a worker's number is never given twice"
                self.processes[order.worker] = process = Process(order.worker, zygote, order.slot)
                zygote.outbox.append(ev.WorkerForked(order.worker, process.pid))
            case ev.RetireZygote():
                zygote.retiring = True
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

    # --- workers ------------------------------------------------------------------------------------------------------
    def can_act(self, process: Process) -> bool:
        return process.alive and (bool(process.inbox) or bool(process.waiting) or process.cut_off or process.job is not None)

    def worker_reads(self, process: Process) -> None:
        """It takes one message, as ``worker/main.py`` does."""
        if process.job is not None:
            return  # busy with user code
        if process.result is None and process.waiting:
            return self.begin(process, process.waiting.popleft())
        if not process.inbox:
            if process.cut_off:
                self.die(process, 0, process.result.retcode if process.result else NOTHING_RUN)
            return None
        match process.inbox.popleft():
            case ev.StartJob() as order if process.result is not None:
                process.waiting.append(order)
            case ev.StartJob() as order:
                self.begin(process, order)
            case ev.AckResult(_, key) if process.result is not None and process.result.key == key:
                process.result = None
                if process.last:
                    self.die(process, 0)
                elif process.draining and not process.waiting:
                    self.die(process, 0)
            case ev.AskWorker(_, epoch):
                process.outbox.append(ev.WorkerIdle(process.number, epoch) if process.result is None else process.result)
            case ev.DrainWorker() if process.result is not None:
                process.draining = True
            case ev.DrainWorker():
                self.die(process, 0)
        return None

    def begin(self, process: Process, order: ev.StartJob) -> None:
        run = order.run
        process.job, process.last = order, order.last
        process.identity = run.key, run.sequence, run.attempt
        self.executions[process.identity] += 1
        assert self.executions[process.identity] == 1, f"{process.identity} is executed twice"
        limit = LIMITS.get(run.name, 0)
        same = [p for p in self.processes.values() if p.alive and p.job and (p.zygote.app, p.job.run.target) == (run.app, run.target)]
        assert not limit or len(same) <= limit, f"{len(same)} of {run.name} run at once"

    def finish(self, process: Process, retcode: int) -> None:
        """User code has returned or raised."""
        assert process.job is not None
        key = process.identity[0]
        process.job = None
        if process.cut_off:
            return self.die(process, 0, retcode)
        process.result = ev.WorkerResult(process.number, key, retcode == 0, retcode)
        process.outbox.append(process.result)
        return None

    def die(self, process: Process, number: int, retcode: int = 0) -> None:
        """The process ends, by a signal or by itself."""
        process.alive, process.job = False, None
        exited = ev.WorkerExited(process.number, number or retcode << 8)
        if process.zygote.alive:
            process.zygote.exits[process.number] = exited
            process.zygote.outbox.append(exited)
        else:
            self.orphans[process.number] = exited

    # --- another master -----------------------------------------------------------------------------------------------
    def live_runs(self) -> list[Run]:
        """As ``Journal.live``."""
        runs = [Run.load(json.loads(text)) for text in self.journal.values()]
        return sorted((run for run in runs if run.state != ENDED), key=lambda run: run.sequence)

    def hand_over(self, settings: Config) -> None:
        """A planned restart: the old master finishes its turn, the new one reads journal and snapshot."""
        self.finish_turn()
        snapshot = json.loads(json.dumps(self.engine.snapshot()))
        same = settings == self.config
        self.config = settings
        self.engine = Engine(settings)
        effects = self.engine.restore(self.live_runs(), snapshot, self.now)
        if same:
            taken = json.loads(json.dumps(self.engine.snapshot()))
            assert [(k, taken[k], snapshot[k]) for k in snapshot if taken[k] != snapshot[k]] == [], "handed over is what is taken over"
            assert not effects, "a hand-over decides nothing"
        self.take(effects)

    def crash(self, committed: bool, performed: int) -> None:
        """The master is killed: before its commit, or after it and after this many of its effects."""
        if committed:
            self.commit()
            for effect in self.effects[:performed]:
                if not isinstance(effect, ev.ForkWorker) or self.zygote(effect.app, effect.generation):
                    self.perform(effect)
        self.effects, self.dirty, self.erased, self.heard_exits = [], {}, set(), []
        offered = {name: app.dump() for name, app in self.engine.applications.items()}
        sequence = self.engine.sequence
        self.engine = Engine(self.config, self.engine.generation)
        self.engine.sequence = sequence  # the journal knows the highest it has; this world tells runs apart by it
        for name, app in self.engine.applications.items():
            app.load({**offered[name], "ready": False})  # the journal has it, see Server.record_service
        self.pass_time(0.001)
        self.take(self.engine.restore(self.live_runs(), None, self.now))
        lost, self.links = self.links, set()
        holders = {run.worker: run for run in self.engine.runs.values() if run.state == RUNNING}
        for number in sorted(lost):
            process = self.processes[number]
            if process.zygote.alive:
                continue
            if number in self.shelved and number in holders:
                run = holders[number]
                self.links.add(number)
                self.step(ev.WorkerFound(number, process.pid, run.pool, -1, run.app, run.generation))
            else:
                process.cut_off = True
        for zygote in self.zygotes:
            if zygote.alive:
                zygote.inbox.append("inventory")

    def unknown(self) -> list[Run]:
        """Runs that nobody will ever speak of (``Server._look_at_suspects``)."""
        runs = [run for run in self.engine.runs.values() if run.state == RUNNING and run.worker not in self.engine.workers]
        told = {message.worker for zygote in self.zygotes for message in zygote.outbox if isinstance(message, ev.WorkerExited)}
        pending = told | self.orphans.keys()
        return [run for run in runs if not self.processes[run.worker].alive and run.worker not in pending]

    # --- the end ------------------------------------------------------------------------------------------------------
    def be_fair(self) -> None:
        """Everybody does what they should, until nothing is left to do."""
        for _ in range(300):
            if not self.go_on():
                return
        raise AssertionError(f"this never ends: {[run for run in self.engine.runs.values()][:3]}")

    def go_on(self) -> bool:
        self.finish_turn()
        busy = False
        for app in self.config.apps:
            if not any(z.app == app and z.alive and not z.retiring for z in self.zygotes):
                self.start_zygote(app)
        for zygote in self.zygotes:
            while zygote.inbox:
                self.zygote_reads(zygote)
                busy = True
        for process in self.processes.values():
            if process.alive and process.told_to_end:
                self.die(process, 15)
            while self.can_act(process):
                busy = True
                if process.job is not None:
                    self.finish(process, 0)
                else:
                    self.worker_reads(process)
        while channels := self.channels():
            self.hear(channels[0])
            busy = True
        if self.orphans:
            self.hear_orphans()
        for run in self.unknown():
            self.step(ev.WorkerExited(run.worker, None))
        for worker in [worker for worker in self.engine.workers.values() if not worker.sure and not worker.run]:
            if not self.processes[worker.number].alive:
                self.step(ev.WorkerExited(worker.number, None))
        self.finish_turn()
        if not busy and self.engine.runs and not self.engine.stopping:
            due = self.engine.next_deadline()
            assert due is not None, f"nothing will ever wake {[run for run in self.engine.runs.values()][:3]}"
            self.pass_time(max(0.0, due - self.now.mono))
            self.tick()
            busy = True
        return busy


def _carried(message: Any) -> list[int]:
    """Workers whose channels are on their way in this message."""
    match message:
        case ev.WorkerForked(worker):
            return [worker]
        case ("workers", found, *_):
            return list(found)
    return []


def check(engine: Engine, now: Now) -> None:
    """What holds after every step of the engine."""
    for name, pool in engine.pools.items():
        workers = [worker for worker in engine.workers.values() if worker.pool == name]
        states = Counter(worker.state if worker.sure or worker.state != "idle" else "unsure" for worker in workers)
        assert (pool.starting, pool.busy, len(pool.idle), pool.unsure, pool.leaving) == tuple(
            states[state] for state in ("starting", "busy", "idle", "unsure", "leaving")
        )
        assert list(pool.workers) == [worker.number for worker in workers] or set(pool.workers) == {w.number for w in workers}
        app = engine.applications.get(name)
        if app is None:
            assert not pool.idle
            assert pool.workers
            continue
        queue = engine.queues[name]
        running = Counter(run.target for run in engine.runs.values() if run.pool == name and run.state == RUNNING)
        assert queue.running == running
        startable = sum(
            not run.max_running or running[run.target] < run.max_running for run in engine.runs.values() if run.key in queue
        )
        assert bool(queue.startable) == bool(startable)
        assert queue.startable <= startable
        assert all(worker.generation == app.generation for worker in pool.idle.values()), "idle workers are of the code that serves"
        if engine.stopping:
            continue
        assert not (pool.idle and queue.startable), "nobody waits while somebody is idle"
        due = engine.next_deadline()
        if queue.startable and app.ready and pool.live < pool.policy.max_workers and pool.leaving <= pool.policy.max_workers:
            coming = pool.starting + pool.unsure
            wakes = due is not None and due <= max(pool.fork_after, now.mono) < float("inf") and pool.fork_after > now.mono
            assert coming or wakes, "somebody waits and nobody is coming"
    held: dict[int, Any] = {}
    for run in engine.runs.values():
        due = engine.next_deadline()
        if run.state == WAITING:
            assert run.worker == 0
            assert run.key in engine.queues[run.pool] or (run.not_before and due is not None and due <= run.not_before)
            assert not run.start_by or (due is not None and due <= run.start_by)
        else:
            assert run.state == RUNNING
            assert run.worker not in held, "a worker has one run"
            held[run.worker] = run
            assert not run.kill_at or (due is not None and due <= run.kill_at)
            assert not run.deadline or run.kill_reason or (due is not None and due <= run.deadline)
    for worker in engine.workers.values():
        assert not worker.run or held[worker.run and engine.runs[worker.run].worker].key == worker.run
        if worker.state == "leaving":
            due = engine.next_deadline()
            assert due is None or due <= worker.since + 30.0 or worker.since + 30.0 <= now.mono
