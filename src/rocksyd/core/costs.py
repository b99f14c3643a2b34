"""What runs cost: learned of each target, and of each script, from the runs that have ended.

What must live here: how it is learned, what is usual, and when it is written down.
What this file must not know: who is told, clocks, the system.

It is learned of runs that have a record anyway, a few additions for each; calls without a key, of which there may be thousands
in a second, are not learned of. What is learned goes with a restart, and is written down a minute after it has changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log2
from typing import Any

from rocksyd.model import FAILED, OK, TIMEOUT, Now, Order, Run

TABLE = "costs"
MOST = 2000
"""Targets and scripts that are learned of."""
WRITTEN_AFTER = 60.0
"""Seconds after a change from which on the next one has all of them written down: nobody is woken for it."""
ENOUGH = 5
"""Runs that have to be known before anything is usual."""
_STEPS, _SHORTEST = 4, 0.001
"""A duration's bucket: so many to each doubling, from this on in seconds."""
_HALVED = 1000
"""Runs after which what is older counts half: what has changed is learned."""
_SLACK = 60.0
"""Seconds beyond the 95th percentile that are never longer than usual: what takes milliseconds may take a second."""
_FADES = 0.98
"""What is left of a peak with each run that stays below it."""


class Cost:
    """Of one target or script. Memory is bytes, times are seconds."""

    __slots__ = ("counts", "cpu", "ok", "peak", "runs", "unwritten")

    def __init__(self) -> None:
        self.runs = self.ok = 0.0
        self.cpu = self.peak = 0.0
        self.counts: dict[int, float] = {}
        """Runs that ended well, by the bucket of their duration."""
        self.unwritten = 0.0
        """Since when there is something to be written down (CLOCK_MONOTONIC seconds); 0 while there is not."""

    def learn(self, outcome: str, seconds: float, cpu: float, peak: int) -> None:
        """A run has ended."""
        self.runs += 1
        self.peak = max(float(peak), self.peak * _FADES)
        if outcome != OK:
            return
        self.ok += 1
        self.cpu += (cpu - self.cpu) / min(self.ok, 20.0)
        bucket = max(0, ceil(log2(max(seconds, _SHORTEST) / _SHORTEST) * _STEPS))
        self.counts[bucket] = self.counts.get(bucket, 0.0) + 1
        if self.runs >= _HALVED:
            self.runs, self.ok = self.runs / 2, self.ok / 2
            self.counts = {bucket: number / 2 for bucket, number in self.counts.items() if number > 0.1}

    def percentile(self, share: float) -> float:
        """The duration that this share of the runs does not take longer than, to a fifth; 0 where none is known."""
        left = share * sum(self.counts.values())
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 1e-9:
                return float(_SHORTEST * 2 ** (bucket / _STEPS))
        return 0.0

    @property
    def known(self) -> bool:
        """Whether enough has been learned for anything to be usual."""
        return sum(self.counts.values()) >= ENOUGH

    def long(self) -> float:
        """Beyond which a run takes longer than usual; 0 where that is not known."""
        most = self.percentile(0.95)
        return max(2 * most, most + _SLACK) if self.known else 0.0

    def shown(self) -> dict[str, Any]:
        """For people and programs."""
        quantiles = {f"p{round(100 * share)}": round(self.percentile(share), 3) for share in (0.5, 0.95, 0.99)}
        return {
            "runs": round(self.runs), "ok": round(self.ok / self.runs, 4) if self.runs else None, "cpu": round(self.cpu, 3),
            "memory": int(self.peak), **quantiles, "long": round(self.long(), 3) or None,
        }  # fmt: skip

    def dump(self) -> dict[str, Any]:
        """Plain data."""
        counts = {str(bucket): number for bucket, number in self.counts.items()}
        return {"runs": self.runs, "ok": self.ok, "cpu": self.cpu, "peak": self.peak, "counts": counts}

    @classmethod
    def load(cls, data: dict[str, Any]) -> Cost:
        """What ``dump`` wrote; what is no number is nothing."""
        made = cls()
        for name in ("runs", "ok", "cpu", "peak"):
            value = data.get(name)
            setattr(made, name, float(value) if isinstance(value, int | float) else 0.0)
        counts = data.get("counts")
        for bucket, number in counts.items() if isinstance(counts, dict) else ():
            if bucket.isdigit() and isinstance(number, int | float):
                made.counts[int(bucket)] = float(number)
        return made


