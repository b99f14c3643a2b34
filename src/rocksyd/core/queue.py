"""Runs that wait for a worker of one pool: by priority, then by order of arrival.

What must live here: who is next, how often each target may run, and how often with the same concurrency key.
What this file must not know: workers, time. (Of a rate it knows how many have begun lately, and is told when that is over.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from heapq import heapify, heappop, heappush
from itertools import count

from rocksyd.model import Order, Run

_Entry = tuple[int, int, str]
_Limits = tuple[int, str, int, tuple[float, ...], tuple[float, ...]]
_COUNTED = 500
"""Entries that are looked at in a piece, where somebody wants to know how many are before a run."""
Subject = tuple[str, str]
"""A target and a concurrency key; "" for all of the target's runs."""


def rates_of(order: Order) -> Iterator[tuple[Subject, tuple[float, ...]]]:
    """What an order's beginning counts for, with the rate that it is limited to: how many, and in how many seconds."""
    if order.rate:
        yield (order.target, ""), order.rate
    if order.rate_per_key:
        yield (order.target, order.concurrency_key), order.rate_per_key


class _Group:
    """What waits under the same limits; all that have no limit are one group."""

    __slots__ = ("entries", "home", "key_limit", "limit", "limits", "offered", "rates", "size", "startable", "subject", "target")

    def __init__(self, home: str, target: str, limits: _Limits) -> None:
        self.home = home
        self.target = target
        self.limits = limits
        self.limit, key, self.key_limit, rate, rate_per_key = limits
        self.subject = target, key
        self.rates = tuple((subject, int(one[0])) for subject, one in (((target, ""), rate), (self.subject, rate_per_key)) if one)
        """What begins at a limited rate, and how many of it may in the period."""
        self.size = 0
        self.startable = 0
        self.offered: _Entry | None = None
        """The head that stands among those to choose from."""
        self.entries: list[_Entry] = []
        """A heap. Runs that were taken out of the middle leave theirs behind until it comes up."""


