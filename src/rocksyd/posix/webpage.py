"""The page on which a web worker counts what it does: 8-byte numbers in a memfd of its own, which the master maps.

What must live here: which number stands where, and reading and adding pages. What this file must not know: who looks at it.

Each number has one writer and is written as a whole, so nobody has to be asked, and nobody waits. A page is the worker's alone
and travels with SERVING: no slot has to be found that nobody else has, in a hand-over when two masters fork at the same time.
"""

from __future__ import annotations

import mmap
import os
from itertools import pairwise

SIZE = 4096
FIELDS = (
    "pid", "stage", "connections", "in_flight", "websockets", "deadline", "queue", "born",
    "requests", "accepted", "adopted", "given", "refused", "timeouts", "slow", "bad",
    "status_1xx", "status_2xx", "status_3xx", "status_4xx", "status_5xx", "bytes_sent", "micros", "failed",
)  # fmt: skip
"""``deadline``: CLOCK_MONOTONIC milliseconds after which the worker is stuck, 0 for never. ``queue``: connections that waited to
be accepted when it looked last. ``micros``: of all requests together. From ``requests`` on the numbers only grow."""
LATER = ("spent", "unsent", "taken_over", "silence", "mark", "marked", "mark_before", "marked_before")
"""Further ones that do not grow. ``spent``: 1 when the worker is to be replaced, because a thread of it cannot be ended.

Of a service worker, whose ``requests`` are messages: ``unsent``, the bytes that it owes; ``taken_over``, when it was handed
everything by the worker before (Unix milliseconds, 0 for never), and ``silence``, for how many microseconds no message was
handled then; ``mark`` and ``mark_before``, two moments (CLOCK_MONOTONIC milliseconds) and the ``requests`` there were by then.
"""
MARK = 5000
"""Milliseconds between two marks, while messages come."""
AT = {name: index for index, name in enumerate((*FIELDS, *LATER))}
GROWING = FIELDS[AT["requests"] :]
STAGES = ("starting", "ready", "accepting", "leaving")
_BUCKETS_AT = 64
BUCKETS = 64
"""Times of requests, two buckets an octave of microseconds."""


def bucket(micros: int) -> int:
    """The bucket for a request that took so long."""
    size = micros.bit_length()
    return min(BUCKETS - 1, 2 * size + ((micros >> (size - 2)) & 1)) if size > 1 else size


def upper(index: int) -> float:
    """Seconds that the times in a bucket are below."""
    size, half = divmod(index, 2)
    return (3 + half) / 2 * 2 ** (size - 1) / 1e6 if index > 3 else index / 1e6


class Page:
    """A mapped page."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, SIZE)
        self.numbers = memoryview(self._map).cast("Q")

    def bucket_up(self, micros: int) -> None:
        """A request took so long."""
        self.numbers[_BUCKETS_AT + bucket(micros)] += 1

    def __getitem__(self, name: str) -> int:
        return self.numbers[AT[name]]

    def __setitem__(self, name: str, value: int) -> None:
        self.numbers[AT[name]] = value

    def mark(self, now: int) -> None:
        """It is so late (CLOCK_MONOTONIC milliseconds): remember, now and then, what was counted by then."""
        if now - self["mark"] >= MARK:
            self["mark_before"], self["marked_before"] = self["mark"] or now, self["marked"]
            self["mark"], self["marked"] = now, self["requests"]

    def rate(self, now: int) -> float:
        """Requests a second since the mark before the last, which is MARK ago at least where there are as many."""
        passed = max(1000, now - self["mark_before"])
        return max(0, self["requests"] - self["marked_before"]) * 1000 / passed if self["mark"] else 0.0

    def grown(self) -> list[int]:
        """What only grows, and the buckets behind it: to be added up."""
        first, last = AT["requests"], len(FIELDS)
        return [*self.numbers[first:last], *self.numbers[_BUCKETS_AT : _BUCKETS_AT + BUCKETS]]

    def close(self) -> None:
        """Unmap it."""
        self.numbers.release()
        self._map.close()


def create() -> tuple[int, Page]:
    """A new page: its descriptor, and itself."""
    fd = os.memfd_create("rocksyd-web", os.MFD_CLOEXEC)
    os.ftruncate(fd, SIZE)
    return fd, Page(fd)


def nothing() -> list[int]:
    """What ``grown`` gives of a worker that has done nothing."""
    return [0] * (len(GROWING) + BUCKETS)


_OCTAVES = range(8, 27)
BOUNDS = [2**octave / 1e6 for octave in _OCTAVES]
"""Seconds: 256 us, and doubled up to 67 s."""


def histogram(grown: list[int]) -> list[int]:
    """How many requests took up to each of BOUNDS and longer than the one before; and how many took longer than the last."""
    buckets = grown[len(GROWING) :]
    ends = [0, *(2 * octave + 2 for octave in _OCTAVES), len(buckets)]
    return [sum(buckets[start:end]) for start, end in pairwise(ends)]


def percentile(grown: list[int], share: float) -> float:
    """Seconds within which this share of the requests was answered (the bucket's end); 0.0 where there were none."""
    buckets = grown[len(GROWING) :]
    wanted = share * sum(buckets)
    passed = 0
    for index, count in enumerate(buckets):
        passed += count
        if count and passed >= wanted:
            return upper(index)
    return 0.0
