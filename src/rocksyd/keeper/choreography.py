"""Who serves, who prepares, and what happens next: the keeper's decisions, without the system.

What must live here: the steps of start, restart and crash; their deadlines; the ladder; whom a signal is told.
What this file must not know: sockets, descriptors, PIDs, clocks. Time comes in as an argument (CLOCK_MONOTONIC seconds),
decisions go out as effects, in the order in which they are to be carried out. Masters are numbered: 1, 2, 3 ...

One *attempt* is under way at most: a **candidate** that is to become the serving master. Its stages::

    idle ─restart─▶ started ─Hello─▶ reading ─Hello─▶ preparing ─Prepared─▶ freezing ─Frozen─▶ adopting ─Adopted─▶ idle
      ▲                  ▲                                 └───────(nobody serves)──────▲
      │                  └── waiting (the ladder's delay) ◀── the serving master died
      └── failing (killed; its channel is read to the end before the old master goes on)

A serving master that dies while its successor still loads applications is not waited for: the successor goes, and another one
is started, which takes over what there is.
"""

from __future__ import annotations

import signal

from rocksyd import messages
from rocksyd.keeper.effects import (
    Bury,
    CheckCode,
    Discard,
    DropConnections,
    Effect,
    Kill,
    Log,
    LoseServing,
    Promote,
    Reloading,
    Send,
    SendAdopt,
    SendPrepare,
    Serves,
    StartMaster,
    Stop,
)
from rocksyd.keeper.events import Begin, Died, Expired, Hindered, Hung, Said, Signal
from rocksyd.keeper.ladder import Ladder
from rocksyd.posix.processes import signal_name
from rocksyd.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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


