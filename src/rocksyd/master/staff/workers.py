"""Workers as the master sees them: channels, and the words said over them.

What must live here: hearing and telling workers, and counting out those that have ended.
What this file must not know: clients, the journal, why a worker is wanted, how its zygote is spoken to.
"""

from __future__ import annotations

import math
import select
from collections.abc import Callable
from typing import Any, Protocol

from rocksyd import bounds, shelf_names
from rocksyd import messages as m
from rocksyd.core import events as ev
from rocksyd.errors import ChannelClosed, DescriptorsLost, MessageError
from rocksyd.master.barrier import Barrier, Stranger
from rocksyd.master.staff.acks import Acks
from rocksyd.master.staff.groups import GenerationGroups
from rocksyd.master.staff.keeper import Keeper
from rocksyd.model import Run
from rocksyd.posix import signals
from rocksyd.posix.channel import Channel
from rocksyd.posix.log import log
from rocksyd.posix.loop import Loop

NOBODY = -1
"""Instead of a template's number: the worker was forked by one that is gone, and is the keeper's child now."""
MESSAGES_A_TURN, BYTES_A_TURN = 64, 256 << 10
"""What is heard of a worker or a zygote in a turn of the loop; a message that exceeds it is still heard as a whole."""
LAST_WORDS = 4096, 16 << 20
"""The same of a worker that has ended: more than an honest one leaves unread, and not what its children go on saying."""


class Parent(Protocol):
    """Who collects workers' exit statuses and keeps them until the journal has them: the keeper, a zygote or a template."""

    def tell(self, message: Any) -> None:
        """Say something to it."""


class WorkerLink(Stranger):
    """One worker's channel."""

    __slots__ = ("app", "channel", "generation", "next_acks", "number", "owner", "pid", "shelved", "silenced", "template", "told")

    def __init__(self, owner: Workers, worker: tuple[int, int], zygote: tuple[str, int, int], channel: Channel) -> None:
        self.owner = owner
        self.number, self.pid = worker
        self.app, self.generation, self.template = zygote
        self.channel = channel
        self.shelved = False
        self.next_acks = False
        """Whether the worker takes a next job for the acknowledgement of its last result."""
        self.told = False
        """Whether it has been given a next job, and so knows already."""
        self.silenced = False
        """Whether it has said what could not be made sense of, and is heard no longer."""

    @property
    def parent(self) -> str:
        """The name of the zygote or template that it was forked from."""
        return shelf_names.zygote(self.app, self.generation, self.template)

    kind = "worker"

    def __str__(self) -> str:
        return f"worker {self.number} ({self.app})"

    def handle(self, events: int) -> None:
        """What epoll says."""
        self.owner.hear(self)

    def broken(self, reason: str) -> None:
        """What it said has raised what nobody expected: it is killed, and its runs say why."""
        self.owner.silence(self, reason)

    def say(self, message: Any) -> None:
        """Say something to it; if it is gone, its parent will report that."""
        try:
            self.channel.send(message)
        except ChannelClosed:
            return


