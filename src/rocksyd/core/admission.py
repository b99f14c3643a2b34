"""Which runs a pool takes when more come than its workers can serve: a limit that follows what they manage.

What must live here: how long a run that comes now may wait, and whether it would have to wait longer.
What this file must not know: workers, runs, what is said to whoever is refused.

Two rules, both without a number that depends on the load:

* *How long.* A queue that has been empty within ``wait_interval`` holds a burst, which is what queues are for: a run may wait
  that long. One that has not been empty is a standing queue, in which everybody only waits for nothing: there a run may wait
  ``wait_target``. This is CoDel's distinction (K. Nichols, V. Jacobson, RFC 8289) in the form that B. Maurer gives it for
  queues of requests ("Fail at Scale", ACM Queue 13(8), 2015).
* *Whether.* The runs in front, times the time between two starts, is what a run would wait (Little's law). If that is longer
  than it may wait it is refused at once. The time between two starts is measured while runs wait; when none of the workers has
  been free for longer, each worker's share of that time counts: so a slow backend is noticed before its first answer.
"""

from __future__ import annotations

from typing import Any

WEIGHT = 0.1
"""Of the latest time between two starts in the average."""
_CARRIED = ("pace", "started_at", "waiting_since")


class Admission:
    """What is known of one pool's queue. Times are CLOCK_MONOTONIC seconds."""

    def __init__(self) -> None:
        self.pace = 0.0
        """Seconds between two starts while runs wait; 0 when that has not been seen."""
        self.started_at = 0.0
        self.waiting_since = 0.0
        """Since when the queue has not been empty; 0 while it is."""

    def started(self, now: float) -> None:
        """A run that was waiting, or has just come, begins."""
        if self.waiting_since:
            gap = now - max(self.started_at, self.waiting_since)
            self.pace = self.pace + WEIGHT * (gap - self.pace) if self.pace else gap
        self.started_at = now

    def looked(self, waiting: int, now: float) -> None:
        """So many wait now for nothing but a worker."""
        if not waiting:
            self.waiting_since = 0.0
        elif not self.waiting_since:
            self.waiting_since = now

    def patience(self, now: float, target: float, interval: float) -> float:
        """Seconds that a run that comes now may wait."""
        return target if self.waiting_since and now - self.waiting_since > interval else interval

    def expected(self, waiting: int, busy: int, now: float) -> float:
        """Seconds that a run behind ``waiting`` others would wait. ``busy``: how many workers there are, if all are; else 0."""
        if not waiting:
            return 0.0  # one may always wait: what happens to it says how things are now
        share = (now - self.started_at) / busy if busy and self.started_at else 0.0
        return (waiting + 1) * max(self.pace, share)

    def dump(self) -> dict[str, Any]:
        """Plain data for a snapshot."""
        return {name: getattr(self, name) for name in _CARRIED}

    def load(self, data: dict[str, Any]) -> None:
        """Take over what ``dump`` wrote, in this version or another."""
        for name in _CARRIED:
            setattr(self, name, float(data.get(name, 0.0)))
