"""The stages of a start, a restart and a crash, and the few acts that every step between them is made of.

What must live here: who serves, who is to serve, until when a stage may take; the one way in which an attempt begins, fails or
comes to its end, and in which a held signal is told.
What this file must not know: which message or event brings which step (``words``, ``happenings``).
"""

from __future__ import annotations

import signal

from rocksyd import messages
from rocksyd.keeper.effects import DropBusyConnections, Effect, Kill, Log, Send, SendAdopt, StartMaster, Stop
from rocksyd.keeper.ladder import Ladder
from rocksyd.units import format_duration
from rocksyd.values import Value

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
INSISTING = (signal.SIGTERM, signal.SIGINT)
"""A second one of these means: now."""


class Limits(Value):
    """Seconds."""

    hello: float = 30.0
    """For a master nobody said a hello_timeout for."""
    leave: float = 10.0
    """From RETIRED to SIGKILL."""
    reap: float = 5.0
    """From SIGKILL until a process that cannot even die counts as dead: it never runs its own code again."""
    insist: float = 10.0
    """From the second TERM told to a master until the keeper stops the service itself."""
    closing: float = 1.0
    """From the end of a living master's channel to SIGKILL."""


class Stages:
    """One attempt at most is under way: a candidate that is to become the serving master."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.ladder = Ladder()
        self.serving = 0
        """Number of the serving master; 0 for none."""
        self.served_since = 0.0
        self.candidate = 0
        self.stage = "idle"
        self.cause = "start"
        self.has_served = False
        """Whether any master ever served: before that a stop has nothing to be orderly about."""
        self.frozen = False
        """FREEZE was sent and neither THAW nor RETIRED yet: the serving master is not to be told anything."""
        self.stopping = False
        """The serving master has begun to stop the service: one that takes its place after a crash goes on with that."""
        self.failure = ""
        self.held: list[int] = []
        """Signals nobody could be told yet."""
        self.told: list[int] = []
        """Orders to stop that a master was told: the next one has to be told again if that one dies."""
        self.leaving: dict[int, float] = {}
        """Masters that must be gone at a time, or are killed."""
        self.last_master = 0
        self.hello_timeout = self.limits.hello
        self.adopt_timeout = 10.0
        self.bereft = False
        """The serving master died while the candidate was not able to take over; its death has been counted."""
        self.stage_ends: float | None = None
        self.insist_ends: float | None = None

    @property
    def deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which Expired has something to do; None for never."""
        times = [time for time in (self.stage_ends, self.insist_ends) if time is not None]
        times.extend(self.leaving.values())
        return min(times, default=None)

    def role(self, master: int) -> str:
        """``serving``, ``candidate`` or ``former``."""
        if master and master == self.serving:
            return "serving"
        return "candidate" if master and master == self.candidate else "former"

    def adopt(self, now: float, *, snapshot: bool) -> list[Effect]:
        """Have the candidate take over."""
        self.enter("adopting", now + self.adopt_timeout)
        return [SendAdopt(self.candidate, snapshot)]

    def begin_attempt(self, cause: str, now: float, hello_timeout: float) -> list[Effect]:
        """Start a master that is to take over."""
        self.last_master += 1
        self.candidate = self.last_master
        self.cause = cause
        self.failure = ""
        self.bereft = False
        self.hello_timeout = hello_timeout
        self.enter("started", now + hello_timeout)
        return [StartMaster(self.candidate)]

    def begin_crash_attempt(self, now: float) -> list[Effect]:
        """Start a master in the place of one that died."""
        effects: list[Effect] = [DropBusyConnections()] if self.ladder.without_busy_connections else []
        return effects + self.begin_attempt("crash", now, self.limits.hello)

    def climb(self, how: str, served: float, now: float) -> list[Effect]:
        """The serving master died, or the one after it: the next rung of the ladder."""
        self.ladder.fell(how, served)
        return self.next_rung(now)

    def next_rung(self, now: float) -> list[Effect]:
        """Start another master as the ladder says, or give up."""
        how = self.ladder.last
        if self.ladder.exhausted:
            return self.end(Stop(70, f"giving up after {self.ladder.young} masters died young; the last: {how}"))
        delay = self.ladder.delay
        effects: list[Effect] = [Log(f"{how}; starting another in {format_duration(delay)}")]
        if delay > 0:
            self.enter("waiting", now + delay)
            return effects
        return effects + self.begin_crash_attempt(now)

    def fail(self, reason: str, now: float) -> list[Effect]:
        """End the attempt: its candidate is killed, and what follows waits for its end."""
        self.failure = reason
        self.enter("failing", now + self.limits.reap)
        return [Kill(self.candidate)]

    def enter(self, stage: str, ends: float | None) -> None:
        """The attempt is at this stage now, until ``ends`` (None: as long as it takes)."""
        self.stage = stage
        self.stage_ends = ends

    def tell_held(self, now: float) -> list[Effect]:
        """Tell the serving master the signals that nobody could be told."""
        if not self.serving or self.frozen:
            return []
        effects: list[Effect] = [Send(self.serving, messages.Signalled(number)) for number in self.held]
        self.told.extend(number for number in self.held if number in STOP_SIGNALS)
        self.held.clear()
        if self.insist_ends is None and sum(1 for number in self.told if number in INSISTING) >= 2:
            self.insist_ends = now + self.limits.insist
        return effects

    def end(self, stop: Stop) -> list[Effect]:
        """Nothing is done after this."""
        self.enter("ended", None)
        self.insist_ends = None
        self.leaving.clear()
        return [stop]