class Choreography:
    """``step(event, now)`` returns the effects; ``deadline`` says when to send Expired (None: nothing is due)."""

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
        self._last_master = 0
        self._hello_timeout = self.limits.hello
        self._adopt_timeout = 10.0
        self._bereft = False
        """The serving master died while the candidate was not able to take over; its death has been counted."""
        self._stage_ends: float | None = None
        self._insist_ends: float | None = None

    @property
    def deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which Expired has something to do; None for never."""
        times = [time for time in (self._stage_ends, self._insist_ends) if time is not None]
        times.extend(self.leaving.values())
        return min(times, default=None)

    def step(self, event: Any, now: float) -> list[Effect]:
        """Take one event; return what is to be done. After ``stage`` is ``ended`` nothing is done any more."""
        if self.stage == "ended":
            return []
        if isinstance(event, Said):
            return self._said(event, now)
        handler = _EVENTS[type(event)]
        effects: list[Effect] = handler(self, event, now)
        return effects

    # --- what masters say -------------------------------------------------------------------------------------------
    def _said(self, event: Said, now: float) -> list[Effect]:
        role = self.role(event.master)
        handler = _WORDS.get((role, self.stage, type(event.message))) or _WORDS.get((role, "*", type(event.message)))
        if handler is None:
            if role in ("serving", "candidate"):
                word = type(event.message).__name__.upper()
                return [Log(f"the {role} master said {word}, which means nothing while {self.stage}; ignored")]
            return []
        effects: list[Effect] = handler(self, event.message, now)
        return effects

    def role(self, master: int) -> str:
        """``serving``, ``candidate`` or ``former``."""
        if master and master == self.serving:
            return "serving"
        return "candidate" if master and master == self.candidate else "former"

    def _hello(self, message: messages.Hello, now: float) -> list[Effect]:
        self._adopt_timeout = message.adopt_timeout
        if message.more:
            self._enter("reading", now + self._hello_timeout)
        else:
            self._enter("preparing", now + message.prepare_timeout)
        crash = self.cause == "crash"
        reason = self.ladder.last if crash else ""
        return [SendPrepare(self.candidate, self.cause, reason, self.ladder.young, crash and self.stopping)]

    def _hello_again(self, message: messages.Hello, now: float) -> list[Effect]:
        """It has read its configuration, and knows better how long it may take."""
        self._adopt_timeout = message.adopt_timeout
        self._enter("preparing", now + message.prepare_timeout)
        return []

    def _prepared(self, _: messages.Prepared, now: float) -> list[Effect]:
        if not self.serving:
            return self._adopt(now, snapshot=False)
        self.frozen = True
        self._enter("freezing", now + self._adopt_timeout)
        return [Send(self.serving, messages.Freeze())]

    def _frozen(self, _: messages.Frozen, now: float) -> list[Effect]:
        return self._adopt(now, snapshot=True)

    def _adopt(self, now: float, *, snapshot: bool) -> list[Effect]:
        self._enter("adopting", now + self._adopt_timeout)
        return [SendAdopt(self.candidate, snapshot)]

    def _adopted(self, message: messages.Adopted, now: float) -> list[Effect]:
        """The point of no return: from here the old master must not speak again, whatever becomes of the new one."""
        old, self.serving, self.candidate = self.serving, self.candidate, 0
        self.served_since = now
        self.has_served = True
        self.frozen = False
        self._enter("idle", None)
        effects: list[Effect] = [Promote(self.serving)]
        if old:
            effects.append(Send(old, messages.Retired()))
            self.leaving[old] = now + self.limits.leave
        effects.append(Serves(message.generation, message.status))
        effects.extend(self._tell_held(now))
        if self.cause == "restart":
            effects.append(CheckCode())
        return effects

    def _cannot(self, message: messages.PrepareFailed | messages.Refused, now: float) -> list[Effect]:
        return self._fail(message.reason or "the new master gave no reason", now)

    def _restart(self, message: messages.Restart, now: float) -> list[Effect]:
        effects = self._begin_attempt("restart", now, message.hello_timeout)
        return [Reloading(message.reason or "restarting"), *effects]

    def _restart_again(self, _: messages.Restart, now: float) -> list[Effect]:
        return [Log("RESTART while a restart is under way: its outcome answers both")]

    def _status(self, message: messages.Status, now: float) -> list[Effect]:
        self.stopping = self.stopping or message.stopping
        return []

    def _stopped(self, message: messages.Stopped, now: float) -> list[Effect]:
        return self._end(Stop(message.status, message.reason, orderly=True))

    # --- what happens to them ---------------------------------------------------------------------------------------
    def _begin(self, _: Begin, now: float) -> list[Effect]:
        return self._begin_attempt("start", now, self.limits.hello)

    def _died(self, event: Died, now: float) -> list[Effect]:
        self.leaving.pop(event.master, None)
        role = self.role(event.master)
        if role == "candidate":
            return self._candidate_died(event.how, now)
        if role == "serving":
            return self._serving_died(event.how, now)
        return []

    def _candidate_died(self, how: str, now: float) -> list[Effect]:
        if self.stage != "failing":
            missing = {"started": "HELLO", "reading": "PREPARED", "preparing": "PREPARED"}.get(self.stage, "ADOPTED")
            self.failure = f"the new master {how} before it said {missing}"
        lost, self.candidate = self.candidate, 0
        effects: list[Effect] = [Discard(lost)]
        if self.serving:
            return effects + self._go_on_with_old(now)
        if not self.has_served:
            return effects + self._end(Stop(1, self.failure, failed=True))
        if self._bereft:
            return effects + self._next_rung(now)
        return effects + self._climb(self.failure, 0.0, now)

    def _go_on_with_old(self, now: float) -> list[Effect]:
        self._enter("idle", None)
        # The one answer to RESTART is FREEZE or RESTART_FAILED; whoever was told FREEZE is told THAW.
        answer = messages.Thaw(self.failure) if self.frozen else messages.RestartFailed(self.failure)
        self.frozen = False
        effects: list[Effect] = [Send(self.serving, answer), Log(f"restart failed: {self.failure}")]
        effects.append(Serves(0, "restart failed: " + self.failure.strip().split("\n")[-1]))
        return effects + self._tell_held(now)

    def _serving_died(self, how: str, now: float) -> list[Effect]:
        lost, self.serving = self.serving, 0
        stage, was_frozen, self.frozen = self.stage, self.frozen, False
        self.held[:0] = self.told
        self.told.clear()
        self._insist_ends = None
        effects: list[Effect] = [LoseServing(lost, how)]
        if sum(1 for number in self.held if number in INSISTING) >= 2:
            return effects + self._end(Stop(0, f"the master {how} after a second order to stop", now=True))
        if not self.candidate:
            return effects + self._climb(f"the master {how}", now - self.served_since, now)
        if stage in ("started", "reading", "preparing", "failing"):
            return effects + self._bereave(how, now)
        # The candidate can take over at once: it is used instead of starting another one.
        if not was_frozen:
            self.ladder.fell(f"the master {how}", now - self.served_since)
        if stage in ("freezing", "unfreezing"):
            effects.extend(self._adopt(now, snapshot=False))
        return effects

    def _bereave(self, how: str, now: float) -> list[Effect]:
        """The candidate may be minutes from taking over, if it ever comes so far, and meanwhile nobody would serve: it goes."""
        how = f"the master {how} while a restart was under way"
        self.ladder.fell(how, now - self.served_since)
        self._bereft = True
        effects: list[Effect] = [Log(f"restart failed: {how}")]
        return effects if self.stage == "failing" else effects + self._fail(how, now)

    def _climb(self, how: str, served: float, now: float) -> list[Effect]:
        self.ladder.fell(how, served)
        return self._next_rung(now)

    def _next_rung(self, now: float) -> list[Effect]:
        how = self.ladder.last
        if self.ladder.exhausted:
            return self._end(Stop(70, f"giving up after {self.ladder.young} masters died young; the last: {how}"))
        delay = self.ladder.delay
        effects: list[Effect] = [Log(f"{how}; starting another in {delay:g} s")]
        if delay > 0:
            self._enter("waiting", now + delay)
            return effects
        return effects + self._begin_crash_attempt(now)

    def _begin_crash_attempt(self, now: float) -> list[Effect]:
        effects: list[Effect] = [DropConnections()] if self.ladder.without_connections else []
        return effects + self._begin_attempt("crash", now, self.limits.hello)

    def _begin_attempt(self, cause: str, now: float, hello_timeout: float) -> list[Effect]:
        self._last_master += 1
        self.candidate = self._last_master
        self.cause = cause
        self.failure = ""
        self._bereft = False
        self._hello_timeout = hello_timeout
        self._enter("started", now + hello_timeout)
        return [StartMaster(self.candidate)]

    def _hindered(self, event: Hindered, now: float) -> list[Effect]:
        return self._fail(event.reason, now) if self.candidate and self.stage != "failing" else []

    def _fail(self, reason: str, now: float) -> list[Effect]:
        self.failure = reason
        self._enter("failing", now + self.limits.reap)
        return [Kill(self.candidate)]

    def _hung(self, event: Hung, now: float) -> list[Effect]:
        """An exiting process's channel often ends a moment before it can be reaped, so it gets that moment."""
        self.leaving.setdefault(event.master, now + self.limits.closing)
        return []

    # --- time -------------------------------------------------------------------------------------------------------
    def _expired(self, _: Expired, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for master in [number for number, time in self.leaving.items() if time <= now]:
            del self.leaving[master]
            effects.append(Kill(master))
        if self._insist_ends is not None and self._insist_ends <= now:
            return effects + self._end(Stop(0, "the master did not stop in time after a second order to stop", now=True))
        if self._stage_ends is not None and self._stage_ends <= now:
            effects.extend(self._stage_expired(now))
        return effects

    def _stage_expired(self, now: float) -> list[Effect]:
        if self.stage == "waiting":
            return self._begin_crash_attempt(now)
        if self.stage == "freezing":
            self._enter("unfreezing", now + self.limits.reap)
            return [Log(f"the old master did not freeze within {self._adopt_timeout:g} s; killing it"), Kill(self.serving)]
        if self.stage == "unfreezing":
            return [Bury(self.serving)]
        if self.stage == "failing":
            return [Bury(self.candidate)]
        missing, seconds = {
            "started": ("HELLO", "the hello timeout"),
            "reading": ("that it has read its configuration", "the hello timeout"),
            "preparing": ("PREPARED", "its prepare timeout"),
            "adopting": ("ADOPTED", f"{self._adopt_timeout:g} s"),
        }[self.stage]
        return self._fail(f"the new master did not say {missing} within {seconds}", now)

    def _enter(self, stage: str, ends: float | None) -> None:
        self.stage = stage
        self._stage_ends = ends

    # --- signals ----------------------------------------------------------------------------------------------------
    def _signal(self, event: Signal, now: float) -> list[Effect]:
        number = event.number
        if not self.has_served and number in STOP_SIGNALS:
            return self._end(Stop(0, f"stopped by {signal_name(number)} before it was ready", now=True, failed=True))
        if number in INSISTING:
            earlier = sum(1 for one in self.told + self.held if one in INSISTING)
            if earlier >= (2 if self.serving else 1):
                return self._end(Stop(0, f"stopped at once by a repeated {signal_name(number)}", now=True))
        self.held.append(number)
        return self._tell_held(now)

    def _tell_held(self, now: float) -> list[Effect]:
        if not self.serving or self.frozen:
            return []
        effects: list[Effect] = [Send(self.serving, messages.Signalled(number)) for number in self.held]
        self.told.extend(number for number in self.held if number in STOP_SIGNALS)
        self.held.clear()
        if self._insist_ends is None and sum(1 for number in self.told if number in INSISTING) >= 2:
            self._insist_ends = now + self.limits.insist
        return effects

    def _end(self, stop: Stop) -> list[Effect]:
        self._enter("ended", None)
        self._insist_ends = None
        self.leaving.clear()
        return [stop]

    # --- what a keeper that replaces itself carries over ------------------------------------------------------------
    @property
    def quiet(self) -> bool:
        """Nothing is under way, so that the keeper may replace itself."""
        return self.stage == "idle" and self.serving != 0 and not self.leaving and self._insist_ends is None

    def dump(self) -> dict[str, Any]:
        """Plain data from which ``load`` makes the same choreography; only while ``quiet``."""
        return {
            "serving": self.serving,
            "served_since": self.served_since,
            "last_master": self._last_master,
            "held": self.held,
            "told": self.told,
            "ladder": self.ladder.dump(),
            "stopping": self.stopping,
        }

    @classmethod
    def load(cls, state: dict[str, Any], limits: Limits | None = None) -> Choreography:
        """The choreography that ``dump`` described; unknown keys are ignored, missing ones take their default."""
        self = cls(limits)
        self.serving = int(state.get("serving", 0))
        self.served_since = float(state.get("served_since", 0.0))
        self._last_master = int(state.get("last_master", self.serving))
        self.held = [int(number) for number in state.get("held", ())]
        self.told = [int(number) for number in state.get("told", ())]
        self.ladder = Ladder.load(state.get("ladder", {}))
        self.stopping = bool(state.get("stopping", False))
        self.has_served = True
        return self


_EVENTS: dict[type[Any], Any] = {
    Begin: Choreography._begin,
    Died: Choreography._died,
    Hung: Choreography._hung,
    Hindered: Choreography._hindered,
    Expired: Choreography._expired,
    Signal: Choreography._signal,
}

_WORDS: dict[tuple[str, str, type[Any]], Any] = {
    ("candidate", "started", messages.Hello): Choreography._hello,
    ("candidate", "started", messages.PrepareFailed): Choreography._cannot,
    ("candidate", "reading", messages.Hello): Choreography._hello_again,
    ("candidate", "reading", messages.PrepareFailed): Choreography._cannot,
    ("candidate", "preparing", messages.Hello): Choreography._hello_again,
    ("candidate", "preparing", messages.Prepared): Choreography._prepared,
    ("candidate", "preparing", messages.PrepareFailed): Choreography._cannot,
    # Something of what it had prepared was lost while the old master froze.
    ("candidate", "freezing", messages.PrepareFailed): Choreography._cannot,
    ("candidate", "unfreezing", messages.PrepareFailed): Choreography._cannot,
    ("candidate", "adopting", messages.PrepareFailed): Choreography._cannot,
    ("candidate", "adopting", messages.Adopted): Choreography._adopted,
    # Killed too late: it had begun to serve, so this is the crash of a serving master and no roll-back.
    ("candidate", "failing", messages.Adopted): Choreography._adopted,
    ("candidate", "adopting", messages.Refused): Choreography._cannot,
    ("serving", "idle", messages.Restart): Choreography._restart,
    ("serving", "*", messages.Restart): Choreography._restart_again,
    ("serving", "freezing", messages.Frozen): Choreography._frozen,
    ("serving", "unfreezing", messages.Frozen): Choreography._frozen,
    ("serving", "*", messages.Status): Choreography._status,
    ("serving", "*", messages.Stopped): Choreography._stopped,
}
"""(role, stage, message) -> what follows; a triple that is not here is logged and changes nothing."""
