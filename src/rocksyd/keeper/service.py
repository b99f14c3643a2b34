"""The keeper's loop: what woke me -> events -> decisions -> effects -> sleep until the next deadline.

No periodic tick: a keeper with nothing to do is not woken.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections import deque

from rocksyd import messages
from rocksyd.errors import ChannelClosed, DescriptorsLost, MessageError
from rocksyd.keeper import effects as fx
from rocksyd.keeper.choreography import INSISTING, Choreography
from rocksyd.keeper.ending import Ending
from rocksyd.keeper.events import Begin, Died, Expired, Hindered, Hung, Said, Signal
from rocksyd.keeper.links import Link
from rocksyd.keeper.renewal import Renewal
from rocksyd.keeper.signals import SignalInbox
from rocksyd.keeper.world import World, close_all, send_signal
from rocksyd.posix.processes import Ended, children_of, descendants_of, describe, reap

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
        self.ending: Ending | None = None
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
        while self.ending is None or not self.ending.over:
            self._turn()
            if self.ending is None and self.renewal.due:
                self._come_back_renewed()
        return self._finish(self.ending)

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
        times = [self.choreography.deadline, self.renewal.deadline, self.ending.deadline if self.ending else None]
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
                self._listen(link, TURN)

    def _feed(self, event: Any) -> None:
        """Decide and act, for this event and for those that acting brings."""
        self._events.append(event)
        if self._working:
            return
        self._working = True
        try:
            while self._events:
                for effect in self.choreography.step(self._events.popleft(), time.monotonic()):
                    _EFFECTS[type(effect)](self, effect)
        finally:
            self._working = False
        if not self.choreography.frozen:
            self.world.tell_exits(self.choreography.serving, serving=True)
        self.world.tell_exits(self.choreography.candidate, serving=False)

    # --- signals and ends -------------------------------------------------------------------------------------------
    def _take_signal(self, number: int) -> None:
        if number in (signal.SIGHUP, signal.SIGUSR1):
            self._reopen_log()
        if self.ending is None:
            self._feed(Signal(number))
        elif number in INSISTING:
            self.ending.insist(time.monotonic())

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
        if self.ending is None:
            self._feed(Expired())

    def _obituary(self, end: Ended) -> str:
        refusal = self.world.refusals.pop(end.pid, "")
        return f"could not be started ({refusal})" if refusal else describe(end.status)

    def _bury(self, link: Link, how: str) -> None:
        """Its last words first: an ADOPTED in its channel decides what its death means."""
        while not link.ended and self._listen(link, TURN):
            pass
        number = link.number
        self.world.close_link(number)
        self._feed(Died(number, how))

    # --- what masters say -------------------------------------------------------------------------------------------
    def _listen(self, link: Link, count: int) -> bool:
        """Take at most ``count`` messages; false when there are no more now."""
        for _ in range(count):
            if link.ended or self.world.links.get(link.number) is not link:
                return False
            try:
                message = link.channel.receive()
            except ChannelClosed:
                link.ended = True
                self._feed(Hung(link.number))
                return False
            except DescriptorsLost as lost:
                self._lost(link, lost)
                continue
            except (MessageError, OSError) as error:
                self.world.log.line(f"killing master {link.pid}, which cannot be understood: {error}")
                send_signal(link.pid, signal.SIGKILL)
                return False
            if message is None:
                return False
            _WORDS.get(type(message), Keeper._hear)(self, link, message)
        return True

    def _lost(self, link: Link, lost: DescriptorsLost) -> None:
        """There was no room for what came with a message: the masters live, and whoever counts on it is told."""
        message = lost.message
        self.world.log.line(f"{lost}; {type(message).__name__.upper()} of master {link.pid} is dropped")
        role = self.choreography.role(link.number)
        if isinstance(message, messages.Spawn):
            link.say(messages.Spawned(message.name, 0, str(lost)))
        elif isinstance(message, messages.Shelve) and role == "serving":
            link.say(messages.Unshelved(message.names))
        elif role == "candidate" or isinstance(message, messages.Frozen):
            self._feed(Hindered(str(lost)))

    def _hear(self, link: Link, message: Any) -> None:
        close_all(getattr(message, "fds", ()))
        self._feed(Said(link.number, message))

    def _shelve(self, link: Link, message: messages.Shelve) -> None:
        role = self.choreography.role(link.number)
        if role == "serving":
            self._keep(message.names, message.fds)
        elif role == "candidate":
            self.world.shelf.put_in_drawer(link.number, message.names, message.fds)
        else:
            close_all(message.fds)

    def _keep(self, names: tuple[str, ...], fds: tuple[int, ...]) -> None:
        kept = self.world.shelf.put(names, fds)
        candidate = self.world.links.get(self.choreography.candidate)
        if candidate is not None and candidate.announced:
            candidate.say_shelved(kept)

    def _unshelve(self, link: Link, message: messages.Unshelve) -> None:
        role = self.choreography.role(link.number)
        if role == "candidate":
            self.world.shelf.drop_in_drawer(link.number, message.names)
        elif role == "serving":
            gone = self.world.shelf.drop(message.names)
            candidate = self.world.links.get(self.choreography.candidate)
            if gone and candidate is not None and candidate.announced:
                candidate.say(messages.Unshelved(tuple(gone)))

    def _frozen(self, link: Link, message: messages.Frozen) -> None:
        if self.choreography.role(link.number) != "serving" or not message.fds:
            close_all(message.fds)
            self.world.log.line(f"killing master {link.pid}: it said FROZEN without a snapshot, or unasked")
            send_signal(link.pid, signal.SIGKILL)
            return
        self.world.forget_snapshot()
        self.world.snapshot = message.fds[0]
        self._keep(message.names, message.fds[1:])
        self._feed(Said(link.number, message))
        if self.choreography.stage != "adopting":
            self.world.forget_snapshot()  # too late: it was thawed meanwhile

    def _spawn(self, link: Link, message: messages.Spawn) -> None:
        role = self.choreography.role(link.number)
        if role == "former" or self.choreography.stage in ("failing", "ended"):
            close_all(message.fds)
            return
        self.world.spawn(link, message, 0 if role == "serving" else link.number)

    def _signal(self, link: Link, message: messages.Signal) -> None:
        if self.choreography.role(link.number) != "former":
            self.world.signal_child(message)

    def _exit_ack(self, link: Link, message: messages.ExitAck) -> None:
        self.world.children.acknowledged(message.pids)

    def _status(self, link: Link, message: messages.Status) -> None:
        if self.choreography.role(link.number) != "serving":
            return
        if message.stopping:
            self._feed(Said(link.number, message))
            self.world.notifier.stopping(message.text)
        elif message.text:
            self.world.notifier.status(message.text)
        if message.alive:
            self.world.notifier.alive()

    # --- effects ----------------------------------------------------------------------------------------------------
    def _start_master(self, effect: fx.StartMaster) -> None:
        try:
            self.world.start_master(effect.master)
        except OSError as error:
            self._feed(Died(effect.master, f"could not be started ({error.strerror})"))

    def _send_prepare(self, effect: fx.SendPrepare) -> None:
        self.world.prepare(effect)

    def _send_adopt(self, effect: fx.SendAdopt) -> None:
        try:
            self.world.adopt(effect.master, with_snapshot=effect.snapshot)
        except OSError as error:
            self._feed(Hindered(f"the keeper cannot pass the snapshot on: {error.strerror}"))

    def _bury_alive(self, effect: fx.Bury) -> None:
        link = self.world.links.get(effect.master)
        if link is not None:
            self.world.children.forget(link.pid)
            self._bury(link, "does not even die of SIGKILL")

    def _lose_serving(self, effect: fx.LoseServing) -> None:
        self.world.log.line(f"the serving master {effect.how}")
        self.world.notifier.status(f"the master {effect.how}; starting another")

    def _drop_connections(self, effect: fx.DropConnections) -> None:
        count = self.world.shelf.drop_connections()
        self.world.log.line(f"masters keep dying young: the next one starts without the {count} connections")

    def _reloading(self, effect: fx.Reloading) -> None:
        self.world.notifier.reloading(time.monotonic(), effect.text)

    def _serves(self, effect: fx.Serves) -> None:
        self.world.notifier.ready(os.getpid(), effect.text or f"serving generation {effect.generation}")
        self.world.report_ready()

    def _stop(self, effect: fx.Stop) -> None:
        self.world.notifier.stopping(effect.reason or "stopping")
        self.world.log.line("stopping: " + (effect.reason or "the master has finished"))
        self.world.let_go(kill_masters=not effect.orderly)
        self.renewal.abandon()
        self.ending = Ending(effect, time.monotonic())

    def _end_what_is_left(self) -> None:
        if self.ending is None or self.ending.over:
            return
        me = os.getpid()
        for pid, number in self.ending.step(time.monotonic(), children_of(me), lambda: descendants_of(me)):
            send_signal(pid, number)

    def _finish(self, ending: Ending) -> int:
        left = children_of(os.getpid())
        if left:
            self.world.log.line(f"leaving behind processes that cannot be killed: {left}")
        if ending.stop.failed:
            self.world.report_failure(ending.stop.reason)
        else:
            self.world.log.line(f"exiting with status {ending.stop.status}: {ending.stop.reason or 'stopped'}")
        self.world.give_pid_file_back()
        return ending.stop.status


_EFFECTS: dict[type[Any], Any] = {
    fx.StartMaster: Keeper._start_master,
    fx.SendPrepare: Keeper._send_prepare,
    fx.Send: lambda self, effect: self.world.say(effect.master, effect.message),
    fx.SendAdopt: Keeper._send_adopt,
    fx.Promote: lambda self, effect: self.world.promote(effect.master),
    fx.Discard: lambda self, effect: self.world.discard(effect.master),
    fx.LoseServing: Keeper._lose_serving,
    fx.Kill: lambda self, effect: self.world.kill_master(effect.master),
    fx.Bury: Keeper._bury_alive,
    fx.DropConnections: Keeper._drop_connections,
    fx.CheckCode: lambda self, effect: self.renewal.check(time.monotonic()),
    fx.Reloading: Keeper._reloading,
    fx.Serves: Keeper._serves,
    fx.Stop: Keeper._stop,
    fx.Log: lambda self, effect: self.world.log.line(effect.text),
}

_WORDS: dict[type[Any], Any] = {
    messages.Shelve: Keeper._shelve,
    messages.Unshelve: Keeper._unshelve,
    messages.Frozen: Keeper._frozen,
    messages.Spawn: Keeper._spawn,
    messages.Signal: Keeper._signal,
    messages.ExitAck: Keeper._exit_ack,
    messages.Status: Keeper._status,
}
