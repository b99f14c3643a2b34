"""An alert: something that somebody has to be told of, or that it is over.

What must live here: the kinds there are, and what is known of each alert.
What this file must not know: when there is one (``watch``), who is told (``throttle``), how it is sent.
"""

from __future__ import annotations

from typing import Any, NamedTuple

FAILED, LATE, MISSED, LONG, SHORT = "failed", "late", "missed", "long", "short"
RESTART, CRASH, POOL, COMPANION, HEALTH, TEST = "restart", "crash", "pool", "companion", "health", "test"
KINDS = {
    FAILED: "a run ended in any other way than well (not if somebody cancelled it), so many times in a row as `after` says",
    LATE: "a script's tick has not begun `late_after` its time, or began later than that",
    MISSED: "ticks were not run: nobody was there at their time, the run before went on, or the daemon refused them",
    LONG: "a script's run takes longer than `long_after`, or than usual",
    SHORT: "a script's run ended well within less than `at_least`",
    RESTART: "a restart or reload was refused, and the old code serves on",
    CRASH: "the master died, and was replaced",
    POOL: "a pool is parked: its workers die at their start, and nothing is forked",
    COMPANION: "a companion has died, or cannot do its work",
    HEALTH: "anything else that `rocksyd health` calls a problem, such as a full disk",
}
"""Name -> what it is, for the manual."""


class Alert(NamedTuple):
    """Something that somebody has to be told of."""

    kind: str
    subject: str
    """What it is about: a script, a job, a pool ..."""
    fingerprint: str
    """The same for what is the same thing again."""
    title: str
    text: str = ""
    at: float = 0.0
    """Unix seconds."""
    over: bool = False
    """It is over: what this fingerprint was about is well again."""
    number: int = 1
    """How often it has happened since it was told last, this time included."""
    streak: int = 0
    """``failed``: how many in a row."""
    to: tuple[str, ...] = ()
    """The only receivers it is for; () for all that want it."""
    about: dict[str, Any] = {}
    """What else is known: ``script``, ``key``, ``outcome``, ``params`` ..."""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {**self._asdict(), "to": list(self.to)}

    @classmethod
    def of(cls, said: dict[str, Any]) -> Alert:
        """What ``plain`` made, by this version or another."""
        known = {name: value for name, value in said.items() if name in cls._fields}
        return cls(**{**known, "to": tuple(said.get("to", ()))})
