"""The workers of a web pool, and the words that are said over them.

What must live here: the bookkeeping of workers by generation, and what is to be done about one, as values.
What this file must not know: when any of it is done (``core.web``); sockets, processes, pages, clocks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple
from zlib import crc32

from rocksyd.config import PoolConfig
from rocksyd.core.pools import Pool
from rocksyd.core.worker import LEAVING, STARTING, Worker

FIRST = 1 << 62
"""The numbers of web workers are above this. In one are, from its highest bits, the place of the application, the generation of
its code, and a count: no master has to know how far another has counted, and no application how far another one has."""
_COUNTS, _GENERATIONS, PLACES = 1 << 24, 1 << 22, 1 << 16


class Fork(NamedTuple):
    """Fork a worker."""

    generation: int
    number: int


class Tell(NamedTuple):
    """Tell a worker to accept, or to leave; ``alone``: nobody else serves."""

    number: int
    what: str
    alone: bool = False


class Kill(NamedTuple):
    """End a worker that does not answer."""

    number: int
    reason: str


class Note(NamedTuple):
    """A sentence for the log."""

    text: str


class Sample(NamedTuple):
    """What a worker's page says."""

    in_flight: int
    requests: int
    memory: int = 0
    """Resident bytes, 0 where nobody looked."""
    stuck: bool = False
    """Whether its deadline has passed."""
    spent: bool = False
    """Whether it says that it is to be replaced."""


NOTHING = Sample(0, 0)
"""Of a worker that has no page yet."""


def is_web(number: int) -> bool:
    """Whether a worker with this number serves requests, and is not for the engine."""
    return number > FIRST


def generation_of(number: int) -> int:
    """The generation of such a worker."""
    return number // _COUNTS % _GENERATIONS


def count_of(number: int) -> int:
    """Its number in its generation: with that it says what the whole number says, which JavaScript could not hold."""
    return number % _COUNTS


def place_in(number: int) -> int:
    """The place in such a number."""
    return (number - FIRST) // _COUNTS // _GENERATIONS


def place_of(app: str, taken: Collection[int]) -> int:
    """The place of an application in the numbers of its workers: the same in every master, but where another has it."""
    place = crc32(app.encode()) % PLACES
    while place in taken:
        place = (place + 1) % PLACES
    return place


def title(number: int) -> str:
    """What people call it: the third of generation 7 is ``7.3``."""
    return f"{generation_of(number)}.{count_of(number)}"


