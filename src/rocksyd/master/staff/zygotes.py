"""Zygotes and templates as the master sees them: channels, and the words said over them.

What must live here: starting and ending zygotes, and what each of their messages is to the master.
What this file must not know: clients, the journal, why a zygote or a worker is wanted.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Any, Protocol

from rocksyd import bounds, shelf_names
from rocksyd import messages as m
from rocksyd.config import AppConfig, starting
from rocksyd.core import events as ev
from rocksyd.core.web_crew import is_web
from rocksyd.errors import ChannelClosed, DescriptorsLost, MessageError
from rocksyd.master.barrier import Barrier, Stranger
from rocksyd.master.staff.keeper import Keeper
from rocksyd.master.staff.workers import LAST_WORDS, MESSAGES_A_TURN, Workers
from rocksyd.posix.channel import Channel, close_all, pair
from rocksyd.posix.log import log
from rocksyd.posix.loop import Loop

LOADING, READY, RETIRING = "loading", "ready", "retiring"
_LATE = "was not loaded in time (prepare_timeout): look for what its preload waits for"
_TEMPLATE_LATE = "has a template that was not ready in time (prepare_timeout): look what its before_fork hooks wait for"
STATUS_TIMEOUT = 2.0
"""Seconds from the end of a loading zygote's channel until its end is told without its exit status."""


