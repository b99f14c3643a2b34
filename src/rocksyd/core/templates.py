"""What is told of templates and of memory, and what follows for a pool: who is forked from, who is replaced.

What must live here: the events of a template's life. What this file must not know: when a template pays (``refork``), in which
order workers are replaced (``recycling``), how any of it is done.
"""

from __future__ import annotations

from rocksyd.core import events as ev
from rocksyd.core import workforce
from rocksyd.core.pools import Pool
from rocksyd.core.refork import LOOKING, WEIGHING
from rocksyd.core.state import State
from rocksyd.model import Now


def after_job(state: State, pool: Pool, now: Now) -> None:
    """A worker has done another job: perhaps enough are warm, or the one that is to become a template is idle."""
    app = state.applications.get(pool.app)
    if app is None or not app.ready or state.stopping or pool.name not in state.queues:
        return
    if pool.refork.looks(pool.workers.values(), pool.policy.refork_after):
        state.effects.append(ev.MeasurePool(app.name, app.generation, pool.refork.parent, pool.name))
    else:
        _choose(state, pool, now)


def _choose(state: State, pool: Pool, now: Now) -> None:
    worker = pool.refork.choose(pool.workers.values(), pool.policy.refork_after)
    if worker is not None:
        state.effects.append(ev.PromoteWorker(worker.app, worker.generation, worker.number, pool.refork.before))
        workforce.remove(state, worker, now)


def measured(state: State, event: ev.HeardZygote, now: Now) -> None:
    """What workers have for themselves is known: before a template, or with it."""
    pool, app = state.pools.get(event.message.pool), state.applications.get(event.app)
    if pool is None or app is None or app.generation != event.generation or pool.refork.parent != event.template:
        return
    workers, after, sizes = pool.workers.values(), pool.policy.refork_after, dict(event.message.workers)
    if pool.refork.stage == LOOKING and pool.refork.seen(sizes, workers, after):
        _choose(state, pool, now)
    elif pool.refork.stage == WEIGHING:
        verdict = pool.refork.weigh(sizes, workers, after)
        if verdict is None:
            return
        state.effects.append(ev.Note(f"pool {pool.name}: forking workers from a warm one {verdict.text}"))
        if not verdict.pays:
            state.effects.append(ev.RetireTemplate(event.app, event.generation, event.template))
            _replace_others(state, pool)


def ready(state: State, event: ev.HeardZygote, now: Now) -> None:
    """From now on the pool's workers come from the template; those there are, are replaced one after another."""
    pool, app = state.pools.get(event.message.pool), state.applications.get(event.app)
    wanted = pool is not None and pool.name in state.queues and pool.policy.refork_after > 0
    if pool is None or not wanted or app is None or app.generation != event.generation or not pool.refork.expects(event.template):
        state.effects.append(ev.RetireTemplate(event.app, event.generation, event.template))
        return
    pool.refork.came(event.template, event.message.before, event.message.private)
    _replace_others(state, pool)


def gone(state: State, event: ev.ZygoteGone) -> None:
    """Workers come from the zygote again."""
    for pool in state.pools_of(event.app):
        if pool.refork.gone(event.template, pool.policy.refork_after):
            state.effects.append(ev.Note(f"pool {pool.name}: workers are forked from the zygote: {event.reason}"))
            _replace_others(state, pool)


def _replace_others(state: State, pool: Pool) -> None:
    """Replace the workers that were forked from elsewhere than new ones are."""
    for worker in pool.workers.values():
        if worker.template != pool.refork.parent:
            pool.recycling.outdate(worker)
    state.touched[pool.name] = None