class Costs:
    """All that was learned, by name: ``APP:TARGET``, or ``APP:@SCRIPT``."""

    def __init__(self) -> None:
        self.by_name: dict[str, Cost] = {}
        self.shared: dict[str, int] = {}
        """Bytes that an application had when it was loaded, and that its workers share."""

    def needs(self, order: Order) -> int:
        """Bytes that a run will take beyond what is shared: as was learned, else as was said; 0 where nobody knows."""
        cost = self.of(order)
        if cost is None or not cost.peak or order.app not in self.shared:
            return order.needs_memory
        return max(0, int(cost.peak) - self.shared[order.app])

    def of(self, order: Order) -> Cost | None:
        """What is known of this work."""
        return self.by_name.get(name_of(order))

    def learn(self, run: Run, now: Now) -> str | None:
        """A run has ended; what is to be written down now, None for nothing."""
        last = run.attempt
        if run.order.unnamed or last.outcome not in (OK, FAILED, TIMEOUT) or not last.started:
            return None
        name = name_of(run.order)
        cost = self.by_name.get(name)
        if cost is None:
            if len(self.by_name) >= MOST:
                return None
            cost = self.by_name[name] = Cost()
        cost.learn(last.outcome, now.mono - last.started, last.cpu, last.max_rss)
        cost.unwritten = cost.unwritten or now.mono
        return name if now.mono >= cost.unwritten + WRITTEN_AFTER else None

    def written(self, name: str) -> dict[str, Any]:
        """What is to be written down under this name, which is done."""
        self.by_name[name].unwritten = 0.0
        return self.by_name[name].dump()

    def unwritten(self) -> list[str]:
        """Names of what is not written down yet."""
        return [name for name, cost in self.by_name.items() if cost.unwritten]

    def usual(self, run: Run) -> dict[str, Any] | None:
        """What a run that runs will probably take; None where that is not known."""
        cost = self.of(run.order)
        if cost is None or not cost.known:
            return None
        return {"seconds": round(cost.percentile(0.5), 3), "long": round(cost.long(), 3), "memory": int(cost.peak)}

    def left(self, run: Run, now: Now) -> float | None:
        """Seconds that a run will probably go on: by its progress, else by what is usual; None where that is not known."""
        gone = now.mono - run.attempt.started
        progress = run.attempt.progress or {}
        done, total = progress.get("done"), progress.get("total")
        if isinstance(done, int | float) and isinstance(total, int | float) and 0 < done <= total:
            return float(gone * (total - done) / done)
        cost = self.of(run.order)
        return max(0.0, cost.percentile(0.5) - gone) if cost is not None and cost.known else None

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each target and script."""
        for name, cost in sorted(self.by_name.items()):
            app, _, target = name.partition(":")
            what = {"target": None, "script": target[1:]} if target.startswith("@") else {"target": target, "script": None}
            yield {"app": app, **what, **cost.shown()}

    def dump(self) -> dict[str, Any]:
        """For the next master."""
        return {name: {**cost.dump(), "unwritten": cost.unwritten} for name, cost in self.by_name.items()}

    def load(self, data: dict[str, Any]) -> None:
        """What ``dump`` wrote, or what the journal has by name."""
        for name, said in data.items():
            if isinstance(said, dict) and len(self.by_name) < MOST:
                self.by_name[name] = cost = Cost.load(said)
                cost.unwritten = float(said.get("unwritten", 0.0))


def name_of(order: Order) -> str:
    """By what it is learned: a script's runs may differ from others of its target."""
    return f"{order.app}:@{order.tick['script']}" if order.tick else f"{order.app}:{order.name}"
