"""Records that are written behind the answer: of calls without a key, which nobody but the caller who waits can ask for.

What must live here: which records wait to be written, and until when. What this file must not know: SQL, sockets.

A call without a key cannot be repeated and not be asked for after a crash: its caller sees the end of the connection, whatever
the journal holds. So the journal need not hold it before it is begun and answered, and a call costs no wait for the disk. It is
written together with others soon after. One that takes longer than DELAY then stands there as running, and is from then on a run
like any other. Before a hand-over and a stop everything is written, so a restart loses none.
"""

from __future__ import annotations

from rocksyd.model import ENDED, OK, Run

DELAY = 0.05
"""Seconds a record waits at most: what a crash of the master can make the journal miss."""
BATCH = 32
"""So many are written at once without waiting longer; more would hold up the calls that come meanwhile."""


class Behind:
    """Runs that the journal does not know yet (``Run.behind``)."""

    def __init__(self) -> None:
        self._live: dict[str, tuple[float, Run]] = {}
        """Those that have not ended, oldest first, with the moment since which they wait to be written."""
        self._ended: dict[str, Run] = {}
        self._ended_at = 0.0
        """Since when the oldest of those that have ended waits."""

    def __len__(self) -> int:
        return len(self._live) + len(self._ended)

    def put(self, run: Run, now: float, *, all_ends: bool) -> None:
        """The run has changed. Unless ``all_ends`` are kept, one that has ended well need not be written."""
        if run.state != ENDED:
            if run.key not in self._live:
                self._live[run.key] = now, run
            return
        self._live.pop(run.key, None)
        if all_ends or run.outcome != OK:
            if not self._ended:
                self._ended_at = now
            self._ended[run.key] = run

    def discard(self, key: str) -> None:
        """The run is to be forgotten."""
        self._live.pop(key, None)
        self._ended.pop(key, None)

    def due(self, now: float) -> bool:
        """Whether it is time to write."""
        at = self.next_deadline()
        return len(self._ended) >= BATCH or (at is not None and now >= at)

    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which it is, at the latest; None while nothing waits."""
        first = self._ended_at if self._ended else None
        if self._live:
            oldest = next(iter(self._live.values()))[0]
            first = oldest if first is None else min(first, oldest)
        return None if first is None else first + DELAY

    def take(self, now: float, *, everything: bool = False) -> dict[str, Run]:
        """What has ended and what waits for its time already, or ``everything``: from here on each is a run like any other."""
        runs, self._ended = self._ended, {}
        for key, (since, run) in list(self._live.items()):
            if not everything and now < since + DELAY:
                break
            runs[key] = run
            del self._live[key]
        for run in runs.values():
            run.behind = False
        return runs
