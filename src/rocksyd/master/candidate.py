"""A master that is to serve: it prepares beside the one that serves (or alone), and takes over.

What must live here: the steps from HELLO to ADOPTED.
What this file must not know: what clients want; what is done once it serves (``serving``).

The point of no return is the line that sends ADOPTED: up to there no client has been read and nothing has been written.
"""

from __future__ import annotations

import gc
import os
import select
import time
from collections.abc import Callable
from typing import Any

from rocksyd import __version__, shelf_names
from rocksyd import config as configuration
from rocksyd import messages as m
from rocksyd.config import Config
from rocksyd.errors import CannotServe, ChannelClosed
from rocksyd.journal.store import Journal
from rocksyd.master.desk import page, succession
from rocksyd.master.desk.clients import Clients
from rocksyd.master.desk.listeners import Sockets
from rocksyd.master.records.folder import StateFolder
from rocksyd.master.server import Server
from rocksyd.master.staff.children import Children
from rocksyd.master.staff.declaring import Apps, scripts_of
from rocksyd.master.staff.keeper import Keeper
from rocksyd.master.staff.zygotes import READY, Zygote
from rocksyd.master.turn import Moments
from rocksyd.posix import cgroups, scoreboard
from rocksyd.posix.channel import Channel, read_memfd
from rocksyd.posix.log import log
from rocksyd.posix.loop import Loop
from rocksyd.shelf_names import BUSY_PAGE, CONFIG, LOCK, SCOREBOARD

START, RESTART, CRASH = "start", "restart", "crash"
KEEPER_WAITS_LONGER = 2.0


class Given(dict[str, int]):
    """Descriptors that the keeper has given, by their names on the shelf; connections go on to the clients."""

    def __init__(self) -> None:
        super().__init__()
        self.expected: set[str] = set()
        self._clients: Clients | None = None

    def heard(self, message: Any) -> bool:
        """Take what the keeper gives, and what it says has gone; false if it has said something else."""
        match message:
            case m.Fds():
                for name, fd in zip(message.names, message.fds, strict=True):
                    self._drop(name)
                    self._keep(name, fd)
            case m.Unshelved():
                for name in message.names:
                    self._drop(name)
            case _:
                return False
        return True

    def _keep(self, name: str, fd: int) -> None:
        if self._clients is not None and name.startswith(shelf_names.CONNECTION):
            self._clients.adopt(name, fd)
        else:
            self[name] = fd

    def _drop(self, name: str) -> None:
        self.expected.discard(name)
        if name in self:
            os.close(self.pop(name))
        elif self._clients is not None and name.startswith(shelf_names.CONNECTION):
            self._clients.discard(name)

    def pass_on(self, clients: Clients) -> None:
        """Connections are for these clients, from now on and those that are here."""
        self._clients = clients
        for name in shelf_names.of(shelf_names.CONNECTION, self):
            clients.adopt(name, self.pop(name))


