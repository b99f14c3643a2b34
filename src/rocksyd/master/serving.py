"""A master that serves, from ADOPTED until another one does.

What must live here: what follows from a start, a restart and a crash; what the keeper says to a master that serves.
What this file must not know: what clients want; how it came to serve (``candidate``).
"""

from __future__ import annotations

import os
import select
import time
from typing import Any, NoReturn

from rocksyd import __version__, shelf_names
from rocksyd import messages as m
from rocksyd.core import events as ev
from rocksyd.errors import JournalError
from rocksyd.master import handover
from rocksyd.master.candidate import RESTART, START, Candidate
from rocksyd.master.desk.orders import Order
from rocksyd.master.staff.zygotes import LOADING, RETIRING
from rocksyd.model import RUNNING
from rocksyd.posix.log import log
from rocksyd.posix.titles import set_title
from rocksyd.shelf_names import CONFIG


class Serving:
    """What a candidate becomes."""

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate
        self.prepare = candidate.prepare
        self.server = candidate.server
        self.shelf = candidate.shelf
        self._keeper = candidate.server.children.keeper

    def run(self) -> NoReturn:
        """All of it: it ends with the process."""
        self._begin_to_serve()
        server = self.server
        while True:
            server.once()
            while server.turn.freezing and server.writing.all_written:
                if server.finish_batches():
                    continue
                server.turn.freezing = False
                reason, later = handover.freeze(server.snapshot, self._keeper, server.writing.journal)
                server.generations.thawed(reason)
                for message in later:
                    self._heard(message)
                server.turn.finish()

    def _begin_to_serve(self) -> None:
        """The point of no return has been passed: take everything up, and say so."""
        server, candidate, restarted = self.server, self._candidate, self.prepare.cause == RESTART
        if not restarted:
            self._own_journal()
        channel = self._keeper.channel
        server.loop.absorb(candidate.control)
        server.loop.modify(channel.fileno(), select.EPOLLIN | (select.EPOLLOUT if channel.pending else 0))
        server.loop.rehandle(channel.fileno(), self)
        server.children.use(server.loop, server.evidence.step)
        server.children.zygotes.settled = server.loading.settled
        self._take_companions()
        for name in server.door.open(candidate.sockets, server.clients.take, server.execs.take):
            self._keeper.tell(m.Unshelve((name,)))
        server.execs.adopt(self.shelf)
        self._begin_generation()
        server.declaring.tell()
        for message in candidate.early:
            self._heard(message)
        if not restarted:
            self._welcome()
        server.loading.shelve_config(candidate.text)
        if CONFIG in self.shelf:
            os.close(self.shelf.pop(CONFIG))
        server.begin(candidate.generation)
        server.watch(self.prepare.watchdog)
        if restarted:
            server.once(wait=False)  # clients have waited long enough
            self._own_journal()
            server.generations.finish_restart()
            server.stopping.go_on()
        else:
            server.generations.record_service()
        if self.prepare.stopping:
            server.stopping.stop("whoever ordered the last master to: this one goes on with that")
        server.turn.finish()
        set_title("rocksyd: master")

    def _own_journal(self) -> None:
        try:
            self.server.writing.journal.own()
        except JournalError as error:
            log("master", f"the journal has the layout of another version until the next start: {error}")

    def _take_companions(self) -> None:
        """Those of the masters before answer what they were asked, and leave."""
        companions = self.server.companions
        companions.use(self.server.loop)
        self.server.expect_web()
        web = self.server.web
        if web is not None:
            web.links.loop = self.server.loop
        self.server.snapshot.load_adopted()
        for name in (*companions.sockets.by_name, *(web.sockets.by_name if web is not None else ())):
            self.shelf.pop(name)
        companions.restarts = True
        if not self.prepare.stopping:
            companions.start_all()

    def _begin_generation(self) -> None:
        server = self.server
        for zygote in self._candidate.pending.values():
            if zygote.ready is not None:
                server.loading.serve_from(zygote)
        if server.web is not None:
            server.web.settled = server.loading.web_settled
        if self._candidate.after_crash:
            self._recover()
        elif self.prepare.cause == START:
            server.turn.look_at_the_clock()
            server.turn.take(server.engine.lose("the service had ended while it ran", server.turn.now))

    def _recover(self) -> None:
        """After a crash of the master: everybody says again what they hold."""
        server, config = self.server, self.server.engine.config
        zygotes, workers = server.children.zygotes, server.children.workers
        reason = self.prepare.reason or "the last master died before it could hand over"
        log("master", f"taking over: {reason}")
        for name in sorted(shelf_names.of(shelf_names.ZYGOTE, self.shelf)):
            zygote = zygotes.adopt(name, self.shelf.pop(name), LOADING, self.prepare.children.get(name, 0))
            zygote.deadline = time.monotonic() + config.restart.prepare_timeout
            zygote.take_inventory()
        by_worker = {run.attempt.worker: run for run in server.engine.runs.values() if run.state == RUNNING}
        if server.web is not None:
            from rocksyd.master.staff import web_succession  # noqa: PLC0415  (loaded where there are web pools)

            web_succession.adopt_orphans(server.web, self.shelf)
        for name in shelf_names.of(shelf_names.WORKER, self.shelf):
            number, fd = shelf_names.worker_of(name), self.shelf.pop(name)
            if number in by_worker:
                workers.adopt_orphan(number, fd, by_worker[number])
            else:
                os.close(fd)  # an idle worker without a zygote: it leaves when nobody holds its channel
                self._keeper.tell(m.Unshelve((name,)))
        alive = {zygote.app for zygote in zygotes.values() if zygote.state != RETIRING and not zygote.template}
        for app in config.apps:
            if app not in alive:
                server.loading.need(app)
        server.evidence.suspect()
        generation = server.engine.generation
        facts = {"ok": True, "reason": reason, "from": generation, "to": generation}
        server.generations.record(Order("crash", "the keeper", at=time.time()), facts)

    def _welcome(self) -> None:
        door, config = self.server.door, self.server.engine.config
        where = ", ".join(str(listener.address) for listener in door.listeners.values() if not listener.for_callers)
        log("master", f"rocksyd {__version__} serves {', '.join(config.apps)} at {where}")
        if door.limit < config.max_connections:
            log("master", f"at most {door.limit} connections are accepted: {door.why_limited}")

    # --- the keeper ---------------------------------------------------------------------------------------------------
    def handle(self, events: int) -> None:
        """The keeper's channel, says epoll."""
        channel = self._keeper.channel
        if events & select.EPOLLOUT and channel.flush():
            self.server.loop.modify(channel.fileno(), select.EPOLLIN)
        while (message := channel.receive()) is not None:
            self._heard(message)

    def _heard(self, message: Any) -> None:
        server = self.server
        match message:
            case m.Spawned():
                server.spawned(message)
            case m.Exited():
                self._exited(message)
            case m.Signalled():
                server.on_signal(message.number)
            case m.RestartFailed():
                server.generations.failed(message.reason)
            case m.Freeze():
                server.turn.freezing = True
            case m.Unshelved():
                for name in message.names:
                    refused = server.shelving if name.startswith(shelf_names.CONNECTION) else server.children
                    refused.not_shelved(name)
            case m.Fds():
                for fd in message.fds:
                    os.close(fd)
            case _:
                log("master", f"the keeper said {type(message).__name__}, which is not for a serving master")

    def _exited(self, message: m.Exited) -> None:
        """A child of the keeper: a zygote, a worker whose zygote is gone, or somebody's orphan."""
        workers = self.server.children.workers
        number = self.server.evidence.worker_of(message.pid)
        self.server.exited(message)
        if self.server.web_worker_exited(message):
            return
        if number is not None:
            workers.exited(None, message.pid, ev.WorkerExited(number, message.status, message.cpu, message.max_rss))
        else:
            workers.exits.append((None, message.pid))
