"""Runs that wait for a worker of one pool: by priority, then by order of arrival.

What must live here: who is next, and how often each target may run.
What this file must not know: workers, time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from rocksyd.model import Run

_Entry = tuple[int, int, str]


class _Group:
    """What waits of one target under one limit; all that have no limit are one group."""

    __slots__ = ("entries", "limit", "size", "startable", "target")

    def __init__(self, target: str, limit: int) -> None:
        self.target = target
        self.limit = limit
        self.size = 0
        self.startable = 0
        self.entries: list[_Entry] = []
        """A heap. Runs that were taken out of the middle leave theirs behind until it comes up."""


class Queue:
    """A priority queue from which runs can be taken out of the middle.

    A run whose target already runs ``max_running`` times is passed over until one of that target ends, so that it does not
    hold up the others. There are as many groups as targets with a limit that wait: few enough to look at each.
    """

    def __init__(self) -> None:
        self.startable = 0
        """Those that only want for a worker: as many workers could be given something to do now."""
        self.running: Counter[str] = Counter()
        """How often each target runs now."""
        self._runs: dict[str, Run] = {}
        self._later: set[str] = set()
        self._groups: dict[str, dict[int, _Group]] = {}

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

    def push(self, run: Run) -> None:
        """Put a run in its place."""
        self._later.discard(run.key)
        self._runs[run.key] = run
        group = self._group(run)
        heappush(group.entries, (-run.priority, run.sequence, run.key))
        group.size += 1
        self._count(group)

    def discard(self, run: Run) -> None:
        """Take a run out, if it is there."""
        self._later.discard(run.key)
        if self._runs.pop(run.key, None) is None:
            return
        group = self._group(run)
        group.size -= 1
        if len(group.entries) > 100 + 2 * group.size:
            group.entries = [entry for entry in group.entries if self._waits(entry)]
            heapify(group.entries)
        self._count(group)

    def pop(self) -> Run | None:
        """The next run that may start now, None when there is none. It does not count as running before ``begin``."""
        if not self.startable:
            return None
        ready = [group for groups in self._groups.values() for group in groups.values() if group.startable]
        group = min(ready, key=self._head)
        run = self._runs.pop(heappop(group.entries)[2])
        group.size -= 1
        self._count(group)
        return run

    def begin(self, run: Run) -> None:
        """This run runs now."""
        self.running[run.target] += 1
        self._count_target(run.target)

    def end(self, run: Run) -> None:
        """This run does not run any more."""
        self.running[run.target] -= 1
        if not self.running[run.target]:
            del self.running[run.target]
        self._count_target(run.target)

    def _head(self, group: _Group) -> _Entry:
        while not self._waits(group.entries[0]):
            heappop(group.entries)
        return group.entries[0]

    def _waits(self, entry: _Entry) -> bool:
        run = self._runs.get(entry[2])
        return run is not None and run.sequence == entry[1]

    def _group(self, run: Run) -> _Group:
        target = run.target if run.max_running else ""
        groups = self._groups.setdefault(target, {})
        if run.max_running not in groups:
            groups[run.max_running] = _Group(target, run.max_running)
        return groups[run.max_running]

    def _count_target(self, target: str) -> None:
        for group in list(self._groups.get(target, {}).values()):
            self._count(group)

    def _count(self, group: _Group) -> None:
        """How many of the group could start has perhaps changed."""
        room = group.limit - self.running.get(group.target, 0) if group.limit else group.size
        startable = max(0, min(group.size, room))
        self.startable += startable - group.startable
        group.startable = startable
        if not group.size:
            groups = self._groups[group.target]
            del groups[group.limit]
            if not groups:
                del self._groups[group.target]
