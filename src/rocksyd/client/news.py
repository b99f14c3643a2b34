"""The news of a daemon, without I/O: what a subscriber has heard, so that it loses nothing and hears nothing twice.

What must live here: going on where a lost connection ended, and which news are known already.
What this file must not know: connections.

Every notification carries a position. A daemon that is asked to go on from there says everything again that is younger, and
perhaps a little that was heard: what came with the last two positions is remembered, and what runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rocksyd.client.calls import Call
from rocksyd.client.protocol import Notification, Reply

NAMES = ("run.started", "run.progress", "run.ended", "restarted", "health")


class Event(NamedTuple):
    """Something has happened: ``run.started``, ``run.progress``, ``run.ended`` (with the run's record), ``restarted``; or
    ``health``, which says how the daemon is."""

    name: str
    record: dict[str, Any]

    @property
    def key(self) -> str:
        """The run's; "" for what is about no run."""
        return str(self.record.get("key", ""))


class News:
    """What one subscriber has heard."""

    def __init__(self, filters: dict[str, Any], position: int | None = None) -> None:
        self._filters = {name: value for name, value in filters.items() if value is not None}
        self.position = position
        """Where to go on; None before the first answer."""
        self._generation: int | None = None
        self._heard: set[tuple[str, str, int]] = set()
        self._heard_before: set[tuple[str, str, int]] = set()
        self._running: set[tuple[str, int]] = set()

    def call(self) -> Call:
        """The subscription, as it is to be asked on the next connection."""
        at = {} if self.position is None else {"position": self.position}
        return Call("subscribe", {**self._filters, **at})

    def subscribed(self, reply: Reply) -> list[Event]:
        """The daemon has taken the subscription; a restart that happened while nobody listened is told now."""
        result = reply.result if isinstance(reply.result, dict) else {}
        if self.position is None:
            self.position = int(result.get("position", 0))
        before, self._generation = self._generation, int(result.get("generation", 0))
        wanted = "restarted" in self._filters.get("events", NAMES)
        if before is None or before >= self._generation or not wanted:
            return []
        return [Event("restarted", {"generation": self._generation})]

    def heard(self, notification: Notification) -> list[Event]:
        """What of it is new."""
        name, params = notification.method, dict(notification.params)
        if name not in NAMES:
            return []
        if name == "health":
            return [Event(name, params)]
        self._go_on(int(params.pop("position", 0)))
        if name == "restarted":
            known = int(params.get("generation", 0))
            new = self._generation is None or known > self._generation
            self._generation = max(known, self._generation or 0)
            return [Event(name, params)] if new else []
        if name == "run.progress":
            return [Event(name, params)]
        return [Event(name, params)] if self._is_new(name, str(params.get("key")), int(params.get("attempt", 1))) else []

    def _go_on(self, position: int) -> None:
        if self.position is None or position > self.position:
            self.position = position
            self._heard_before, self._heard = self._heard, set()

    def _is_new(self, name: str, key: str, attempt: int) -> bool:
        what, run = (name, key, attempt), (key, attempt)
        known = self._heard | self._heard_before
        if what in known or (name == "run.started" and (run in self._running or ("run.ended", key, attempt) in known)):
            return False
        self._heard.add(what)
        if name == "run.started":
            self._running.add(run)
        else:
            self._running.discard(run)
        return True
