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
        self._runs: dict[str, Run] = {}
        self._at = 0.0

    def __len__(self) -> int:
        return len(self._runs)

    def put(self, run: Run, now: float, *, all_ends: bool) -> None:
        """The run has changed. Unless ``all_ends`` are kept, one that has ended well need not be written."""
        if not all_ends and run.state == ENDED and run.outcome == OK:
            self._runs.pop(run.key, None)
            return
        if not self._runs:
            self._at = now + DELAY
        self._runs[run.key] = run

    def discard(self, key: str) -> None:
        """The run is to be forgotten."""
        self._runs.pop(key, None)

    def due(self, now: float) -> bool:
        """Whether it is time to write."""
        return bool(self._runs) and (now >= self._at or len(self._runs) >= BATCH)

    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which it is; None while nothing waits."""
        return self._at if self._runs else None

    def take(self) -> dict[str, Run]:
        """All that wait, to be written now: from here on each is a run like any other."""
        runs, self._runs = self._runs, {}
        for run in runs.values():
            run.behind = False
        return runs
