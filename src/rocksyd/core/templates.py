"""What is told of templates and of memory, and what follows for a pool: who is forked from, who is replaced.

What must live here: the events of a template's life. What this file must not know: when a template pays (``refork``), in which
order workers are replaced (``recycling``), how any of it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rocksyd.core import events as ev
from rocksyd.core.pools import STARTING, Pool
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
        state.remove(worker, now)


def pool_measured(state: State, event: ev.PoolMeasured, now: Now) -> None:
    """What workers have for themselves is known: before a template, or with it."""
    pool, app = state.pools.get(event.pool), state.applications.get(event.app)
    if pool is None or app is None or app.generation != event.generation or pool.refork.parent != event.template:
        return
    workers, after = pool.workers.values(), pool.policy.refork_after
    if pool.refork.stage == LOOKING and pool.refork.seen(event.sizes, workers, after):
        _choose(state, pool, now)
    elif pool.refork.stage == WEIGHING:
        verdict = pool.refork.weigh(event.sizes, workers, after)
        if verdict is None:
            return
        state.effects.append(ev.Note(f"pool {pool.name}: forking workers from a warm one {verdict.text}"))
        if not verdict.pays:
            state.effects.append(ev.RetireTemplate(event.app, event.generation, event.template))
            _replace_others(state, pool)


def template_ready(state: State, event: ev.TemplateReady, now: Now) -> None:
    """From now on the pool's workers come from the template; those there are, are replaced one after another."""
    pool, app = state.pools.get(event.pool), state.applications.get(event.app)
    wanted = pool is not None and pool.name in state.queues and pool.policy.refork_after > 0
    if pool is None or not wanted or app is None or app.generation != event.generation or not pool.refork.expects(event.template):
        state.effects.append(ev.RetireTemplate(event.app, event.generation, event.template))
        return
    pool.refork.came(event.template, event.before, event.cost)
    _replace_others(state, pool)


def template_gone(state: State, event: ev.TemplateGone, now: Now) -> None:
    """What it had promised to fork never comes; workers come from the zygote again."""
    mine = [
        w for w in state.workers.values() if (w.app, w.generation, w.template) == (event.app, event.generation, event.template)
    ]
    for worker in mine:
        if worker.state == STARTING:
            state.remove(worker, now)
    app = state.applications.get(event.app)
    if app is None or app.generation != event.generation:
        return
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


HANDLERS: dict[type[Any], Callable[[State, Any, Now], None]] = {
    ev.PoolMeasured: pool_measured,
    ev.TemplateReady: template_ready,
    ev.TemplateGone: template_gone,
}
