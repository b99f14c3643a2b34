"""Orders to restart and to reload: one at a time, the rest coalesced into one more, everyone answered.

What must live here: who ordered what, what is under way, the audit record of how it went.
What this file must not know: how a new master or a new generation comes about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

RESTART, RELOAD = "restart", "reload"


@dataclass(slots=True)
class Requester:
    """Who ordered: a client in the classic dialect (its slot is held), one in JSON-RPC, or a signal (client 0)."""

    client: int = 0
    classic: bool = False
    id: Any = None
    batch: int = 0
    notify: bool = False


@dataclass(slots=True)
class Order:
    """One restart or reload and all who are to hear of it."""

    kind: str
    reason: str
    requesters: list[Requester] = field(default_factory=list)
    at: float = 0.0
    """Unix seconds."""
    began: float = 0.0
    """CLOCK_MONOTONIC seconds."""
    revision: str = ""
    """Of the code that served when it began."""


class Orders:
    """What is under way, and what comes after it."""

    def __init__(self, begin: Callable[[Order], None], answer: Callable[[Order, str], None]) -> None:
        self._begin = begin
        self._answer = answer
        self.current: Order | None = None
        self.next: Order | None = None

    def add(self, kind: str, reason: str, requester: Requester, now: tuple[float, float]) -> None:
        """Take an order. While one is under way, all that come become one more: the code may have changed since."""
        if self.current is None:
            self._start(Order(kind, reason, [requester]), now)
        elif self.next is None:
            self.next = Order(kind, reason, [requester])
        else:
            self.next.requesters.append(requester)
            if kind == RESTART:
                self.next.kind = RESTART

    def _start(self, order: Order, now: tuple[float, float]) -> None:
        order.began, order.at = now
        self.current = order
        self._begin(order)

    def done(self, failure: str, now: tuple[float, float]) -> Order | None:
        """What was under way has come about (``failure`` is "") or not: answer, and begin what has been ordered since."""
        order, self.current = self.current, None
        if order is not None:
            self._answer(order, failure)
        following, self.next = self.next, None
        if following is not None:
            self._start(following, now)
        return order

    def forget_client(self, client: int) -> None:
        """A client has gone; what it ordered goes on."""
        for order in (self.current, self.next):
            if order is not None:
                order.requesters = [r for r in order.requesters if r.client != client]

    def dump(self) -> dict[str, Any]:
        """Plain data for a snapshot."""
        return {name: asdict(order) if order else None for name, order in (("current", self.current), ("next", self.next))}

    def load(self, data: dict[str, Any]) -> None:
        """Take over what ``dump`` wrote."""
        self.current, self.next = _order(data.get("current")), _order(data.get("next"))


def _order(data: dict[str, Any] | None) -> Order | None:
    if not data:
        return None
    requesters = [
        Requester(**{name: value for name, value in fields.items() if name in Requester.__dataclass_fields__})
        for fields in data.get("requesters", ())
    ]
    return Order(
        data["kind"], data.get("reason", ""), requesters, data.get("at", 0.0), data.get("began", 0.0), data.get("revision", "")
    )
