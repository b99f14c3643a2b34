"""The master's loop: what woke me -> events -> decisions -> journal -> effects -> sleep until the next deadline.

What must live here: the turn, and how an effect is carried out.
What this file must not know: bytes, SQL, how a hand-over is written down.

The order within a turn is the promise: nothing is said to a client or a worker before the journal holds why.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from rocksyd import config as configuration
from rocksyd import messages as m
from rocksyd.config import Config
from rocksyd.core import events as ev
from rocksyd.core import limits
from rocksyd.core.engine import Engine
from rocksyd.errors import JournalError, RequestError
from rocksyd.journal.store import Filter, Journal
from rocksyd.master import templates
from rocksyd.master.children import Children
from rocksyd.master.clients import Client, Clients
from rocksyd.master.commands import Commands
from rocksyd.master.exec import Execs
from rocksyd.master.generations import Generations
from rocksyd.master.news import News
from rocksyd.master.numbers import Numbers
from rocksyd.master.output import Outputs
from rocksyd.master.reloading import Loading
from rocksyd.master.rpc import Rpc
from rocksyd.master.slowlog import SlowLog
from rocksyd.master.stacks import Stacks
from rocksyd.master.stopping import Stopping
from rocksyd.master.waiters import Waiters
from rocksyd.master.writing import Writing
from rocksyd.model import ENDED, RUNNING, SCRIPT, Now, Run
from rocksyd.posix.channel import Channel
from rocksyd.posix.log import log
from rocksyd.posix.loop import Loop
from rocksyd.posix.processes import proportional_memory, resident_memory
from rocksyd.posix.scoreboard import Scoreboard

SUSPECT_TIMEOUT = 5.0
"""Seconds in which whoever can report an exit will have done so."""
FORGET_INTERVAL = 600.0
NOT_NOW = -32005
_BEHIND = frozenset(
    {
        ev.AckResult, ev.ForkWorker, ev.DrainWorker, ev.RetireZygote, ev.MeasurePool, ev.PromoteWorker, ev.RetireTemplate,
    }
)  # fmt: skip
"""Effects that no client waits for; their order among themselves is kept."""


class Server:
    """One serving master."""

    def __init__(self, config: Config, keeper: Channel, loop: Loop, children: Children) -> None:
        self.config = config
        self.keeper = keeper
        self.loop = loop
        self.children = children
        self.engine = Engine(config)
        self.journal: Journal
        self.token = configuration.token(config)
        self.rpc = Rpc(self)
        self.commands = Commands(self, self.rpc)
        self.clients = Clients(config, self.commands.serve, loop)
        self.clients.gone = self._client_gone
        self.waiters = Waiters()
        self.clients.listening = self.waiters.listening
        self.generations = Generations(self)
        self.stopping = Stopping(self)
        self.news = News(self)
        self.loading = Loading(self)
        self.outputs = Outputs(loop, config.output.limit, self.news.follow_soon)
        self.writing = Writing(lambda: self.journal, self.outputs.remove)
        self.stacks = Stacks(children, self.outputs, SlowLog(f"{config.state_dir}/slow.log"))
        self.execs = Execs(self)
        self.numbers = Numbers(self)
        self.board: Scoreboard
        self.freezing = False
        self.later: list[Any] = []
        """What the keeper said during a hand-over that was called off."""
        self.now = Now(time.monotonic(), time.time())
        self._effects: list[Any] = []
        self._tickets: dict[int, Callable[[ev.Answer], None]] = {}
        self._ticket = 0
        self._forget_at = 0.0
        self._suspect_at = 0.0
        self._watchdog = 0.0
        self._alive_at = 0.0
        self._perform: dict[type[Any], Callable[[Any], None]] = {
            ev.Answer: self._do_answer,
            ev.ForkWorker: children.fork,
            ev.StartJob: self._do_start,
            ev.AckResult: lambda effect: children.acknowledge(effect.worker, effect.key, self.now.mono),
            ev.AskWorker: lambda effect: children.tell_worker(effect.worker, m.Inventory(effect.epoch)),
            ev.KillWorker: self._do_kill,
            ev.CancelRun: self._do_cancel,
            ev.DrainWorker: lambda effect: children.tell_worker(effect.worker, m.Drain()),
            ev.LoadAfresh: lambda effect: self.loading.load_afresh(effect.app, effect.reason),
            ev.RetireZygote: lambda effect: children.retire(effect.app, effect.generation),
            ev.MeasurePool: lambda effect: templates.measure(children, effect),
            ev.PromoteWorker: lambda effect: templates.promote(children, effect, self.config.restart.prepare_timeout),
            ev.RetireTemplate: lambda effect: templates.retire(children, effect),
            ev.Started: lambda effect: self.news.tell("run.started", effect.run),
            ev.Measure: self._do_measure,
            ev.Slow: lambda effect: self.stacks.slow(effect.run, self.now),
            ev.Progressed: lambda effect: self.news.tell("run.progress", effect.run),
            ev.Answered: self._do_answered,
            ev.Ended: self._do_ended,
            ev.Note: lambda effect: log("master", effect.text),
        }

    # --- the turn -----------------------------------------------------------------------------------------------------
    def turn(self, *, wait: bool = True) -> None:
        """One turn of the loop; unless it is to ``wait``, with what is there already."""
        ready = self.loop.wait(self._next_deadline() if wait else 0.0)
        self.look_at_the_clock()
        for handler, events in ready:
            handler.handle(events)
        self.clients.serve_waiting()
        self._on_time()
        self.finish_turn()

    def look_at_the_clock(self) -> None:
        """What is decided from now on is decided at this moment."""
        self.now = Now(time.monotonic(), time.time())

    def finish_turn(self) -> None:
        """Write down what this turn decided, then do it; doing it may decide more (a worker whose zygote is gone)."""
        self.news.tell_missed()
        behind = self._act()
        while behind:
            self._carry_out(behind)
            behind = self._act()
        if not self.writing.waiting:
            self.children.acknowledge_exits()
        self.writing.write_behind(self.now.mono, everything=self.freezing or self.engine.stopping)
        self._shelve()
        self.stopping.look_whether_done()
        self._send()  # who waited for the drain: nothing else may wake this loop for a long time

    def _act(self) -> list[Any]:
        """Do what clients wait for, up to sending it; returns what is left for behind that, because it costs others' time.

        A job is given to its worker once the journal has it, and the wait for the disk passes while it begins: if the machine
        loses its power in between, the job is gone with it, and nobody has been told that it was accepted.
        """
        behind: list[Any] = []
        while self.writing.write(self.now.mono) and (self._effects or self.writing.waiting):
            written = self.engine.rev
            effects, self._effects = self._effects, []
            self._carry_out([effect for effect in effects if type(effect) is ev.StartJob])
            effects = [effect for effect in effects if type(effect) is not ev.StartJob]
            if not self.writing.sync(self.now.mono):
                self._effects = effects + self._effects
                break
            behind += [effect for effect in effects if type(effect) in _BEHIND]
            self._carry_out([effect for effect in effects if type(effect) not in _BEHIND])
            self.news.position = written
        self.news.send_output()
        self._send()
        return behind

    def _send(self) -> None:
        while self.clients.dirty:
            self.clients.flush(next(iter(self.clients.dirty)))

    def _carry_out(self, effects: list[Any]) -> None:
        for effect in effects:
            self._perform[type(effect)](effect)

    def _next_deadline(self) -> float | None:
        if self.clients.waiting or self.news.pressing:
            return 0.0
        moments = (
            self.engine.next_deadline(),
            self.clients.next_deadline(),
            self.waiters.next_deadline(),
            self.children.next_deadline(),
            self.outputs.next_deadline(),
            self.loading.next_deadline(),
            self.writing.next_deadline(),
            self.stacks.next_deadline(),
            self._forget_at or None,
            self._suspect_at or None,
            self._alive_at or None,
        )
        return min((moment for moment in moments if moment is not None), default=None)

    def _on_time(self) -> None:
        now = self.now.mono
        due = self.engine.next_deadline()
        if due is not None and due <= now:
            self.step(ev.Tick())
        self.clients.on_time(now)
        for waiter in self.waiters.overdue(now):
            self.rpc.timed_out(waiter, self.lookup(waiter.key))
        self.children.overdue(now)
        self.outputs.on_time(now)
        self.loading.on_time(now)
        self.stacks.on_time(now)
        if self._forget_at and now >= self._forget_at:
            self._forget_old()
        if self._alive_at and now >= self._alive_at:
            self._say_alive()
        if self._suspect_at and now >= self._suspect_at:
            self._look_at_suspects()

    def step(self, event: Any) -> None:
        """Let the engine decide, and keep what is to be done until the journal holds it."""
        if isinstance(event, ev.WorkerExited):
            self.outputs.worker_gone(event.worker)
        if isinstance(event, ev.WorkerExited):
            for run in self.engine.runs_of(event.worker):
                self._measure_output(run.key)
        elif isinstance(event, ev.WorkerResult) and not event.silent:
            self._measure_output(event.key)
        if isinstance(event, ev.ZygoteGone | ev.TemplateGone) and self.children.orphans():
            self.suspect()
        if isinstance(event, ev.WorkerExited):
            unread, unborn = self._never_began(event.worker)
            event = event._replace(unread=unread, unborn=unborn, untold=self._untold(event.worker))
        if isinstance(event, ev.WorkerFound):
            event = self._seated(event)
        self.take(self.engine.step(event, self.now))

    def _seated(self, found: ev.WorkerFound) -> ev.WorkerFound:
        """With what the scoreboard has of a worker that a dead master knew; its slot, too, where nobody else knows it."""
        entry = self.board.read(found.slot) if found.slot >= 0 else self.board.find(found.worker)
        if entry is None or entry.worker != found.worker:
            return found
        return found._replace(slot=entry.slot, jobs=entry.jobs, born=entry.born, capacity=entry.capacity)

    def _untold(self, number: int) -> tuple[str, ...]:
        """Runs that a worker was to be given at the end of this turn."""
        return tuple(e.run.key for e in self._effects if type(e) is ev.StartJob and e.worker == number)

    def _never_began(self, number: int) -> tuple[bool, bool]:
        """Whether a worker that has ended had not begun the job it was given, and whether it had not even come to look for one.

        It says so on the scoreboard.
        Of a worker that runs share it says only whether it had begun any; then all count as begun.
        """
        run = self.engine.held_by(number)
        if run is None:
            return False, False
        worker = self.engine.workers.get(number)
        slot = worker.slot if worker is not None and worker.slot >= 0 else run.slot
        entry = self.board.read(slot) if slot >= 0 else self.board.find(number)
        if run.kind == SCRIPT:
            return False, False  # its descriptors have gone with the worker, so it cannot be run by another one
        if entry is None:
            silent = slot >= 0 and self.board.untouched(slot)
            return silent, silent
        if entry.worker != number:  # it died before it could say anything; what stands there is from who had the slot before
            return slot >= 0, slot >= 0
        unread = entry.stage not in ("running", "finishing") or not run.key.startswith(entry.key)
        return unread, entry.stage == "starting"

    def take(self, effects: list[Any]) -> None:
        """Keep effects for the end of the turn."""
        for effect in effects:
            kind = type(effect)
            if kind is ev.Persist:
                if effect.run.behind:
                    self.writing.put_behind(effect.run, self.now.mono, all_ends=self.config.journal.calls != "failed")
                else:
                    self.writing.put(effect.run)
            elif kind is ev.Erase:
                self.writing.erase(effect.run)
            else:
                self._effects.append(effect)

    def commit(self) -> bool:
        """Write this turn down; false while the journal cannot be written, and then nothing of it is said or done yet."""
        return self.writing.write(self.now.mono) and self.writing.sync(self.now.mono)

    # --- beginning ----------------------------------------------------------------------------------------------------
    def begin(self, generation: int) -> None:
        """What has to be known before the first turn."""
        self.engine.generation = max(self.engine.generation, generation)
        if self.journal.has_ended():
            self._forget_at = self.now.mono + FORGET_INTERVAL
        self.news.position, _ = self.journal.counters()
        for run in self.engine.runs.values():
            if run.state == RUNNING:
                self.outputs.begin(run)
        self.execs.begin()
        for key in list(self.waiters.followers):
            followed = self.lookup(key)
            if followed is not None:
                self.news.follow_soon(followed)

    def worker_of(self, pid: int) -> int | None:
        """The worker that has this PID, also when its channel was lost in a crash."""
        link = self.children.by_pid.get(pid)
        if link is not None:
            return link.number
        return next((run.worker for run in self.engine.runs.values() if run.state == RUNNING and run.pid == pid), None)

    def suspect(self) -> None:
        """A master or a zygote has died, perhaps with an exit that it was about to tell: look soon whose process is gone."""
        self._suspect_at = self.now.mono + SUSPECT_TIMEOUT

    def watch(self, interval: float) -> None:
        """The service manager wants to hear every ``interval`` seconds that the loop turns (0: it does not)."""
        self._watchdog = interval
        if interval:
            self._say_alive()

    def _say_alive(self) -> None:
        self.children.tell_keeper(m.Status(alive=True))
        self._alive_at = self.now.mono + self._watchdog / 2

    def _look_at_suspects(self) -> None:
        self._suspect_at = 0.0
        for run in [run for run in self.engine.runs.values() if run.state == RUNNING and run.worker not in self.children.workers]:
            if not os.path.exists(f"/proc/{run.pid}"):
                self.step(ev.WorkerExited(run.worker, None))
        for worker in [worker for worker in self.engine.workers.values() if not worker.sure and not worker.run]:
            if not os.path.exists(f"/proc/{worker.pid}"):
                self.step(ev.WorkerExited(worker.number, None))
        for link in self.children.orphans():
            if not os.path.exists(f"/proc/{link.pid}"):
                self.children.worker_exited(None, link.pid, ev.WorkerExited(link.number, None))

    # --- runs ---------------------------------------------------------------------------------------------------------
    def lookup(self, key: str) -> Run | None:
        """The run under this key, from memory or the journal; afterwards the engine knows it as well."""
        run = self.engine.find(key)
        if run is None:
            run = self.writing.find(key)
            if run is not None:
                self.engine.admit(run)
        return run

    def order(self, event: Any, callback: Callable[[ev.Answer], None]) -> None:
        """Give the engine a caller's order; ``callback`` gets the answer at the end of the turn."""
        if self.writing.trouble and isinstance(event, ev.Submit | ev.Retry):
            error = RequestError(NOT_NOW, "the journal cannot be written", classic="Too busy", data=self.writing.trouble)
            self._ticket += 1
            self._tickets[self._ticket] = callback
            self._do_answer(ev.Answer(self._ticket, error=error))
            return
        self._ticket += 1
        self._tickets[self._ticket] = callback
        self.step(event._replace(ticket=self._ticket))

    def select(self, state: str | None, wanted: Filter) -> list[Run]:
        """Runs for ``list``: those that live first, then those that ended, latest first."""
        self.commit()
        self.writing.write_behind(self.now.mono, everything=True)
        runs = []
        if state != ENDED and wanted.outcome is None:
            live = sorted(self.engine.runs.values(), key=lambda run: -run.sequence)
            runs = [run for run in live if self._fits(run, state, wanted)][: wanted.limit]
        if state in (None, ENDED) and len(runs) < wanted.limit:
            names = self.engine.names_of(wanted.target) if wanted.target is not None else ()
            runs += self.journal.ended(wanted._replace(limit=wanted.limit - len(runs), names=names))
        return runs

    @staticmethod
    def _fits(run: Run, state: str | None, wanted: Filter) -> bool:
        return (
            state in (None, run.state)
            and wanted.app in (None, run.app)
            and wanted.target in (None, run.name, run.target)
            and (not wanted.after or run.sequence < wanted.after)
        )

    def _do_answer(self, effect: ev.Answer) -> None:
        callback = self._tickets.pop(effect.ticket, None)
        if callback is not None:
            callback(effect)

    def _do_start(self, effect: ev.StartJob) -> None:
        run = effect.run
        self.outputs.begin(run)
        job = m.Job(
            run.key, run.target, run.params, run.attempt, run.deadline, run.log, "", run.env, effect.last,
            f"{run.name} #{run.key}", run.grace, each=run.each, kind=run.kind,
            fds=self.execs.descriptors(run.key) or self._output_of(run), timeout=run.timeout, spool=run.spool,
        )  # fmt: skip
        self.children.tell_worker(effect.worker, job)
        self.execs.given(run.key)
        if job.fds and run.kind != SCRIPT:
            os.close(job.fds[0])

    def _output_of(self, run: Run) -> tuple[int, ...]:
        """The descriptor of its output, for a worker that runs as another user and may not open a file in ``state_dir``."""
        app, pool = self.config.apps.get(run.app), self.engine.pools.get(run.pool)
        if app is None or pool is None or not run.log or not app.as_another(pool.policy):
            return ()
        try:
            return (os.open(run.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640),)
        except OSError:
            return ()  # the worker will say why it cannot open it

    def _do_kill(self, effect: ev.KillWorker) -> None:
        self.children.kill(effect, soft=limits.ends_by_itself(self.engine.held_by(effect.worker), effect))

    def _do_cancel(self, effect: ev.CancelRun) -> None:
        run = effect.run
        self.children.tell_worker(effect.worker, m.Cancel(run.key, run.kill_reason, run.timeout))

    def _do_measure(self, effect: ev.Measure) -> None:
        pids = dict(effect.workers)
        sizes = {number: ev.Size(size) for number, pid in pids.items() if (size := resident_memory(pid))}
        if effect.share in sizes:
            sizes[effect.share] = ev.Size(sizes[effect.share].rss, proportional_memory(pids[effect.share]))
        self.step(ev.Measured(effect.pool, sizes))

    def _do_answered(self, effect: ev.Answered) -> None:
        for waiter in self.waiters.answered(effect.run.key):
            self.rpc.ended(waiter, effect.run)

    def _do_ended(self, effect: ev.Ended) -> None:
        run = effect.run
        for waiter in self.waiters.ended(run.key):
            self.rpc.ended(waiter, run)
        if run.kind == SCRIPT:
            self.execs.ended(run)
        self.outputs.end(run)
        if self.waiters.followers:
            self.news.follow_soon(run)
        self.news.tell("run.ended", run)
        if not self._forget_at:
            self._forget_at = self.now.mono + FORGET_INTERVAL

    def _measure_output(self, key: str) -> None:
        run = self.engine.runs.get(key)
        if run is not None and run.output in self.outputs.by_path:
            self.outputs.check(run, run.log)

    def _forget_old(self) -> None:
        """Forget ended runs that are older than the settings keep them; a timer only while there are any."""
        self._forget_at = 0.0
        settings = self.config.journal
        try:
            forgotten = self.journal.forget(self.now.wall - settings.keep, settings.keep_runs)
            self.outputs.remove(forgotten)
            for run in forgotten:
                self.engine.ended.pop(run.key, None)
            expired = self.outputs.expire(f"{self.config.state_dir}/output", self.now.wall - self.config.output.keep)
            if forgotten or expired or self.journal.has_ended():
                self._forget_at = self.now.mono + (0.05 if forgotten or expired else FORGET_INTERVAL)
        except (JournalError, OSError) as error:
            log("master", f"old runs cannot be forgotten: {error}")
            self._forget_at = self.now.mono + FORGET_INTERVAL

    # --- clients ------------------------------------------------------------------------------------------------------
    def _client_gone(self, client: Client) -> None:
        if self.waiters.any:
            self.waiters.forget_client(client.number)
        self.generations.orders.forget_client(client.number)

    def _shelve(self) -> None:
        for clients in _batches(self.clients.to_shelve(self.now.mono)):
            self.children.tell_keeper(m.Shelve(tuple(c.name for c in clients), tuple(c.fd for c in clients)))
        if self.clients.closed_names:
            for names in _batches(self.clients.closed_names):
                self.children.tell_keeper(m.Unshelve(tuple(names)))
            self.clients.closed_names = []

    @property
    def all_written(self) -> bool:
        """Whether a hand-over may begin: what the journal does not hold is not carried, nor the answers that wait for it."""
        return self.writing.all_written


def _batches(items: list[Any], size: int = 200) -> list[list[Any]]:
    return [items[at : at + size] for at in range(0, len(items), size)]
