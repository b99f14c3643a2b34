"""How a worker comes and how it leaves, as the engine keeps account of it.

What must live here: the one way in which a worker is entered, sent away and struck off, for everybody who decides that it is.
What this file must not know: why (zygotes and workers, ``supervision``; the sizes of pools, ``balance``; the hand-over,
``takeover``).
"""

from __future__ import annotations

from rocksyd.core import events as ev
from rocksyd.core.pools import Pool
from rocksyd.core.state import LEAVE_TIMEOUT, State
from rocksyd.core.worker import STARTING, Worker
from rocksyd.model import Now


def enlist(state: State, worker: Worker) -> None:
    """A worker that lives already."""
    state.workers[worker.number] = worker
    state.worker_number = max(state.worker_number, worker.number)
    pool, app = state.pool_of(worker), state.applications.get(worker.app)
    pool.add(worker)
    if app is not None and app.generation and app.generation != worker.generation:
        pool.recycling.forget(worker)


def send_away(state: State, worker: Worker, now: Now) -> None:
    """An idle worker is to leave."""
    leaves(state, worker, now)
    state.effects.append(ev.DrainWorker(worker.number))


def leaves(state: State, worker: Worker, now: Now) -> None:
    """The worker is on its way out; it is not waited for for ever."""
    state.pool_of(worker).move(worker, "leave", now.mono)
    state.reminders.add(worker.since + LEAVE_TIMEOUT, "leave", worker.number)
    state.touched[worker.pool] = None


def remove(state: State, worker: Worker, now: Now) -> None:
    """The worker is no more."""
    if worker.state == STARTING:
        state.pool_of(worker).recycling.failed(worker.number)
    state.pool_of(worker).move(worker, "exit", now.mono)
    del state.workers[worker.number]
    state.touched[worker.pool] = None
    drop_if_over(state, state.pools[worker.pool])


def drop_if_over(state: State, pool: Pool) -> None:
    """A pool that the configuration no longer has goes with its last worker."""
    if pool.name not in state.queues and not pool.workers:
        del state.pools[pool.name]
