"""The serving master: the parts, put together, and the loop that wakes them.

What must live here: which part is given which other, and the order in which they take part in the turn.
What this file must not know: what any part does.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rocksyd import messages as m
from rocksyd.config import Config
from rocksyd.core import events as ev
from rocksyd.core.engine import Engine
from rocksyd.exit_status import describe, signal_name
from rocksyd.journal.store import remembered
from rocksyd.journal.tables import COSTS, FLAGS
from rocksyd.master.barrier import Stranger
from rocksyd.master.desk import listeners
from rocksyd.master.desk import succession as desk
from rocksyd.master.desk.classic import Classic
from rocksyd.master.desk.clients import Clients
from rocksyd.master.desk.clock import Clock
from rocksyd.master.desk.daemon import Daemon
from rocksyd.master.desk.door import Door
from rocksyd.master.desk.forwarding import Forwarding
from rocksyd.master.desk.generations import Generations
from rocksyd.master.desk.lists import LAST_SEARCH
from rocksyd.master.desk.news import News
from rocksyd.master.desk.numbers import Numbers
from rocksyd.master.desk.orders import RESTART, Requester
from rocksyd.master.desk.pieces import Pieces
from rocksyd.master.desk.replies import Replies
from rocksyd.master.desk.rpc import Rpc
from rocksyd.master.desk.runs import Runs
from rocksyd.master.desk.script_callers import Execs
from rocksyd.master.desk.shelving import Shelving
from rocksyd.master.desk.stopping import Stopping
from rocksyd.master.desk.waiters import Waiters
from rocksyd.master.records.forgetting import Forgetting
from rocksyd.master.records.output import Outputs
from rocksyd.master.records.slowlog import SlowLog
from rocksyd.master.records.writing import Writing
from rocksyd.master.snapshot import Snapshot
from rocksyd.master.staff import succession as staff
from rocksyd.master.staff.children import Children
from rocksyd.master.staff.companions import Companions
from rocksyd.master.staff.declaring import Declaring
from rocksyd.master.staff.evidence import Evidence
from rocksyd.master.staff.left_behind import LeftBehind
from rocksyd.master.staff.performers import Performers
from rocksyd.master.staff.reloading import Loading
from rocksyd.master.staff.stacks import Stacks
from rocksyd.master.turn import Turn
from rocksyd.model import RUNNING, Run
from rocksyd.posix.loop import Loop

if TYPE_CHECKING:
    from rocksyd.master.staff.web import Web


class Server:
    """One serving master. Where several parts perform the same effect, they do so in the order in which they are made here."""

    _watchdog = _alive_at = 0.0
    web: Web | None = None

    def __init__(self, config: Config, loop: Loop, children: Children) -> None:
        self.loop = loop
        self.children = children
        self.snapshot = Snapshot()
        self.engine = Engine(config)
        self.writing = Writing(Outputs.remove, self.engine.counters)
        self.barrier = children.barrier
        self.turn = Turn(self.engine, self.writing, self.barrier)
        # the desk's ground
        self.clients = Clients(self.turn, loop)
        self.waiters = Waiters()
        self.clients.listening = self.waiters.listening
        self.clients.gone.append(lambda client: self.waiters.forget_client(client.number))
        self.door, self.clock = Door(self.turn, self.clients, loop), Clock(self.turn, loop)
        self.shelving = Shelving(self.turn, self.clients, children.keeper.tell)
        self.replies = Replies(self.clients)
        # records
        self.outputs = Outputs(loop, config.output.limit, self._grown)
        self.turn.due(self.outputs.next_deadline, self.outputs.on_time)
        self.forgetting = Forgetting(self.writing, self.outputs, self.engine)
        self.turn.due(self.forgetting.next_deadline, self._forget)
        # staff
        self.turn.due(children.next_deadline, children.overdue)
        self.turn.settles(children.workers.acknowledge_exits)
        self.evidence = Evidence(self.turn, children, self.outputs)
        self.loading = Loading(self.turn, children)
        self.stacks = Stacks(self.turn, children, self.outputs, SlowLog(f"{config.state_dir}/slow.log"))
        self.companions = Companions(config.companions, children.keeper.tell, loop, self.barrier)
        self.turn.due(self.companions.next_deadline, self.companions.on_time)
        self.loading.declaring = self.declaring = Declaring(self.companions, config.on_demand, self.turn)
        # the desk
        self.forwarding = Forwarding(self.companions, self.replies)
        self.turn.due(self.forwarding.next_deadline, self.forwarding.on_time)
        self.runs = Runs(self.turn, self.waiters, self.replies, self.stacks, LeftBehind(children, config.state_dir))
        self.execs = Execs(self.turn, self.door, children.keeper, loop)
        self.turn.performs(ev.Ended, lambda effect: self.outputs.end(effect.run))
        self.news = News(self.turn, self.waiters, self.replies, self.outputs)
        self.turn.says(self.clients.send_owed)
        self.turn.performs(ev.Ended, lambda effect: self.forgetting.ended(self.turn.now.mono))
        self.performers = Performers(self.turn, children, self.outputs, self.execs)
        self.generations = Generations(self.turn, self.clients, children, self.loading, self.news)
        self.loading.configured, self.declaring.author = self.door.configure, self.generations.ordered_by
        self.stopping = Stopping(self.turn, self.clients, self.door, self.waiters, children)
        self.stopping.companions = self.companions
        self.turn.ends(self.clients.send_owed)  # callers that waited for the drain: nothing else may wake this loop for long
        self.numbers = Numbers(self.turn, self.clients, children, self.loading, self.generations)
        self.numbers.companions, self.numbers.door, self.numbers.served = self.companions, self.door, lambda: self.classic.served
        self.rpc = Rpc(self.replies, self.forwarding, Pieces(self.turn, self.replies.here, self.replies.broken))
        self.runs.serve(self.rpc)
        self.news.serve(self.rpc, self.numbers.news)
        daemon = Daemon(self.turn, self.clients, self.numbers, self.generations, self.stopping)
        daemon.serve(self.rpc, self.forwarding.methods)
        self.classic = Classic(self.turn, self.numbers, self.generations, self.stopping, self.rpc)
        self.clients.serve_requests = self.classic.serve
        self._carry(self.snapshot)

    def _carry(self, snapshot: Snapshot) -> None:
        """What another master goes on with, in the order in which it takes that back."""
        snapshot.last_words += [self.stacks.give_up, self.news.tell_collected]
        snapshot.manifest.append(self.door.descriptors)
        snapshot.loose.append(self.shelving.loose)
        snapshot.fields |= {"accepted": self.clients, "served": self.classic}
        snapshot.fields |= dict.fromkeys(("started_at", "restarts", "crashes"), self.generations)
        snapshot.fields |= dict.fromkeys(("signals", "drain_then_stop"), self.stopping)
        desk.carry(self.clients, snapshot)  # first, because it looks whether all are there
        snapshot.parts["waiters"] = (self.waiters.dump, self.waiters.load)
        snapshot.parts["orders"] = (self.generations.orders.dump, self.generations.orders.load)
        staff.carry(self.children, snapshot)
        snapshot.parts["engine"] = (self.engine.snapshot, self.restore)  # last, because it decides
        staff.carry_companions(self.companions, snapshot)
        snapshot.adopted_parts["forwarded"] = (self.forwarding.dump, self.forwarding.load)  # behind those who are to answer
        if any(app.web is not None or app.services for app in self.engine.config.apps.values()):
            self._make_web(self.engine.config)

    # --- web pools, which are loaded where there are any --------------------------------------------------------------
    def _make_web(self, config: Config) -> None:
        from rocksyd.master.staff import web_succession  # noqa: PLC0415
        from rocksyd.master.staff.service_rows import ServiceRows  # noqa: PLC0415
        from rocksyd.master.staff.web import Web  # noqa: PLC0415
        from rocksyd.master.staff.web_rows import WebRows  # noqa: PLC0415

        children = self.children
        self.web = children.zygotes.web = self.loading.web = self.stopping.web = web = Web(
            config, children.zygotes, children.keeper, self.loop
        )
        web.reaped = lambda zygote, pid: children.workers.exits.append((zygote, pid))
        rows = WebRows(web, lambda: self.generations.started_at)
        services = ServiceRows(web, lambda app: self.engine.gauges.get(app, {}), listeners.reached)
        web.row, self.numbers.web, self.numbers.services = rows.fpm, rows, services
        web.died = lambda app, generation, status: self.turn.step(ev.Crashed(app, generation, status))
        web.services.gauges = lambda app, values: self.turn.step(ev.GaugesSaid(app, values))
        web.slow_log = self.stacks.note
        web.services.bind, web.services.unbind = listeners.listen_at, listeners.remove
        self.generations.swapping, self.generations.kept = lambda: web.swapping, services.kept
        web.swapped = self.generations.swapped
        web_succession.carry(web, self.snapshot, children.keeper.tell)
        self.turn.due(web.next_deadline, web.on_time)

    def expect_web(self) -> None:
        """Take in the web workers of the master before, although the configuration has none any longer."""
        if self.web is None and self.snapshot.members.get("web"):
            self._make_web(self.engine.config)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the journal's runs, and with what the snapshot says of the engine; where there is none, with nothing."""
        journal = self.writing.journal
        self.engine.rev, self.engine.sequence = journal.counters()
        if "costs" not in state:
            self.engine.costs.load(remembered(journal, COSTS))
        runs, flags = journal.refresh(self.writing.known), remembered(journal, FLAGS)
        self.turn.take(self.engine.restore(runs, state or None, self.turn.now, journal.starts(), flags))
        self.writing.known = ()

    # --- the loop -----------------------------------------------------------------------------------------------------
    def once(self, *, wait: bool = True) -> None:
        """One turn of the loop; unless it is to ``wait``, with what is there already."""
        pressing = bool(self.clients.waiting)
        ready = self.loop.wait(self.turn.moments.next() if wait and not pressing else 0.0)
        self.turn.look_at_the_clock()
        for handler, events in ready:
            try:
                handler.handle(events)
            except Exception as error:
                if not isinstance(handler, Stranger):
                    raise
                self.barrier.stop(handler, error)
        self.clients.serve_waiting()
        self.turn.moments.pass_by(self.turn.now.mono)
        self.turn.finish()

    def finish_batches(self) -> bool:
        """Serve all that is left of batches and of what is made in pieces, because a hand-over carries none; whether any was."""
        clients = [client for client in self.clients.by_number.values() if client.parts]
        for client in clients:
            self.rpc.go_on(client, math.inf)
        lists = self.runs.lists
        lists.search_left = LAST_SEARCH
        any_left = [self.rpc.pieces.finish(), self.runs.endings.finish(), bool(clients)]
        lists.search_left = math.inf
        if any(any_left):
            self.turn.finish()
        return any(any_left)

    def begin(self, generation: int) -> None:
        """What has to be known before the first turn."""
        self.engine.generation = max(self.engine.generation, generation)
        living = {(zygote.app, zygote.generation) for zygote in self.children.zygotes.values()}
        self.children.groups.tidy(living, self.engine.generation)
        self.forgetting.begin(self.turn.now.mono)
        self.turn.told, _ = self.writing.journal.counters()
        self.outputs.watch_all(f"{self.engine.config.state_dir}/output")
        for run in self.engine.runs.values():
            if run.state == RUNNING:
                self.outputs.begin(run)
        self.execs.begin()
        for key in list(self.waiters.followers):
            followed = self.turn.lookup(key)
            if followed is not None:
                self.news.follow_soon(followed)

    def spawned(self, message: m.Spawned) -> None:
        """The keeper has started a child, or could not."""
        self.children.zygotes.spawned(message)
        self.companions.spawned(message)

    def exited(self, message: m.Exited) -> None:
        """The keeper has reaped a child that may have been a zygote's or a companion's process."""
        self.children.zygotes.exited(message.name, describe(message.status))
        self.companions.exited(message.name, message.pid, describe(message.status))

    def web_worker_exited(self, message: m.Exited) -> bool:
        """Whether a child that the keeper has reaped was a web worker, whose zygote is gone."""
        number = self.web.links.with_pid(message.pid) if self.web is not None else 0
        if number and self.web is not None:
            self.web.exited(None, message, number)
        return bool(number)

    def on_signal(self, number: int) -> None:
        """A signal to the service's PID."""
        name = signal_name(number)
        if name in ("SIGHUP", "SIGUSR2"):
            self.generations.order(RESTART, name, Requester())
        else:
            self.stopping.on_signal(number, name)

    # --- small things between two parts -------------------------------------------------------------------------------
    def _grown(self, run: Run) -> None:
        self.news.follow_soon(run)

    def _forget(self, now: float) -> None:
        self.forgetting.look(now, self.turn.now.wall, self.engine.config)

    def watch(self, interval: float) -> None:
        """The service manager wants to hear every ``interval`` seconds that the loop turns (0: it does not)."""
        if interval:
            self._watchdog = interval
            self._say_alive(self.turn.now.mono)
            self.turn.due(lambda: self._alive_at, self._say_alive)

    def _say_alive(self, now: float) -> None:
        self.children.keeper.tell(m.Status(alive=True))
        self._alive_at = now + self._watchdog / 2
