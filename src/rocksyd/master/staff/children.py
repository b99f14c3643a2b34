"""Zygotes and workers: the parents and the children, who are spoken to through each other.

What must live here: orders for a worker that its zygote carries out, and whatever else is of both.
What this file must not know: clients, the journal, why a worker is wanted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rocksyd import messages as m
from rocksyd import shelf_names
from rocksyd.core import events as ev
from rocksyd.master.barrier import Barrier
from rocksyd.master.staff.keeper import Keeper
from rocksyd.master.staff.workers import WorkerLink, Workers
from rocksyd.master.staff.zygotes import Zygote, Zygotes
from rocksyd.posix import signals
from rocksyd.posix.channel import Channel, pair
from rocksyd.posix.loop import Loop
from rocksyd.posix.scoreboard import Scoreboard


class Children:
    """All zygotes and workers."""

    def __init__(self, loop: Loop, keeper: Keeper, step: Callable[[Any], None]) -> None:
        self.keeper = keeper
        self._step = step
        self.barrier = Barrier()
        self.workers = Workers(loop, keeper, self.barrier, step)
        self.zygotes = Zygotes(loop, keeper, self.workers, self.barrier, step)
        self.groups = self.workers.groups
        self.board: Scoreboard

    def use_board(self, fd: int) -> None:
        """Share the scoreboard in the memfd ``fd``, which every zygote is given."""
        self.zygotes.board_fd = fd
        self.board = Scoreboard(fd)

    def use(self, loop: Loop, step: Callable[[Any], None]) -> None:
        """From now on events are decided (a preparing master only listens)."""
        self._step = step
        for part in (self.workers, self.zygotes):
            part.loop, part.step = loop, step
        self.keeper.use(loop)

    # --- by time ------------------------------------------------------------------------------------------------------
    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which ``overdue`` is wanted."""
        moments = (self.zygotes.next_deadline(), self.workers.acks.next_deadline(), self.groups.next_try())
        return min((moment for moment in moments if moment is not None), default=None)

    def overdue(self, now: float) -> None:
        """Say and remove what had to wait for a while; end zygotes that have had time enough."""
        self.workers.acknowledge_owed(now)
        self.groups.on_time(now)
        self.zygotes.overdue(now)

    # --- orders -------------------------------------------------------------------------------------------------------
    def fork(self, order: ev.ForkWorker) -> None:
        """Ask for a worker."""
        zygote = self.zygotes.named(order.app, order.generation, order.template)
        if zygote is None:
            said = m.ForkFailed(order.worker, order.pool, "its zygote is gone")
            self._step(ev.HeardZygote(order.app, order.generation, order.template, said))
        else:
            zygote.tell(m.Fork(order.worker, order.pool, order.slot, order.capacity))

    def kill(self, order: ev.KillWorker) -> None:
        """Signal a worker's group, through whoever is its parent now."""
        link = self.workers.get(order.worker)
        if link is None:
            return
        zygote = self.zygotes.get(link.parent)
        if zygote is not None:
            zygote.tell(m.Kill(link.pid, order.number, order.grace, order.soft))
        else:
            self.keeper.tell(m.Signal(link.pid, order.number, True))

    def print_stacks(self, number: int, *, in_c: bool = False) -> None:
        """Let a worker that can print the stacks of its threads; ``in_c``: see ``PrintStacks``."""
        link = self.workers[number]
        zygote = self.zygotes.get(link.parent)
        if zygote is not None:
            zygote.tell(m.PrintStacks(link.pid, in_c))
        else:
            self.keeper.tell(m.Signal(link.pid, signals.STACK_IN_C if in_c else signals.STACKS))

    def measure(self, order: ev.MeasurePool) -> None:
        """Have a zygote or template look at its workers' memory."""
        zygote = self.zygotes.named(order.app, order.generation, order.template)
        if zygote is not None:
            zygote.tell(m.Measure(order.pool))

    def promote(self, order: ev.PromoteWorker, timeout: float) -> None:
        """Turn a worker into a template; what comes of it is heard within ``timeout`` seconds.

        Its channel as a template is on the shelf before anybody has the other end, so it is found again whoever dies next.
        """
        zygote = self.zygotes.named(order.app, order.generation)
        link = self.workers.unlink(order.worker)
        if link is None or zygote is None:
            self._step(ev.ZygoteGone(order.app, order.generation, order.worker, "its worker or its zygote is gone"))
            return
        ours, theirs = pair()
        template = self.zygotes.enlist(Zygote(self.zygotes, order.app, order.generation, Channel(ours)), order.worker, link.pid)
        template.deadline = time.monotonic() + timeout
        self.keeper.tell(m.Shelve((template.name,), (ours.fileno(),)))
        zygote.tell(m.Promote(order.worker, link.pid, order.before, (theirs.fileno(),)))
        theirs.close()

    # --- what is of both ----------------------------------------------------------------------------------------------
    def orphans(self) -> list[WorkerLink]:
        """Workers whose zygote is gone."""
        return [link for link in self.workers.values() if link.parent not in self.zygotes]

    def not_shelved(self, name: str) -> None:
        """The keeper has no room for this channel: a worker's is handed over with the snapshot, a zygote's has to be there."""
        if name in self.zygotes:
            zygote = self.zygotes[name]
            zygote.failure = f"the keeper has no room for the channel of application {zygote.app}: raise the limit of open files"
            self.zygotes.end(zygote)
            return
        number = shelf_names.worker_of(name)
        if number in self.workers:
            self.workers[number].shelved = False