class Zygote(Stranger):
    """One zygote's channel, or one template's: to the master they are the same but for their beginning and their end."""

    def __init__(self, owner: Zygotes, app: str, generation: int, channel: Channel, state: str = LOADING) -> None:
        self.owner = owner
        self.app = app
        self.generation = generation
        self.template = 0
        """The number of the worker that it was; 0 for one that has loaded the application itself."""
        self.channel = channel
        self.state = state
        self.pid = 0
        self.deadline = 0.0
        self.ready: m.Ready | None = None
        self.failure = ""
        self.closed = False
        """Whether its channel has ended while it was LOADING, and the keeper has not said yet how."""
        self.counting = False
        """Whether its inventory is awaited: before it, nobody knows how many workers are wanted besides those it has."""

    @property
    def name(self) -> str:
        """On the shelf and among the keeper's children."""
        return shelf_names.zygote(self.app, self.generation, self.template)

    kind = "zygote"

    def __str__(self) -> str:
        return self.name

    def handle(self, events: int) -> None:
        """What epoll says."""
        self.owner.hear(self, events)

    def broken(self, reason: str) -> None:
        """What it said has raised what nobody expected: it is ended, and its application loaded again."""
        self.failure = reason
        self.owner.end(self)

    def said(self, message: Any) -> ev.HeardZygote:
        """The event: it has said this."""
        return ev.HeardZygote(self.app, self.generation, self.template, message)

    def tell(self, message: Any) -> None:
        """Say something to it; nothing is said to one that is gone."""
        try:
            self.channel.send(message)
        except ChannelClosed:
            return  # epoll reports the end of the channel as well, and that is where it is dealt with
        if self.channel.pending:
            self.owner.loop.modify(self.channel.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def take_inventory(self) -> None:
        """Ask it for everything it holds."""
        self.counting = True
        self.tell(m.Inventory())

    def retire(self) -> None:
        """Let it end when its last job has."""
        if self.state != RETIRING:
            self.state = RETIRING
            self.tell(m.Retire())


class WebStaff(Protocol):
    """Who is told of web workers."""

    def forked(self, zygote: Zygote, message: m.Forked) -> None:
        """A worker lives."""

    def fork_failed(self, zygote: Zygote, message: m.ForkFailed) -> None:
        """A worker that was ordered does not come."""

    def found(self, zygote: Zygote, worker: tuple[int, int], fd: int) -> None:
        """A worker, (number, PID), is there, says the inventory."""

    def exited(self, zygote: Zygote | None, message: m.Exited) -> None:
        """A worker is no more."""

    def zygote_gone(self, zygote: Zygote) -> None:
        """Nobody forks any longer."""


class Zygotes(dict[str, Zygote]):
    """All zygotes and templates, by name."""

    web: WebStaff | None = None

    def __init__(self, loop: Loop, keeper: Keeper, workers: Workers, barrier: Barrier, step: Callable[[Any], None]) -> None:
        super().__init__()
        self.loop, self.step = loop, step
        """Who wakes, and who decides on events."""
        self._keeper = keeper
        self._workers = workers
        self._barrier = barrier
        self.board_fd = -1
        """The scoreboard's memfd, which every zygote is given."""
        self.settled: Callable[[Zygote], None] = lambda zygote: None
        """Told of a zygote that became READY, failed, or died."""

    def named(self, app: str, generation: int, template: int = 0) -> Zygote | None:
        """The zygote of an application's generation, or this template of it, if it is there."""
        return self.get(shelf_names.zygote(app, generation, template))

    # --- they come and go ---------------------------------------------------------------------------------------------
    def load(self, app: AppConfig, generation: int, timeout: float) -> Zygote:
        """Start a zygote for ``app``; ``settled`` will be told how it went, at the latest after ``timeout`` seconds."""
        ours, theirs = pair()
        zygote = self.enlist(Zygote(self, app.name, generation, Channel(ours)))
        zygote.deadline = time.monotonic() + timeout
        environment = starting.environment(app, os.environ)
        # First of all: a master that dies after any of these leaves no zygote that waits for what it is to load.
        zygote.tell(starting.order_to_load(app, generation, (self.board_fd,), self._workers.groups.root))
        self._keeper.tell(m.Spawn(zygote.name, starting.command(app), environment, app.path, (theirs.fileno(),)))
        self._keeper.tell(m.Shelve((zygote.name,), (ours.fileno(),)))
        theirs.close()
        return zygote

    def adopt(self, name: str, fd: int, state: str, pid: int = 0) -> Zygote:
        """Take a zygote over from the shelf."""
        app, generation, template = shelf_names.zygote_of(name)
        return self.enlist(Zygote(self, app, generation, Channel.from_fd(fd), state), template, pid)

    def enlist(self, zygote: Zygote, template: int = 0, pid: int = 0) -> Zygote:
        """Listen to a zygote."""
        zygote.template, zygote.pid = template, pid
        self[zygote.name] = zygote
        self.loop.register(zygote.channel.fileno(), zygote, select.EPOLLIN)
        return zygote

    def retire(self, app: str, generation: int, template: int = 0) -> None:
        """Let a generation end when its last job has, its templates included; or this template alone."""
        for zygote in self.values():
            if (zygote.app, zygote.generation) == (app, generation) and template in (0, zygote.template):
                zygote.retire()

    def spawned(self, message: m.Spawned) -> None:
        """The keeper has started a zygote, or could not."""
        zygote = self.get(message.name)
        if zygote is None:
            return
        zygote.pid = message.pid
        if not message.pid:
            zygote.failure = message.reason
            self.gone(zygote, message.reason)

    def exited(self, name: str, how: str) -> None:
        """The keeper has reaped a child; if it was a zygote, hear its last words first."""
        zygote = self.get(name)
        if zygote is not None:
            self.hear(zygote, select.EPOLLIN, LAST_WORDS[0])
            self.gone(zygote, how)

    def end(self, zygote: Zygote) -> None:
        """End a zygote that is not wanted (any more)."""
        parent = self.named(zygote.app, zygote.generation)
        if zygote.template and parent is not None:
            parent.tell(m.Kill(zygote.pid, 9, 0.0))
        elif zygote.pid:
            self._keeper.tell(m.Signal(zygote.pid, 9))
        self.gone(zygote, "ended by the master")

    def gone(self, zygote: Zygote, how: str) -> None:
        """A zygote is no more."""
        if self.pop(zygote.name, None) is None:
            return
        self.loop.unregister(zygote.channel.fileno())
        zygote.channel.close()
        self._keeper.tell(m.Unshelve((zygote.name,)))
        if not zygote.template:
            self._workers.groups.gone(zygote.app, zygote.generation)
        self._workers.shelve_orphans(zygote.name)
        if not zygote.failure:
            when = "ended while it loaded the application" if zygote.ready is None else "ended"
            zygote.failure = f"the {'template' if zygote.template else 'zygote'} of {zygote.app} {when} ({how})"
        if self.web is not None:
            self.web.zygote_gone(zygote)
        self.step(ev.ZygoteGone(zygote.app, zygote.generation, zygote.template, zygote.failure))
        if not zygote.template:
            self.settled(zygote)
        elif zygote.counting:
            self._counted(zygote)

    # --- by time ------------------------------------------------------------------------------------------------------
    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which one has had enough time to become READY; None for never."""
        return min((zygote.deadline for zygote in self.values() if zygote.deadline and zygote.state == LOADING), default=None)

    def overdue(self, now: float) -> None:
        """End those that have had enough time to become READY."""
        for zygote in list(self.values()):
            if zygote.state == LOADING and zygote.deadline and now >= zygote.deadline:
                zygote.deadline = 0.0
                try:
                    if not zygote.closed:
                        zygote.failure = f"application {zygote.app} {_TEMPLATE_LATE if zygote.template else _LATE}"
                        self.end(zygote)
                    else:
                        self.gone(zygote, "it closed its channel")
                except Exception as error:  # noqa: BLE001  (the barrier: the moments of others are still to come)
                    self._barrier.stop(zygote, error)

    # --- what they say ------------------------------------------------------------------------------------------------
    def hear(self, zygote: Zygote, events: int, most: int = MESSAGES_A_TURN) -> None:
        """Take what a zygote says, so many messages of it at once; its end included."""
        try:
            if events & select.EPOLLOUT and zygote.channel.flush():
                self.loop.modify(zygote.channel.fileno(), select.EPOLLIN)
            # What it says may be the reason to end it, and its channel.
            while most and self.get(zygote.name) is zygote and (message := zygote.channel.receive()) is not None:
                self._heard(zygote, message)
                most -= 1
        except ChannelClosed:
            if zygote.state == LOADING and not zygote.failure and not zygote.template:
                # Without a word, or it never was: the keeper will say more in a moment, and whoever loads it wants to know.
                self.loop.unregister(zygote.channel.fileno())
                if not zygote.closed:
                    zygote.closed, zygote.deadline = True, time.monotonic() + STATUS_TIMEOUT
            else:
                self.gone(zygote, "it closed its channel")
        except DescriptorsLost as lost:
            log("master", f"{zygote.name}: {lost}")
            if not isinstance(lost.message, m.Forked):
                raise
            zygote.tell(m.Kill(lost.message.pid, 9))  # nobody can talk to it; its end is told as any other's
        except MessageError as error:
            zygote.failure = f"the {'template' if zygote.template else 'zygote'} of {zygote.app} was ended: it said {error}"
            log("master", zygote.failure)
            self.end(zygote)

    def _heard(self, zygote: Zygote, message: Any) -> None:
        match message:
            case m.Forked(worker=number) | m.ForkFailed(worker=number) | m.Exited(worker=number) if is_web(number) and self.web:
                self._heard_of_web(self.web, zygote, message)
            case m.Forked():
                if not message.fds:
                    raise MessageError("Forked, without the channel to the worker")
                self._link(zygote, (message.worker, message.pid), message.fds[0])
                self.step(zygote.said(message))
            case m.Exited():
                link = self._workers.get(message.worker)
                if link is not None and link.parent != zygote.name:
                    raise MessageError(f"that worker {message.worker} has ended, which is not its own")
                event = ev.WorkerExited(message.worker, message.status, message.cpu, message.max_rss, oom=message.oom)
                self._workers.exited(zygote, message.pid, event)
            case m.ForkFailed() | m.Measured():
                self.step(zygote.said(message))
            case m.Ready():
                self._ready(zygote, message)
            case m.Failed():
                reason, traceback = bounds.cut(message.reason, bounds.MESSAGE), bounds.cut(message.traceback, bounds.TRACEBACK)
                zygote.failure = f"{reason}\n{traceback.rstrip()}" if traceback else reason
                if not zygote.template:
                    self.settled(zygote)
            case m.Workers():
                self._inventory(zygote, message)
            case _:
                close_all(getattr(message, "fds", ()))
                raise MessageError(f"{type(message).__name__}, which is not for a master")

    def _heard_of_web(self, web: WebStaff, zygote: Zygote, message: m.Forked | m.ForkFailed | m.Exited) -> None:
        match message:
            case m.Forked():
                web.forked(zygote, message)
            case m.ForkFailed():
                web.fork_failed(zygote, message)
            case m.Exited():
                web.exited(zygote, message)

    def _link(self, zygote: Zygote, worker: tuple[int, int], fd: int) -> None:
        """Listen to a worker of this zygote's, unless that is done already."""
        if worker[0] in self._workers:
            os.close(fd)
        else:
            self._workers.link(worker, (zygote.app, zygote.generation, zygote.template), fd)

    def _ready(self, zygote: Zygote, message: m.Ready) -> None:
        first = zygote.ready is None
        zygote.ready, zygote.pid = message, message.pid
        if zygote.state == LOADING:
            zygote.state = READY
        zygote.deadline = 0.0
        if first and not zygote.counting:
            self._settle(zygote)

    def _settle(self, zygote: Zygote) -> None:
        """It is READY, and its workers are known."""
        if not zygote.template:
            self.settled(zygote)
        elif zygote.state == READY:
            self.step(zygote.said(zygote.ready))

    def _inventory(self, zygote: Zygote, message: m.Workers) -> None:
        if len(message.fds) != len(message.workers):
            close_all(message.fds)
            raise MessageError(f"Workers, {len(message.workers)} of them, with {len(message.fds)} channels")
        for (number, pid, pool, slot), fd in zip(message.workers, message.fds, strict=True):
            if is_web(number) and self.web is not None:
                self.web.found(zygote, (number, pid), fd)
                continue
            self._link(zygote, (number, pid), fd)
            self.step(ev.WorkerFound(number, pid, pool, slot, zygote.app, zygote.generation, template=zygote.template))
        for number, pid, status, cpu, max_rss in message.exits:
            if is_web(number) and self.web is not None:
                self.web.exited(zygote, m.Exited(pid, status, worker=number))
                continue
            self._workers.exited(zygote, pid, ev.WorkerExited(number, status, cpu, max_rss, oom=number in message.oom))
        if not message.more:
            if zygote.state == LOADING and zygote.ready is None:
                zygote.state = RETIRING  # it would have said READY first
            counting = zygote.counting
            self._counted(zygote)
            if counting and zygote.ready is not None:
                self._settle(zygote)

    def _counted(self, zygote: Zygote) -> None:
        """An inventory is complete, or never will be. What none of its application's zygotes and templates has named is gone."""
        zygote.counting = False
        others = [z for z in self.values() if (z.app, z.generation) == (zygote.app, zygote.generation)]
        if not any(other.counting for other in others):
            self.step(ev.InventoryDone(zygote.app, zygote.generation))
