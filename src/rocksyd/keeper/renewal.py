"""When the keeper replaces itself: after a restart, if its code changed, the new code was tried, and nothing is under way."""

from __future__ import annotations

import os
import signal
import time

from rocksyd.exit_status import describe
from rocksyd.keeper import reexec, state
from rocksyd.keeper.choreography import Choreography
from rocksyd.keeper.signals import SignalInbox
from rocksyd.keeper.world import World, send_signal
from rocksyd.posix.processes import Ended


class Renewal:
    """The keeper's own code: what runs, and what is to run."""

    def __init__(self, world: World, choreography: Choreography, inbox: SignalInbox) -> None:
        self._world = world
        self._choreography = choreography
        self._inbox = inbox
        self._running = reexec.fingerprint(world.options.boot)
        self._tried: reexec.Fingerprint | None = None
        """What has been tried and is to run at the next quiet moment."""
        self._successor: reexec.Successor | None = None

    def check(self, now: float) -> None:
        """If the code on disk has changed, try it on a copy of the state, in a child process."""
        world = self._world
        code = reexec.fingerprint(world.options.boot)
        self.abandon()
        if code == self._running:
            return
        copy = state.dump(world, self._choreography, [])
        try:
            self._successor = reexec.try_code(world.options, copy, state.descriptors(world), code, now)
        except OSError as error:
            world.log.line(f"the keeper's new code could not be tried, the old goes on: {error.strerror}")

    @property
    def deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which ``look_after`` has something to do; None for never."""
        return None if self._successor is None else self._successor.deadline

    def look_after(self, now: float) -> None:
        """End an attempt that takes too long."""
        if self._successor is not None and now >= self._successor.deadline:
            self._world.log.line("the keeper's new code was not ready in time, the old goes on")
            self.abandon()

    def ended(self, end: Ended) -> bool:
        """A child was reaped; true if it was the one that tried the code."""
        if self._successor is None or end.pid != self._successor.pid:
            return False
        words = reexec.last_words(self._successor.output)
        os.close(self._successor.output)
        code, self._successor = self._successor.code, None
        if end.status == 0:
            self._tried = code
        else:
            self._world.log.line(f"the keeper's new code does not work, the old goes on: it {describe(end.status)}; {words}")
        return True

    def abandon(self) -> None:
        """Forget what is being tried."""
        if self._successor is not None:
            send_signal(self._successor.pid, signal.SIGKILL)
            self._world.children.forget(self._successor.pid)
            os.close(self._successor.output)
            self._successor = None
        self._tried = None

    @property
    def due(self) -> bool:
        """The code was tried, and the state is one that can be carried over."""
        world, choreography = self._world, self._choreography
        return (
            self._tried is not None
            and choreography.quiet
            and not world.spawner.verdicts
            and list(world.links) == [choreography.serving]
            and not any(link.busy or link.ended for link in world.links.values())
        )

    def replace(self) -> list[int]:
        """Execute the new code; if this returns, the old one goes on and has to take the signals returned."""
        world = self._world
        tried, self._tried = self._tried, None
        if reexec.fingerprint(world.options.boot) != tried:
            self.check(time.monotonic())  # changed once more since it was tried
            return []
        self._inbox.hold_back()
        signals = [number for number in self._inbox.take() if number != signal.SIGCHLD]
        world.log.line("replacing the keeper by its new code")
        try:
            reexec.replace(world.options, state.dump(world, self._choreography, signals), state.descriptors(world))
        except OSError as error:
            world.log.line(f"the keeper's new code could not be executed, the old goes on: {error.strerror}")
        self._inbox.let_through()
        return signals