class Candidate:
    """From HELLO to ADOPTED."""

    def __init__(self, keeper: Channel) -> None:
        self.keeper = keeper
        self.control = Loop()
        """What is heard while it prepares."""
        self.prepare = m.Prepare()
        self.shelf = Given()
        self.config: Config
        self.text = ""
        """The configuration as it was read."""
        self.server: Server
        self.folder: StateFolder
        self.sockets = Sockets(self.shelf)
        self.journal: Journal | None = None
        """That of the master which still serves, read ahead: because it is open here, that master leaves without clearing up."""
        self.generation = 1
        self.pending: dict[str, Zygote] = {}
        """The zygotes of this generation."""
        self.failure = ""
        self.early: list[Any] = []
        """What the keeper has said that only a serving master can deal with."""
        self.adopt: m.Adopt | None = None
        self.serving = False

    def run(self) -> None:
        """All of it. Raises RocksydError while nothing has changed."""
        self.keeper.send(m.Hello(os.getpid(), __version__, more=True))
        message = self.keeper.wait()
        if not isinstance(message, m.Prepare):
            raise CannotServe(f"the keeper began with {type(message).__name__}")
        self.prepare = message
        self.shelf.expected = set(message.shelf)
        self._gather()
        self._configure()
        self._use_page()
        self._lock()
        self._take_group()
        self._until(lambda: not self.shelf.expected)
        self._listen()
        self._ready_companions()
        self._look_at_journal()
        if message.cause != CRASH:
            self._load_applications()
        self.keeper.send(m.Prepared(self.generation))
        gc.collect()
        gc.freeze()
        self._until(lambda: self.adopt is not None)
        self._take_over()

    def give_up(self, reason: str) -> None:
        """Leave nothing behind, and let whoever serves go on."""
        if not self.serving:
            self.sockets.give_up()
        try:
            self.keeper.send(m.Refused(reason) if self.adopt is not None else m.PrepareFailed(reason))
        except ChannelClosed:
            return

    # --- the keeper ---------------------------------------------------------------------------------------------------
    def _gather(self) -> None:
        """The first stage, in which only the keeper speaks: get from the shelf what the parts are made of."""
        while self.shelf.expected & {CONFIG, BUSY_PAGE, LOCK, SCOREBOARD}:
            message = self.keeper.wait()
            if not self.shelf.heard(message):
                self.early.append(message)

    def _until(self, done: Callable[[], bool]) -> None:
        """The later stages, in which the parts are there: hear them until ``done`` or the preparation has failed."""
        server, moments = self.server, Moments()
        moments.due.append((server.children.next_deadline, server.children.overdue))
        for part in (server.companions, server.declaring, server.web):
            if part is not None:
                moments.due.append((part.next_deadline, part.on_time))
        while not done():
            if self.failure:
                raise CannotServe(self.failure)
            for handler, events in self.control.wait(moments.next()):
                handler.handle(events)
            moments.pass_by(time.monotonic())
        if self.failure:
            raise CannotServe(self.failure)

    def handle(self, events: int) -> None:
        """The keeper's channel, says epoll."""
        while (message := self.keeper.receive()) is not None:
            match message:
                case m.Fds() | m.Unshelved():
                    self.shelf.heard(message)
                case m.Spawned():
                    self.server.spawned(message)
                case m.Adopt():
                    self.adopt = message
                case m.Exited():
                    self.early.append(message)
                    self.server.exited(message)
                case _:
                    self.early.append(message)
        if self.keeper.flush():
            self.control.modify(self.keeper.fileno(), select.EPOLLIN)

    def _have(self, name: str, make: Callable[[], int]) -> int:
        """The descriptor that has this name on the shelf; a new one is put there."""
        if name not in self.shelf:
            self.shelf[name] = make()
            self.keeper.send(m.Shelve((name,), (self.shelf[name],)))
        return self.shelf[name]

    # --- preparing ----------------------------------------------------------------------------------------------------
    def _configure(self) -> None:
        """Read the configuration, and put the parts together."""
        path = self.prepare.config
        if self.prepare.cause == CRASH and CONFIG in self.shelf:
            self.text = read_memfd(self.shelf[CONFIG]).decode("utf-8", "surrogateescape")
            self.config = configuration.parse_kept(self.text, path)
        else:
            self.text, self.config = configuration.read_checked(path)
        limits = self.config.restart
        # A little more for the keeper: we say which application takes too long, it could only say that we hang.
        self.keeper.send(m.Hello(os.getpid(), __version__, limits.prepare_timeout + KEEPER_WAITS_LONGER, limits.adopt_timeout))
        self.control.register(self.keeper.fileno(), self, select.EPOLLIN)
        # Nothing is decided before the take-over; the end of a zygote is a failure.
        children = Children(self.control, Keeper(self.keeper, self.control), lambda event: None)
        children.zygotes.settled = self._settled
        self.server = Server(self.config, Loop(), children)
        self.server.clients.token = configuration.token(self.config)
        self.server.snapshot.shelf, self.server.snapshot.children = self.shelf, self.prepare.children
        self.folder = StateFolder(self.config)

    def _use_page(self) -> None:
        self.server.clients.page.use(self._have(BUSY_PAGE, page.create))
        self.server.children.use_board(self._have(SCOREBOARD, scoreboard.create))
        self.shelf.pass_on(self.server.clients)

    def _lock(self) -> None:
        """One daemon a state folder. After a crash with a full disk there is still much to serve, and nobody else to go on."""
        if LOCK in self.shelf and self.prepare.cause != CRASH:
            self.folder.check(self.shelf[LOCK])
        self._have(LOCK, self.folder.lock)

    def _take_group(self) -> None:
        """Make ready the control group in which those of the workers will be; without one they are limited less."""
        wanted = self.config.cgroup
        root = {"auto": cgroups.delegated(), "off": ""}.get(wanted, wanted)
        try:
            if root:
                cgroups.settle(root)
            self.server.children.groups.root = root
        except OSError as error:
            log("master", f"workers have no control groups (cgroup = {wanted!r}): {error}")

    def _listen(self) -> None:
        """Have a socket for every address: from the shelf, from the service manager, or a new one."""
        if not self.prepare.stopping:
            web = self.server.web.sockets.wanted() if self.server.web is not None else ()
            self.sockets = Sockets(self.shelf, self.config.listen, (*self.server.companions.sockets.wanted(), *web))
        for name in self.sockets.provide():
            self.keeper.send(m.Shelve((name,), (self.shelf[name],)))
        for unused in self.sockets.unused() if self.prepare.cause == START else ():
            text = "that no address in `listen` asks for: it is not served"
            log("master", f"the service manager passed a socket ({unused}) {text}")

    def _ready_companions(self) -> None:
        """Give the companions what they are going to need: their sockets, and where the daemon is."""
        companions, sockets = self.server.companions, self.sockets
        companions.use(self.control)
        if self.server.web is not None and not self.prepare.stopping:
            from rocksyd.master.staff import web_succession  # noqa: PLC0415  (loaded where there are web pools)

            self.server.web.services.bound = sockets.bound
            web_succession.ready(self.server.web, self.shelf, sockets.known_as, self.control, self.keeper.send)
        companions.generation = lambda: max(self.generation, self.server.engine.generation)
        for name in [name for name, _ in companions.sockets.wanted() if name in sockets.for_companions]:
            companions.sockets.use(name, self.shelf[name], sockets.known_as(name))
        reachable = [sockets.known_as(name) for name in sockets.for_clients]
        for where in sorted(reachable, key=lambda one: one.kind != "unix")[:1]:
            companions.daemon = (str(where), self.server.clients.token or "" if where.kind == "tcp" else "")
            if self.server.web is not None:
                self.server.web.daemon = str(where)

    def _look_at_journal(self) -> None:
        if self.prepare.cause == RESTART and self.folder.has_journal:
            self.journal = self.folder.journal()
            self.server.writing.known = self.journal.live()

    def _load_applications(self) -> None:
        there = (*self.shelf, *self.prepare.children)
        names = [*shelf_names.of(shelf_names.ZYGOTE, there), *shelf_names.of(shelf_names.COMPANION, there)]
        last = max(map(shelf_names.generation_of, names), default=0)
        if not names and self.prepare.cause == START:
            last = self.folder.last_generation()
        self.generation = last + 1
        for app in self.config.apps.values():
            zygote = self.server.children.zygotes.load(app, self.generation, self.config.restart.prepare_timeout)
            self.pending[zygote.name] = zygote
        self.server.companions.start_all()
        self._until(self._all_ready)
        declared: Apps = {
            zygote.app: scripts_of(zygote.ready.jobs) for zygote in self.pending.values() if zygote.ready is not None
        }
        found: list[str] = []
        self.server.declaring.examine(declared, found.append)
        self._until(lambda: bool(found))
        if found[0]:
            raise CannotServe(found[0])

    def _all_ready(self) -> bool:
        web, zygotes = self.server.web, self.pending.values()
        self.failure = self.failure or self.server.companions.failure
        if web is not None and not self.failure:
            self.failure = next(filter(None, (web.failure(zygote.app, zygote.generation) for zygote in zygotes)), "")
        loaded = self.server.companions.all_ready and all(zygote.state == READY for zygote in zygotes)
        return loaded and (web is None or all(web.can_serve(zygote.app, zygote.generation) for zygote in zygotes))

    def _settled(self, zygote: Zygote) -> None:
        self.failure = self.failure or zygote.failure
        if self.server.web is not None and zygote.state == READY and not self.failure:
            self.server.web.begin(zygote, hold=True)

    # --- taking over --------------------------------------------------------------------------------------------------
    @property
    def after_crash(self) -> bool:
        """The last master left no word: it died, perhaps while this one prepared to take over from it."""
        return self.prepare.cause == CRASH or (self.prepare.cause == RESTART and self.adopt is not None and not self.adopt.fds)

    def _take_over(self) -> None:
        assert self.adopt is not None
        server = self.server
        server.turn.look_at_the_clock()
        for fd in self.adopt.fds:
            server.snapshot.read(fd)
        server.writing.journal = self.journal or self.folder.journal()
        server.engine.generation = max(self.generation if self.prepare.cause == START else 1, server.engine.generation)
        if self.adopt.fds:
            self._load_snapshot()
        else:
            succession.drop_busy(server.clients)
            server.generations.recall_gauges()
            if self.after_crash:
                server.generations.recall()
            server.restore({})
        status = f"serving, generation {max(self.generation, server.engine.generation)}"
        self.serving = True
        self.keeper.send(m.Adopted(self.generation, status))  # the point of no return
        server.generations.facts = server.snapshot.facts(time.monotonic())

    def _load_snapshot(self) -> None:
        """Go on where the last master was."""
        self.server.snapshot.load()
