"""The surroundings of each pool's workers, made once, so that a fork only looks them up.

What must live here: how LOAD's ``settings["pools"]`` (pool id -> settings) changes the application's Context.
What this file must not know: forks, messages; how many workers a pool has.
"""

from __future__ import annotations

from typing import Any

from rocksyd.worker.context import Context
from rocksyd.zygote import privileges


def contexts(base: Context, pools: dict[str, dict[str, Any]]) -> dict[str, Context]:
    """A Context for every pool that ``pools`` names; ``base`` is what they have in common."""
    return {name: _context(base, name, settings) for name, settings in pools.items()}


def _context(base: Context, name: str, settings: dict[str, Any]) -> Context:
    memory = int(settings.get("memory") or 0)
    return base._replace(
        processes=int(settings.get("max_processes") or 0),
        cpus_most=float(settings.get("max_cpu") or 0.0),
        pool=name,
        memory=memory,
        limits=(*base.limits, *privileges.memory_limit(memory)),
    )
