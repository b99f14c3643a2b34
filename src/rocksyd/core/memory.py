"""The memory of a pool's workers: who uses too much, and whether there is room for another.

What must live here: the limits ``max_rss``, ``max_rss_hard`` and ``max_total_rss``, and how often they are looked at.
What this file must not know: /proc, clocks; how a worker is ended.

Two measures. RSS, what ``ps`` and ``top`` show, is held against the limits of one worker; it counts what the worker shares
with the loaded application. PSS, where each page is divided by those who share it, is held against the limit of the pool:
its sum is what the pool really takes (proc(5), ``smaps_rollup``).
"""

from __future__ import annotations

from rocksyd.config import PoolConfig
from rocksyd.core.events import Size

CALM, NEAR = 0.5, 0.1
"""Seconds between two looks; ``NEAR`` while some worker has more than half of what ends it."""


def watched(policy: PoolConfig) -> bool:
    """Whether running workers are to be measured at all. (``max_rss`` asks only when a job is done, and the result says it.)"""
    return bool(policy.max_rss_hard or policy.max_total_rss)


def recycles(policy: PoolConfig, peak: int) -> bool:
    """Whether a worker whose resident memory was ``peak`` bytes at most is to leave after the job it has done."""
    return 0 < policy.max_rss < peak


class Memory:
    """What the workers of one pool were measured at."""

    def __init__(self) -> None:
        self.sizes: dict[int, Size] = {}
        """By worker."""
        self.look_at = 0.0
        """CLOCK_MONOTONIC seconds of the next look; 0 for none."""
        self.full = False
        """Whether the pool was too large for another worker when one was wanted last."""

    def measured(self, sizes: dict[int, Size], policy: PoolConfig) -> list[int]:
        """Take a measurement in; which workers have more than ``max_rss_hard``."""
        self.sizes.update(sizes)
        hard = policy.max_rss_hard
        return [worker for worker, size in sizes.items() if hard and size.rss > hard]

    def forget(self, worker: int) -> None:
        """It is gone, and so is its memory."""
        self.sizes.pop(worker, None)

    def interval(self, policy: PoolConfig) -> float:
        """Seconds to the next look."""
        near = any(size.rss > policy.max_rss_hard / 2 for size in self.sizes.values()) if policy.max_rss_hard else False
        return NEAR if near or not self.sizes else CALM

    def total(self, workers: int) -> int:
        """Bytes of so many workers: those not measured yet are taken to be as large as the others are on average."""
        if not self.sizes:
            return 0
        return sum(size.pss for size in self.sizes.values()) * max(workers, len(self.sizes)) // len(self.sizes)

    def room(self, policy: PoolConfig, workers: int) -> int:
        """How many more workers ``max_total_rss`` allows beside so many; no limit is a large number.

        A pool without workers may always have one: a limit that is too small for that would stop all work. And spares that have
        done nothing are forked without a look at the limit: what they have they share.
        """
        if not policy.max_total_rss or not self.sizes:
            return 1 << 30
        if not workers:
            return 1
        each = max(1, self.total(workers) // workers)
        return max(0, (policy.max_total_rss - self.total(workers)) // each)
