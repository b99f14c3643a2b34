"""The worker of a resident service: which one serves, which one is to be handed everything, and what follows from their ends.

What must live here: the life of a service over the generations of its code. The bookkeeping is that of web workers.
What this file must not know: sockets, processes, connections, clocks; what is said between two workers.

One worker serves. Another one may be coming: it says that it can serve when it has gone on with the state of the one that serves,
on trial; when its generation may, it is told to, and takes everything over by itself. Which one serves is what they say. One that
fails leaves the other serving, in old code, until the next restart: that is not tried again by itself. Only where nobody serves
is one forked, and goes on with what was kept.
"""

from __future__ import annotations

from rocksyd.config import PoolConfig
from rocksyd.core.pools import Demand
from rocksyd.core.web import WebPool
from rocksyd.core.web_crew import Sample, Tell
from rocksyd.core.worker import IDLE, LEAVING, STARTING

TAKE_OVER, GO_ON = "accept", "go on"
"""What a worker is told: to be handed everything by the one that serves, or to go on because nobody does."""
CALM = 1.0
"""Seconds that a worker must have served; one that dies sooner would die again, and the next waits a while."""


class ServicePool(WebPool):
    """The worker of one service, and those that come after it."""

    def __init__(self, name: str, policy: PoolConfig, place: int = 0) -> None:
        super().__init__(name, policy, 1, place)
        self.told: dict[int, str] = {}
        """Workers that were told to serve and do not say yet that they do, and what they were told."""
        self.kept = ""
        """Why old code goes on although there is newer; "" where it does not."""

    def settle(self, now: float) -> None:
        """Let the newest generation that can serve take over from the one that serves, or go on where nobody does."""
        able = [generation for generation in self.sets if generation not in self.held and self.can_serve(generation)]
        newest = max([self.current, *able])
        if newest > self.current:
            self.current, self.ready = newest, True
        what = TAKE_OVER if self.accepting else GO_ON
        for worker in self.workers.values():
            coming = worker.generation == self.current and worker.state == IDLE and worker.number not in self.accepting
            if coming and self.told.get(worker.number) != what and not self.told.keys() - {worker.number}:
                self.told[worker.number] = what
                self._effects.append(Tell(worker.number, what))

    def serving(self, number: int, now: float, *, accepting: bool, leaving: bool) -> None:
        """The worker can serve, or serves."""
        worker = self.workers.get(number)
        if worker is None:
            return
        if worker.state == STARTING:
            self._move(worker, "forked", now)
            crew = self.sets.get(worker.generation)
            if crew is not None:
                crew.trouble.over()
        if leaving:
            self._leave(worker, now, told=False)
        elif accepting:
            self._serves(number, now)
        self.settle(now)

    def _serves(self, number: int, now: float) -> None:
        """It is this one from now on: whoever did before has handed everything over, and goes by itself."""
        generation = self.workers[number].generation
        self.told.pop(number, None)
        if not self.held:
            self.current = max(self.current, generation)
        if generation >= self.current:
            self.kept = ""
        for other in [one for one in self.workers.values() if one.number in self.accepting - {number}]:
            self._leave(other, now, told=False)
        self.accepting.add(number)

    def failed(self, number: int, reason: str, now: float) -> None:
        """The worker cannot serve, and says why."""
        self._keep_old(number, reason)
        super().failed(number, reason, now)

    def exited(self, number: int, how: str, now: float) -> None:
        """The worker is no more."""
        self._keep_old(number, f"the new worker {how} before it served")
        worker = self.workers.get(number)
        expected = worker is not None and worker.state == LEAVING
        if worker is not None and number in self.accepting and now - worker.born < CALM and not self.stopping:
            self._in_trouble(worker, f"a service worker {how} as soon as it served", now)
        super().exited(number, how, now)
        if not expected:  # whoever took over from one that left says so itself
            self.settle(now)

    def _keep_old(self, number: int, reason: str) -> None:
        """One that was to take over does not."""
        if self.told.pop(number, None) == TAKE_OVER and self.accepting - {number}:
            self.kept = reason

    @property
    def swapping(self) -> bool:
        """Whether it is not known yet which code goes on."""
        return TAKE_OVER in self.told.values()

    def look(self, samples: dict[int, Sample], waiting: int, now: float) -> None:
        """Fork one where nobody serves and nobody is coming."""
        crew = self.sets.get(self.current)
        if crew is None or self.stopping or self.accepting:
            return
        for _ in range(crew.missing(Demand(0, 0), now, ready=self.ready)):
            self._fork(crew, now)

    def next_look(self, now: float) -> float:
        """When it is to be looked at although nothing happens; 0 for never."""
        return 0.0 if self.accepting else super().next_look(now)

    @property
    def unattended(self) -> bool:
        """It always has a worker: connections stay."""
        return False
