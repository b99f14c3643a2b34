"""A world for the master's turn and its engine: zygotes that fork or refuse, workers that obey or die, a journal in memory.

The turn is the real one: what is written, said and done, and in which order, is its own; this world only performs its effects.

What goes from one to another waits in first-in-first-out channels, and these outlive a master that dies: so a message that a
dead master did not live to read is read by the next, as it is with real sockets. The world counts what really ran.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from rocksyd import messages as m
from rocksyd.config import Config
from rocksyd.core import events as ev
from rocksyd.core.engine import Engine
from rocksyd.master.barrier import Barrier
from rocksyd.master.records.writing import Writing
from rocksyd.master.turn import Turn
from rocksyd.model import ENDED, RUNNING, Now, Run
from tests.unit.engine_actors import Actors, Process, Zygote, fork_failed


class Records:
    """A journal in memory, with what ``Writing`` asks of one. What it holds outlives a master."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}

    def commit(self, runs: Iterable[Run], erased: Iterable[str], others: Mapping[tuple[str, str], Any]) -> None:
        for key in erased:
            self.rows.pop(key, None)
        self.rows.update({run.key: json.dumps(run.dump()) for run in runs})

    def sync(self) -> None:
        """Its disk is always there."""

    def get(self, key: str) -> Run | None:
        return Run.load(json.loads(self.rows[key])) if key in self.rows else None

    def live(self) -> list[Run]:
        runs = [run for run in map(self.get, self.rows) if run is not None and run.state != ENDED]
        return sorted(runs, key=lambda run: run.sequence)


class Killed(BaseException):
    """The master is killed where it stands."""


class Fault(Exception):
    """What nobody expected."""


class Unforgiving(Barrier):
    """In this world nothing may raise but a fault that the test has ordered, and no assertion may be stopped."""

    def note(self, kind: str, name: str, error: Exception) -> str:
        if not isinstance(error, Fault):
            raise error
        return "a fault"


class Faulty(Engine):
    """The real engine, which can be made to raise when it has decided: what it has changed stays changed."""

    faulty = False

    def step(self, event: Any, now: Now) -> list[Any]:
        effects = super().step(event, now)
        if self.faulty:
            self.faulty = False
            raise Fault
        return effects


_MAY_FAIL = {ev.StartJob, ev.AckResult, ev.AskWorker, ev.CancelRun, ev.DrainWorker, ev.Ended, ev.Answer, ev.Note, ev.Slow}


class Watched(Turn):
    """The real turn, and somebody who looks at what was decided when it was."""

    look: Callable[[Any], None]

    def take(self, effects: list[Any]) -> None:
        for effect in effects:
            self.look(effect)
        super().take(effects)


