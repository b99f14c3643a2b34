"""Runs that begin only after others have ended (``after``): who waits for whom.

What must live here: the two ways to look at that. What this file must not know: what becomes of anybody (``state``, ``engine``).

No circle can come about: a run names others when it is ordered, and they have to be there. A run waits only for those that were
ordered before it (``sequence``), so nothing but the order itself has to be in the journal for a new master to know the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rocksyd.model import Run


class Over(NamedTuple):
    """A run that others wait for has ended."""

    run: Run
    followers: tuple[str, ...]


class Following:
    """The runs that wait for others, by key."""

    def __init__(self) -> None:
        self._waits: dict[str, dict[str, None]] = {}
        """What each waits for, of what has not ended."""
        self._followers: dict[str, dict[str, None]] = {}
        self.over: list[Over] = []
        """Those of this step whose followers are to be told."""
        self.free: dict[str, dict[str, None]] = {}
        """By runs that have ended, those that are to be let go for that in this step or the next ones, the last one first.

        A master that comes meanwhile lets all of them go: for it, what is not there any more has ended so.
        """

    def __contains__(self, key: str) -> bool:
        return key in self._waits

    def waits_for(self, key: str) -> tuple[str, ...]:
        """The runs whose end this one waits for."""
        return tuple(self._waits.get(key, ()))

    def hold(self, key: str, predecessors: Iterable[str]) -> None:
        """The run waits for these, which have not ended; for nothing where there are none."""
        waits = dict.fromkeys(predecessors)
        if waits:
            self._waits[key] = waits
            for one in waits:
                self._followers.setdefault(one, {})[key] = None

    def ended(self, run: Run) -> None:
        """The run has ended, and waits for nothing itself."""
        for one in self._waits.pop(run.key, ()):
            others = self._followers.get(one, {})
            others.pop(run.key, None)
            self.free.get(one, {}).pop(run.key, None)
            if not others:
                self._followers.pop(one, None)
        followers = self._followers.pop(run.key, None)
        if followers:
            self.over.append(Over(run, tuple(followers)))

    def release(self, ended: str, followers: tuple[str, ...]) -> None:
        """These are to be let go, because the run has ended."""
        self.free[ended] = {**dict.fromkeys(reversed(followers)), **self.free.get(ended, {})}

    def next_free(self, most: int) -> Iterator[tuple[str, str]]:
        """The next that are to be let go, at most so many: the run that has ended, and who waited for it."""
        while self.free and most > 0:
            ended, followers = next(iter(self.free.items()))
            while followers and most > 0:
                most -= 1
                yield ended, followers.popitem()[0]
            if not followers:
                del self.free[ended]

    def let_go(self, key: str, predecessor: str) -> bool:
        """The run need not wait for this one any longer; whether that was the last."""
        waits = self._waits.get(key)
        if waits is None:
            return False
        waits.pop(predecessor, None)
        if waits:
            return False
        del self._waits[key]
        return True
