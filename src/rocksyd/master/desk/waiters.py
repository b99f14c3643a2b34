"""Callers that are answered later: by the end of a run, by its output, by the news, by the daemon having nothing left to do.

What must live here: who waits for what, until when.
What this file must not know: how a reply reaches a client.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from heapq import heappop, heappush
from typing import Any

from rocksyd.model import OK, Run


@dataclass(slots=True)
class Caller:
    """Where a reply goes: a client, the id of its request, the batch that the request was part of (0 for none)."""

    client: int
    id: Any = None
    batch: int = 0
    notify: bool = False


@dataclass(slots=True, eq=False)
class Waiter:
    """A caller that waits for the end of a run."""

    caller: Caller
    key: str
    call: bool = False
    """Whether it wants the job's result (``call``) and not the record (``wait``)."""
    deadline: float = 0.0
    done: bool = False


@dataclass(slots=True)
class Subscriber:
    """A client that is told what happens."""

    client: int
    id: Any
    app: str | None = None
    target: str | None = None
    keys: list[str] | None = None
    events: list[str] | None = None
    labels: dict[str, str] | None = None
    failed: bool | None = None
    scripts: bool | None = None

    def wants(self, event: str, run: Run | None) -> bool:
        """Whether this news is for it."""
        if self.events is not None and event not in self.events:
            return False
        if run is None:
            return True
        if (self.failed and run.attempt.outcome in ("", OK)) or (self.scripts and run.order.tick is None):
            return False
        wanted = (self.app in (None, run.order.app), self.target in (None, run.order.name, run.order.target))
        labelled = all(run.order.labels.get(name) == value for name, value in (self.labels or {}).items())
        return all(wanted) and labelled and (self.keys is None or run.key in self.keys)


@dataclass(slots=True)
class Follower:
    """A client that reads the output of a run as it is written."""

    client: int
    id: Any
    key: str
    offset: int


class Waiters:
    """All of them."""

    def __init__(self) -> None:
        self.ends: dict[str, list[Waiter]] = {}
        self.followers: dict[str, list[Follower]] = {}
        self.subscribers: list[Subscriber] = []
        self.missed: list[tuple[Subscriber, int, list[Run]]] = []
        """Subscribers that go on where a lost connection ended, and the runs that have changed since: told at the turn's end."""
        self.drains: list[Caller] = []
        self.listening: dict[int, int] = {}
        """Client -> how many runs it follows and how often it subscribed: while it has any, more is to come for it."""
        self._deadlines: list[tuple[float, int, Waiter]] = []
        self._count = 0

    def wait(self, waiter: Waiter) -> None:
        """Wait for the end of a run."""
        self.ends.setdefault(waiter.key, []).append(waiter)
        if waiter.deadline:
            self._count += 1
            heappush(self._deadlines, (waiter.deadline, self._count, waiter))

    def ended(self, key: str) -> list[Waiter]:
        """The run has ended: who waited for it."""
        waiters = self.ends.pop(key, [])
        for waiter in waiters:
            waiter.done = True
        return waiters

    def answered(self, key: str) -> list[Waiter]:
        """The run has its result and goes on: who called it. Who waits for its end waits on."""
        waiters = self.ends.get(key, [])
        callers = [waiter for waiter in waiters if waiter.call]
        waiters[:] = [waiter for waiter in waiters if not waiter.call]
        for waiter in callers:
            waiter.done = True
        if not waiters:
            self.ends.pop(key, None)
        return callers

    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which the next one has waited long enough."""
        while self._deadlines and self._deadlines[0][2].done:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def overdue(self, now: float) -> list[Waiter]:
        """Those that have waited long enough."""
        found = []
        while (due := self.next_deadline()) is not None and due <= now:
            waiter = heappop(self._deadlines)[2]
            waiter.done = True
            self.ends[waiter.key].remove(waiter)
            if not self.ends[waiter.key]:
                del self.ends[waiter.key]
            found.append(waiter)
        return found

    def follow(self, follower: Follower) -> None:
        """Follow a run's output."""
        self.followers.setdefault(follower.key, []).append(follower)
        self._listens(follower.client)

    def followed(self, key: str) -> None:
        """Its followers have had all there is."""
        for follower in self.followers.pop(key, ()):
            self.listening[follower.client] -= 1
            if not self.listening[follower.client]:
                del self.listening[follower.client]

    def subscribe(self, subscriber: Subscriber, position: int = 0, missed: list[Run] | None = None) -> None:
        """Tell it the news, and first what it has missed since ``position``."""
        self.subscribers.append(subscriber)
        if missed:
            self.missed.append((subscriber, position, missed))
        self._listens(subscriber.client)

    def _listens(self, client: int) -> None:
        self.listening[client] = self.listening.get(client, 0) + 1

    def forget_client(self, client: int) -> None:
        """A client has gone."""
        for key, waiters in list(self.ends.items()):
            for waiter in waiters:
                waiter.done = waiter.caller.client == client
            waiters[:] = [waiter for waiter in waiters if not waiter.done]
            if not waiters:
                del self.ends[key]
        for key, followers in list(self.followers.items()):
            followers[:] = [f for f in followers if f.client != client]
            if not followers:
                del self.followers[key]
        self.subscribers = [s for s in self.subscribers if s.client != client]
        self.drains = [caller for caller in self.drains if caller.client != client]
        self.listening.pop(client, None)

    @property
    def any(self) -> bool:
        """Whether anybody waits: most clients that go never did, and there may be thousands of them."""
        return bool(self.ends or self.followers or self.subscribers or self.drains)

    # --- hand-over ----------------------------------------------------------------------------------------------------
    def dump(self) -> dict[str, Any]:
        """Plain data for a snapshot."""
        return {
            "ends": [asdict(waiter) for waiters in self.ends.values() for waiter in waiters],
            "followers": [asdict(follower) for followers in self.followers.values() for follower in followers],
            "subscribers": [asdict(subscriber) for subscriber in self.subscribers],
            "drains": [asdict(caller) for caller in self.drains],
        }

    def load(self, data: dict[str, Any]) -> None:
        """Take over what ``dump`` wrote."""
        for fields in data.get("ends", ()):
            self.wait(Waiter(**{**_known(Waiter, fields), "caller": Caller(**_known(Caller, fields["caller"]))}))
        for fields in data.get("followers", ()):
            self.follow(Follower(**_known(Follower, fields)))
        for fields in data.get("subscribers", ()):
            self.subscribe(Subscriber(**_known(Subscriber, fields)))
        self.drains = [Caller(**_known(Caller, fields)) for fields in data.get("drains", ())]


def _known(cls: Any, fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in cls.__dataclass_fields__}