class World(Actors):
    """Everything outside the master, and the one turn, with its engine, that serves."""

    turn: Watched

    def __init__(self, settings: Config, start: float = 1000.0) -> None:
        super().__init__()
        self.config = settings
        self.records = Records()
        self.shelved: set[int] = set()
        self.heard_exits: list[tuple[Zygote | None, int]] = []
        self.ordered = 0
        self.answers: Counter[int] = Counter()
        self.accepted: dict[str, int] = {}
        """Key -> sequence of every run that a caller was promised, and that was not freed."""
        self.ends: deque[tuple[str, int, int]] = deque()
        """Of the runs that have ended in this turn, in this order."""
        self.endings: Counter[tuple[str, int, int]] = Counter()
        self.comes_after: dict[tuple[str, int], list[tuple[str, int]]] = {}
        """Key and sequence of a run -> those that had not ended when it was ordered to come after them."""
        self.over: dict[tuple[str, int], str] = {}
        """How runs have ended for good, by key and sequence."""
        self.performs_left = -1
        """After so many effects the master is killed; never while it is negative."""
        self.fault_in = -1
        """After so many that can be lost one cannot be carried out; never while it is negative."""
        self.lost: Any = None
        """That one."""
        self.take_over(Faulty(settings), Now(start, 1.7e9))
        self.turn.take(self.engine.restore((), None, self.now))

    # --- the master ---------------------------------------------------------------------------------------------------
    @property
    def engine(self) -> Engine:
        """The one that serves."""
        return self.turn.engine

    @property
    def now(self) -> Now:
        return self.turn.now

    def take_over(self, engine: Faulty, now: Now) -> None:
        """Another master, on the same journal."""
        writing = Writing(self.erased, engine.counters)
        writing.journal = self.records  # type: ignore[assignment]
        self.turn = Watched(engine, writing, Unforgiving())
        self.turn.now, self.turn.look = now, self.look
        self.heard_exits = []
        self.ends.clear()
        self.turn.settles(self.acknowledge_exits)
        performers: dict[type[Any], Callable[[Any], None]] = {
            ev.Ended: self.ended, ev.ForkWorker: self.fork, ev.RetireZygote: self.retire, ev.KillWorker: self.signal,
            ev.RetireTemplate: self.tell_zygote, ev.MeasurePool: self.tell_zygote, ev.PromoteWorker: self.promoted,
            ev.StartJob: self.tell_worker, ev.AckResult: self.tell_worker, ev.AskWorker: self.tell_worker,
            ev.DrainWorker: self.tell_worker, ev.CancelRun: self.tell_worker, ev.MeasureWorkers: self.measure,
        }  # fmt: skip
        for effect in (ev.Answer, *performers, ev.Slow, ev.Started, ev.Progressed, ev.Note):
            self.turn.performs(effect, self.one_more)
        for effect, perform in performers.items():
            self.turn.performs(effect, perform)

    def one_more(self, effect: Any) -> None:
        """This effect is about to be carried out, if the master lives to do it."""
        if not self.performs_left:
            raise Killed
        self.performs_left -= 1
        if type(effect) in _MAY_FAIL:
            self.fault_in -= 1
            if self.fault_in == -1:
                self.lost = effect
                raise Fault

    def step(self, event: Any) -> None:
        """Something is heard."""
        self.turn.step(event)

    def order(self, event: Any) -> int:
        """A caller orders something; returns which of the ``answers`` is its own."""
        self.ordered += 1
        number, before = self.ordered, len(self.turn.pending(ev.Answer))

        def answered(answer: ev.Answer) -> None:
            self.answers[number] += 1
            run = answer.run
            promised = answer.error is None and isinstance(event, ev.Submit | ev.Retry)
            if promised and run is not None and run.state != ENDED and (run.key, run.sequence) not in self.comes_after:
                live = (self.engine.runs.get(key) for key in run.order.after)
                self.comes_after[run.key, run.sequence] = [(one.key, one.sequence) for one in live if one is not None]
            if promised and run is not None and run.key in self.records.rows:
                self.accepted[run.key] = run.sequence

        self.turn.order(event, answered)
        assert len(self.turn.pending(ev.Answer)) == before + 1, "exactly one answer a ticket, at once"
        return number

    def order_in_vain(self, event: ev.Submit | ev.Retry) -> None:
        """The engine raises at this order, once it has decided: the caller is answered nothing, what it began is over."""
        engine = self.turn.engine
        assert isinstance(engine, Faulty)
        sequence, answered, engine.faulty = engine.sequence, len(self.answers), True
        with suppress(Fault):
            self.order(event)
            raise AssertionError("it raises")
        run = engine.find(event.key)
        if run is not None and run.sequence > sequence:
            ends = ("failed", "cancelled") if run.order.after else ("failed",)  # one that it comes after may have failed
            assert run.state == ENDED, "nobody waits in vain"
            assert run.attempt.outcome in ends
        assert len(self.answers) == answered

    def look(self, effect: Any) -> None:
        """What was decided has to be right when it was."""
        match effect:
            case ev.Ended(run):
                identity = run.key, run.sequence, run.attempt.number  # now: the run may be retried before the turn is over
                assert run.attempt.outcome != "ok" or self.executions[identity] == 1, f"{identity} is ok and never ran"
                self.ends.append(identity)
                self.over[run.key, run.sequence] = run.attempt.outcome
            case ev.StartJob(_, run):
                for before in self.comes_after.get((run.key, run.sequence), ()):
                    assert before in self.over, f"{run.key} begins before {before} has ended"
                    assert run.order.after_outcome == "any" or self.over[before] == "ok", f"{run.key} begins after a failure"
                pool = self.engine.pools[run.pool]
                assert pool.busy - len(pool.draining) <= pool.policy.max_workers, "a job too many is begun"
            case ev.ForkWorker():
                pool = self.engine.pools[effect.pool]
                most = pool.policy.max_workers
                extra = len(pool.recycling.replaced)
                ending = pool.leaving + len(pool.draining)
                counted = pool.live - len(pool.draining)
                assert counted + max(0, ending - most) <= most + extra, "a worker too many is asked for"

    def finish_turn(self) -> None:
        """The journal first, then everything else."""
        self.turn.finish()
        assert self.turn.writing.all_written
        assert not self.heard_exits
        assert not self.ends

    def finish_turn_with_a_fault(self, after: int) -> None:
        """One effect cannot be carried out: the turn goes on, and whoever it was for ends."""
        self.fault_in, self.lost = after, None
        self.finish_turn()
        self.fault_in, self.lost = -1, None
        self.engine.counters["nonsense"] = 0  # workers that were ended for that have said none

    def erased(self, runs: list[Run]) -> None:
        """The journal does not hold these any more."""
        for run in runs:
            if self.accepted.get(run.key, run.sequence + 1) <= run.sequence:
                del self.accepted[run.key]

    def acknowledge_exits(self) -> None:
        """As ``Workers.acknowledge_exits``."""
        for zygote, number in self.heard_exits:
            (self.orphans if zygote is None else zygote.exits).pop(number, None)
        self.heard_exits = []

    # --- what effects mean here ---------------------------------------------------------------------------------------
    def ended(self, effect: ev.Ended) -> None:
        run, identity = effect.run, self.ends.popleft()
        assert (run.state, (run.key, run.sequence, run.attempt.number)) == (ENDED, identity), "it is told of as it ended"
        self.endings[identity] += 1
        written = json.loads(self.records.rows.get(identity[0], "{}"))
        same = (identity[0], written.get("sequence"), written.get("attempt", 1)) == identity
        assert not same or written["state"] == ENDED, "the journal first, then whoever waits"

    def fork(self, order: ev.ForkWorker) -> None:
        zygote = self.zygote(order.app, order.generation, order.template)
        if zygote is None:
            self.step(fork_failed(order.worker, "its zygote is gone"))
        else:
            zygote.inbox.append(order)

    def retire(self, order: ev.RetireZygote) -> None:
        for zygote in self.zygotes:
            if zygote.kin == tuple(order) and zygote.alive:
                zygote.inbox.append(order)

    def tell_zygote(self, order: ev.RetireTemplate | ev.MeasurePool) -> None:
        zygote = self.zygote(order.app, order.generation, order.template)
        if zygote is not None:
            zygote.inbox.append(order)

    def promoted(self, order: ev.PromoteWorker) -> None:
        if order.worker in self.links and self.zygote(order.app, order.generation) is not None:
            self.links.discard(order.worker)
            self.promote(self.processes[order.worker])
        else:
            self.step(ev.ZygoteGone(order.app, order.generation, order.worker, "it is gone"))

    def tell_worker(self, order: Any) -> None:
        if order.worker in self.links and order is not self.lost:
            self.processes[order.worker].inbox.append(order)

    def measure(self, order: ev.MeasureWorkers) -> None:
        living = [number for number, _ in order.workers if self.processes[number].alive]
        self.step(ev.WorkersMeasured(order.pool, {n: self.size_of(n, share=n == order.share) for n in living}))

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

    def pass_time(self, seconds: float) -> None:
        """Nothing happens for so long, but what is due by then."""
        self.wait_until(self.now.mono + seconds)

    def wait_until(self, moment: float) -> None:
        """The same until this CLOCK_MONOTONIC second, if it is still to come."""
        seconds = max(0.0, moment - self.now.mono)
        self.turn.now = Now(max(moment, self.now.mono), self.now.wall + seconds)
        self.turn.moments.next()
        self.turn.moments.pass_by(self.turn.now.mono)
        due = self.engine.next_deadline()
        assert due is None or due > self.now.mono, "after a tick nothing is due any more"

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
                    self.step(ev.ZygoteGone(*speaker.kin, speaker.template, "gone"))
                    self.counted(speaker)
                else:
                    speaker.counting = False
                    self.step(ev.ZygoteGone(*speaker.kin))
            case ev.HeardZygote(message=m.Forked()):
                self.links.add(message.worker)
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
            case ev.HeardZygote(message=m.Ready()) if not speaker.template:
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
            self.retire(ev.RetireZygote(zygote.app, zygote.generation))

    def counted(self, speaker: Zygote) -> None:
        """As ``Zygotes._counted``."""
        was, speaker.counting = speaker.counting, False
        if (was or not speaker.template) and not any(z.counting for z in self.zygotes if z.kin == speaker.kin):
            self.step(ev.InventoryDone(*speaker.kin))

    def hear_exit(self, zygote: Zygote | None, message: ev.WorkerExited) -> None:
        """As ``Workers.exited``: hear its last words first."""
        process = self.processes[message.worker]
        if message.worker in self.links:
            while process.outbox:
                self.step(process.outbox.popleft())
            self.links.discard(message.worker)
        run = self.engine.held_by(message.worker)
        if run is not None:  # the scoreboard says what it has begun
            begun = process.identity == (run.key, run.sequence, run.attempt.number)
            message = message._replace(unread=not begun if process.capacity == 1 else not (process.jobs or process.results))
        self.step(message)
        self.heard_exits.append((zygote, message.worker))

    def hear_orphans(self) -> None:
        """What the keeper says of workers whose zygote is gone."""
        for message in list(self.orphans.values()):
            self.hear_exit(None, message)

    # --- another master -----------------------------------------------------------------------------------------------
    def hand_over(self, settings: Config) -> None:
        """A planned restart: the old master finishes its turn, the new one reads journal and snapshot."""
        self.finish_turn()
        snapshot = json.loads(json.dumps(self.engine.snapshot()))
        same = settings == self.config
        self.config = settings
        self.take_over(Faulty(settings), self.now)
        effects = self.engine.restore(self.records.live(), snapshot, self.now)
        if same:
            taken = json.loads(json.dumps(self.engine.snapshot()))
            assert [(k, taken[k], snapshot[k]) for k in snapshot if taken[k] != snapshot[k]] == [], (
                "handed over is what is taken over"
            )
            assert not effects, "a hand-over decides nothing"
        self.turn.take(effects)

    def crash(self, committed: bool, performed: int) -> None:
        """The master is killed: before its commit, or after it and after this many of its effects."""
        if committed:
            self.performs_left = performed
            with suppress(Killed):
                self.turn.finish()
            self.performs_left = -1
            self.erased(list(self.turn.writing._gone.values()))  # they are freed, though their outputs had no time to go
        offered = {name: app.dump() for name, app in self.engine.applications.items()}
        sequence = self.engine.sequence
        self.take_over(Faulty(self.config, self.engine.generation), Now(self.now.mono + 0.001, self.now.wall + 0.001))
        self.engine.sequence = sequence  # the journal knows the highest it has; this world tells runs apart by it
        for name, app in self.engine.applications.items():
            app.load({**offered[name], "ready": False})  # the journal has it, see Server.record_service
        self.turn.take(self.engine.restore(self.records.live(), None, self.now))
        lost, self.links = self.links, set()
        holders = {run.attempt.worker: run for run in self.engine.runs.values() if run.state == RUNNING}
        for number in sorted(lost):
            process = self.processes[number]
            if process.zygote.alive:
                continue
            if number in self.shelved and number in holders:
                run = holders[number]
                self.links.add(number)
                orphan = ev.WorkerFound(number, process.pid, run.pool, -1, run.order.app, run.attempt.generation, template=-1)
                self.step(orphan._replace(capacity=process.capacity))
            else:
                process.cut_off = True
        for zygote in self.zygotes:
            zygote.counting = zygote.alive
            if zygote.alive:
                zygote.inbox.append("inventory")

    def unknown(self) -> list[Run]:
        """Runs that nobody will ever speak of (``Server._look_at_suspects``)."""
        runs = [
            run for run in self.engine.runs.values() if run.state == RUNNING and run.attempt.worker not in self.engine.workers
        ]
        told = {message.worker for zygote in self.zygotes for message in zygote.outbox if isinstance(message, ev.WorkerExited)}
        pending = told | self.orphans.keys()
        return [run for run in runs if not self.processes[run.attempt.worker].alive and run.attempt.worker not in pending]

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
            coming = [said for z in self.zygotes if z.app == app and not z.template for said in z.outbox]
            loading = any(isinstance(said, ev.HeardZygote) and isinstance(said.message, m.Ready) for said in coming)
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
            self.step(ev.WorkerExited(run.attempt.worker, None))
        for worker in [worker for worker in self.engine.workers.values() if not worker.sure and not worker.run]:
            if not self.processes[worker.number].alive:
                self.step(ev.WorkerExited(worker.number, None))
        self.finish_turn()
        if not busy and self.engine.runs and not self.engine.stopping:
            due = self.engine.next_deadline()
            assert due is not None, f"nothing will ever wake {list(self.engine.runs.values())[:3]}"
            self.wait_until(due)
            busy = True
        return busy
