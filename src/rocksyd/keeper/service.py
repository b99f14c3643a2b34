"""The keeper's loop: what woke me -> events -> decisions -> effects -> sleep until the next deadline.

No periodic tick: a keeper with nothing to do is not woken.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections import deque

from rocksyd.exit_status import describe
from rocksyd.keeper import acting
from rocksyd.keeper import effects as fx
from rocksyd.keeper.choreography import Choreography
from rocksyd.keeper.events import Begin, Died, Expired, Signal
from rocksyd.keeper.hearing import Hearing
from rocksyd.keeper.links import Link
from rocksyd.keeper.renewal import Renewal
from rocksyd.keeper.shutdown import Shutdown
from rocksyd.keeper.signals import SignalInbox
from rocksyd.keeper.stages import INSISTING
from rocksyd.keeper.world import World, send_signal
from rocksyd.posix.processes import Ended, children_of, descendants_of, reap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TURN = 64
"""Messages taken from one master before the others have their turn."""
RETRY = 0.01
"""Seconds until a link that took nothing although it was writable is tried again."""


class Keeper:
    """``run`` returns the service's exit status."""

    def __init__(self, world: World, choreography: Choreography, inbox: SignalInbox) -> None:
        self.world = world
        self.choreography = choreography
        self.inbox = inbox
        self.renewal = Renewal(world, choreography, inbox)
        self.hearing = Hearing(world, choreography, self._feed)
        self.shutdown: Shutdown | None = None
        self._events: deque[Any] = deque()
        self._working = False

    def run(self, signals: list[int] | None = None) -> int:
        """Serve until the end. ``signals`` came while this keeper took another one's place; None: this is the first one."""
        if signals is None:
            self._feed(Begin())
        for number in signals or ():
            self._take_signal(number)
        self._reap()
        self._send_what_waits()
        while self.shutdown is None or not self.shutdown.over:
            self._turn()
            if self.shutdown is None and self.renewal.due:
                self._come_back_renewed()
        return self._finish(self.shutdown)

    def _come_back_renewed(self) -> None:
        for number in self.renewal.replace():  # it returned: the old code goes on
            self._take_signal(number)
        self._reap()

    # --- one turn ---------------------------------------------------------------------------------------------------
    def _turn(self) -> None:
        for fd, _ in self._poller().poll(self._timeout()):
            self._ready(fd)
        self._feed(Expired())
        self._send_what_waits()
        self.renewal.look_after(time.monotonic())
        self._end_what_is_left()

    def _send_what_waits(self) -> None:
        for link in self.world.links.values():
            link.pump(self.world.shelf)

    def _poller(self) -> select.poll:
        poller = select.poll()
        poller.register(self.inbox, select.POLLIN)
        for fd in self.world.spawner.verdicts:
            poller.register(fd, select.POLLIN)
        for link in self.world.links.values():
            wanted = 0 if link.ended else select.POLLIN
            if link.channel.pending and not link.stalled and not link.gone:
                wanted |= select.POLLOUT
            if wanted:
                poller.register(link, wanted)
        return poller

    def _timeout(self) -> float | None:
        """Milliseconds until the nearest deadline; None for ever."""
        now = time.monotonic()
        times = [self.choreography.deadline, self.renewal.deadline, self.shutdown.deadline if self.shutdown else None]
        if any(link.stalled and link.busy for link in self.world.links.values()):
            times.append(now + RETRY)
        nearest = min((moment for moment in times if moment is not None), default=None)
        # Rounded up: waking a fraction of a millisecond early would be waking twice.
        return None if nearest is None else max(0.0, (nearest - now) * 1000 + 1)

    def _ready(self, fd: int) -> None:
        if fd == self.inbox.fileno():
            for number in self.inbox.take():
                if number != signal.SIGCHLD:
                    self._take_signal(number)
            self._reap()
        elif fd in self.world.spawner.verdicts:
            known = self.world.spawner.verdict(fd)
            if known is not None:
                self.world.spawn_ended(*known)
        else:
            link = next((link for link in self.world.links.values() if link.fileno() == fd), None)
            if link is not None:
                self.hearing.listen(link, TURN)

    def _feed(self, event: Any) -> None:
        """Decide and act, for this event and for those that acting brings."""
        self._events.append(event)
        if self._working:
            return
        self._working = True
        try:
            while self._events:
                for effect in self.choreography.step(self._events.popleft(), time.monotonic()):
                    own = _EFFECTS.get(type(effect))
                    if own is not None:
                        own(self, effect)
                    else:
                        acting.EFFECTS[type(effect)](self.world, self._feed, effect)
        finally:
            self._working = False
        if not self.choreography.frozen:
            self.world.tell_exits(self.choreography.serving, serving=True)
        self.world.tell_exits(self.choreography.candidate, serving=False)

    # --- signals and ends -------------------------------------------------------------------------------------------
    def _take_signal(self, number: int) -> None:
        if number in (signal.SIGHUP, signal.SIGUSR1):
            self._reopen_log()
        if self.shutdown is None:
            self._feed(Signal(number))
        elif number in INSISTING:
            self.shutdown.insist(time.monotonic())

    def _reopen_log(self) -> None:
        try:
            self.world.log.point_to_file()
        except OSError as error:
            self.world.log.line(f"cannot reopen the log file {error.filename}: {error.strerror}; the old one is still written")

    def _reap(self) -> None:
        for end in reap():
            known = self.world.spawner.verdict_of(end.pid)
            if known is not None:
                self.world.spawn_ended(*known)
            link = self.world.link_of(end.pid)
            if link is not None:
                self._bury(link, self._obituary(end))
            elif not self.renewal.ended(end):
                self.world.children.ended(end)
        if self.shutdown is None:
            self._feed(Expired())

    def _obituary(self, end: Ended) -> str:
        refusal = self.world.refusals.pop(end.pid, "")
        return f"could not be started ({refusal})" if refusal else describe(end.status)

    def _bury(self, link: Link, how: str) -> None:
        """Its last words first: an ADOPTED in its channel decides what its death means."""
        while not link.ended and self.hearing.listen(link, TURN):
            pass
        number = link.number
        self.world.close_link(number)
        self._feed(Died(number, how))

    # --- effects ----------------------------------------------------------------------------------------------------
    def _bury_alive(self, effect: fx.Bury) -> None:
        link = self.world.links.get(effect.master)
        if link is not None:
            self.world.children.forget(link.pid)
            self._bury(link, "does not even die of SIGKILL")

    def _stop(self, effect: fx.Stop) -> None:
        self.world.notifier.stopping(effect.reason or "stopping")
        self.world.log.line("stopping: " + (effect.reason or "the master has finished"))
        self.world.let_go(kill_masters=not effect.orderly)
        self.renewal.abandon()
        self.shutdown = Shutdown(effect, time.monotonic())

    def _end_what_is_left(self) -> None:
        if self.shutdown is None or self.shutdown.over:
            return
        me = os.getpid()
        for pid, number in self.shutdown.step(time.monotonic(), children_of(me), lambda: descendants_of(me)):
            send_signal(pid, number)

    def _finish(self, shutdown: Shutdown) -> int:
        left = children_of(os.getpid())
        if left:
            self.world.log.line(f"leaving behind processes that cannot be killed: {left}")
        if shutdown.stop.failed:
            self.world.starter.report_failure(shutdown.stop.reason)
        else:
            self.world.log.line(f"exiting with status {shutdown.stop.status}: {shutdown.stop.reason or 'stopped'}")
        self.world.give_pid_file_back()
        return shutdown.stop.status


_EFFECTS: dict[type[Any], Any] = {
    fx.Bury: Keeper._bury_alive,
    fx.CheckCode: lambda self, effect: self.renewal.check(time.monotonic()),
    fx.Stop: Keeper._stop,
}
"""Those that concern the keeper itself; the others are in ``acting``."""
