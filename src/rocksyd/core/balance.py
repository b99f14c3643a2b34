"""Runs that wait and workers that are idle are brought together, and the number of workers to what the pool's policy wants.

What must live here: what happens to a pool at the end of a step that touched it.
What this file must not know: why it was touched; how many workers there should be (``pools``), who is next (``queue``).
"""

from __future__ import annotations

from itertools import count

from rocksyd.core import events as ev
from rocksyd.core import flags, lifecycle, memory, rates, room, targets, workforce
from rocksyd.core.pools import Pool
from rocksyd.core.state import State
from rocksyd.core.worker import IDLE, Worker
from rocksyd.kinds import kind_of
from rocksyd.model import Now, Run


def balance_touched(state: State, now: Now) -> None:
    """Balance every pool that this step has touched."""
    while state.touched:
        _balance(state, state.touched.popitem()[0], now)


def _balance(state: State, name: str, now: Now) -> None:
    """Replace who is due, give waiting runs to idle workers, then bring the number of workers to what the policy wants."""
    pool, queue = state.pools.get(name), state.queues.get(name)
    app = state.applications.get(pool.app) if pool is not None else None
    if pool is None or queue is None or app is None or state.stopping:
        return
    pool.generation = app.generation
    if app.ready:
        _recycle(state, app, pool, now)
    held = 0
    while (worker := pool.next_worker()) is not None and (run := queue.pop()) is not None:
        short = room.lack(state, run, now) if state.config.keep_free else None
        if short is not None:
            room.hold(state, run, short, now)
            held += 1
            if held == room.AT_ONCE:
                break
            continue
        _start(state, run, worker, pool, now)
        pool.admission.started(now.mono)
    pool.admission.looked(queue.startable, now.mono)
    times = pool.max_reached
    for _ in range(pool.missing(pool.demand(queue.startable), now.mono, ready=app.ready)):
        _fork(state, app, pool, now)
    if pool.max_reached > times:
        text = f"{queue.startable} runs wait for a worker and there are max_workers = {pool.policy.max_workers}"
        state.effects.append(ev.Note(f"pool {pool.name}: {text}; if that is so often, raise it"))
    demand = pool.demand(queue.startable)
    while (worker := pool.surplus(demand, now.mono)) is not None:
        workforce.send_away(state, worker, now)
    when = pool.look_again(demand, now.mono)
    if when and not (pool.reminded and pool.reminded <= when):
        pool.reminded = when
        state.reminders.add(when, "pool", pool.name)
    if pool.busy and not pool.memory.look_at and memory.watched(pool.policy):
        pool.memory.look_at = now.mono + pool.memory.interval(pool.policy)
        state.reminders.add(pool.memory.look_at, "memory", pool.name)


def _start(state: State, run: Run, worker: Worker, pool: Pool, now: Now) -> None:
    run.state = lifecycle.step(lifecycle.RUN, run.state, "start")
    order, attempt = run.order, run.attempt
    attempt.worker, attempt.pid, attempt.slot = worker.number, worker.pid, worker.slot
    attempt.generation = worker.generation
    attempt.revision = (
        state.applications[worker.app].revisions.get(worker.generation, "") if worker.app in state.applications else ""
    )
    attempt.started_at, attempt.started = now.wall, now.mono
    if state.durations is not None:
        state.durations.started(run, now)
    attempt.error = None
    attempt.debug = flags.found(state, order, now) is not None
    if state.short:
        state.short.pop(run.key, None)
    if order.timeout:
        attempt.deadline = now.mono + order.timeout
        state.reminders.add(attempt.deadline, "timeout", run.key)
    if order.slow_after:
        attempt.slow_at = now.mono + order.slow_after
        state.reminders.add(attempt.slow_at, "slow", run.key)
    state.queues[pool.name].begin(run)
    if order.rate or order.rate_per_key:
        rates.begins(state, run, now)
    worker.runs[run.key] = None
    worker.last = not worker.shared and (pool.policy.max_jobs == 1 or kind_of(order.kind).own_process)
    spools = order.unnamed and not worker.last and not worker.shared
    if spools and not state.config.apps[order.app].as_another(pool.policy):
        attempt.spool = f"{order.log.rpartition('/')[0]}/.worker-{worker.number}"
    else:
        attempt.spool = ""
    if worker.state == IDLE:
        pool.move(worker, "job", now.mono)
    pool.gave_job(now.mono)
    state.persist(run)
    state.effects += (ev.StartJob(worker.number, run, worker.last), ev.Started(run))


def _recycle(state: State, app: targets.Application, pool: Pool, now: Now) -> None:
    """Order replacements; who can be done without, or cannot be replaced for want of memory, leaves when idle."""
    for worker in pool.to_replace(now.mono):
        if pool.can_replace(worker, now.mono):
            pool.recycling.order(worker, _fork(state, app, pool, now).number)
        elif worker.number in pool.idle:
            pool.recycling.done += 1
            workforce.send_away(state, worker, now)


def _fork(state: State, app: targets.Application, pool: Pool, now: Now) -> Worker:
    state.worker_number += 1
    used = {worker.slot for worker in state.workers.values()} | set(state.slots_of_strangers())
    slot = next(slot for slot in count() if slot not in used)
    worker = Worker(state.worker_number, app.name, pool.name, app.generation, slot, since=now.mono, born=now.mono)
    worker.template, worker.capacity = pool.refork.parent, pool.policy.concurrency
    state.workers[worker.number] = worker
    pool.add(worker)
    order = ev.ForkWorker(app.name, app.generation, pool.name, worker.number, slot, worker.template, worker.capacity)
    state.effects.append(order)
    return worker
