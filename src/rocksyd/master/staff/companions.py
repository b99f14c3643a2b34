"""Companions as the master sees them: their processes, their channels, the sockets they listen on.

What must live here: starting, hearing, ending and handing over; ``core.companions`` decides when.
What this file must not know: what any companion is for, and what clients ask of it (``forwarding``).

A companion belongs to the master that had it started. Its channel is on the shelf only while that master is frozen: when a
master dies, its companions read the end of their channel and leave, and the next master starts its own. The names on the shelf
begin with ``listen:``, because a version that knows no companions closes what stands there and is not in its configuration.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from typing import Any

from rocksyd import messages as m
from rocksyd import shelf_names
from rocksyd.config import Address, CompanionConfig, starting
from rocksyd.core.companions import ABSENT, FAILED, READY, STARTING, Life
from rocksyd.errors import ChannelClosed, DescriptorsLost, MessageError
from rocksyd.master.barrier import Barrier, Stranger
from rocksyd.posix.channel import Channel, pair
from rocksyd.posix.log import WARNING, log
from rocksyd.posix.loop import Loop
from rocksyd.units import format_duration

TERM_GRACE = 2.0
"""Seconds from TERM to KILL."""
STATUS_TIMEOUT = 2.0
"""Seconds from the end of its channel until a process that lives on is killed."""


class Process(Stranger):
    """One process of a companion: the one that serves, one that is to serve, or one of an older generation that leaves."""

    def __init__(self, owner: Companions, companion: str, title: str, channel: Channel | None, pid: int = 0) -> None:
        self.owner = owner
        self.companion = companion
        self.title = title
        """Its name among the keeper's children."""
        self.channel = channel
        """None: its master died, so it has nobody to listen to and leaves."""
        self.pid = pid
        self.methods: dict[str, dict[str, Any]] = {}
        self.hears_code = False
        """Whether it wants to be told what the applications' code declares."""
        self.leaving = False
        self.doomed = False
        """Whether it has been killed, or is to be as soon as it has a PID."""
        self.deadline: float | None = None
        """When the next, harder order to leave is due."""
        self.signal = 15

    kind = "companion"

    def __str__(self) -> str:
        return f"companion {self.companion}"

    def broken(self, reason: str) -> None:
        """Its turn has raised what nobody expected: it is killed, and started again."""
        self.owner.condemn(self, reason)

    def handle(self, events: int) -> None:
        """What epoll says."""
        self.owner.on_process(self, events)

    def say(self, message: Any, loop: Loop) -> None:
        """Say something, if it can be heard; the end of the channel is told by whoever reads it."""
        if self.channel is None or self.doomed:
            return
        try:
            self.channel.send(message)
        except ChannelClosed:
            return
        if self.channel.pending:
            loop.modify(self.channel.fileno(), select.EPOLLIN | select.EPOLLOUT)

    # --- its end ------------------------------------------------------------------------------------------------------
    def leave(self) -> None:
        """Tell it to leave, and see that it does."""
        companion = self.owner.configured.get(self.companion)
        self.leaving, self.signal = True, 15
        self.deadline = time.monotonic() + (companion.grace if companion else CompanionConfig.grace)
        self.say(m.Drain(), self.owner.loop)

    def press(self, now: float) -> None:
        """It has not left in time: the next, harder order."""
        if self.signal == 9:
            log("master", f"companion {self.companion} (pid {self.pid}) does not leave: killed")
            self.kill()
        else:
            self.owner.tell_keeper(m.Signal(self.pid, self.signal))
            self.deadline, self.signal = now + TERM_GRACE, 9

    def kill(self) -> None:
        """End it now, or as soon as it has a PID."""
        self.doomed, self.deadline = True, None
        if self.channel is not None:
            self.owner.loop.unregister(self.channel.fileno())
        if self.pid:
            self.owner.tell_keeper(m.Signal(self.pid, 9))

    def close(self, loop: Loop) -> None:
        """It is gone."""
        if self.channel is not None:
            loop.unregister(self.channel.fileno())
            self.channel.close()
            self.channel = None


class Sockets:
    """The listening sockets of companions."""

    def __init__(self, configured: dict[str, CompanionConfig]) -> None:
        self._configured = configured
        self.by_name: dict[str, int] = {}
        """Descriptors by their name on the shelf."""
        self.addresses: dict[str, list[str]] = {}
        """Where each companion can really be reached (a port may have been left to the system)."""

    def wanted(self) -> Iterator[tuple[str, Address]]:
        """Those that are configured: name on the shelf, address."""
        for companion in self._configured.values():
            for owner, text, address in companion.sockets:
                yield shelf_names.listener(text, owner), address

    def use(self, name: str, fd: int, known_as: Address) -> None:
        """Here is the socket that has this name on the shelf, and where it can really be reached."""
        self.by_name[name] = fd
        owner, text = shelf_names.companion_listener_of(name)
        companion = next((one for one, config in self._configured.items() if owner in config.listen_for), owner)
        scheme = text.partition("://")[0]
        where = str(known_as) if scheme == "unix" else f"{scheme}{str(known_as).removeprefix('tcp')}"
        self.addresses.setdefault(companion, []).append(where)


