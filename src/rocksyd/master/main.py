"""A master's life: prepare beside the one that serves (or alone), take over, serve.

What must live here: the steps from HELLO to ADOPTED, and what the keeper says while the master serves.
What this file must not know: what clients want.

The point of no return is the line that sends ADOPTED: up to there no client has been read and nothing has been written.
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import time
import traceback
from typing import Any

from rocksyd import __version__
from rocksyd import config as configuration
from rocksyd import messages as m
from rocksyd.config import Address, Config
from rocksyd.core import events as ev
from rocksyd.errors import ChannelClosed, ConfigError, DescriptorsLost, RocksydError, SnapshotError
from rocksyd.journal.store import Journal, exists
from rocksyd.master import handover, listeners
from rocksyd.master.children import LOADING, READY, RETIRING, Children, Zygote
from rocksyd.master.clients import BUSY, Clients, Listener
from rocksyd.master.orders import Order
from rocksyd.master.server import Server
from rocksyd.model import RUNNING, Now, Run
from rocksyd.posix import cgroups, scoreboard
from rocksyd.posix.channel import Channel, read_memfd
from rocksyd.posix.log import log
from rocksyd.posix.loop import Loop
from rocksyd.posix.titles import set_title

START, RESTART, CRASH = "start", "restart", "crash"
KEEPER_WAITS_LONGER = 2.0


class CannotServe(RocksydError):
    """The preparation failed; the message is for whoever ordered the start or restart."""


class Master:
    """From HELLO to the end."""

    def __init__(self, keeper: Channel) -> None:
        self.keeper = keeper
        self.control = Loop()
        self.loop = Loop()
        self.prepare = m.Prepare()
        self.expected: set[str] = set()
        self.shelf: dict[str, int] = {}
        """Descriptors from the shelf, except for connections, which the server has."""
        self.server: Server
        self.config: Config
        self.text = ""
        self.children: Children
        self.pending: dict[str, Zygote] = {}
        self.failure = ""
        self.adopt: m.Adopt | None = None
        self.serving = False
        self.early: list[Any] = []
        self.bound: list[Address] = []
        """Addresses that were not served before."""
        self.journal: Journal | None = None
        """That of the master which still serves, read ahead: because it is open here, that master leaves without clearing up."""
        self.known_runs: list[Run] = []
        self.generation = 1

    # --- preparing ----------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """All of it. Returns never; raises CannotServe while nothing has changed."""
        self.keeper.send(m.Hello(os.getpid(), __version__, more=True))
        message = self.keeper.wait()
        if not isinstance(message, m.Prepare):
            raise CannotServe(f"the keeper began with {type(message).__name__}")
        self.prepare = message
        self.expected = set(message.shelf)
        self.control.register(self.keeper.fileno(), _Handler(self._hear), select.EPOLLIN)
        self._until(lambda: not self._missing({"config", "busy", "lock", "scoreboard"}))
        self._configure()
        self.children = Children(self.control, self.keeper, self._not_yet)
        self.children.settled = self._settled
        self.server = Server(self.config, self.keeper, self.loop, self.children)
        self._use_page()
        self._lock()
        self._take_group()
        self._until(lambda: not self.expected)
        self._listen()
        self._look_at_journal()
        if message.cause != CRASH:
            self._load_applications()
        self.keeper.send(m.Prepared(self.generation))
        gc.collect()
        gc.freeze()
        self._until(lambda: self.adopt is not None)
        self._take_over()
        self._serve()

    def _until(self, done: Any) -> None:
        """Listen to keeper and zygotes until ``done`` or the preparation has failed."""
        while not done():
            if self.failure:
                raise CannotServe(self.failure)
            deadline = self.children.next_deadline() if hasattr(self, "children") else None
            for handler, events in self.control.wait(deadline):
                handler.handle(events)
            if deadline is not None and hasattr(self, "children"):
                self.children.overdue(time.monotonic())
        if self.failure:
            raise CannotServe(self.failure)

    def _hear(self, events: int) -> None:
        while (message := self.keeper.receive()) is not None:
            match message:
                case m.Fds():
                    for name, fd in zip(message.names, message.fds, strict=True):
                        self._put(name, fd)
                case m.Unshelved():
                    for name in message.names:
                        self._drop(name)
                case m.Spawned():
                    self.children.spawned(message)
                case m.Adopt():
                    self.adopt = message
                case m.Exited():
                    self.early.append(message)
                    self.children.zygote_exited(message.name, _how(message.status))
                case _:
                    self.early.append(message)
        if self.keeper.flush():
            self.control.modify(self.keeper.fileno(), select.EPOLLIN)

    def _put(self, name: str, fd: int) -> None:
        self.expected.discard(name)
        if name.startswith("conn:") and hasattr(self, "server"):
            self.server.clients.discard(name)
            self.server.clients.adopt(name, fd)
            return
        old = self.shelf.pop(name, None)
        if old is not None:
            os.close(old)
        self.shelf[name] = fd

    def _drop(self, name: str) -> None:
        self.expected.discard(name)
        if name in self.shelf:
            os.close(self.shelf.pop(name))
        elif name.startswith("conn:") and hasattr(self, "server"):
            self.server.clients.discard(name)

    def _missing(self, names: set[str]) -> bool:
        return bool(self.expected & names)

    def _not_yet(self, event: Any) -> None:
        """Nothing is decided before the take-over; a zygote's end is dealt with by ``_settled``."""

    def _configure(self) -> None:
        self._read_configuration()
        limits = self.config.restart
        # A little more for the keeper: we say which application takes too long, it could only say that we hang.
        self.keeper.send(m.Hello(os.getpid(), __version__, limits.prepare_timeout + KEEPER_WAITS_LONGER, limits.adopt_timeout))

    def _read_configuration(self) -> None:
        path = self.prepare.config
        if self.prepare.cause == CRASH and "config" in self.shelf:
            self.text = read_memfd(self.shelf["config"]).decode("utf-8", "surrogateescape")
            self.config = configuration.parse(self.text, path)
            return
        try:
            self.text = configuration.read(path)
            self.config = configuration.parse(self.text, path)
            problems = configuration.check(self.config)
        except ConfigError as error:
            raise CannotServe(str(error)) from error
        if problems:
            raise CannotServe("\n".join(problems))

    def _use_page(self) -> None:
        if "busy" not in self.shelf:
            self.shelf["busy"] = Clients.new_page()
            self.keeper.send(m.Shelve(("busy",), (self.shelf["busy"],)))
        self.server.clients.use_page(self.shelf["busy"])
        if "scoreboard" not in self.shelf:
            self.shelf["scoreboard"] = scoreboard.create()
            self.keeper.send(m.Shelve(("scoreboard",), (self.shelf["scoreboard"],)))
        self.server.board = scoreboard.Scoreboard(self.shelf["scoreboard"])
        self.children.board_fd = self.shelf["scoreboard"]
        for name in [name for name in self.shelf if name.startswith("conn:")]:
            self.server.clients.adopt(name, self.shelf.pop(name))

    def _take_group(self) -> None:
        """Make ready the control group in which those of the workers will be; without one they are limited less."""
        wanted = self.config.cgroup
        root = {"auto": cgroups.delegated(), "off": ""}.get(wanted, wanted)
        try:
            if root:
                cgroups.settle(root)
            self.children.cgroup = root
        except OSError as error:
            log("master", f"workers have no control groups (cgroup = {wanted!r}): {error}")

    def _lock(self) -> None:
        """One daemon a state folder: the lock is the open file's, so it lives on the shelf as long as the service does."""
        folder = self.config.state_dir
        path = f"{folder}/lock"
        try:
            if "lock" in self.shelf:
                if self.prepare.cause == CRASH:
                    return  # with a full disk there is still much to serve, and nobody else to go on
                if not _is_file(self.shelf["lock"], path):
                    raise CannotServe(f"state_dir is {folder} now, and a restart cannot move the journal: stop, move it, start")
                probe = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
                try:
                    os.write(probe, bytes(65536))
                    os.fsync(probe)
                finally:
                    os.close(probe)
                return
            os.makedirs(f"{folder}/output", mode=0o700, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            cure = "see that it can be written and that its disk has room"
            raise CannotServe(f"state_dir {folder}: {error.strerror}; {cure}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode(errors="replace").strip()
            raise CannotServe(f"another rocksyd (pid {pid}) uses state_dir {folder}: stop it, or use another folder") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getppid()}\n".encode(), 0)
        self.shelf["lock"] = fd
        self.keeper.send(m.Shelve(("lock",), (fd,)))

    def _listen(self) -> None:
        """Have a socket for every address: from the shelf, from the service manager, or a new one."""
        wanted = () if self.prepare.stopping else self.config.listen
        self.addresses = {f"listen:{address}": address for address in wanted}
        self.for_callers = {f"listen:{a}": a for a in map(listeners.for_callers, wanted) if a is not None}
        given = {name: fd for name, fd in self.shelf.items() if name.startswith("sd:") and name[3:].isdigit()}
        used = set()
        for name, address in [*self.addresses.items(), *self.for_callers.items()]:
            if name in self.shelf:
                continue
            passed = next((sd for sd, fd in given.items() if _is_for(fd, address)), "")
            if passed:
                used.add(passed)
                self.shelf[name] = os.dup(given[passed])
            else:
                try:
                    kind = listeners.PACKETS if name in self.for_callers else listeners.STREAM
                    self.shelf[name] = listeners.bind(address, kind).detach()
                except RocksydError as error:
                    raise CannotServe(str(error)) from error
                self.bound.append(address)
            self.keeper.send(m.Shelve((name,), (self.shelf[name],)))

        for unused in sorted(given.keys() - used) if self.prepare.cause == START else ():
            text = "that no address in `listen` asks for: it is not served"
            log("master", f"the service manager passed a socket ({unused}) {text}")

    def _look_at_journal(self) -> None:
        path = self.journal_path
        if self.prepare.cause == RESTART and exists(path):
            try:
                self.journal = Journal(path, sync=self.config.journal.sync)
                self.known_runs = self.journal.live()
            except RocksydError as error:
                raise CannotServe(str(error)) from error

    @property
    def journal_path(self) -> str:
        """Of the SQLite file."""
        return f"{self.config.state_dir}/journal.sqlite"

    def _load_applications(self) -> None:
        names = [name for name in (*self.shelf, *self.prepare.children) if name.startswith("zygote:")]
        self.generation = max((int(name.rpartition("@")[2]) for name in names), default=0) + 1
        if not names and exists(self.journal_path) and self.prepare.cause == START:
            self.generation = self._last_generation() + 1
        for app in self.config.apps.values():
            zygote = self.children.load(app, self.generation, self.config.restart.prepare_timeout)
            self.pending[zygote.name] = zygote
        self._until(lambda: all(zygote.state == READY for zygote in self.pending.values()))

    def _last_generation(self) -> int:
        try:
            journal = Journal(self.journal_path, sync=self.config.journal.sync)
            try:
                return int((journal.meta("service") or {}).get("generation", 0))
            finally:
                journal.close()
        except RocksydError as error:
            raise CannotServe(str(error)) from error

    def _settled(self, zygote: Zygote) -> None:
        if zygote.failure and not self.failure:
            self.failure = zygote.failure

    def give_up(self, reason: str) -> None:
        """Leave nothing behind, and let whoever serves go on."""
        if not self.serving:
            for address in self.bound:
                listeners.remove(address)
        try:
            self.keeper.send(m.Refused(reason) if self.adopt is not None else m.PrepareFailed(reason))
        except ChannelClosed:
            return

    # --- taking over --------------------------------------------------------------------------------------------------
    def _take_over(self) -> None:
        assert self.adopt is not None
        server = self.server
        now = Now(time.monotonic(), time.time())
        header, body = handover.parse(self.adopt.fds[0]) if self.adopt.fds else (None, b"")
        carried = 0
        if header is not None:
            handover.check_manifest(server, header, self.shelf)
        server.journal = self.journal or Journal(self.journal_path, sync=self.config.journal.sync)
        runs = server.journal.refresh(self.known_runs) if self.known_runs else server.journal.live()
        rev, sequence = server.journal.counters()
        server.engine.rev, server.engine.sequence = rev, sequence
        server.engine.generation = max(self.generation if self.prepare.cause == START else 1, server.engine.generation)
        if header is not None:
            carried = handover.load_clients(server, header, body)
            self._load_header(header)
            server.take(server.engine.restore(runs, header.get("engine"), now))
        else:
            self._drop_busy_clients()
            if self.after_crash:
                server.generations.recall()
            server.take(server.engine.restore(runs, None, now))
        status = f"serving, generation {max(self.generation, server.engine.generation)}"
        self.serving = True
        self.keeper.send(m.Adopted(self.generation, status))  # the point of no return
        server.generations.facts = self.adopt_facts(header, carried)

    @property
    def after_crash(self) -> bool:
        """The last master left no word: it died, perhaps while this one prepared to take over from it."""
        return self.prepare.cause == CRASH or (self.prepare.cause == RESTART and self.adopt is not None and not self.adopt.fds)

    def adopt_facts(self, header: dict[str, Any] | None, carried: int) -> dict[str, Any]:
        """For the audit record: how long clients waited, what was carried."""
        if header is None:
            return {}
        now = time.monotonic()
        waited = (now - header.get("frozen_at", now)) * 1000
        return {"waited_ms": round(waited, 2), "bytes": carried, "from": header.get("engine", {}).get("generation", 0)}

    def _load_header(self, header: dict[str, Any]) -> None:
        server = self.server
        generations = server.generations
        generations.started_at = header.get("started_at", generations.started_at)
        generations.restarts, generations.crashes = header.get("restarts", 0), header.get("crashes", 0)
        server.commands.served = header.get("served", 0)
        server.stopping.signals, server.stopping.when_drained = header.get("signals", 0), header.get("drain_then_stop", False)
        server.waiters.load(header.get("waiters", {}))
        generations.orders.load(header.get("orders", {}))
        for name, state, pid, ready, *_ in header.get("zygotes", ()):
            if name in self.shelf:
                zygote = self.children.adopt_zygote(name, self.shelf.pop(name), state, pid)
                zygote.ready = m.known(m.Ready, ready) if ready else None
        for number, pid, app, generation, _, *more in header.get("workers", ()):
            parent = (app, generation, more[0] if more else 0)
            link = self.children.link((number, pid), parent, self.shelf.pop(f"worker:{number}"))
            link.shelved = True

    def _drop_busy_clients(self) -> None:
        """After a crash: a connection in the middle of something is closed, so that nobody is left hanging or out of step."""
        clients = self.server.clients
        clients.adopted_all()
        for client in list(clients.by_number.values()):
            if clients.page[client.slot] & BUSY:
                clients.close(client)

    # --- serving ------------------------------------------------------------------------------------------------------
    def _serve(self) -> None:
        server = self.server
        self.loop.absorb(self.control)
        self.children.use(self.loop, server.step)
        self.children.settled = server.loading.settled
        self.loop.modify(self.keeper.fileno(), select.EPOLLIN | (select.EPOLLOUT if self.keeper.pending else 0))
        self.loop.rehandle(self.keeper.fileno(), _Handler(self._on_keeper))
        self._open_listeners()
        server.execs.adopt(self.shelf)
        self._begin_generation()
        for message in self.early:
            self._heard(message)
        if self.prepare.cause != RESTART:
            self._welcome()
        server.loading.shelve_config(self.text)
        if "config" in self.shelf:
            os.close(self.shelf.pop("config"))
        server.begin(self.generation)
        server.watch(self.prepare.watchdog)
        if self.prepare.cause == RESTART:
            server.turn(wait=False)  # clients have waited long enough
            server.generations.finish_restart()
        else:
            server.generations.record_service()
        if self.prepare.stopping:
            server.stopping.stop("whoever ordered the last master to: this one goes on with that")
        server.finish_turn()
        set_title("rocksyd: master")
        while True:
            server.turn()
            while server.freezing and server.all_written:
                server.generations.thawed(handover.freeze(server))
                while server.later:
                    self._heard(server.later.pop(0))
                server.finish_turn()

    def _open_listeners(self) -> None:
        clients = self.server.clients
        passed = {os.fstat(fd).st_ino for name, fd in self.shelf.items() if name.startswith("sd:")}
        for name in [name for name in self.shelf if name.startswith("listen:")]:
            fd = self.shelf.pop(name)
            ours = os.fstat(fd).st_ino not in passed
            socket = listeners.view(fd, own=True)
            if name in self.addresses:
                address = listeners.known_as(socket, self.addresses[name])
                clients.listen(name, Listener(socket, address, clients.accept, ours=ours))
            elif name in self.for_callers:
                clients.listen(name, Listener(socket, self.for_callers[name], self.server.execs.accept))
            else:
                if ours:
                    listeners.remove(listeners.local_address(socket))
                socket.close()
                self.children.tell_keeper(m.Unshelve((name,)))

    def _begin_generation(self) -> None:
        server = self.server
        for zygote in self.pending.values():
            if zygote.ready is not None:
                server.loading.serve_from(zygote)
        if self.after_crash:
            self._recover()
        elif self.prepare.cause == START:
            server.take(server.engine.lose("the service had ended while it ran", Now(time.monotonic(), time.time())))

    def _recover(self) -> None:
        """After a crash of the master: everybody says again what they hold."""
        server = self.server
        reason = self.prepare.reason or "the last master died before it could hand over"
        log("master", f"taking over: {reason}")
        for name in sorted(name for name in self.shelf if name.startswith("zygote:")):
            zygote = self.children.adopt_zygote(name, self.shelf.pop(name), LOADING, self.prepare.children.get(name, 0))
            zygote.deadline = time.monotonic() + self.config.restart.prepare_timeout
            self.children.take_inventory(zygote)
        by_worker = {run.worker: run for run in server.engine.runs.values() if run.state == RUNNING}
        for name in [name for name in self.shelf if name.startswith("worker:")]:
            number, fd = int(name.removeprefix("worker:")), self.shelf.pop(name)
            if number in by_worker:
                self.children.adopt_orphan(number, fd, by_worker[number])
            else:
                os.close(fd)  # an idle worker without a zygote: it leaves when nobody holds its channel
                self.children.tell_keeper(m.Unshelve((name,)))
        alive = {zygote.app for zygote in self.children.zygotes.values() if zygote.state != RETIRING and not zygote.template}
        for app in self.config.apps:
            if app not in alive:
                server.loading.need(app)
        server.suspect()
        now = time.time()
        facts = {"ok": True, "reason": reason, "from": server.engine.generation, "to": server.engine.generation}
        server.generations.record(Order("crash", "the keeper", at=now), facts)

    def _welcome(self) -> None:
        listening = self.server.clients.listeners.values()
        where = ", ".join(str(listener.address) for listener in listening if not listener.for_callers)
        log("master", f"rocksyd {__version__} serves {', '.join(self.config.apps)} at {where}")
        clients = self.server.clients
        if clients.limit < self.config.max_connections:
            log("master", f"at most {clients.limit} connections are accepted: {clients.why_limited}")

    def _on_keeper(self, events: int) -> None:
        if events & select.EPOLLOUT and self.keeper.flush():
            self.loop.modify(self.keeper.fileno(), select.EPOLLIN)
        while (message := self.keeper.receive()) is not None:
            self._heard(message)

    def _heard(self, message: Any) -> None:
        server = self.server
        match message:
            case m.Spawned():
                self.children.spawned(message)
            case m.Exited():
                self._exited(message)
            case m.Signalled():
                server.stopping.on_signal(message.number)
            case m.RestartFailed():
                server.generations.failed(message.reason)
            case m.Freeze():
                server.freezing = True
            case m.Unshelved():
                for name in message.names:
                    if name.startswith("conn:"):
                        server.clients.not_shelved(name)
                    else:
                        self.children.not_shelved(name)
            case m.Fds():
                for fd in message.fds:
                    os.close(fd)
            case _:
                log("master", f"the keeper said {type(message).__name__}, which is not for a serving master")

    def _exited(self, message: m.Exited) -> None:
        """A child of the keeper: a zygote, a worker whose zygote is gone, or somebody's orphan."""
        number = self.server.worker_of(message.pid)
        self.children.zygote_exited(message.name, _how(message.status))
        if number is not None:
            event = ev.WorkerExited(number, message.status, message.cpu, message.max_rss)
            self.children.worker_exited(None, message.pid, event)
        else:
            self.children.exits.append((None, message.pid))


class _Handler:
    def __init__(self, handle: Any) -> None:
        self.handle = handle


def _is_for(fd: int, address: Address) -> bool:
    socket = listeners.view(fd)
    try:
        return listeners.matches(socket, address)
    finally:
        socket.close()


def _is_file(fd: int, path: str) -> bool:
    """Whether ``fd`` is the file that ``path`` names now."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _how(status: int) -> str:
    return f"killed by signal {status & 0x7F}" if status & 0x7F else f"exited with status {status >> 8}"


def main(argv: list[str]) -> int:
    """Be a master; descriptor 3 is the channel to the keeper."""
    keeper = Channel.from_fd(3)
    os.set_inheritable(3, False)
    set_title("rocksyd: master (preparing)")
    master = Master(keeper)
    try:
        master.run()
    except ChannelClosed:
        return 1  # the keeper is gone: the service is over, and the zygotes notice by themselves
    except (CannotServe, DescriptorsLost, SnapshotError, ConfigError) as error:
        master.give_up(str(error))
    except Exception as error:  # noqa: BLE001  (whatever it is, whoever ordered this has to hear of it)
        log("master", traceback.format_exc().rstrip())
        master.give_up(f"{type(error).__name__}: {error}")
    return 1


__all__ = ["ev", "main"]
