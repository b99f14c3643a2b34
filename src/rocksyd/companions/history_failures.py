"""Groups of failures, made of what is remembered of each: what failed is read and taken apart once, and not at each look.

What must live here: what is remembered, for how many, and that it is still true.
What this file must not know: what makes two failures the same (``client.failures``), which methods ask.

A failure of a million runs' month is one of ten thousand, and to read their records and tracebacks takes half a second. What a
group needs of each is a line; it holds as long as the run has the revision at which it was read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from rocksyd.client import failures
from rocksyd.client.failures import Brief, Group
from rocksyd.journal.beside import Beside
from rocksyd.journal.search import Filter
from rocksyd.model import ENDED, OK, Run

REMEMBERED = 20_000
"""Failures that are remembered, those that were read last."""


class Failures:
    """What is remembered. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[int, Brief]] = OrderedDict()
        """By key: the revision of the run, and what a group needs of it."""

    def take(self, runs: Iterable[Run]) -> None:
        """Remember those of these that have failed."""
        for run in runs:
            if run.state == ENDED and run.attempt.outcome != OK:
                self._remember(run)

    def groups(self, journal: Beside, wanted: Filter) -> tuple[list[Group], int]:
        """The groups of the failures that are wanted, and of how many; without what only a record tells (``told``)."""
        groups: dict[str, Group] = {}
        number = 0
        for keys in journal.search(wanted):
            for one in self._briefs(journal, keys):
                failures.gather(groups, one)
                number += 1
        return failures.in_order(groups), number

    def told(self, journal: Beside, group: Group) -> Group:
        """The group with what its last failure tells."""
        for key in dict.fromkeys((group.key, group.traced)):
            run = journal.get(key) if key else None
            if run is not None:
                failures.tell(group, run.record())
        return group

    def _briefs(self, journal: Beside, keys: list[str]) -> Iterator[Brief]:
        now = journal.revisions(keys)
        for key in keys:
            known = self._known.get(key)
            if known is not None and known[0] == now.get(key):
                yield known[1]
            elif (run := journal.get(key)) is not None:
                yield self._remember(run)

    def _remember(self, run: Run) -> Brief:
        one = failures.brief(run.record())
        with self._lock:
            self._known.pop(run.key, None)
            self._known[run.key] = run.rev, one
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return one