class Queue:
    """A priority queue from which runs can be taken out of the middle.

    A run whose target already runs ``max_running`` times, or ``max_running_per_key`` times with its concurrency key, is passed
    over until one of those ends, so that it does not hold up the others.
    """

    def __init__(self) -> None:
        self.startable = 0
        """Those that only want for a worker: as many workers could be given something to do now."""
        self.running: Counter[str] = Counter()
        """How often each target runs now."""
        self.running_keys: Counter[tuple[str, str]] = Counter()
        """How often each target runs now with each concurrency key."""
        self.begun: Counter[Subject] = Counter()
        """Of what begins at a limited rate: how many have begun in the period that ends now."""
        self.weight = 0
        """Bytes of JSON that the params of all that wait have."""
        self._weights: dict[str, int] = {}
        self._runs: dict[str, Run] = {}
        self._later: set[str] = set()
        self._groups: dict[str, dict[_Limits, _Group]] = {}
        """Groups that one run's beginning or end concerns are at home together."""
        self._rooms: dict[str, int] = {}
        """How many of those at home together could start."""
        self._heads: list[tuple[_Entry, int, _Group]] = []
        """A heap of the groups' first entries. One that has changed since is passed over when it comes up."""
        self._numbers = count()

    def __len__(self) -> int:
        """All that wait, those for their own moment left out."""
        return len(self._runs)

    @property
    def total(self) -> int:
        """All that wait, also those for their own moment: each of them will have to be kept and run."""
        return len(self._runs) + len(self._later)

    def __contains__(self, key: object) -> bool:
        return key in self._runs

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs.values())

    def expect(self, run: Run) -> None:
        """A run that will come when its delay is over."""
        self._later.add(run.key)
        self._weigh(run.key, run.weight)

    def push(self, run: Run) -> None:
        """Put a run in its place."""
        self._later.discard(run.key)
        self._runs[run.key] = run
        self._weigh(run.key, run.weight)
        group = self._group(run)
        heappush(group.entries, (-run.order.priority, run.sequence, run.key))
        group.size += 1
        self._count(group)
        self._sum(group.home)

    def discard(self, run: Run) -> None:
        """Take a run out, if it is there."""
        self._later.discard(run.key)
        self._weigh(run.key, 0)
        if self._runs.pop(run.key, None) is None:
            return
        group = self._group(run)
        group.size -= 1
        if len(group.entries) > 100 + 2 * group.size:
            group.entries = [entry for entry in group.entries if self._waits(entry)]
            heapify(group.entries)
        self._count(group)
        self._sum(group.home)

    def pop(self) -> Run | None:
        """The next run that may start now, None when there is none. It does not count as running before ``begin``."""
        while self.startable and self._heads:
            entry, _, group = heappop(self._heads)
            if group.offered == entry:
                group.offered = None
            if not group.startable or self._head(group) != entry:
                continue
            heappop(group.entries)
            run = self._runs.pop(entry[2])
            self._weigh(run.key, 0)
            group.size -= 1
            self._count(group)
            self._sum(group.home)
            return run
        return None

    def begin(self, run: Run) -> None:
        """This run runs now."""
        self.running[run.order.target] += 1
        if run.order.concurrency_key:
            self.running_keys[run.order.target, run.order.concurrency_key] += 1
        self._recount(run)

    def count(self, subject: Subject, number: int) -> None:
        """So many more of a target, or of a concurrency key's runs of it, have begun in the period, or fewer."""
        self.begun[subject] += number
        if not self.begun[subject]:
            del self.begun[subject]
        for home in (subject[0], f"{subject[0]}\0{subject[1]}"):
            for group in list(self._groups.get(home, {}).values()):
                self._count(group)
            self._sum(home)

    def end(self, run: Run) -> None:
        """This run does not run any more."""
        self.running[run.order.target] -= 1
        if not self.running[run.order.target]:
            del self.running[run.order.target]
        if run.order.concurrency_key:
            self.running_keys[run.order.target, run.order.concurrency_key] -= 1
            if not self.running_keys[run.order.target, run.order.concurrency_key]:
                del self.running_keys[run.order.target, run.order.concurrency_key]
        self._recount(run)

    def _weigh(self, key: str, weight: int) -> None:
        self.weight += weight - self._weights.pop(key, 0)
        if weight:
            self._weights[key] = weight

    def _head(self, group: _Group) -> _Entry:
        while not self._waits(group.entries[0]):
            heappop(group.entries)
        return group.entries[0]

    def _waits(self, entry: _Entry) -> bool:
        run = self._runs.get(entry[2])
        return run is not None and (-run.order.priority, run.sequence) == entry[:2]

    def _group(self, run: Run) -> _Group:
        order = run.order
        home = order.target if order.max_running or order.rate else _home(run) if order.concurrency_key else ""
        limits = order.max_running, order.concurrency_key, order.max_running_per_key, tuple(order.rate), tuple(order.rate_per_key)
        groups = self._groups.setdefault(home, {})
        if limits not in groups:
            groups[limits] = _Group(home, run.order.target, limits)
        return groups[limits]

    def _recount(self, run: Run) -> None:
        for home in (run.order.target, _home(run)) if run.order.concurrency_key else (run.order.target,):
            for group in list(self._groups.get(home, {}).values()):
                self._count(group)
            self._sum(home)

    def _count(self, group: _Group) -> None:
        """How many of the group could start has perhaps changed, and who is its first."""
        room = group.size
        if group.limit:
            room = min(room, group.limit - self.running.get(group.target, 0))
        if group.subject[1]:
            room = min(room, group.key_limit - self.running_keys.get(group.subject, 0))
        for subject, most in group.rates:
            room = min(room, most - self.begun.get(subject, 0))
        group.startable = max(0, room)
        if group.startable:
            self._offer(group)
        elif not group.size:
            groups = self._groups[group.home]
            del groups[group.limits]
            if not groups:
                del self._groups[group.home]

    def _offer(self, group: _Group) -> None:
        head = self._head(group)
        if head == group.offered:
            return
        group.offered = head
        heappush(self._heads, (head, next(self._numbers), group))
        if len(self._heads) > 100 + 4 * len(self._runs):
            self._heads = [one for one in self._heads if one[2].offered == one[0]]
            heapify(self._heads)

    def _sum(self, home: str) -> None:
        """Those at home together may share a limit: no more of them than that can start."""
        room = 0
        if groups := self._groups.get(home):
            room = sum([group.startable for group in groups.values()])
            if all(limits := [group.limit for group in groups.values()]):
                room = max(0, min(room, max(limits) - self.running.get(home, 0)))
            if all(rates := [group.limits[3] for group in groups.values()]):
                room = max(0, min(room, int(max(rate[0] for rate in rates)) - self.begun.get((home, ""), 0)))
        self.startable += room - self._rooms.pop(home, 0)
        if room:
            self._rooms[home] = room


def ahead_in(queue: Queue, run: Run) -> Generator[None, None, tuple[int, int]]:
    """How many are before it in the line, and how many of these because of their priority; counted piece by piece."""
    count = higher = 0
    place = (-run.order.priority, run.sequence)
    groups = [group for at_home in queue._groups.values() for group in at_home.values()]
    for group in groups if run.key in queue._runs else ():
        entries = list(group.entries)
        for at in range(0, len(entries), _COUNTED):
            before = [entry for entry in entries[at : at + _COUNTED] if entry < place and queue._waits(entry)]
            count += len(before)
            higher += sum([entry[0] < place[0] for entry in before])
            yield
    return count, higher


def _home(run: Run) -> str:
    return f"{run.order.target}\0{run.order.concurrency_key}"
