"""The workers that serve requests: how many there are of which code, who accepts, who leaves.

What must live here: the life of a web pool over the generations of its code. The sizes are decided by ``pools``, as for jobs,
from a demand that is read from the workers' pages. What this file must not know: sockets, processes, pages, clocks.

A *set* is the workers of one generation. One set accepts; another may be coming, and serves nobody until all that the policy
begins with can serve (readiness decides, never time); those of older generations leave. All of it is decided from what is there,
never from what was done last, so that a master which has just come after a crash decides the same: workers of the newest
generation that can serve accept, and when they do, all others leave.
"""

from __future__ import annotations

import math

from rocksyd.core.pools import Demand, Pool
from rocksyd.core.web_crew import NOTHING, Kill, Sample, Tell, WebCrew
from rocksyd.core.worker import BUSY, IDLE, LEAVING, STARTING


class WebPool(WebCrew):
    """The web workers of one application, and how many of which generation there are to be."""

    # --- generations --------------------------------------------------------------------------------------------------
    @property
    def needed(self) -> int:
        """Workers that must be able to serve before a generation may."""
        match self.policy.pm:
            case "static":
                return self.policy.max_workers
            case "dynamic":
                return max(1, min(self.policy.start_workers, self.policy.max_workers))
            case _:
                return 1

    def begin(self, generation: int, now: float, *, hold: bool) -> None:
        """There is a zygote of this generation; with ``hold`` its workers accept only when ``serve_from`` says so."""
        if generation < self.current or self.stopping:
            return
        if hold:
            self.held.add(generation)
        if generation == self.current:
            self.ready = True
        crew = self._set(generation)
        crew.begin(generation)
        for _ in range(self.needed - crew.live):
            self._fork(crew, now)
        self.settle(now)

    def can_serve(self, generation: int) -> bool:
        """Whether enough of its workers can."""
        crew = self.sets.get(generation)
        return crew is not None and crew.live - crew.starting >= self.needed

    def serve_from(self, generation: int, now: float) -> None:
        """From now on this generation accepts, as soon as it can."""
        self.held.discard(generation)
        self.settle(now)

    def forget(self, generation: int, now: float) -> None:
        """This generation is not to come after all."""
        self.held.discard(generation)
        self.failure.pop(generation, None)
        if generation != self.current:
            for worker in list(self.sets.get(generation, Pool(self.name, self.policy)).workers.values()):
                self._leave(worker, now)
            self.sets.pop(generation, None)

    def zygote_gone(self, generation: int, reason: str) -> None:
        """Nothing can be forked of this generation; those there are serve on."""
        crew = self.sets.get(generation)
        for worker in [w for w in self.workers.values() if w.generation == generation and w.state == STARTING and not w.pid]:
            self._strike(worker, 0.0)
        if generation == self.current:
            self.ready = False
        elif crew is not None:
            self.failure.setdefault(generation, reason)

    def settle(self, now: float) -> None:
        """Let the newest generation that can serve accept, and all others leave."""
        able = [generation for generation in self.sets if generation not in self.held and self.can_serve(generation)]
        newest = max([self.current, *able])
        if newest > self.current:
            self.current, self.ready = newest, True
        if not self.current:
            return
        mine = [w for w in self.workers.values() if w.generation == self.current and w.state in (IDLE, BUSY)]
        for worker in mine:
            if worker.number not in self.accepting:
                self.accepting.add(worker.number)
                self._effects.append(Tell(worker.number, "accept"))
        if not any(worker.number in self.accepting for worker in mine):
            return
        for worker in list(self.workers.values()):
            if worker.generation < self.current:
                self._leave(worker, now)
        for generation in [one for one in self.sets if one < self.current]:
            del self.sets[generation]

    # --- workers ------------------------------------------------------------------------------------------------------
    def serving(self, number: int, now: float, *, accepting: bool, leaving: bool) -> None:
        """The worker can serve."""
        worker = self.workers.get(number)
        if worker is None:
            return
        if accepting:
            self.accepting.add(number)
            self.current = max(self.current, worker.generation) if not self.held else self.current
        if leaving:
            self._leave(worker, now, told=False)
        elif worker.state == STARTING:
            self._move(worker, "forked", now)
            crew = self.sets.get(worker.generation)
            if crew is not None:
                crew.trouble.over()
                replaced = crew.recycling.came(number)
                if replaced is not None:
                    self.recycled += 1
                    self.settle(now)
                    self._leave(replaced, now)
        self.settle(now)

    def failed(self, number: int, reason: str, now: float) -> None:
        """The worker cannot serve, and says why; or it could not be forked."""
        worker = self.workers.get(number)
        if worker is None:
            return
        self._in_trouble(worker, reason, now)
        if not worker.pid:
            self._strike(worker, now)
        else:
            self._leave(worker, now, told=False)

    def exited(self, number: int, how: str, now: float) -> None:
        """The worker is no more."""
        worker = self.workers.get(number)
        if worker is None:
            return
        if worker.state == STARTING:
            self._in_trouble(worker, f"a worker {how} before it could serve", now)
        self._strike(worker, now)

    # --- sizes --------------------------------------------------------------------------------------------------------
    def look(self, samples: dict[int, Sample], waiting: int, now: float) -> None:
        """Bring the number of workers to what the policy wants, by what their pages say; replace and end who is due."""
        for number, sample in samples.items():
            worker = self.workers[number]
            worker.jobs = sample.requests
            if sample.stuck and worker.state != LEAVING:
                self._effects.append(Kill(number, "it has not ended a request within its timeout and grace"))
            elif self.policy.max_rss_hard and sample.memory > self.policy.max_rss_hard:
                self._effects.append(Kill(number, "it has more memory than max_rss_hard"))
        crew = self.sets.get(self.current)
        if crew is None or self.stopping:
            return
        busy = self._share_out(crew, samples, now)
        for worker in list(crew.workers.values()):
            crew.recycling.worked(worker, self.policy)
            said = samples.get(worker.number, NOTHING)
            grown = bool(self.policy.max_rss) and said.memory > self.policy.max_rss
            if (grown or said.spent) and worker.state in (IDLE, BUSY):
                crew.recycling.outdate(worker)
        if self.ready:
            for worker in crew.to_replace(now):
                if crew.can_replace(worker, now):
                    crew.recycling.order(worker, self._fork(crew, now).number)
                elif worker.state == IDLE:
                    crew.recycling.done += 1
                    self._leave(worker, now)
        demand = Demand(math.ceil(waiting / self.capacity), busy)
        for _ in range(crew.missing(demand, now, ready=self.ready)):
            self._fork(crew, now)
        while (spare := crew.surplus(demand, now)) is not None:
            self._leave(spare, now)

    def _share_out(self, crew: Pool, samples: dict[int, Sample], now: float) -> int:
        """Count as busy as many workers as the requests in flight would fill, the fullest first. How many these are."""
        working = [w for w in crew.workers.values() if w.state in (IDLE, BUSY)]
        flying = {w.number: samples[w.number].in_flight if w.number in samples else 0 for w in working}
        busy = min(len(working), math.ceil(sum(flying.values()) / self.capacity))
        for place, worker in enumerate(sorted(working, key=lambda one: -flying[one.number])):
            wanted = BUSY if place < busy else IDLE
            if worker.state != wanted:
                self._move(worker, "job" if wanted == BUSY else "rest", now)
        return busy

    def next_look(self, now: float) -> float:
        """When it is to be looked at although nothing happens; 0 for never."""
        crew = self.sets.get(self.current)
        if crew is None or self.stopping:
            return 0.0
        if not self.ready:
            return 0.0
        if crew.trouble.after > now and not crew.trouble.parked:
            return crew.trouble.after
        return crew.look_again(Demand(0, crew.busy), now)

    @property
    def unattended(self) -> bool:
        """Whether nobody is there to accept, and somebody would be forked if there were anything to accept."""
        crew = self.sets.get(self.current)
        return crew is not None and not crew.live and self.ready and not self.stopping and not crew.trouble.parked

    # --- the end ------------------------------------------------------------------------------------------------------
    def stop(self, now: float) -> None:
        """Let all leave."""
        self.stopping = True
        for worker in list(self.workers.values()):
            if worker.state == LEAVING:
                self._effects.append(Tell(worker.number, "leave", alone=True))
            else:
                self._leave(worker, now, alone=True)
