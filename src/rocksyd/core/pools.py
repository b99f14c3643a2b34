"""A pool: how many workers there should be.

What must live here: the size policies. They see a demand and not where it was measured: here it comes from a queue of runs, and
a pool whose workers take their work themselves can be fed from what they say on the scoreboard.
What this file must not know: runs; how a process is made or ended.

The policies are php-fpm's (``pm = static | dynamic | ondemand``): https://www.php.net/manual/en/install.fpm.configuration.php
So is the spawn rate that doubles as long as spares are short (fpm_process_ctl.c, ``idle_spawn_rate``), but it doubles when the
last ones have come, not every second; and who is needed for a run that waits is forked at once, at most ``spawn_rate`` at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from rocksyd.core.crew import Crew
from rocksyd.core.worker import IDLE, Worker

SHRINK_INTERVAL = 1.0
"""Seconds between two idle workers sent away, as in php-fpm: sizes follow the load down slowly."""
CALM = 1.0
"""Seconds without being full after which a pool that becomes full again is full for another time."""
_CARRIED = ("served", "max_reached", "full", "left_full", "peak_busy", "peak_waiting", "shrink_at", "refill_at", "rate")


class Demand(NamedTuple):
    """What is asked of a pool now."""

    waiting: int
    """How many could be begun at once if there were workers enough."""
    busy: int
    """Workers that are occupied."""


class Pool(Crew):
    """The workers of one pool, and how many there should be."""

    def demand(self, waiting: int) -> Demand:
        """With so many runs that could start; who is busy is known here, because runs are given out here."""
        return Demand(waiting, self.busy)

    def _places(self, waiting: int) -> int:
        """Workers that ``waiting`` runs need."""
        return -(-waiting // self.policy.concurrency)

    # --- size ---------------------------------------------------------------------------------------------------------
    def missing(self, demand: Demand, now: float, *, ready: bool = True) -> int:
        """How many workers to ask for now; none while there is no zygote to ask.

        A worker that is leaving keeps its memory for a few milliseconds more; at most ``max_workers`` of them are
        left out of the count, so a pool never has more than twice its processes.
        """
        self.peak_waiting = max(self.peak_waiting, demand.waiting)
        waiting, coming, counted = self._places(demand.waiting), self._coming(demand.busy), self._counted
        ending = self.leaving + len(self.draining)
        room = self.policy.max_workers - counted - max(0, ending - self.policy.max_workers)
        wanted = self._wanted(waiting, coming, counted)
        self._note_full(waiting > 0 and waiting - coming > room, now)
        if wanted <= 0 and not self.starting:
            self.rate = 1
        if self.trouble.stops(now) or not ready:
            return 0
        if counted >= self.warm:
            self.warm = 0
        if self._may_wait(demand, now):
            return 0
        possible = min(wanted, room)
        if possible <= 0:
            self.memory.full = False
            return 0
        affordable = self._affordable
        self.memory.full = possible > affordable
        possible = min(possible, self.policy.spawn_rate - self.starting, affordable)
        return max(0, self._paced(possible, waiting - coming))

    @property
    def _affordable(self) -> int:
        """Workers that there is memory for, beside those there are."""
        return self.memory.room(self.policy, len(self.workers))

    def _note_full(self, full: bool, now: float) -> None:
        if full and not self.full:
            self.max_reached += not self.left_full or now - self.left_full >= CALM
        elif self.full and not full:
            self.left_full = now
        self.full = full

    def _paced(self, possible: int, short: int) -> int:
        """Of the possible, all that runs or the start wait for; of mere spares 1, then 2, 4 ... as those before have come."""
        if self.policy.pm != "dynamic":
            return possible
        at_once = max(short, self.warm - self._counted, 0)
        if possible <= at_once or self.starting:
            return min(possible, at_once)
        spares = min(possible - at_once, self.rate)
        self.rate = min(2 * self.rate, self.policy.spawn_rate)
        return at_once + spares

    def _may_wait(self, demand: Demand, now: float) -> bool:
        return not demand.waiting and now < self.refill_at and self._spare(demand.busy) > 0

    @property
    def _counted(self) -> int:
        """Live workers, one that is being replaced and its replacement counting as one."""
        replaced = self.recycling.replaced
        if self.policy.concurrency == 1:
            return self.live - len(replaced)
        return self.live - len(replaced) - sum(worker.number not in replaced for worker in self.draining)

    def _spare(self, busy: int) -> int:
        """Workers that are there and could be given something at once."""
        return self.live - self.starting - self.unsure - busy

    def _coming(self, busy: int) -> int:
        """Workers that could be given something, now or in a moment."""
        replaced = self.recycling.replaced
        twice = sum(worker.state == IDLE for worker in replaced.values()) if replaced else 0
        return self.live - busy - twice

    def _wanted(self, waiting: int, coming: int, counted: int) -> int:
        match self.policy.pm:
            case "static":
                return self.policy.max_workers - counted
            case "dynamic":
                return max(self.policy.min_spare + waiting - coming, self.warm - counted)
            case _:
                return waiting - coming

    def to_replace(self, now: float) -> Iterator[Worker]:
        """Workers to be replaced, one after another: what is done about one decides whether there is a next."""
        self.recycling.grow_old(now)
        if self.recycling.waiting and not self.trouble.stops(now):
            yield from self.recycling.candidates(self.policy)

    def can_replace(self, worker: Worker, now: float) -> bool:
        """Whether a replacement makes sense: not of an idle worker that nobody has just used where no spares are kept.

        Nor where there are too many already, as after a crash in the middle of a replacement.
        """
        needed = self.policy.pm != "ondemand" or worker.state != IDLE or worker.since >= now
        return needed and self._affordable > 0 and self._counted <= self.policy.max_workers

    def surplus(self, demand: Demand, now: float) -> Worker | None:
        """An idle worker that should leave now, if any: at most one a ``SHRINK_INTERVAL`` but for ``idle_timeout``."""
        if demand.waiting or not self.idle:
            return None
        oldest = next(iter(self.idle.values()))
        if self.policy.pm == "ondemand" and now >= oldest.since + self.policy.idle_timeout:
            return oldest
        if not self._too_many(demand.busy) or now < self.shrink_at:
            return None
        self.shrink_at = now + SHRINK_INTERVAL
        return oldest

    def _too_many(self, busy: int) -> bool:
        most_idle = self.policy.max_spare if self.policy.pm == "dynamic" else self.policy.max_workers
        twice = len(self.recycling.replaced)
        return self._spare(busy) - twice > most_idle or self._counted > self.policy.max_workers

    def look_again(self, demand: Demand, now: float) -> float:
        """When the pool wants to be looked at without an event; 0 for never (so that an idle pool does not wake anybody)."""
        waiting = self._places(demand.waiting)
        moments = []
        if self.idle and not waiting:
            if self.policy.pm == "ondemand":
                moments.append(next(iter(self.idle.values())).since + self.policy.idle_timeout)
            if self._too_many(demand.busy):
                moments.append(self.shrink_at)
        recycling = self.recycling
        recycling.grow_old(now)
        if len(recycling.replaced) < self.policy.recycle and recycling.next_age():
            moments.append(recycling.next_age())
        stopped = self.trouble.stops(now)
        if not self.trouble.parked if stopped else self._may_wait(demand, now):
            short = self._wanted(waiting, self._coming(demand.busy), self._counted) > 0
            if stopped and (short or recycling.waiting):
                moments.append(self.trouble.after)
            elif short:
                moments.append(self.refill_at)
        return min(moments, default=0.0)

    def begin(self, generation: int = 0) -> None:
        """There is a zygote to fork from: workers of another are not replaced one by one."""
        self.trouble.over()
        self.rate = 1
        for worker in self.workers.values():
            if worker.generation != generation:
                worker.successor, worker.over = 0, False
                self.recycling.forget(worker)
        self.warm = min(self.policy.start_workers, self.policy.max_workers) if self.policy.pm == "dynamic" else 0

    def served_one(self) -> None:
        """A worker has brought a result: workers can be had, and are of use."""
        self.served += 1
        self.trouble.over()
        self.refill_at = 0.0

    # --- hand-over ----------------------------------------------------------------------------------------------------
    def dump(self) -> dict[str, Any]:
        """Plain data for a snapshot: what does not follow from the workers."""
        return {**{name: getattr(self, name) for name in _CARRIED}, **self.trouble.dump(), "recycled": self.recycling.done} | {
            "admission": self.admission.dump()
        }

    def load(self, data: dict[str, Any]) -> None:
        """Take over what ``dump`` wrote, in this version or another."""
        for name in _CARRIED:
            if name in data:
                setattr(self, name, data[name])
        self.trouble.load(data)
        self.recycling.done = int(data.get("recycled", 0))
        self.admission.load(data.get("admission", {}))
