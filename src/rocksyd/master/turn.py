"""The turn: events -> decisions -> journal -> effects, in this order.

What must live here: the order within a turn, and whom it calls. Modules register themselves: ``performs`` for what an effect
means to them, ``due`` for what happens by time, ``begins``, ``says``, ``settles`` and ``ends`` for the steps of a turn's end.
What this file must not know: clients, workers, sockets, SQL; what any effect means.

The order is the promise: nothing is said to a client or a worker before the journal holds why.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rocksyd import codes, ticks
from rocksyd.core import events as ev
from rocksyd.core import unperformed
from rocksyd.core.engine import Engine
from rocksyd.errors import JournalError, RequestError
from rocksyd.master.barrier import Barrier
from rocksyd.master.records.writing import Writing
from rocksyd.model import ENDED, Now, Run
from rocksyd.options import KEYS
from rocksyd.posix.processes import available_memory

_BEHIND = frozenset(
    {
        ev.AckResult, ev.ForkWorker, ev.DrainWorker, ev.RetireZygote, ev.MeasurePool, ev.PromoteWorker, ev.RetireTemplate,
    }
)  # fmt: skip
"""Effects that no client waits for; their order among themselves is kept."""
_AT_ONCE = frozenset({ev.StartJob, ev.Slow})
"""Effects that wait until the journal has them, but not until its disk has: a machine without power forgets them, too."""

Step = Callable[[], None]
LOOK = 0.1
"""Seconds between two looks at the machine's memory."""
SHARE = 0.01
"""Seconds of a turn for one client's requests, and for all that is made piece by piece (``desk.pieces``)."""


class Moments:
    """What is done by time, without an event: pairs of when (CLOCK_MONOTONIC seconds) and what."""

    def __init__(self) -> None:
        self.due: list[tuple[Callable[[], float | None], Callable[[float], object]]] = []
        self._next: float | None = 0.0

    def next(self) -> float | None:
        """CLOCK_MONOTONIC seconds of the next thing that is due without an event; None for never."""
        first = None
        for next_moment, _ in self.due:
            moment = next_moment()
            if moment is not None and (first is None or moment < first):
                first = moment
                if moment <= 0.0:
                    break
        self._next = first
        return first

    def pass_by(self, now: float) -> None:
        """Do what was due when ``next`` looked. What has become due since is seen when it looks again."""
        if self._next is None or self._next > now:
            return
        for next_moment, act in self.due:
            moment = next_moment()
            if moment is not None and moment <= now:
                act(now)


class FreeMemory:
    """How much memory the machine has left; looked at ten times a second at most."""

    def __init__(self) -> None:
        self._at, self._free = 0.0, -1

    def look(self) -> int:
        """In bytes; -1 where the system does not say."""
        now = time.monotonic()
        if now >= self._at + LOOK:
            self._at, self._free = now, available_memory()
        return self._free


