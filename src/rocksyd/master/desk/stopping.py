"""The end of the service, and the signals that order it: draining, an orderly stop, the last words.

What must live here: what begins a stop, and how it is known to be done.
What this file must not know: what becomes of a run when the service stops (``core``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Protocol

from rocksyd import messages as m
from rocksyd.core import events as ev
from rocksyd.errors import JournalError
from rocksyd.master.desk.clients import Clients
from rocksyd.master.desk.door import Door
from rocksyd.master.desk.replies import Replies
from rocksyd.master.desk.waiters import Caller, Waiters
from rocksyd.master.staff.children import Children
from rocksyd.master.staff.companions import Companions
from rocksyd.master.turn import Turn
from rocksyd.posix.log import log, reopen

PATIENCE = 5.0
"""Seconds that a stop waits for a journal that cannot be written."""


class WebStaff(Protocol):
    """Who lets web workers leave."""

    @property
    def links(self) -> Mapping[int, object]:
        """Those that are still there."""

    def stop(self) -> None:
        """Let all leave."""

    def kill_all(self) -> None:
        """End all now."""


class Stopping:
    """Draining and stopping."""

    def __init__(self, turn: Turn, clients: Clients, door: Door, waiters: Waiters, children: Children) -> None:
        self._turn = turn
        self._clients = clients
        self._door = door
        self._waiters = waiters
        self._children = children
        self._replies = Replies(clients)
        self.signals = 0
        """How often the service's PID was told to stop."""
        self.drain_then_stop = False
        """Whether nothing left to run is a reason to stop (SIGQUIT)."""
        self.companions: Companions
        self.web: WebStaff | None = None
        self._leaving = False
        self._give_up_at: float | None = None
        """CLOCK_MONOTONIC seconds at which a stop goes on although the journal cannot be written."""
        turn.ends(self._look_whether_done)
        turn.due(lambda: self._give_up_at, lambda now: None)  # the turn's end does what is due

    def go_on(self) -> None:
        """This master came by a restart: a drain whose end nobody waits for is over."""
        if self._turn.engine.draining and not self._waiters.drains and not self.drain_then_stop:
            self._turn.step(ev.Undrain())

    def drain(self, caller: Caller | None = None) -> None:
        """Take no more runs; ``caller`` is answered when nothing is left."""
        if caller is not None:
            self._waiters.drains.append(caller)
        self._turn.step(ev.Drain())

    def stop(self, by: str) -> None:
        """Begin an orderly stop: no new connections or runs, TERM to what runs, what waits stays in the journal."""
        if self._turn.engine.stopping:
            return
        log("master", f"stopping (ordered by {by})")
        self._children.keeper.tell(m.Status(f"stopping (ordered by {by})", stopping=True))
        self._turn.step(ev.Drain(stop=True))
        self._children.keeper.tell(m.Unshelve(self._door.close()))
        self.companions.stop()
        if self.web is not None:
            self.web.stop()

    def on_signal(self, number: int, name: str) -> None:
        """A signal to the service's PID that has to do with its end, or with its log."""
        if number in (2, 15):
            self.signals += 1
            if self.signals > 1:
                log("master", "stopping now (second signal): what runs is killed")
                self._stop_now()
            else:
                self.stop(name)
        elif number == 3:
            log("master", "draining (SIGQUIT): stopping when nothing runs or waits")
            self.drain_then_stop = True
            self.drain()
        elif number == 10:
            reopen("master", os.getppid())

    def _stop_now(self) -> None:
        self._turn.step(ev.Drain(stop=True))
        for worker in list(self._turn.engine.workers.values()):
            self._children.kill(ev.KillWorker(worker.number, 9, 0.0))
        self.companions.kill_all()
        if self.web is not None:
            self.web.kill_all()

    def _look_whether_done(self) -> None:
        """At the end of a turn: answer callers that wait for the drain, and leave when nothing runs any longer."""
        engine = self._turn.engine
        if engine.draining and engine.empty:
            for caller in self._waiters.drains:
                self._replies.answer(caller, {"generation": engine.generation})
            self._waiters.drains = []
            if self.drain_then_stop:
                self.stop("SIGQUIT")
        if not engine.stopping or self._leaving:
            return
        if self._turn.writing.retry_at:
            self._wait_for_journal()
            return
        self._give_up_at = None
        others = self.companions.processes or (self.web is not None and self.web.links)
        if not engine.busy and not others and self._turn.writing.all_written:
            self._leaving = True
            self._say_goodbye(0, "stopped in order")

    def _wait_for_journal(self) -> None:
        """While the journal cannot be written nothing that was decided is done, nor is what runs told to end: not for ever."""
        now = self._turn.now.mono
        self._give_up_at = self._give_up_at or now + PATIENCE
        if now >= self._give_up_at or self.signals > 1:
            self._leaving = True
            self._stop_now()
            why = f"the journal could not be written ({self._turn.writing.trouble or 'another program is writing to it'})"
            self._say_goodbye(1, f"stopped, but {why}: what it does not hold is decided anew at the next start")

    def _say_goodbye(self, status: int, reason: str) -> None:
        """The last words to clients, then to the keeper."""
        journal, keeper = self._turn.writing.journal, self._children.keeper
        self._clients.say_goodbye()
        try:
            journal.commit((), (), {("meta", "stopped"): {"at": self._turn.now.wall}})
        except JournalError as error:
            log("master", str(error))
        journal.close()
        keeper.tell(m.Stopped(status, reason))
        while keeper.channel.pending:
            time.sleep(0.001)
            keeper.channel.flush()
        os._exit(0)
