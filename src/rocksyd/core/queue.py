"""Runs that wait for a worker of one pool: by priority, then by order of arrival.

What must live here: who is next.
What this file must not know: workers, time.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from rocksyd.model import Run

_Entry = tuple[int, int, str]


class Queue:
    """A priority queue from which runs can be taken out of the middle.

    A run whose target already runs ``max_running`` times is set aside until one of that target ends, so that it does not
    hold up the others.
    """

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._aside: dict[str, list[_Entry]] = {}
        self._runs: dict[str, Run] = {}
        self._aside_count = 0

    def __len__(self) -> int:
        """All that wait."""
        return len(self._runs)

    def __contains__(self, key: object) -> bool:
        return key in self._runs

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs.values())

    @property
    def startable(self) -> int:
        """Those that only want for a worker."""
        return len(self._runs) - self._aside_count

    def push(self, run: Run) -> None:
        """Put a run in its place."""
        self._runs[run.key] = run
        heappush(self._heap, (-run.priority, run.sequence, run.key))

    def discard(self, run: Run) -> None:
        """Take a run out; its entry in the heap is passed over when it comes up."""
        if self._runs.pop(run.key, None) is None:
            return
        aside = self._aside.get(run.target, ())
        for entry in aside:
            if entry[2] == run.key:
                self._aside[run.target].remove(entry)
                self._aside_count -= 1
                break

    def pop(self, running: dict[str, int]) -> Run | None:
        """The next run that may start, ``running`` being how often each target runs now."""
        while self._heap:
            entry = heappop(self._heap)
            run = self._runs.get(entry[2])
            if run is None or run.sequence != entry[1]:
                continue
            if run.max_running and running.get(run.target, 0) >= run.max_running:
                heappush(self._aside.setdefault(run.target, []), entry)
                self._aside_count += 1
                continue
            del self._runs[run.key]
            return run
        return None

    def release(self, target: str) -> None:
        """One of this target has ended: the first one set aside may try again."""
        aside = self._aside.get(target)
        if aside:
            heappush(self._heap, heappop(aside))
            self._aside_count -= 1
            if not aside:
                del self._aside[target]
