"""The memory of a pool's workers: who uses too much, and whether there is room for another.

What must live here: the limits ``max_rss``, ``max_rss_hard`` and ``max_total_rss``, and how often they are looked at.
What this file must not know: /proc, clocks; how a worker is ended.

Two measures. RSS, what ``ps`` and ``top`` show, is held against the limits of one worker; it counts what the worker shares
with the loaded application. PSS, where each page is divided by those who share it, is held against the limit of the pool:
its sum is what the pool really takes (proc(5), ``smaps_rollup``). The kernel counts it page by page, 3.7 ms for a worker of
108 MB, and 0.01 ms for its RSS: so one worker is looked at each time, and the others are taken to have changed as their RSS has.
"""

from __future__ import annotations

from collections.abc import Iterable

from rocksyd.config import PoolConfig
from rocksyd.core.events import Size

CALM, NEAR = 0.5, 0.1
"""Seconds between two looks; ``NEAR`` while somebody has more than half of what is allowed, or is not known yet."""


def watched(policy: PoolConfig) -> bool:
    """Whether running workers are to be measured at all. (``max_rss`` asks only when a job is done, and the result says it.)"""
    return bool(policy.max_rss_hard or policy.max_total_rss)


def recycles(policy: PoolConfig, peak: int) -> bool:
    """Whether a worker whose resident memory was ``peak`` bytes at most is to leave after the job it has done."""
    return 0 < policy.max_rss < peak


class Memory:
    """What the workers of one pool were measured at."""

    def __init__(self) -> None:
        self.rss: dict[int, int] = {}
        """Bytes, by worker."""
        self.pss: dict[int, int] = {}
        """Bytes, by worker, who was looked at longest ago first. In between it grows and shrinks as the worker's RSS does."""
        self.look_at = 0.0
        """CLOCK_MONOTONIC seconds of the next look; 0 for none."""
        self.full = False
        """Whether the pool was too large for another worker when one was wanted last."""

    def measured(self, sizes: dict[int, Size], policy: PoolConfig) -> list[int]:
        """Take a measurement in; which workers have more than ``max_rss_hard``."""
        for worker, size in sizes.items():
            grown, self.rss[worker] = size.rss - self.rss.get(worker, size.rss), size.rss
            if size.pss:
                self.pss.pop(worker, None)
                self.pss[worker] = size.pss
            elif worker in self.pss:
                self.pss[worker] = max(0, self.pss[worker] + grown)
        hard = policy.max_rss_hard
        return [worker for worker, size in sizes.items() if hard and size.rss > hard]

    def forget(self, worker: int) -> None:
        """It is gone, and so is its memory."""
        self.rss.pop(worker, None)
        self.pss.pop(worker, None)

    def turn(self, workers: Iterable[int]) -> int:
        """Whose PSS is looked at next: one that never was, else the one that was longest ago; 0 for nobody."""
        unknown = next((worker for worker in workers if worker not in self.pss), 0)
        return unknown or next(iter(self.pss), 0)

    def interval(self, policy: PoolConfig) -> float:
        """Seconds to the next look."""
        hard, most = policy.max_rss_hard, policy.max_total_rss
        if not self.rss or any(hard and size > hard / 2 for size in self.rss.values()):
            return NEAR
        unknown = len(self.pss) < len(self.rss)
        return NEAR if most and (unknown or self.total(len(self.rss)) > most / 2) else CALM

    def total(self, workers: int) -> int:
        """Bytes of so many workers: those not measured yet are taken to be as large as the others are on average."""
        if not self.pss:
            return 0
        return sum(self.pss.values()) * max(workers, len(self.pss)) // len(self.pss)

    def room(self, policy: PoolConfig, workers: int) -> int:
        """How many more workers ``max_total_rss`` allows beside so many; no limit is a large number.

        A pool without workers may always have one: a limit that is too small for that would stop all work. And spares that have
        done nothing are forked without a look at the limit: what they have they share.
        """
        if not policy.max_total_rss or not self.pss:
            return 1 << 30
        if not workers:
            return 1
        each = max(1, self.total(workers) // workers)
        return max(0, (policy.max_total_rss - self.total(workers)) // each)
