"""How long runs waited, took to begin, and ran: histograms by pool and target, counted from when somebody first asks for them.

What must live here: the boundaries, the counting, and a bound on how many histograms there are.
What this file must not know: who asks, clocks.

Each attempt counts for itself. *Queue* is from the order (or the end of its delay, or of the pause before another attempt) until
it is given to a worker, *launch* from there until its code begins, *run* from there to its end.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from rocksyd.model import Now, Run

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
"""Seconds; there is a last count for what took longer."""
MOST = 200
"""Pairs of a pool and a target; all further targets of a pool are one, OTHER."""
OTHER = "(other)"
KINDS = ("queue", "launch", "run")


class Histogram:
    """One histogram."""

    __slots__ = ("counts", "sum")

    def __init__(self, counts: list[int] | None = None, total: float = 0.0) -> None:
        self.counts = counts if counts is not None and len(counts) == len(BOUNDS) + 1 else [0] * (len(BOUNDS) + 1)
        self.sum = total

    def add(self, seconds: float) -> None:
        """Count one. Of a clock that was set back it is nothing."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += max(seconds, 0.0)


class Durations:
    """All of them."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[Histogram, ...]] = {}
        self._apps: dict[str, str] = {}
        self._due: dict[str, float] = {}
        """By key: when a run that was not to begin at once could have."""
        self._said: dict[str, tuple[float, float]] = {}
        """By key: when the code of a run that is about to end began and ended, as its worker says."""

    def due(self, run: Run, now: Now) -> None:
        """It has waited for its own moment, and waits for a worker from now on."""
        self._due[run.key] = now.mono

    def started(self, run: Run, now: Now) -> None:
        """It is given to a worker."""
        since = self._due.pop(run.key, None)
        self._of(run)[0].add(now.mono - since if since is not None else now.wall - run.order.submitted_at)

    def said(self, run: Run, began: float, ended: float) -> None:
        """What its worker says, before it is ended."""
        self._said[run.key] = began, ended

    def ended(self, run: Run, now: Now) -> None:
        """An attempt at it is over, or it was given up while it waited."""
        self._due.pop(run.key, None)
        began, ended = self._said.pop(run.key, (0.0, now.mono))
        given = run.attempt.started
        if not given:
            return
        found = self._of(run)
        if began:
            found[1].add(began - given)
        found[2].add(ended - (began or given))

    def _of(self, run: Run) -> tuple[Histogram, ...]:
        place = run.pool, run.order.name
        found = self._found.get(place)
        if found is None:
            if len(self._found) >= MOST:
                place = run.pool, OTHER
            found = self._found.setdefault(place, tuple(Histogram() for _ in KINDS))
            self._apps[run.pool] = run.order.app
        return found

    def rows(self) -> list[dict[str, Any]]:
        """One row for each pool and target: counts by kind, each up to its boundary and above the one before, and the sums."""
        return [
            {
                "pool": pool,
                "app": self._apps[pool],
                "target": target,
                **{kind: {"counts": one.counts, "sum": one.sum} for kind, one in zip(KINDS, found, strict=True)},
            }
            for (pool, target), found in self._found.items()
        ]

    def dump(self) -> dict[str, Any]:
        """For the next master."""
        return {"bounds": BOUNDS, "rows": self.rows(), "due": self._due}

    @classmethod
    def load(cls, data: dict[str, Any]) -> Durations:
        """What ``dump`` has written. With other boundaries they begin anew."""
        made = cls()
        made._due.update(data.get("due", {}))
        if tuple(data.get("bounds", ())) == BOUNDS:
            for row in data.get("rows", ()):
                made._apps[row["pool"]] = row["app"]
                given = (row.get(kind, {}) for kind in KINDS)
                found = tuple(Histogram(one.get("counts"), one.get("sum", 0.0)) for one in given)
                made._found[row["pool"], row["target"]] = found
        return made
