"""What holds of an engine after every step, counted anew."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rocksyd.core.engine import Engine
from rocksyd.core.pools import Pool
from rocksyd.model import RUNNING, WAITING, Now


def check_recycling(pool: Pool) -> None:
    """A few at a time, the replacement first, and nobody is forgotten."""
    replaced = pool.recycling.replaced
    assert len(replaced) <= max(pool.policy.recycle, 2), "as many as the setting says; another configuration may say fewer"
    for old in replaced.values():
        assert old.number in pool.workers
        assert old.state in ("idle", "busy")
        successor = pool.workers.get(old.successor)
        assert old.over or (successor is not None and successor.state == "starting"), "it is on its way, or has come"
        assert not (old.over and old.number in pool.idle), "who has been replaced and has no run leaves"


def check(engine: Engine, now: Now) -> None:
    """What holds after every step of the engine."""
    assert not engine.counters["nonsense"], "a worker that speaks of its own runs is believed"
    for name, pool in engine.pools.items():
        workers = [worker for worker in engine.workers.values() if worker.pool == name]
        states = Counter(worker.state if worker.sure or worker.state != "idle" else "unsure" for worker in workers)
        assert (pool.starting, pool.busy, len(pool.idle), pool.unsure, pool.leaving) == tuple(
            states[state] for state in ("starting", "busy", "idle", "unsure", "leaving")
        )
        assert list(pool.workers) == [worker.number for worker in workers] or set(pool.workers) == {w.number for w in workers}
        app = engine.applications.get(pool.app)
        if app is None or name not in engine.queues:
            assert not pool.idle
            assert pool.workers
            continue
        queue = engine.queues[name]
        running = Counter(run.order.target for run in engine.runs.values() if run.pool == name and run.state == RUNNING)
        assert queue.running == running
        startable = sum(
            not run.order.max_running or running[run.order.target] < run.order.max_running
            for run in engine.runs.values()
            if run.key in queue
        )
        assert bool(queue.startable) == bool(startable)
        assert queue.startable <= startable
        assert all(worker.generation == app.generation for worker in pool.idle.values()), (
            "idle workers are of the code that serves"
        )
        if engine.stopping:
            continue
        if pool.busy and (pool.policy.max_rss_hard or pool.policy.max_total_rss):
            look = engine.next_deadline()
            assert look is not None, "somebody looks at the memory of those who do something"
            assert look <= pool.memory.look_at
        full = pool.busy - len(pool.draining) >= pool.policy.max_workers
        most = pool.policy.concurrency
        busy = [w for w in workers if w.state == "busy" and w.sure and not w.over and w.generation == app.generation]
        room = most > 1 and any(len(worker.runs) < min(most, worker.capacity) for worker in busy)
        assert not (room and queue.startable), "nobody waits while somebody has room"
        assert not (pool.idle and queue.startable) or full, "nobody waits while somebody is idle"
        check_recycling(pool)
        due = engine.next_deadline()
        if queue.startable and app.ready and pool.live < pool.policy.max_workers and pool.leaving <= pool.policy.max_workers:
            coming = pool.starting + pool.unsure
            after = pool.trouble.after
            wakes = due is not None and due <= after and after > now.mono
            assert coming or wakes or pool.trouble.parked or pool.memory.full, "somebody waits and nobody is coming"
    sequences = [run.sequence for run in engine.runs.values()]
    assert sequences == sorted(sequences), "a list goes through them from the end"
    held: dict[int, Any] = {}
    for run in engine.runs.values():
        due = engine.next_deadline()
        if run.state == WAITING:
            assert run.attempt.worker == 0
            held_back = engine.following.waits_for(run.key)
            assert all(key in run.order.after and engine.runs[key].sequence < run.sequence for key in held_back)
            assert not (held_back and run.key in engine.queues[run.pool]), "what waits for others is in no line"
            assert (
                held_back or run.key in engine.queues[run.pool] or (run.not_before and due is not None and due <= run.not_before)
            )
            assert not run.start_by or (due is not None and due <= run.start_by)
        else:
            assert run.state == RUNNING
            held.setdefault(run.attempt.worker, []).append(run.key)
            assert not run.attempt.kill_at or (due is not None and due <= run.attempt.kill_at)
            assert not run.attempt.deadline or run.attempt.kill_reason or (due is not None and due <= run.attempt.deadline)
            assert not run.attempt.slow_at or (due is not None and due <= run.attempt.slow_at)
    for worker in engine.workers.values():
        assert set(worker.runs) <= set(held.get(worker.number, ()))
        assert len(worker.runs) <= worker.capacity, "a worker has one run, or as many as may share it"
        if worker.state == "leaving":
            due = engine.next_deadline()
            assert due is None or due <= worker.since + 30.0 or worker.since + 30.0 <= now.mono
