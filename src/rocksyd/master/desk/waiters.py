"""Callers that are answered later: by the end of a run, by its output, by the news, by the daemon having nothing left to do.

What must live here: who waits for what, until when.
What this file must not know: how a reply reaches a client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from heapq import heappop, heappush
from typing import Any

from rocksyd.model import OK, Run

TOLD_AT_ONCE, DROPPED_AT_ONCE = 15, 200
"""Callers that are answered in a turn of those whose time is over, and of those that wait for the same run; and callers that are
forgotten in a turn."""


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
    missed: int | None = None
    """The revision up to which it has been told what changed while it was not there; None when it has been told all of that."""
    ended: int = 0
    """Of what has ended it is told only if that has changed after this revision."""

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
        self.ends: dict[str, dict[Waiter, None]] = {}
        self.followers: dict[str, list[Follower]] = {}
        self.subscribers: list[Subscriber] = []
        self.behind: deque[Subscriber] = deque()
        """Those of them that are still being told what they have missed."""
        self.drains: list[Caller] = []
        self.listening: dict[int, int] = {}
        """Client -> how many runs it follows and how often it subscribed: while it has any, more is to come for it."""
        self._of: dict[int, dict[Waiter, None]] = {}
        """Client -> what it waits for: when it goes nobody looks at all that others wait for."""
        self.gone: deque[Waiter] = deque()
        """Those of clients that have gone: they are dropped a few at a time."""
        self._deadlines: list[tuple[float, int, Waiter]] = []
        self._count = 0

    def wait(self, waiter: Waiter) -> None:
        """Wait for the end of a run."""
        self.ends.setdefault(waiter.key, {})[waiter] = None
        self._of.setdefault(waiter.caller.client, {})[waiter] = None
        if waiter.deadline:
            self._count += 1
            heappush(self._deadlines, (waiter.deadline, self._count, waiter))

    def ended(self, key: str) -> list[Waiter]:
        """The run has ended: who waited for it. Each is ``over`` when it is told so."""
        return list(self.ends.pop(key, ()))

    def over(self, waiter: Waiter) -> None:
        """It waits no longer."""
        waiter.done = True
        mine = self._of.get(waiter.caller.client, {})
        mine.pop(waiter, None)
        if not mine:
            self._of.pop(waiter.caller.client, None)

    def answered(self, key: str) -> list[Waiter]:
        """The run has its result and goes on: who called it. Who waits for its end waits on."""
        callers = [waiter for waiter in self.ends.get(key, ()) if waiter.call]
        for waiter in callers:
            self._leave(waiter)
        return callers

    def awaited(self) -> Iterator[tuple[int, list[str]]]:
        """Clients that wait for the ends of runs, with their keys."""
        return ((client, [waiter.key for waiter in mine]) for client, mine in self._of.items())

    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which the next one has waited long enough."""
        while self._deadlines and self._deadlines[0][2].done:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def overdue(self, now: float) -> list[Waiter]:
        """Those that have waited long enough, TOLD_AT_ONCE of them at most."""
        found: list[Waiter] = []
        while len(found) < TOLD_AT_ONCE and (due := self.next_deadline()) is not None and due <= now:
            waiter = heappop(self._deadlines)[2]
            self._leave(waiter)
            found.append(waiter)
        return found

    def tidy(self) -> None:
        """Drop some of those whose clients have gone."""
        for _ in range(min(DROPPED_AT_ONCE, len(self.gone))):
            waiter = self.gone.popleft()
            if not waiter.done:
                self._leave(waiter)

    def _leave(self, waiter: Waiter) -> None:
        self.over(waiter)
        others = self.ends.get(waiter.key, {})
        others.pop(waiter, None)
        if not others:
            self.ends.pop(waiter.key, None)

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

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell it the news, and first what it has missed."""
        self.subscribers.append(subscriber)
        self._listens(subscriber.client)

    def fall_behind(self, subscriber: Subscriber, missed: int, ended: int) -> None:
        """It hears first, or again, what it has missed; the revisions are those of ``Subscriber``."""
        subscriber.missed, subscriber.ended = missed, ended
        self.behind.append(subscriber)

    def _listens(self, client: int) -> None:
        self.listening[client] = self.listening.get(client, 0) + 1

    def forget_client(self, client: int) -> None:
        """A client has gone."""
        self.gone.extend(self._of.pop(client, ()))
        for key, followers in list(self.followers.items()):
            followers[:] = [f for f in followers if f.client != client]
            if not followers:
                del self.followers[key]
        self.subscribers = [s for s in self.subscribers if s.client != client]
        self.behind = deque(s for s in self.behind if s.client != client)
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
            subscriber = Subscriber(**_known(Subscriber, fields))
            self.subscribe(subscriber)
            if subscriber.missed is not None:
                self.behind.append(subscriber)
        self.drains = [Caller(**_known(Caller, fields)) for fields in data.get("drains", ())]


def _known(cls: Any, fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in cls.__dataclass_fields__}