class Turn:
    """The engine, what of its decisions is on its way to the journal, and the effects that wait until it is there."""

    def __init__(self, engine: Engine, writing: Writing, barrier: Barrier) -> None:
        self.engine = engine
        self.writing = writing
        self.barrier = barrier
        self.now = Now(time.monotonic(), time.time())
        self.told = 0
        """The engine's revision up to which everything has been said and done."""
        self.freezing = False
        """Whether a hand-over waits for all to be written."""
        self._memory = FreeMemory()
        self._effects: list[Any] = []
        self._tickets: dict[int, Callable[[ev.Answer], None]] = {}
        self._ticket = 0
        self._performers: dict[type[Any], list[Callable[[Any], None]]] = {}
        self.moments = Moments()
        self._begins: list[Step] = []
        self._says: list[Step] = []
        self._settles: list[Step] = []
        self._ends: list[Step] = []
        self._late = False
        """Whether something was decided at the very end of the last turn, which the next one has to write down and do."""
        self.performs(ev.Answer, self._answer)
        self.due(engine.next_deadline, self._tick)
        self.due(writing.next_deadline, lambda now: None)  # being awake is enough: each turn's end writes what is due
        self.due(lambda: 0.0 if self._late else None, lambda now: None)

    # --- who takes part -----------------------------------------------------------------------------------------------
    def performs(self, effect: type[Any], perform: Callable[[Any], None]) -> None:
        """Have ``perform`` carry out effects of this type, after those that registered for it before."""
        self._performers.setdefault(effect, []).append(perform)

    def due(self, next_moment: Callable[[], float | None], act: Callable[[float], object]) -> None:
        """Have ``act(now)`` called when ``next_moment()`` has come.

        Both in CLOCK_MONOTONIC seconds; a moment of None is never, one of 0 is at once.
        """
        self.moments.due.append((next_moment, act))

    def begins(self, step: Step) -> None:
        """Have this called when a turn is about to be written down."""
        self._begins.append(step)

    def says(self, step: Step) -> None:
        """Have this called when everything that clients wait for has been carried out, and before what nobody waits for is."""
        self._says.append(step)

    def settles(self, step: Step) -> None:
        """Have this called at the end of a turn when the journal holds all its decisions."""
        self._settles.append(step)

    def ends(self, step: Step) -> None:
        """Have this called at the end of each turn."""
        self._ends.append(step)

    # --- time ---------------------------------------------------------------------------------------------------------
    def look_at_the_clock(self) -> None:
        """What is decided from now on is decided at this moment."""
        self.now = Now(time.monotonic(), time.time(), self._memory.look() if self.engine.config.keep_free else -1)

    def _tick(self, now: float) -> None:
        try:
            self.step(ev.Tick())
        except Exception as error:  # noqa: BLE001  (the moment that raised it is over, those of other runs are still to come)
            self.barrier.note("run", "a moment that was due for a run", error)

    # --- decisions ----------------------------------------------------------------------------------------------------
    def step(self, event: Any) -> None:
        """Let the engine decide, and keep what is to be done until the journal holds it.

        What it had decided before it raised stands: memory and journal must not say different things.
        """
        try:
            effects = self.engine.step(event, self.now)
        except Exception:
            self.take(self.engine.effects)
            raise
        self.take(effects)

    def take(self, effects: list[Any]) -> None:
        """Keep effects for the end of the turn."""
        for effect in effects:
            kind = type(effect)
            if kind is ev.Persist:
                if effect.run.order.unnamed:
                    all_ends = self.engine.config.journal.calls != "failed"
                    self.writing.put_behind(effect.run, self.now.mono, all_ends=all_ends)
                else:
                    self.writing.put(effect.run)
            elif kind is ev.Erase:
                self.writing.erase(effect.run)
            elif kind is ev.PersistRow:
                self.writing.put_row(effect.table, effect.key, effect.row)
            else:
                self._effects.append(effect)

    def pending(self, kind: type[Any]) -> list[Any]:
        """The effects of this type that wait for the end of the turn."""
        return [effect for effect in self._effects if type(effect) is kind]

    def order(self, event: Any, callback: Callable[[ev.Answer], None]) -> None:
        """Give the engine a caller's order; ``callback`` gets the answer at the end of the turn."""
        if self.writing.trouble and isinstance(event, ev.Submit | ev.Retry | ev.Edit):
            error = RequestError(codes.NOT_NOW, "the journal cannot be written", classic="Too busy", data=self.writing.trouble)
            callback(ev.Answer(0, error=error))
            return
        if isinstance(event, ev.Submit):
            for name, known in _KNOWN.items():
                if event.options.get(name):
                    try:
                        event = known(event, self)
                    except (ValueError, JournalError) as error:
                        code = codes.INVALID_PARAMS if isinstance(error, ValueError) else codes.NOT_NOW
                        callback(ev.Answer(0, error=RequestError(code, f"{name}: {error}", classic="Invalid params")))
                        return
        sequence = self.engine.sequence
        self.engine.ticket = self._ticket = self._ticket + 1
        self._tickets[self._ticket] = callback
        try:
            self.step(event)
        except Exception as error:
            self._tickets.pop(self._ticket, None)
            run = self.engine.runs.get(event.key) if isinstance(event, ev.Submit | ev.Retry) else None
            if run is not None and run.sequence > sequence:
                self.step(ev.RunBroken(event.key, f"a fault of rocksyd ({type(error).__name__}) met while it was ordered"))
            raise
        finally:
            self.engine.ticket = 0

    def _answer(self, effect: ev.Answer) -> None:
        callback = self._tickets.pop(effect.ticket, None)
        if callback is not None:
            callback(effect)

    def lookup(self, key: str) -> Run | None:
        """The run under this key, from memory or the journal; afterwards the engine knows it as well."""
        run = self.engine.find(key)
        if run is None:
            run = self.writing.find(key)
            if run is not None:
                self.engine.admit(run)
        return run

    # --- the end of a turn --------------------------------------------------------------------------------------------
    def finish(self) -> None:
        """Write down what this turn decided, then do it; doing it may decide more (a worker whose zygote is gone)."""
        for step in self._begins:
            step()
        behind = self._act()
        while behind:
            self._carry_out(behind)
            behind = self._act()
        if not self.writing.waiting:
            for step in self._settles:
                step()
        self.writing.write_behind(self.now.mono, everything=self.freezing or self.engine.stopping)
        done = not self._effects and not self.writing.waiting
        for step in self._ends:
            step()
        self._late = done and bool(self._effects or self.writing.waiting)

    def _act(self) -> list[Any]:
        """Do what clients wait for, up to sending it; returns what is left for behind that, because it costs others' time.

        A job is given to its worker once the journal has it, and the wait for the disk passes while it begins: if the machine
        loses its power in between, the job is gone with it, and nobody has been told that it was accepted.
        """
        behind: list[Any] = []
        while self.writing.write(self.now.mono) and (self._effects or self.writing.waiting):
            written = self.engine.rev
            effects, self._effects = self._effects, []
            self._carry_out([effect for effect in effects if type(effect) in _AT_ONCE])
            effects = [effect for effect in effects if type(effect) not in _AT_ONCE]
            if not self.writing.sync(self.now.mono):
                self._effects = effects + self._effects
                break
            behind += [effect for effect in effects if type(effect) in _BEHIND]
            self._carry_out([effect for effect in effects if type(effect) not in _BEHIND])
            self.told = written
        for step in self._says:
            step()
        return behind

    def _carry_out(self, effects: list[Any]) -> None:
        for effect in effects:
            for perform in self._performers[type(effect)]:
                try:
                    perform(effect)
                except Exception as error:  # noqa: BLE001  (the barrier: see docs/design/barrier.md)
                    self._not_performed(effect, error)

    def _not_performed(self, effect: Any, error: Exception) -> None:
        """An effect could not be carried out, or not wholly: whatever it was for ends."""
        worker = getattr(effect, "worker", 0)
        kind = "worker" if worker else "run" if hasattr(effect, "run") else "effect"
        reason = self.barrier.note(kind, f"{type(effect).__name__} of {kind} {worker or getattr(effect, 'run', effect)}", error)
        if type(effect) is ev.KillWorker:
            raise error  # there is nothing else by which to end it
        for event in unperformed.instead(effect, reason):
            self.step(event)

    def commit(self) -> bool:
        """Write this turn down; false while the journal cannot be written, and then nothing of it is said or done yet."""
        return self.writing.write(self.now.mono) and self.writing.sync(self.now.mono)


def left(turn: Turn) -> float:
    """Seconds that this turn still has for what takes long; 0 when the others are to have theirs."""
    return max(0.0, turn.now.mono + SHARE - time.monotonic())


def _with_past(event: ev.Submit, turn: Turn) -> ev.Submit:
    """With what the journal has of the tick that the run is ordered for. Raises ValueError, JournalError."""
    tick = ticks.read(event.options["tick"])
    return event._replace(past=ev.Past(tick, *turn.writing.tick(event.key, tick["script"])))


def _with_ended(event: ev.Submit, turn: Turn) -> ev.Submit:
    """With how those of the runs ended that it is to come after. Raises ValueError, JournalError."""
    runs = ((key, turn.engine.find(key) or turn.writing.find(key)) for key in KEYS.convert(event.options["after"]))
    return event._replace(ended={key: run.attempt.outcome for key, run in runs if run is not None and run.state == ENDED})


_KNOWN = {"tick": _with_past, "after": _with_ended}
"""By option: what the engine has to know of what the journal has."""