class Companions:
    """All companions of one master, and what is left of those of the masters before."""

    def __init__(
        self, configured: dict[str, CompanionConfig], tell_keeper: Callable[[Any], None], loop: Loop, barrier: Barrier
    ) -> None:
        self.configured = configured
        self.tell_keeper = tell_keeper
        self.loop = loop
        self._barrier = barrier
        self.lives = {name: Life(companion.ready_timeout) for name, companion in configured.items()}
        self.serving: dict[str, Process] = {}
        """The process of each companion that is starting or ready."""
        self.processes: dict[str, Process] = {}
        """Every process that has not been reaped, by its title."""
        self.sockets = Sockets(configured)
        self.daemon: tuple[str, str] = ("", "")
        """Where the daemon is, and what to show there."""
        self.restarts = False
        """Whether one that has died is started again: not while the master prepares, which is then called off."""
        self.generation: Callable[[], int] = lambda: 1
        self.replied: Callable[[Process, m.Reply], str] = lambda process, reply: ""
        """Takes an answer; returns what is wrong with it."""
        self.gone: Callable[[Process, str], None] = lambda process, how: None
        """Told of every process that will answer nothing further."""
        self.fails: Callable[[Process, str], None] = lambda process, how: None
        """Told of every one that is condemned, or has ended."""
        self.attends: Callable[[Process], None] = lambda process: None
        """Told of each that has become ready."""
        self.agrees: Callable[[Process, m.Reply], str] = lambda process, reply: ""
        """Takes an answer to DECLARED; returns what is wrong with it."""

    def use(self, loop: Loop) -> None:
        """From now on this loop tells what is heard (a preparing master has one of its own)."""
        self.loop = loop

    # --- beginning ----------------------------------------------------------------------------------------------------
    def start_all(self) -> None:
        """Start each that has no process: at once, or when what is left of it under a dead master has gone."""
        for name, life in self.lives.items():
            if life.state == ABSENT and not any(process.companion == name for process in self.processes.values()):
                self._start(name, time.monotonic())

    def need(self, companion: CompanionConfig) -> None:
        """Start one that is not in the configuration."""
        if companion.name not in self.configured:
            self.configured = {**self.configured, companion.name: companion}
            self.lives[companion.name] = Life(companion.ready_timeout)
            self.start_all()

    def _start(self, name: str, now: float) -> None:
        life = self.lives[name]
        life.start(now)
        try:
            ours, theirs = pair()
            process = Process(self, name, shelf_names.companion(name, self.generation()), Channel(ours, takes_descriptors=False))
            self.processes[process.title] = self.serving[name] = process
            self.loop.register(ours.fileno(), process, select.EPOLLIN)
            companion = self.configured[name]
            command, environment = starting.companion_command(companion), starting.environment(companion, os.environ)
            self.tell_keeper(m.Spawn(process.title, command, environment, companion.path, (theirs.fileno(),)))
            theirs.close()
            process.say(self._order(companion), self.loop)
        except Exception as error:  # noqa: BLE001  (the barrier: no descriptor may be left, and the next try may find one)
            reason = self._barrier.note("companion", f"companion {name}", error)
            half = self.serving.pop(name, None)
            if half is not None:
                del self.processes[half.title]
                half.close(self.loop)  # one that was started all the same leaves at the end of its channel
            life.ended(reason, now)

    def _order(self, companion: CompanionConfig) -> m.Attend:
        names = [shelf_names.listener(text, owner) for owner, text, _ in companion.sockets]
        listen, fds = tuple(text for _, text, _ in companion.sockets), tuple(self.sockets.by_name[name] for name in names)
        return m.Attend(
            companion.name, companion.target, companion.path, *self.daemon, companion.namespace, companion.settings, listen, fds
        )

    def spawned(self, message: m.Spawned) -> None:
        """The keeper has started a process, or could not."""
        process = self.processes.get(message.name)
        if process is None:
            return
        process.pid = message.pid
        if not message.pid:
            self._ended(process, message.reason)
        elif process.doomed:
            self.tell_keeper(m.Signal(process.pid, 9))

    # --- hearing ------------------------------------------------------------------------------------------------------
    def on_process(self, process: Process, events: int) -> None:
        """Take what a process says. Whatever that is, it can end this process and nobody else."""
        channel = process.channel
        if channel is None or process.doomed:
            return
        try:
            self._listen(process, channel, events)
        except ChannelClosed:
            self.loop.unregister(channel.fileno())
            if process.deadline is None:
                process.deadline, process.signal = time.monotonic() + STATUS_TIMEOUT, 9
        except (MessageError, DescriptorsLost) as error:
            self.condemn(process, f"it said {error}"[:500])
        except Exception as error:  # noqa: BLE001  (the barrier: its last words are heard outside the loop)
            self._barrier.stop(process, error)

    def _listen(self, process: Process, channel: Channel, events: int) -> None:
        if events & select.EPOLLOUT and channel.flush():
            self.loop.modify(channel.fileno(), select.EPOLLIN)
        while (message := channel.receive()) is not None:
            wrong = self._heard(process, message)
            if wrong:
                self.condemn(process, f"it said {type(message).__name__.upper()} {wrong}")
            if process.doomed:
                return

    def _heard(self, process: Process, message: Any) -> str:
        """Returns what is wrong with the message."""
        life = self.lives.get(process.companion)
        current = self.serving.get(process.companion) is process
        match message:
            case m.Reply():
                return self.replied(process, message) if message.number >= 0 else self.agrees(process, message)
            case m.Attending() if current and life is not None and life.state == STARTING:
                prefix = f"{self.configured[process.companion].namespace}."
                for name in message.methods:
                    if prefix == "." or not name.startswith(prefix):
                        return f"with the method {name!r}, which is not in its namespace"
                process.methods, process.hears_code = message.methods, message.declared
                life.ready(time.monotonic())
                log("master", f"companion {process.companion} is ready (pid {process.pid})", event="companion.ready",
                    companion=process.companion)  # fmt: skip
                self.attends(process)
            case m.Failed():
                reason = message.reason if not message.traceback else f"{message.reason}\n{message.traceback}"
                self.condemn(process, str(reason))
            case m.Attending() if not current or (life is not None and life.state == ABSENT):
                pass  # said before it heard that it is to leave
            case _:
                return "at a moment at which that means nothing"
        return ""

    def condemn(self, process: Process, reason: str) -> None:
        """Kill a process that cannot do its work; it is started again when it is gone."""
        log("master", f"companion {process.companion} is ended: {reason}", level=WARNING, event="companion.ended",
            companion=process.companion)  # fmt: skip
        if self.serving.get(process.companion) is process:
            self.lives[process.companion].condemn(reason)
        process.kill()
        self.gone(process, reason)
        self.fails(process, reason)

    def exited(self, title: str, pid: int, how: str) -> None:
        """The keeper has reaped a child; if it was a companion's process, hear its last words first.

        One that had the title before may be meant, whose end a master that died has not acknowledged.
        """
        process = self.processes.get(title)
        if process is not None and process.pid == pid:
            self.on_process(process, select.EPOLLIN)
            self._ended(process, f"its process {how}")

    def _ended(self, process: Process, how: str) -> None:
        del self.processes[process.title]
        process.close(self.loop)
        name = process.companion
        life = self.lives.get(name)
        if self.serving.get(name) is process:
            del self.serving[name]
            assert life is not None
            if life.state != ABSENT:
                log("master", f"companion {name}: {how}", level=WARNING, event="companion.down", companion=name)
            life.ended(how, time.monotonic())
        elif life is not None and life.state == ABSENT and not life.reason:
            self.start_all()  # what a dead master left has gone
        self.gone(process, how)
        self.fails(process, how)

    # --- time ---------------------------------------------------------------------------------------------------------
    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which ``on_time`` has something to do; None for never."""
        if not self.lives and not self.processes:
            return None
        lives = (life for life in self.lives.values() if life.state != FAILED or self.restarts)
        moments = [life.deadline for life in lives if life.deadline is not None]
        moments += [process.deadline for process in self.processes.values() if process.deadline is not None]
        return min(moments, default=None)

    def on_time(self, now: float) -> None:
        """Start again what died, end what is not ready in time or does not leave."""
        for name, life in self.lives.items():
            todo = life.due(now) if life.state != FAILED or self.restarts else ""
            if todo == "start":
                self._start(name, now)
            elif todo:
                self.condemn(self.serving[name], f"it was not ready within {format_duration(life.ready_timeout)} (ready_timeout)")
        for process in self.processes.values():
            if process.deadline is not None and now >= process.deadline:
                process.press(now)

    # --- the end ------------------------------------------------------------------------------------------------------
    def stop(self) -> None:
        """The daemon stops: tell all to leave, and listen nowhere."""
        for life in self.lives.values():
            life.retire("the daemon is stopping")
        for process in self.processes.values():
            if not process.leaving:
                process.leave()
        for name, fd in self.sockets.by_name.items():
            os.close(fd)
            self.tell_keeper(m.Unshelve((name,)))
        self.sockets.by_name.clear()

    def kill_all(self) -> None:
        """The daemon stops now."""
        for process in self.processes.values():
            process.kill()

    def ask(self, name: str, message: m.Ask) -> Process | None:
        """Pass a request on to the companion; None while it is not ready."""
        process = self.serving.get(name)
        if process is None or self.lives[name].state != READY:
            return None
        process.say(message, self.loop)
        return process

    @property
    def all_ready(self) -> bool:
        """Whether every companion can do its work."""
        return all(life.state == READY for life in self.lives.values())

    @property
    def failure(self) -> str:
        """Why one of them could not be started; "" while none has failed."""
        return next((f"companion {name}: {life.reason}" for name, life in self.lives.items() if life.state == FAILED), "")