class WebCrew:
    """The web workers of one application."""

    def __init__(self, name: str, policy: PoolConfig, capacity: int, place: int = 0) -> None:
        self.name = name
        self.app = name.partition("/")[0]
        self.policy, self.capacity, self.place = policy, capacity, place
        self.workers: dict[int, Worker] = {}
        self.sets: dict[int, Pool] = {}
        """By generation, those that workers are forked for."""
        self.current = 0
        """The generation that accepts."""
        self.held: set[int] = set()
        """Generations that wait for an order to accept: whoever prepares them says when."""
        self.accepting: set[int] = set()
        self.failure: dict[int, str] = {}
        """Of generations that are coming: why a worker of it could not serve."""
        self.first: set[int] = set()
        """The first worker of each generation, which has to pass the smoke request."""
        self.ready = True
        """Whether there is a zygote of the current generation to fork from."""
        self.stopping = False
        self.recycled = 0
        self._effects: list[Any] = []
        self._counts: dict[int, int] = {}

    def use(self, policy: PoolConfig, capacity: int) -> None:
        """Other settings hold, for the workers there are as well."""
        self.policy, self.capacity = policy, capacity
        for crew in self.sets.values():
            crew.use(policy)

    def effects(self) -> list[Any]:
        """What has been decided since this was asked last."""
        decided, self._effects = self._effects, []
        return decided

    def forked(self, number: int, pid: int, now: float) -> None:
        """A worker lives that was ordered here, or by the master before. What is decided of it since then it has not heard."""
        self.found(number, pid, now)
        worker = self.workers[number]
        worker.pid = pid
        if worker.state == LEAVING:
            self._effects.append(Tell(number, "leave", alone=self.stopping))
        elif self.stopping or worker.generation < self.current:
            self._leave(worker, now, alone=self.stopping)

    def found(self, number: int, pid: int, now: float) -> None:
        """A worker that this master did not order."""
        if number in self.workers:
            return
        generation = generation_of(number)
        worker = Worker(number, self.app, self.name, generation, -1, STARTING, pid, since=now, born=now)
        self.workers[number] = worker
        self._counts[generation] = max(self._counts.get(generation, 0), count_of(number))
        if generation >= self.current:
            self._set(generation).add(worker)

    def _set(self, generation: int) -> Pool:
        if generation not in self.sets:
            self.sets[generation] = Pool(self.name, self.policy)
            self.sets[generation].generation = generation
        return self.sets[generation]

    def _fork(self, crew: Pool, now: float) -> Worker:
        generation = crew.generation
        count = self._counts[generation] = self._counts.get(generation, 0) + 1
        number = FIRST + (self.place * _GENERATIONS + generation) * _COUNTS + count
        worker = Worker(number, self.app, self.name, generation, -1, since=now, born=now)
        if generation != self.current and not crew.workers:
            self.first.add(number)
        self.workers[number] = worker
        crew.add(worker)
        self._effects.append(Fork(generation, number))
        return worker

    def _move(self, worker: Worker, action: str, now: float) -> None:
        crew = self.sets.get(worker.generation)
        if crew is not None and worker.number in crew.workers:
            crew.move(worker, action, now)
        else:
            worker.step(action, now)

    def _leave(self, worker: Worker, now: float, *, told: bool = True, alone: bool = False) -> None:
        """The worker is on its way out."""
        if worker.state == LEAVING:
            return
        if worker.state == STARTING:
            self._move(worker, "forked", now)
        self._move(worker, "leave", now)
        self.accepting.discard(worker.number)
        if told:
            self._effects.append(Tell(worker.number, "leave", alone))

    def left(self, number: int, now: float) -> None:
        """The worker says that it has nothing any more."""
        worker = self.workers.get(number)
        if worker is not None:
            self._leave(worker, now, told=False)

    def _strike(self, worker: Worker, now: float) -> None:
        crew = self.sets.get(worker.generation)
        if crew is not None and worker.number in crew.workers:
            if worker.state == STARTING:
                crew.recycling.failed(worker.number)
            crew.move(worker, "exit", now)
        self.accepting.discard(worker.number)
        self.first.discard(worker.number)
        self.workers.pop(worker.number, None)

    def _in_trouble(self, worker: Worker, reason: str, now: float) -> None:
        crew = self.sets.get(worker.generation)
        if worker.generation != self.current:
            self.failure.setdefault(worker.generation, reason)
        if crew is not None:
            said = crew.died(reason.partition("\n")[0], now)
            if said:
                self._effects.append(Note(f"pool {self.name}: {said}"))

    def dump(self) -> dict[str, Any]:
        """Plain data for a snapshot: what the workers do not say themselves."""
        return {
            "workers": [
                [w.number, w.pid, w.state == LEAVING, w.number in self.accepting] for w in self.workers.values() if w.pid
            ],
            "recycled": self.recycled,
        }

    def load(self, rows: Iterable[Iterable[Any]], now: float) -> Iterator[int]:
        """Take over the workers of another master, which serve; those of them that are to be listened to."""
        for number, pid, leaving, accepting, *_ in rows:
            self.found(number, pid, now)
            worker = self.workers[number]
            if leaving:
                self._leave(worker, now, told=False)
            elif accepting:
                self._move(worker, "forked", now)
                self.accepting.add(number)
            yield number
