"""Effects that could not be carried out: what the engine is told instead of what it waits for.

What must live here: for each effect that is answered, the answer that says "it did not come about". Nothing may be waited for
for ever. What this file must not know: how an effect is carried out, what went wrong.
"""

from __future__ import annotations

from typing import Any

from rocksyd.core import events as ev
from rocksyd.messages import ForkFailed, Measured


def instead(effect: Any, reason: str) -> list[Any]:
    """The events that follow from not having done this, or not wholly; ``reason`` is a sentence."""
    match effect:
        case ev.ForkWorker(app, generation, pool, worker, _, template):
            return [ev.HeardZygote(app, generation, template, ForkFailed(worker, pool, reason))]
        case ev.MeasurePool(app, generation, template, pool):
            return [ev.HeardZygote(app, generation, template, Measured(pool))]
        case ev.MeasureWorkers(pool):
            return [ev.WorkersMeasured(pool, {})]
        case ev.PromoteWorker(app, generation, worker):
            return [ev.ZygoteGone(app, generation, worker, reason), ev.WorkerSpokeNonsense(worker, reason)]
    # What a worker has been told is not known, so it is killed; anything else is lost, and nobody waits for it.
    worker = getattr(effect, "worker", 0)
    return [ev.WorkerSpokeNonsense(worker, reason)] if worker else []
