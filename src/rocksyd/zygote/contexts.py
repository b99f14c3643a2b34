"""The surroundings of each pool's workers, made once, so that a fork only looks them up.

What must live here: how LOAD's ``settings["pools"]`` (pool id -> settings) changes the application's Context.
What this file must not know: forks, messages; how many workers a pool has.
"""

from __future__ import annotations

import os
from typing import Any

from rocksyd.errors import ConfigError
from rocksyd.worker.context import Context
from rocksyd.zygote import privileges


def of_pools(base: Context, pools: dict[str, dict[str, Any]]) -> dict[str, Context]:
    """A Context for every pool that ``pools`` names; ``base`` is what they have in common.

    Raises:
        ConfigError: a user, group, limit or CPU is not there, or may not be had; the message names the pool.
    """
    found = {}
    for name, settings in pools.items():
        try:
            found[name] = _context(base._replace(pool=name), settings)
        except ConfigError as error:
            raise ConfigError(f"pool {name}: {error}") from error
    return found


def _context(base: Context, settings: dict[str, Any]) -> Context:
    whom = privileges.identity(str(settings.get("user") or ""), str(settings.get("group") or ""))
    env = {**base.env, **(whom.env if whom is not None else {}), **(settings.get("env") or {})}
    cpus = frozenset(settings.get("cpu_affinity") or ())
    allowed = os.sched_getaffinity(0)
    if not cpus <= allowed:
        missing = ", ".join(map(str, sorted(cpus - allowed)))
        have = ", ".join(map(str, sorted(allowed)))
        raise ConfigError(f"cpu_affinity: this process may not run on CPU {missing} (it may on {have})")
    memory = int(settings.get("memory") or 0)
    return base._replace(
        processes=int(settings.get("max_processes") or 0),
        cpus_most=float(settings.get("max_cpu") or 0.0),
        memory=memory,
        env=env,
        own_env=env != base.env,
        whom=whom,
        cpus=cpus,
        nice=settings.get("nice", base.nice),
        umask=settings.get("umask", base.umask),
        oom_score_adj=settings.get("oom_score_adj", base.oom_score_adj),
        limits=(*base.limits, *privileges.memory_limit(memory), *privileges.limits(settings.get("rlimits") or {})),
    )
