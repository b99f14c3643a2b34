"""Records that are written behind the answer: of calls without a key, which nobody but the caller who waits can ask for.

What must live here: which records wait to be written, and until when. What this file must not know: SQL, sockets.

A call without a key cannot be repeated, and nobody can ask for it after a crash: its caller sees the end of the connection,
whatever the journal holds. So the journal need not hold it before it is begun and answered, and nobody waits for the disk:

* while it waits for a worker it is not written at all, however long that takes;
* one that runs for longer than DELAY is written, so that it is known after a crash and accounted for;
* how it ended is written together with the ends of others, whether or not the journal knew that it ran.

So what a call costs does not depend on how many others are under way. Before a hand-over and a stop everything is written, so a
restart loses none.
"""

from __future__ import annotations

from rocksyd.model import ENDED, OK, WAITING, Run

DELAY = 0.05
"""Seconds that a record waits at most, once its run has begun: what a crash of the master can make the journal miss."""
BATCH = 32
"""So many ends are written at once without waiting longer; more would hold up the calls that come meanwhile."""


class Behind:
    """Runs of which the journal is to be told. ``Run.behind``: it does not know them at all."""

    def __init__(self) -> None:
        self._waiting: dict[str, Run] = {}
        """Those that have not begun: not to be written unless everything is."""
        self._running: dict[str, tuple[float, Run]] = {}
        """Those that run, oldest first, with the moment since which they wait to be written."""
        self._ended: dict[str, Run] = {}
        self._ended_at = 0.0
        """Since when the oldest of those that have ended waits."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running) + len(self._ended)

    def put(self, run: Run, now: float, *, all_ends: bool) -> None:
        """The run has changed. Unless ``all_ends`` are kept, one that ended well before the journal knew it is not written."""
        key = run.key
        if run.state == ENDED:
            self._waiting.pop(key, None)
            self._running.pop(key, None)
            if all_ends or run.attempt.outcome != OK or not run.behind:
                if not self._ended:
                    self._ended_at = now
                self._ended[key] = run
            return
        self._ended.pop(key, None)  # it is tried again
        if run.state == WAITING and run.behind:
            self._running.pop(key, None)
            self._waiting[key] = run
        else:
            self._waiting.pop(key, None)
            self._running.setdefault(key, (now, run))

    def discard(self, key: str) -> None:
        """The run is to be forgotten."""
        self._waiting.pop(key, None)
        self._running.pop(key, None)
        self._ended.pop(key, None)

    def due(self, now: float) -> bool:
        """Whether it is time to write."""
        at = self.next_deadline()
        return len(self._ended) >= BATCH or (at is not None and now >= at)

    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which it is, at the latest; None while nothing has to be written."""
        first = self._ended_at if self._ended else None
        if self._running:
            oldest = next(iter(self._running.values()))[0]
            first = oldest if first is None else min(first, oldest)
        return None if first is None else first + DELAY

    def take_begun(self) -> dict[str, Run]:
        """What runs and what has ended: from here on the journal knows it."""
        return self._known({**{key: run for key, (_, run) in self._running.items()}, **self._ended})

    def take_ended(self) -> dict[str, Run]:
        """What has ended: from here on the journal knows it."""
        return self._known(dict(self._ended))

    def take(self, now: float, *, everything: bool = False) -> dict[str, Run]:
        """What has ended and what has run for some time, or ``everything``: from here on the journal knows each.

        Half of DELAY is enough to be taken: those that began one after another are written together, and not one after another.
        """
        runs = dict(self._ended)
        for key, (since, run) in self._running.items():
            if not everything and now < since + DELAY / 2:
                break
            runs[key] = run
        if everything:
            runs.update(self._waiting)
        return self._known(runs)

    def _known(self, runs: dict[str, Run]) -> dict[str, Run]:
        for key, run in runs.items():
            self.discard(key)
            run.behind = False
        return runs
