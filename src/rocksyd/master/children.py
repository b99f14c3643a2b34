"""Zygotes and workers as the master sees them: channels, and the words said over them.

What must live here: starting zygotes, passing orders on, turning what children say into events of the engine.
What this file must not know: clients, the journal, why a worker is wanted.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Any

from rocksyd import messages as m
from rocksyd.config import AppConfig, starting
from rocksyd.core import events as ev
from rocksyd.errors import ChannelClosed, DescriptorsLost, MessageError
from rocksyd.master.acks import Acks
from rocksyd.model import Run
from rocksyd.posix import cgroups, signals
from rocksyd.posix.channel import Channel, pair
from rocksyd.posix.log import log
from rocksyd.posix.loop import Loop

LOADING, READY, RETIRING = "loading", "ready", "retiring"
NOBODY = -1
"""Instead of a template's number: the worker was forked by one that is gone, and is the keeper's child now."""
STATUS_TIMEOUT = 2.0
"""Seconds from the end of a loading zygote's channel until its end is told without its exit status."""


def zygote_name(app: str, generation: int, template: int = 0) -> str:
    """Of a zygote or a template. A version that knows no templates takes one for the zygote of an application that is gone."""
    return f"zygote:{app}#{template}@{generation}" if template else f"zygote:{app}@{generation}"


class Zygote:
    """One zygote's channel, or one template's: to the master they are the same but for their beginning and their end."""

    def __init__(self, owner: Children, app: str, generation: int, channel: Channel, state: str = LOADING) -> None:
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
        return zygote_name(self.app, self.generation, self.template)

    def handle(self, events: int) -> None:
        """What epoll says."""
        self.owner.on_zygote(self, events)


class Link:
    """One worker's channel."""

    __slots__ = ("app", "channel", "generation", "next_acks", "number", "owner", "pid", "shelved", "template", "told")

    def __init__(self, owner: Children, worker: tuple[int, int], zygote: tuple[str, int, int], channel: Channel) -> None:
        self.owner = owner
        self.number, self.pid = worker
        self.app, self.generation, self.template = zygote
        self.channel = channel
        self.shelved = False
        self.next_acks = False
        """Whether the worker takes a next job for the acknowledgement of its last result."""
        self.told = False
        """Whether it has been given a next job, and so knows already."""

    @property
    def parent(self) -> str:
        """The name of the zygote or template that it was forked from."""
        return zygote_name(self.app, self.generation, self.template)

    def handle(self, events: int) -> None:
        """What epoll says."""
        self.owner.on_worker(self)


