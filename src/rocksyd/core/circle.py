"""Runs that wait for each other: none of them goes on before another has ended.

What must live here: who needs whom, and whether any of those can still go on.
What this file must not know: how it is known which process waits for a run (``master.desk``), and how it is said (``reasons``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rocksyd.core.pools import Pool
from rocksyd.core.worker import BUSY
from rocksyd.model import RUNNING, WAITING, Run

if TYPE_CHECKING:
    from rocksyd.core.engine import Engine

Awaited = Mapping[int, Sequence[str]]
"""By the PID of a worker: keys of the runs whose end it waits for."""
RUN, WORKER, TARGET = "run", "worker", "target"


class Need(NamedTuple):
    """What a run needs before it goes on: the end of one of these runs."""

    what: str
    """RUN: of that one. WORKER: they have all those of a pool. TARGET: they are as many of a target as may run."""
    name: str
    """The key, the pool id, the target."""
    keys: tuple[str, ...]


def circle(engine: Engine, run: Run, awaited: Awaited) -> list[tuple[Run, Need]]:
    """Runs that keep this one, and what each of them needs; this one is the first. None if it can still go on.

    What shares its process with others counts as able to go on: nobody knows which of them waits.
    """
    needs = _reached(engine, run, awaited)
    stuck = set(needs)
    while True:
        unmet = {need: all(key in stuck for key in need.keys) for found in needs.values() for need in found}
        free = [key for key in stuck if not any(unmet[need] for need in needs[key])]
        if not free:
            break
        stuck.difference_update(free)
    links: dict[str, tuple[Run, Need]] = {}
    todo = [run.key] if run.key in stuck else []
    while todo:
        key = todo.pop()  # the last first: what comes first in the list is a whole circle
        if key not in links:
            need = next(need for need in needs[key] if unmet[need])
            links[key] = engine.runs[key], need
            todo += reversed(need.keys)
    return list(links.values())


def full(pool: Pool) -> bool:
    """Whether all the workers that a pool may have are busy."""
    return pool.live >= pool.policy.max_workers and pool.busy == pool.live


def _reached(engine: Engine, run: Run, awaited: Awaited) -> dict[str, list[Need]]:
    """What this run needs, and all those whose end may help it."""
    made: dict[tuple[str, ...], Need] = {}
    needs: dict[str, list[Need]] = {}
    todo = [run.key]
    for key in todo:
        one = engine.runs.get(key)
        if one is not None and key not in needs:
            found = _of_running(engine, one, awaited) if one.state == RUNNING else _of_waiting(engine, one, made)
            needs[key] = [need for need in found if need.keys]
            todo += [other for need in needs[key] for other in need.keys]
    return needs


def _of_running(engine: Engine, run: Run, awaited: Awaited) -> Iterator[Need]:
    worker = engine.workers.get(run.attempt.worker)
    if worker is not None and not worker.shared and not run.attempt.kill_reason:
        for key in awaited.get(run.attempt.pid, ()):
            yield Need(RUN, key, (key,))


def _of_waiting(engine: Engine, run: Run, made: dict[tuple[str, ...], Need]) -> Iterator[Need]:
    """``made`` has what others of the same pool or target need, too: thousands may wait."""
    pool, queue, order = engine.pools.get(run.pool), engine.queues.get(run.pool), run.order
    if run.state != WAITING or pool is None or queue is None:
        return
    for key in engine.following.waits_for(run.key):
        yield Need(RUN, key, (key,))
    if full(pool):
        if (run.pool,) not in made:
            busy = [list(worker.runs) for worker in pool.workers.values() if worker.state == BUSY]
            made[run.pool,] = Need(WORKER, run.pool, tuple(key for keys in busy for key in keys) if all(busy) else ())
        yield made[run.pool,]
    same = queue.running_keys.get((order.target, order.concurrency_key), 0) if order.concurrency_key else 0
    of_key = bool(same and same >= order.max_running_per_key)
    if of_key or (order.max_running and queue.running.get(order.target, 0) >= order.max_running):
        key = order.concurrency_key if of_key else ""
        if (run.pool, order.target, key) not in made:
            keys = tuple(_at_target(engine, pool, order.target, key))
            made[run.pool, order.target, key] = Need(TARGET, order.target, keys)
        yield made[run.pool, order.target, key]


def _at_target(engine: Engine, pool: Pool, target: str, concurrency_key: str) -> Iterator[str]:
    for worker in pool.workers.values():
        for key in worker.runs:
            order = engine.runs[key].order if key in engine.runs else None
            if order is not None and order.target == target and concurrency_key in ("", order.concurrency_key):
                yield key
