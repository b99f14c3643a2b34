"""Acknowledgements of results, and how they are saved: a worker takes its next job, or the order to leave, for one.

What must live here: which are owed, and until when. What this file must not know: channels.

A datagram wakes its reader, which costs a call more than anything else in the master. So an acknowledgement waits a little for a
next message to say it. A worker that is not told until then only holds its result for longer, and says it again to whoever asks.
"""

from __future__ import annotations

DELAY = 0.05
"""Seconds an acknowledgement waits for a next job."""


class Acks:
    """Worker -> the run whose result is safe, while the worker has not been told."""

    def __init__(self) -> None:
        self._owed: dict[int, str] = {}
        self._at = 0.0

    def owe(self, worker: int, key: str, now: float) -> None:
        """The worker is to be told."""
        if not self._owed:
            self._at = now + DELAY
        self._owed[worker] = key

    def settle(self, worker: int) -> str:
        """The worker is about to be told something: of which run, "" for none."""
        return self._owed.pop(worker, "")

    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which they are to be said; None while none is owed."""
        return self._at if self._owed else None

    def due(self, now: float) -> list[int]:
        """The workers that are to be told now."""
        return list(self._owed) if self._owed and now >= self._at else []
