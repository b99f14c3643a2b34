"""Who serves, who prepares, and what happens next: the keeper's decisions, without the system.

What must live here: the ways in. What masters say is in ``words``, what happens to them in ``happenings``, the stages, and the
acts that both are made of, in ``stages``.
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

from rocksyd.keeper.effects import Effect, Log
from rocksyd.keeper.events import Said
from rocksyd.keeper.happenings import EVENTS
from rocksyd.keeper.ladder import Ladder
from rocksyd.keeper.stages import Limits, Stages
from rocksyd.keeper.words import WORDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Choreography(Stages):
    """``step(event, now)`` returns the effects; ``deadline`` says when to send Expired (None: nothing is due)."""

    def step(self, event: Any, now: float) -> list[Effect]:
        """Take one event; return what is to be done. After ``stage`` is ``ended`` nothing is done any more."""
        if self.stage == "ended":
            return []
        if isinstance(event, Said):
            return self._said(event, now)
        handler = EVENTS[type(event)]
        effects: list[Effect] = handler(self, event, now)
        return effects

    def _said(self, event: Said, now: float) -> list[Effect]:
        role = self.role(event.master)
        handler = WORDS.get((role, self.stage, type(event.message))) or WORDS.get((role, "*", type(event.message)))
        if handler is None:
            if role in ("serving", "candidate"):
                word = type(event.message).__name__.upper()
                return [Log(f"the {role} master said {word}, which means nothing while {self.stage}; ignored")]
            return []
        effects: list[Effect] = handler(self, event.message, now)
        return effects

    @property
    def quiet(self) -> bool:
        """Nothing is under way, so that the keeper may replace itself."""
        return self.stage == "idle" and self.serving != 0 and not self.leaving and self.insist_ends is None

    def dump(self) -> dict[str, Any]:
        """Plain data from which ``load`` makes the same choreography; only while ``quiet``."""
        return {
            "serving": self.serving,
            "served_since": self.served_since,
            "last_master": self.last_master,
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
        self.last_master = int(state.get("last_master", self.serving))
        self.held = [int(number) for number in state.get("held", ())]
        self.told = [int(number) for number in state.get("told", ())]
        self.ladder = Ladder.load(state.get("ladder", {}))
        self.stopping = bool(state.get("stopping", False))
        self.has_served = True
        return self
