"""A world for the engine: zygotes that fork or refuse, workers that obey or die, a journal, a master that does what it is told.

What goes from one to another waits in first-in-first-out channels, and these outlive a master that dies: so a message that a
dead master did not live to read is read by the next, as it is with real sockets. The world counts what really ran.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from rocksyd.config import Config
from rocksyd.core import events as ev
from rocksyd.core.engine import Engine
from rocksyd.model import ENDED, RUNNING, Now, Run
from tests.unit.engine_actors import Actors, Process, Zygote


class World(Actors):
    """Everything outside the engine, and the one engine that serves."""

    def __init__(self, settings: Config, start: float = 1000.0) -> None:
        super().__init__()
        self.config = settings
        self.now = Now(start, 1.7e9)
        self.engine = Engine(settings)
        self.journal: dict[str, str] = {}
        self.shelved: set[int] = set()
        self.dirty: dict[str, Run] = {}
        self.erased: set[str] = set()
        self.effects: list[Any] = []
        self.heard_exits: list[tuple[Zygote | None, int]] = []
        self.tickets: dict[int, str] = {}
        self.answers: Counter[int] = Counter()
        self.accepted: dict[str, int] = {}
        """Key -> sequence of every run that a caller was promised, and that was not freed."""
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
                    self.effects.append(("ended", identity, run))
                case ev.StartJob(_, run):
                    pool = self.engine.pools[run.pool]
                    assert pool.busy - len(pool.draining) <= pool.policy.max_workers, "a job too many is begun"
                    self.effects.append(effect)
                case ev.ForkWorker():
                    pool = self.engine.pools[effect.pool]
                    most = pool.policy.max_workers
                    extra = len(pool.recycling.replaced)
                    ending = pool.leaving + len(pool.draining)
                    counted = pool.live - len(pool.draining)
                    assert counted + max(0, ending - most) <= most + extra, "a worker too many is asked for"
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
                zygote = self.zygote(effect.app, effect.generation, effect.template)
                if zygote is None:
                    self.step(ev.WorkerRefused(effect.worker, "its zygote is gone"))
                else:
                    zygote.inbox.append(effect)
            case ev.RetireZygote():
                for zygote in self.zygotes:
                    if zygote.kin == tuple(effect) and zygote.alive:
                        zygote.inbox.append(effect)
            case ev.RetireTemplate(app, generation, template) | ev.MeasurePool(app, generation, template):
                zygote = self.zygote(app, generation, template)
                if zygote is not None:
                    zygote.inbox.append(effect)
            case ev.PromoteWorker(app, generation, worker):
                if worker in self.links and self.zygote(app, generation) is not None:
                    self.links.discard(worker)
                    self.promote(self.processes[worker])
                else:
                    self.step(ev.TemplateGone(app, generation, worker, "it is gone"))
            case ev.KillWorker():
                self.signal(effect)
            case ("ended", identity, run):
                assert (run.state, (run.key, run.sequence, run.attempt)) == (ENDED, identity), "it is told of as it ended"
                self.endings[identity] += 1
                written = json.loads(self.journal.get(identity[0], "{}"))
                same = (identity[0], written.get("sequence"), written.get("attempt", 1)) == identity
                assert not same or written["state"] == ENDED, "the journal first, then whoever waits"
            case ev.StartJob() | ev.AckResult() | ev.AskWorker() | ev.DrainWorker() | ev.CancelRun():
                if effect.worker in self.links:
                    self.processes[effect.worker].inbox.append(effect)
            case ev.Measure():
                living = [number for number, _ in effect.workers if self.processes[number].alive]
                self.step(ev.Measured(effect.pool, {n: self.size_of(n, share=n == effect.share) for n in living}))
            case ev.Slow() | ev.Started() | ev.Progressed() | ev.Note():
                pass
            case _:
                raise AssertionError(f"nobody carries out {effect}")

    def zygote(self, app: str, generation: int, template: int = 0) -> Zygote | None:
        """The living one of this name."""
        return next((z for z in self.zygotes if z.kin == (app, generation) and z.template == template and z.alive), None)

    def size_of(self, number: int, *, share: bool) -> ev.Size:
        """Every fifth run takes more than any limit allows."""
        rss = 300 if sum(self.processes[number].identity[1:]) % 5 == 0 else 100 + number % 50
        return ev.Size(rss, rss * share)

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
                if speaker.template:
                    self.step(ev.TemplateGone(*speaker.kin, speaker.template, "gone"))
                    self.counted(speaker)
                else:
                    speaker.counting = False
                    self.step(ev.ZygoteGone(*speaker.kin))
            case ev.WorkerForked(worker):
                self.links.add(worker)
                self.step(message)
            case ev.WorkerExited():
                self.hear_exit(speaker, message)
            case ("workers", found, exits, ready):
                for number in found:
                    self.links.add(number)
                    process = self.processes[number]
                    found_here = ev.WorkerFound(number, process.pid, process.pool, process.slot, *speaker.kin)
                    self.step(found_here._replace(template=speaker.template, capacity=process.capacity))
                for exited in exits:
                    self.hear_exit(speaker, exited)
                self.counted(speaker)
                if ready:
                    self.settled(speaker)
            case ev.ZygoteReady():
                self.settled(speaker)
            case _:
                self.step(message)
        return None

    def settled(self, zygote: Zygote) -> None:
        """As ``Loading.settled``: it serves, or is of no use because newer code came first."""
        known = self.engine.applications.get(zygote.app)
        serves = known is not None and zygote.generation <= known.generation and known.ready
        if zygote.template or not serves:
            self.step(self.ready(zygote))
        elif known is not None and zygote.generation != known.generation:
            self.perform(ev.RetireZygote(zygote.app, zygote.generation))

    def counted(self, speaker: Zygote) -> None:
        """As ``Children._counted``."""
        was, speaker.counting = speaker.counting, False
        if (was or not speaker.template) and not any(z.counting for z in self.zygotes if z.kin == speaker.kin):
            self.step(ev.InventoryDone(*speaker.kin))

    def hear_exit(self, zygote: Zygote | None, message: ev.WorkerExited) -> None:
        """As ``Children.worker_exited``: hear its last words first."""
        process = self.processes[message.worker]
        if message.worker in self.links:
            while process.outbox:
                self.step(process.outbox.popleft())
            self.links.discard(message.worker)
        run = self.engine.held_by(message.worker)
        if run is not None:  # the scoreboard says what it has begun
            begun = process.identity == (run.key, run.sequence, run.attempt)
            message = message._replace(unread=not begun if process.capacity == 1 else not (process.jobs or process.results))
        self.step(message)
        self.heard_exits.append((zygote, message.worker))

    def hear_orphans(self) -> None:
        """What the keeper says of workers whose zygote is gone."""
        for message in list(self.orphans.values()):
            self.hear_exit(None, message)

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
            assert [(k, taken[k], snapshot[k]) for k in snapshot if taken[k] != snapshot[k]] == [], (
                "handed over is what is taken over"
            )
            assert not effects, "a hand-over decides nothing"
        self.take(effects)

    def crash(self, committed: bool, performed: int) -> None:
        """The master is killed: before its commit, or after it and after this many of its effects."""
        if committed:
            self.commit()
            for effect in self.effects[:performed]:
                if not isinstance(effect, ev.ForkWorker) or self.zygote(effect.app, effect.generation, effect.template):
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
                orphan = ev.WorkerFound(number, process.pid, run.pool, -1, run.app, run.generation, template=-1)
                self.step(orphan._replace(capacity=process.capacity))
            else:
                process.cut_off = True
        for zygote in self.zygotes:
            zygote.counting = zygote.alive
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
        raise AssertionError(f"this never ends: {list(self.engine.runs.values())[:3]}")

    def go_on(self) -> bool:
        self.finish_turn()
        busy = False
        for app in self.config.apps:
            parked = any(pool.trouble.parked for pool in self.engine.pools_of(app))  # somebody mends it and reloads
            loading = any(isinstance(said, ev.ZygoteReady) for z in self.zygotes if z.app == app for said in z.outbox)
            serving = any(z.app == app and z.alive and not z.retiring and not z.template for z in self.zygotes)
            if (parked and not loading) or not serving:
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
                self.act(process, 0)
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
            assert due is not None, f"nothing will ever wake {list(self.engine.runs.values())[:3]}"
            self.pass_time(max(0.0, due - self.now.mono))
            self.tick()
            busy = True
        return busy
