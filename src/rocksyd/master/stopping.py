"""The end of the service, and the signals that order it: draining, an orderly stop, the last words.

What must live here: what begins a stop, and how it is known to be done.
What this file must not know: what becomes of a run when the service stops (``core``).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from rocksyd import messages as m
from rocksyd.core import events as ev
from rocksyd.errors import JournalError
from rocksyd.master import listeners
from rocksyd.master.orders import RESTART, Requester
from rocksyd.posix.log import log, reopen

if TYPE_CHECKING:
    from rocksyd.master.server import Server


class Stopping:
    """For one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.signals = 0
        """How often the service's PID was told to stop."""
        self.when_drained = False
        """Whether nothing left to run is a reason to stop (SIGQUIT)."""
        self._leaving = False

    def drain(self) -> None:
        """Take no more runs; callers of ``drain`` are answered when nothing is left."""
        self._server.step(ev.Drain())

    def stop(self, by: str) -> None:
        """Begin an orderly stop: no new connections or runs, TERM to what runs, what waits stays in the journal."""
        server = self._server
        if server.engine.stopping:
            return
        log("master", f"stopping (ordered by {by})")
        server.children.tell_keeper(m.Status(f"stopping (ordered by {by})", stopping=True))
        server.step(ev.Drain(stop=True))
        for name in list(server.clients.listeners):
            listener = server.clients.unlisten(name)
            if listener.ours:
                listeners.remove(listener.address)
            listener.socket.close()
            server.children.tell_keeper(m.Unshelve((name,)))

    def on_signal(self, number: int) -> None:
        """A signal to the service's PID."""
        name = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 10: "SIGUSR1", 12: "SIGUSR2", 15: "SIGTERM"}.get(number, str(number))
        if number in (2, 15):
            self.signals += 1
            if self.signals > 1:
                self._stop_now()
            else:
                self.stop(name)
        elif number == 3:
            log("master", "draining (SIGQUIT): stopping when nothing runs or waits")
            self.when_drained = True
            self.drain()
        elif number == 10:
            reopen("master", os.getppid())
        elif number in (1, 12):
            self._server.generations.order(RESTART, name, Requester())

    def _stop_now(self) -> None:
        log("master", "stopping now (second signal): what runs is killed")
        server = self._server
        server.step(ev.Drain(stop=True))
        for worker in list(server.engine.workers.values()):
            server.children.kill(ev.KillWorker(worker.number, 9, 0.0))

    def look_whether_done(self) -> None:
        """At the end of a turn: answer who waits for the drain, and leave when nothing runs any more."""
        server = self._server
        if server.engine.draining and server.engine.empty:
            for caller in server.waiters.drains:
                server.rpc.answer(caller, {"generation": server.engine.generation})
            server.waiters.drains = []
            if self.when_drained:
                self.stop("SIGQUIT")
        if server.engine.stopping and not server.engine.busy and not self._leaving and server.all_written:
            self._leaving = True
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        """The last words to clients, then to the keeper."""
        server = self._server
        server.clients.say_goodbye()
        try:
            server.journal.commit((), (), {"stopped": {"at": server.now.wall}})
        except JournalError as error:
            log("master", str(error))
        server.journal.close()
        server.children.tell_keeper(m.Stopped(0, "stopped in order"))
        while server.keeper.pending:
            time.sleep(0.001)
            server.keeper.flush()
        os._exit(0)
