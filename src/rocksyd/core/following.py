"""Runs that begin only after others have ended (``after``): who waits for whom.

What must live here: the two ways to look at that. What this file must not know: what becomes of anybody (``state``, ``engine``).

No circle can come about: a run names others when it is ordered, and they have to be there. A run waits only for those that were
ordered before it (``sequence``), so nothing but the order itself has to be in the journal for a new master to know the same.
"""

from __future__ import annotations

from collections.abc import Iterable
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
            if not others:
                self._followers.pop(one, None)
        followers = self._followers.pop(run.key, None)
        if followers:
            self.over.append(Over(run, tuple(followers)))

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