class Workers(dict[int, WorkerLink]):
    """All workers that there is a channel to, by number."""

    def __init__(self, loop: Loop, keeper: Keeper, barrier: Barrier, step: Callable[[Any], None]) -> None:
        super().__init__()
        self.loop, self.step = loop, step
        """Who wakes, and who decides on events."""
        self._keeper = keeper
        self._barrier = barrier
        self.by_pid: dict[int, WorkerLink] = {}
        self.acks = Acks()
        self.groups = GenerationGroups()
        self.exits: list[tuple[Parent | None, int]] = []
        """PIDs whose exit the journal will hold at the end of the turn, with who is to be told (None: the keeper)."""

    # --- they come and go ---------------------------------------------------------------------------------------------
    def link(self, worker: tuple[int, int], zygote: tuple[str, int, int], fd: int) -> WorkerLink:
        """Listen to a worker: (number, PID) of it; application, generation and template that it was forked from."""
        link = WorkerLink(self, worker, zygote, Channel.from_fd(fd, bounds.FROM_WORKER, takes_descriptors=False))
        self[link.number] = link
        self.by_pid[link.pid] = link
        self.loop.register(fd, link, select.EPOLLIN)
        return link

    def adopt_orphan(self, number: int, fd: int, run: Run) -> None:
        """After a crash: a worker whose parent had died before. Its channel is on the shelf, the journal knows the rest."""
        link = self.link((number, run.attempt.pid), (run.order.app, run.attempt.generation, NOBODY), fd)
        link.shelved = True
        self.step(ev.WorkerFound(number, run.attempt.pid, run.pool, -1, run.order.app, run.attempt.generation, template=NOBODY))

    def shelve_orphans(self, parent: str) -> None:
        """This zygote or template is no more: put its workers' channels on the shelf, since it cannot bring them back."""
        orphans = [link for link in self.values() if link.parent == parent and not link.shelved]
        for orphan in orphans:
            orphan.shelved = True
        for at in range(0, len(orphans), 200):
            part = orphans[at : at + 200]
            names, fds = tuple(shelf_names.worker(w.number) for w in part), tuple(w.channel.fileno() for w in part)
            self._keeper.tell(m.Shelve(names, fds))

    def unlink(self, number: int) -> WorkerLink | None:
        """Speak with a worker no longer, because it is none any more: the order to be something else acknowledges its result."""
        self.acks.settle(number)
        link = self.pop(number, None)
        if link is not None:
            self._part_with(link)
        return link

    def _part_with(self, link: WorkerLink) -> None:
        self.by_pid.pop(link.pid, None)
        self.loop.unregister(link.channel.fileno())
        link.channel.close()
        if link.shelved:
            self._keeper.tell(m.Unshelve((shelf_names.worker(link.number),)))

    def exited(self, parent: Parent | None, pid: int, event: ev.WorkerExited) -> None:
        """A worker has ended, says its parent: hear its last words first, then count it out."""
        link = self.pop(event.worker, None)
        self.acks.settle(event.worker)
        if link is not None:
            self.hear(link, *LAST_WORDS)
            self._part_with(link)
        self.step(event)
        self.exits.append((parent, pid))
        if parent is None:
            self.groups.orphan_gone()

    def acknowledge_exits(self) -> None:
        """The journal holds the exits of this turn: who kept them may forget them."""
        told: dict[Parent | None, list[int]] = {}
        for parent, pid in self.exits:
            told.setdefault(parent, []).append(pid)
        self.exits.clear()
        for parent, pids in told.items():
            (parent or self._keeper).tell(m.ExitAck(tuple(pids)))

    # --- what they say ------------------------------------------------------------------------------------------------
    def hear(self, link: WorkerLink, messages: int = MESSAGES_A_TURN, size: int = BYTES_A_TURN) -> None:
        """Take what a worker says, so many messages or bytes of it at once: the rest is heard when others have been.

        Its channel at its end says nothing of how it ended: its parent will.
        """
        enough = link.channel.heard + size
        try:
            while not link.silenced and messages and link.channel.heard < enough:
                message, messages = link.channel.receive(), messages - 1
                if message is None:
                    break
                if type(message) is m.Result:
                    link.next_acks, link.told = message.next_acks, False
                self.step(ev.Heard(link.number, message))
        except ChannelClosed:
            self.loop.unregister(link.channel.fileno())
        except (MessageError, DescriptorsLost) as error:
            log("master", f"{link} is killed: it said {error}")
            self.silence(link, f"its worker said {error}")

    def silence(self, link: WorkerLink, reason: str) -> None:
        """A worker is no longer heard, because its job has got hold of the channel or a fault was met: its runs have failed."""
        link.silenced = True
        self.loop.unregister(link.channel.fileno())
        self.step(ev.WorkerSpokeNonsense(link.number, reason, said=True))

    # --- what they are told -------------------------------------------------------------------------------------------
    def tell(self, number: int, message: Any) -> None:
        """Say something to worker ``number``, if it is there."""
        owed = self.acks.settle(number)
        link = self.get(number)
        if link is None:
            return
        if type(message) is m.Job:
            link.told = link.next_acks
        elif owed:
            link.say(m.JobAck(owed))
        link.say(message)

    def acknowledge(self, number: int, key: str, now: float) -> None:
        """Tell worker ``number`` that its result is safe, or let its next job do so."""
        link = self.get(number)
        if link is None or link.told:
            return
        if link.next_acks:
            self.acks.owe(number, key, now)
        else:
            link.say(m.JobAck(key))

    def acknowledge_owed(self, now: float = math.inf) -> None:
        """Tell those that are to be told by now, since no next job has."""
        for number in self.acks.due(now):
            key, link = self.acks.settle(number), self.get(number)
            try:
                if link is not None:
                    link.say(m.JobAck(key))
            except Exception as error:  # noqa: BLE001  (the barrier)
                self._barrier.stop(link, error)  # type: ignore[arg-type]

    def prints_stacks(self, number: int, *, in_c: bool = False) -> bool:
        """Whether a worker can print the stacks of its threads; ``in_c``: see ``PrintStacks``."""
        link = self.get(number)
        return link is not None and signals.caught(link.pid, signals.STACK_IN_C if in_c else signals.STACKS)
