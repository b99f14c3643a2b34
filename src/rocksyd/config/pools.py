"""What a pool's table says of its workers' lives and surroundings: when they are replaced, whom and what they run as.

What must live here: these keys' shapes and the rules between them.
What this file must not know: sizes and queues (``parse``), the disk.
"""

from __future__ import annotations

from typing import Any

from rocksyd.config import values
from rocksyd.config.settings import AppConfig, EmergencyRestart, Limit, PoolConfig
from rocksyd.config.table import Table
from rocksyd.units import parse_duration, parse_size, shown

JITTER = "20%"
"""Of ``max_jobs`` and ``max_age``, where nothing is said."""
RLIMITS = (
    "as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
    "sigpending", "stack",
)  # fmt: skip
"""setrlimit(2)."""
_COUNT = values.integer(0, 1_000_000_000)
_MOST_CPUS = 8192


def lifetime(table: Table, max_jobs: int) -> dict[str, Any]:
    """The settings of PoolConfig that say when a worker is replaced, but for ``max_jobs`` itself."""
    d = PoolConfig
    max_age = table.get("max_age", d.max_age, parse_duration)
    settings = {
        "max_jobs_jitter": round(_jitter(table, "max_jobs_jitter", max_jobs if max_jobs > 1 else 0, _COUNT)),
        "max_age": max_age,
        "max_age_jitter": _jitter(table, "max_age_jitter", max_age, parse_duration),
        "recycle": table.get("recycle", d.recycle, values.integer(1, 10_000)),
        "park_after": table.get("park_after", d.park_after, _COUNT),
    }
    if table.given("max_age_jitter") and not max_age:
        table.problem("max_age is not set (workers do not grow too old), so there is nothing to spread", "max_age_jitter")
    if table.given("recycle") and max_jobs == 1 and not max_age:
        table.problem(
            "max_jobs is 1 (every job has a fresh process), so nobody is replaced; remove it or raise max_jobs", "recycle"
        )
    return settings


def check_concurrency(table: Table, pool: PoolConfig) -> None:
    """Several jobs at a time need a worker that stays, and that is nobody's template."""
    if pool.concurrency > 1 and pool.max_jobs == 1:
        table.problem(
            "max_jobs is 1 (every job has a fresh process), so nothing is shared; set max_jobs = 0, or more", "concurrency"
        )
    if pool.concurrency > 1 and pool.refork_after:
        table.problem(
            f"concurrency is {pool.concurrency}, and a worker with an asyncio loop is not forked from; remove one", "refork_after"
        )


def _jitter(table: Table, key: str, of: float, convert: Any) -> float:
    """A number, or a percentage of what it is the jitter of."""
    return table.get(key, values.share_of(of, convert)(JITTER), values.share_of(of, convert))


def surroundings(table: Table) -> dict[str, Any]:
    """The settings of PoolConfig that say as whom and with what a worker runs."""
    return {
        "user": table.get("user", "", values.text("www-data")),
        "group": table.get("group", "", values.text("www-data")),
        "umask": table.get("umask", None, values.octal),
        "nice": table.get("nice", None, values.integer(-20, 19)),
        "cpu_affinity": tuple(sorted(set(table.array("cpu_affinity", "0", values.integer(0, _MOST_CPUS))))),
        "rlimits": _rlimits(table.table("rlimits")),
        "oom_score_adj": table.get("oom_score_adj", None, values.integer(-1000, 1000)),
        "env": environment(table.table("env")),
    }


def _rlimits(table: Table) -> dict[str, Limit]:
    found: dict[str, Limit] = {name: table.get(name, "unlimited", _limit) for name in RLIMITS if table.given(name)}
    for name in table.values:
        if name not in RLIMITS:
            table.problem(f"there is no such limit; known: {', '.join(RLIMITS)}", name)
    return found


def _limit(value: object) -> Limit:
    if value == "unlimited":
        return "unlimited"
    try:
        return parse_size(value)
    except ValueError:
        raise ValueError(f'expected a number, a size such as "512M" or "unlimited", got {shown(value)}') from None


def environment(table: Table) -> dict[str, str]:
    """Variables by name."""
    env = {}
    for name in table.values:
        if not name or "=" in name or "\0" in name:
            table.problem("expected the name of an environment variable, without = and not empty", name)
        env[name] = table.get(name, "", values.environment)
    return env


def emergency_restart(table: Table) -> EmergencyRestart:
    """``{ workers = 10, within = "1m" }``."""
    d = EmergencyRestart
    found = EmergencyRestart(
        workers=table.get("workers", d.workers, values.integer(0, 10_000)),
        within=table.get("within", d.within, values.positive_duration),
    )
    if table.values and not table.given("workers"):
        table.problem('workers is missing; write emergency_restart = { workers = 10, within = "1m" }')
    table.complain_of_rest({})
    return found


def check_users(table: Table, app: AppConfig) -> None:
    """An application that runs as a user of its own cannot become another for a pool."""
    for path, pool in ((("pool",), app.pool), *((("pools", name), pool) for name, pool in app.pools.items())):
        for key in ("user", "group"):
            mine, its = getattr(app, key), getattr(pool, key)
            if its and (app.user or app.group) and its != mine:
                what = f'{key} = "{its}" for this pool, but the application itself runs as {app.user or app.group}'
                table.problem(f"{what}, who cannot change it; set user and group in every pool instead", *path, key)