class Children:
    """All zygotes and workers."""

    def __init__(self, loop: Loop, keeper: Channel, step: Callable[[Any], None]) -> None:
        self._loop = loop
        self._keeper = keeper
        self._step = step
        self.zygotes: dict[str, Zygote] = {}
        self.workers: dict[int, Link] = {}
        self.by_pid: dict[int, Link] = {}
        self.acks = Acks()
        self.board_fd = -1
        """The scoreboard's descriptor, which every zygote is given."""
        self.cgroup = ""
        """The control group that is theirs to divide; "" for none."""
        self.exits: list[tuple[Zygote | None, int]] = []
        """PIDs whose exit the journal will hold at the end of the turn, with who is to be told."""
        self.settled: Callable[[Zygote], None] = lambda zygote: None
        """Told of a zygote that became READY, failed, or died."""

    def use(self, loop: Loop, step: Callable[[Any], None]) -> None:
        """From now on events are decided (a preparing master only listens)."""
        self._loop, self._step = loop, step

    # --- zygotes ------------------------------------------------------------------------------------------------------
    def load(self, app: AppConfig, generation: int, timeout: float) -> Zygote:
        """Start a zygote for ``app``; ``settled`` will be told how it went, at the latest after ``timeout`` seconds."""
        ours, theirs = pair()
        zygote = Zygote(self, app.name, generation, Channel(ours))
        zygote.deadline = time.monotonic() + timeout
        self.zygotes[zygote.name] = zygote
        self._loop.register(ours.fileno(), zygote, select.EPOLLIN)
        environment = starting.environment(app, os.environ)
        self.tell_keeper(m.Spawn(zygote.name, starting.command(app), environment, app.path, (theirs.fileno(),)))
        self.tell_keeper(m.Shelve((zygote.name,), (ours.fileno(),)))
        theirs.close()
        self.tell(zygote, starting.order_to_load(app, generation, (self.board_fd,), self.cgroup))
        return zygote

    def adopt_zygote(self, name: str, fd: int, state: str, pid: int = 0) -> Zygote:
        """Take a zygote over from the shelf."""
        app, _, generation = name.removeprefix("zygote:").rpartition("@")
        app, _, template = app.partition("#")
        return self.enlist(Zygote(self, app, int(generation), Channel.from_fd(fd), state), int(template or 0), pid)

    def enlist(self, zygote: Zygote, template: int, pid: int) -> Zygote:
        """Listen to a zygote that lives already."""
        zygote.template, zygote.pid = template, pid
        self.zygotes[zygote.name] = zygote
        self._loop.register(zygote.channel.fileno(), zygote, select.EPOLLIN)
        return zygote

    def take_inventory(self, zygote: Zygote) -> None:
        """Ask a zygote for everything it holds."""
        zygote.counting = True
        self.tell(zygote, m.Inventory())

    def retire(self, app: str, generation: int) -> None:
        """Let a generation end when its last job has, its templates included."""
        for zygote in self.zygotes.values():
            if (zygote.app, zygote.generation) == (app, generation):
                self.retire_one(zygote)

    def retire_one(self, zygote: Zygote) -> None:
        """Let a zygote or template end when its last job has."""
        if zygote.state != RETIRING:
            zygote.state = RETIRING
            self.tell(zygote, m.Retire())

    def on_zygote(self, zygote: Zygote, events: int) -> None:
        """Take what a zygote says; its end included."""
        try:
            if events & select.EPOLLOUT and zygote.channel.flush():
                self._loop.modify(zygote.channel.fileno(), select.EPOLLIN)
            # What it says may be the reason to end it, and its channel.
            while self.zygotes.get(zygote.name) is zygote and (message := zygote.channel.receive()) is not None:
                self._heard(zygote, message)
        except ChannelClosed:
            if zygote.state == LOADING and not zygote.failure and not zygote.template:
                self._await_status(zygote)
            else:
                self.zygote_gone(zygote, "it closed its channel")
        except DescriptorsLost as lost:
            log("master", f"{zygote.name}: {lost}")
            if not isinstance(lost.message, m.Forked):
                raise
            self.tell(zygote, m.Kill(lost.message.pid, 9))  # nobody can talk to it; its end is told as any other's
        except MessageError as error:
            log("master", f"{zygote.name}: {error}")

    def _await_status(self, zygote: Zygote) -> None:
        """It ended without a word, or never was: the keeper will say more in a moment, and whoever loads it wants to know."""
        self._loop.unregister(zygote.channel.fileno())
        if not zygote.closed:
            zygote.closed = True
            zygote.deadline = time.monotonic() + STATUS_TIMEOUT

    def zygote_exited(self, name: str, how: str) -> None:
        """The keeper has reaped a child; if it was a zygote, hear its last words first."""
        zygote = self.zygotes.get(name)
        if zygote is not None:
            self.on_zygote(zygote, select.EPOLLIN)
            self.zygote_gone(zygote, how)

    def _heard(self, zygote: Zygote, message: Any) -> None:
        match message:
            case m.Forked():
                self._forked(zygote, message)
            case m.Exited():
                event = ev.WorkerExited(message.worker, message.status, message.cpu, message.max_rss, oom=message.oom)
                self.worker_exited(zygote, message.pid, event)
            case m.ForkFailed():
                self._step(ev.WorkerRefused(message.worker, message.reason))
            case m.Ready():
                self._ready(zygote, message)
            case m.Failed():
                zygote.failure = message.reason if not message.traceback else f"{message.reason}\n{message.traceback.rstrip()}"
                self._settle(zygote)
            case m.Workers():
                self._inventory(zygote, message)
            case m.Measured():
                sizes = dict(message.workers)
                self._step(ev.PoolMeasured(zygote.app, zygote.generation, zygote.template, message.pool, sizes))
            case _:
                log("master", f"{zygote.name} said {type(message).__name__}, which is not for the master")

    def _ready(self, zygote: Zygote, message: m.Ready) -> None:
        first = zygote.ready is None
        zygote.ready, zygote.pid = message, message.pid
        if zygote.state == LOADING:
            zygote.state = READY
        zygote.deadline = 0.0
        if first and not zygote.counting:
            self._settle(zygote)

    def _settle(self, zygote: Zygote) -> None:
        """It has become READY, failed, or died."""
        if not zygote.template:
            self.settled(zygote)
        elif zygote.failure:
            self._step(ev.TemplateGone(zygote.app, zygote.generation, zygote.template, zygote.failure))
        elif zygote.ready is not None and zygote.state == READY:
            ready = zygote.ready
            self._step(ev.TemplateReady(zygote.app, zygote.generation, ready.pool, zygote.template, ready.before, ready.private))

    def spawned(self, message: m.Spawned) -> None:
        """The keeper has started a zygote, or could not."""
        zygote = self.zygotes.get(message.name)
        if zygote is None:
            return
        zygote.pid = message.pid
        if not message.pid:
            zygote.failure = message.reason
            self.zygote_gone(zygote, message.reason)

    def zygote_gone(self, zygote: Zygote, how: str) -> None:
        """A zygote is no more: put its workers' channels on the shelf, since it cannot bring them back any longer."""
        if self.zygotes.pop(zygote.name, None) is None:
            return
        self._loop.unregister(zygote.channel.fileno())
        zygote.channel.close()
        self.tell_keeper(m.Unshelve((zygote.name,)))
        if self.cgroup and not zygote.template:
            cgroups.remove(f"{self.cgroup}/{zygote.app}@{zygote.generation}")
        orphans = [w for w in self.workers.values() if w.parent == zygote.name and not w.shelved]
        for orphan in orphans:
            orphan.shelved = True
        for at in range(0, len(orphans), 200):
            part = orphans[at : at + 200]
            names, fds = tuple(f"worker:{w.number}" for w in part), tuple(w.channel.fileno() for w in part)
            self.tell_keeper(m.Shelve(names, fds))
        if not zygote.template:
            self._step(ev.ZygoteGone(zygote.app, zygote.generation))
        elif zygote.counting:
            self._counted(zygote)
        if not zygote.failure:
            when = "ended while it loaded the application" if zygote.ready is None else "ended"
            zygote.failure = f"the {'template' if zygote.template else 'zygote'} of {zygote.app} {when} ({how})"
        self._settle(zygote)

    def end_zygote(self, zygote: Zygote) -> None:
        """End a zygote that is not wanted (any more)."""
        parent = self.zygotes.get(zygote_name(zygote.app, zygote.generation))
        if zygote.template and parent is not None:
            self.tell(parent, m.Kill(zygote.pid, 9, 0.0))
        elif zygote.pid:
            self.tell_keeper(m.Signal(zygote.pid, 9))
        self.zygote_gone(zygote, "ended by the master")

    def overdue(self, now: float) -> None:
        """Call the loading of an application failed when it takes too long; say acknowledgements that no next job has said."""
        self.acknowledge_owed(self.acks.due(now))
        for zygote in list(self.zygotes.values()):
            if zygote.state == LOADING and zygote.deadline and now >= zygote.deadline:
                zygote.deadline = 0.0
                if zygote.closed:
                    self.zygote_gone(zygote, "it closed its channel")
                    continue
                text = "was not loaded in time (prepare_timeout): look for what its preload waits for"
                if zygote.template:
                    text = "has a template that was not ready in time (prepare_timeout): look what its before_fork hooks wait for"
                zygote.failure = f"application {zygote.app} {text}"
                self.end_zygote(zygote)

    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which ``overdue`` is wanted."""
        moments = [z.deadline for z in self.zygotes.values() if z.deadline and z.state == LOADING]
        if (acks := self.acks.next_deadline()) is not None:
            moments.append(acks)
        return min(moments, default=None)

    def not_shelved(self, name: str) -> None:
        """The keeper has no room for this channel: a worker's is handed over with the snapshot, a zygote's has to be there."""
        if name in self.zygotes:
            zygote = self.zygotes[name]
            zygote.failure = f"the keeper has no room for the channel of application {zygote.app}: raise the limit of open files"
            self.end_zygote(zygote)
            return
        number = name.removeprefix("worker:")
        if number.isdigit() and int(number) in self.workers:
            self.workers[int(number)].shelved = False

    # --- workers ------------------------------------------------------------------------------------------------------
    def _forked(self, zygote: Zygote, message: m.Forked) -> None:
        if message.worker not in self.workers:
            self.link((message.worker, message.pid), (zygote.app, zygote.generation, zygote.template), message.fds[0])
        else:
            for fd in message.fds:
                os.close(fd)
        self._step(ev.WorkerForked(message.worker, message.pid))

    def link(self, worker: tuple[int, int], zygote: tuple[str, int, int], fd: int) -> Link:
        """Listen to a worker: (number, PID) of it; application, generation and template that it was forked from."""
        link = Link(self, worker, zygote, Channel.from_fd(fd))
        self.workers[link.number] = link
        self.by_pid[link.pid] = link
        self._loop.register(fd, link, select.EPOLLIN)
        return link

    def _inventory(self, zygote: Zygote, message: m.Workers) -> None:
        for (number, pid, pool, slot), fd in zip(message.workers, message.fds, strict=True):
            if number in self.workers:
                os.close(fd)
            else:
                self.link((number, pid), (zygote.app, zygote.generation, zygote.template), fd)
            self._step(ev.WorkerFound(number, pid, pool, slot, zygote.app, zygote.generation, template=zygote.template))
        for number, pid, status, cpu, max_rss in message.exits:
            self.worker_exited(zygote, pid, ev.WorkerExited(number, status, cpu, max_rss, oom=number in message.oom))
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
        others = [z for z in self.zygotes.values() if (z.app, z.generation) == (zygote.app, zygote.generation)]
        if not any(other.counting for other in others):
            self._step(ev.InventoryDone(zygote.app, zygote.generation))

    def adopt_orphan(self, number: int, fd: int, run: Run) -> None:
        """After a crash: a worker whose parent had died before. Its channel is on the shelf, the journal knows the rest."""
        link = self.link((number, run.pid), (run.app, run.generation, NOBODY), fd)
        link.shelved = True
        self._step(ev.WorkerFound(number, run.pid, run.pool, -1, run.app, run.generation, template=NOBODY))

    def on_worker(self, link: Link) -> None:
        """Take what a worker says. Its channel at its end says nothing of how it ended: its parent will."""
        try:
            while (message := link.channel.receive()) is not None:
                match message:
                    case m.Result():
                        link.next_acks, link.told = message.next_acks, False
                        self._step(
                            ev.WorkerResult(
                                link.number, message.key, message.ok, message.retcode, message.value, message.error, message.cpu,
                                message.max_rss, message.signal, message.reason, message.dropped, message.silent,
                            )
                        )  # fmt: skip
                    case m.Finished():
                        self._step(ev.WorkerFinished(link.number, message.key, message.value, message.dropped))
                    case m.Progress():
                        progress = {"done": message.done, "total": message.total, "note": message.note}
                        self._step(ev.WorkerProgress(link.number, message.key, progress))
                    case m.Idle():
                        self._step(ev.WorkerIdle(link.number, message.epoch))
                    case m.Holding():
                        self._step(ev.WorkerIdle(link.number, message.epoch, message.keys))
                    case _:
                        log("master", f"worker {link.number} said {type(message).__name__}, which is not for the master")
        except ChannelClosed:
            self._loop.unregister(link.channel.fileno())
        except MessageError as error:
            log("master", f"worker {link.number} ({link.app}): {error}")

    def orphans(self) -> list[Link]:
        """Workers whose zygote is gone."""
        return [link for link in self.workers.values() if link.parent not in self.zygotes]

    def unlink(self, number: int) -> Link | None:
        """Speak with a worker no longer, because it is none any more: the order to be something else acknowledges its result."""
        self.acks.settle(number)
        link = self.workers.pop(number, None)
        if link is not None:
            self._part_with(link)
        return link

    def _part_with(self, link: Link) -> None:
        self.by_pid.pop(link.pid, None)
        self._loop.unregister(link.channel.fileno())
        link.channel.close()
        if link.shelved:
            self.tell_keeper(m.Unshelve((f"worker:{link.number}",)))

    def heard_of(self, event: Any) -> None:
        """An event that is known without anybody having told it."""
        self._step(event)

    def worker_exited(self, zygote: Zygote | None, pid: int, event: ev.WorkerExited) -> None:
        """A worker has ended: hear its last words first, then count it out."""
        number = event.worker
        link = self.workers.pop(number, None)
        self.acks.settle(number)
        if link is not None:
            self.on_worker(link)
            self._part_with(link)
        self._step(event)
        self.exits.append((zygote, pid))

    def acknowledge_exits(self) -> None:
        """The journal holds the exits of this turn: who kept them may forget them."""
        told: dict[Zygote | None, list[int]] = {}
        for zygote, pid in self.exits:
            told.setdefault(zygote, []).append(pid)
        self.exits.clear()
        for zygote, pids in told.items():
            message = m.ExitAck(tuple(pids))
            if zygote is None:
                self.tell_keeper(message)
            elif zygote.name in self.zygotes:
                self.tell(zygote, message)

    # --- orders -------------------------------------------------------------------------------------------------------
    def fork(self, order: ev.ForkWorker) -> None:
        """Ask for a worker."""
        zygote = self.zygotes.get(zygote_name(order.app, order.generation, order.template))
        if zygote is None:
            self._step(ev.WorkerRefused(order.worker, "its zygote is gone"))
        else:
            self.tell(zygote, m.Fork(order.worker, order.pool, order.slot, order.capacity))

    def say(self, link: Link, message: Any) -> None:
        """Say something to a worker; one that is gone will be reported by its parent."""
        try:
            link.channel.send(message)
        except ChannelClosed:
            return

    def tell_worker(self, number: int, message: Any) -> None:
        """Say something to worker ``number``, if it is there."""
        owed = self.acks.settle(number)
        link = self.workers.get(number)
        if link is None:
            return
        if type(message) is m.Job:
            link.told = link.next_acks
        elif owed:
            self.say(link, m.JobAck(owed))
        self.say(link, message)

    def acknowledge(self, number: int, key: str, now: float) -> None:
        """Tell worker ``number`` that its result is safe, or let its next job do so."""
        link = self.workers.get(number)
        if link is None or link.told:
            return
        if link.next_acks:
            self.acks.owe(number, key, now)
        else:
            self.say(link, m.JobAck(key))

    def acknowledge_owed(self, workers: list[int]) -> None:
        """Tell them, since no next job has."""
        for number in workers:
            key, link = self.acks.settle(number), self.workers.get(number)
            if link is not None:
                self.say(link, m.JobAck(key))

    def kill(self, order: ev.KillWorker, *, soft: bool = False) -> None:
        """Signal a worker's group, through whoever is its parent now; ``soft``: as its zygote does at a deadline."""
        link = self.workers.get(order.worker)
        if link is None:
            return
        zygote = self.zygotes.get(link.parent)
        if zygote is not None:
            self.tell(zygote, m.Kill(link.pid, order.number, order.grace, soft))
        else:
            self.tell_keeper(m.Signal(link.pid, order.number, True))

    def prints_stacks(self, worker: int) -> bool:
        """Whether a worker can print the stacks of its threads."""
        link = self.workers.get(worker)
        return link is not None and signals.caught(link.pid, signals.STACKS)

    def print_stacks(self, worker: int) -> None:
        """Let a worker that can print the stacks of its threads."""
        link = self.workers[worker]
        zygote = self.zygotes.get(link.parent)
        if zygote is not None:
            self.tell(zygote, m.PrintStacks(link.pid))
        else:
            self.tell_keeper(m.Signal(link.pid, signals.STACKS))

    def tell(self, zygote: Zygote, message: Any) -> None:
        """Say something to a zygote."""
        try:
            zygote.channel.send(message)
        except ChannelClosed:
            return  # epoll reports the end of the channel as well, and that is where it is dealt with
        if zygote.channel.pending:
            self._loop.modify(zygote.channel.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def tell_keeper(self, message: Any) -> None:
        """Say something to the keeper."""
        self._keeper.send(message)
        if self._keeper.pending:
            self._loop.modify(self._keeper.fileno(), select.EPOLLIN | select.EPOLLOUT)
