"""What a pool's table says: settings that others follow from, and which may stand together.

What must live here: the rules between settings of a pool.
What this file must not know: which settings there are and what each may be (``settings``), the disk.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rocksyd.config.forms import Share
from rocksyd.config.setting import found
from rocksyd.config.settings import AppConfig, PoolConfig
from rocksyd.config.table import Table
from rocksyd.config.web import BACKLOG, MAX_QUEUE
from rocksyd.units import format_duration

JITTER = Share(20)
"""Of ``max_jobs`` and ``max_age``, where nothing is said."""

_ONLY_WITH = {
    "min_spare": ("pm", "dynamic"), "max_spare": ("pm", "dynamic"), "start_workers": ("pm", "dynamic"),
    "idle_timeout": ("pm", "ondemand"), "wait_target": ("admission", "adaptive"), "wait_interval": ("admission", "adaptive"),
}  # fmt: skip
"""Settings that mean something only where another is set to this."""
_OF_JOBS = (
    "timeout", "queue_timeout", "concurrency", "admission", "wait_target", "wait_interval", "max_queue_bytes", "refork_after",
    "leftover", "results", "max_total_rss",
)  # fmt: skip
"""Settings that a pool which serves requests has no use for."""
_INSTEAD = {
    **dict.fromkeys(("timeout", "concurrency"), "that of requests is set in [apps.NAME.web]"),
    "max_total_rss": "limit each worker, with max_rss or max_rss_hard, and max_workers",
}
"""What to do instead of some of these."""
DEFAULT_WEB = PoolConfig(pm="static", max_workers=2, max_jobs=0, max_queue=MAX_QUEUE)
"""The pool of an application's requests where nobody describes it."""
DEFAULT_SERVICE = PoolConfig(pm="static", max_workers=1, max_jobs=0)
"""The pool of a service where nobody describes it."""
_NOT_OF_SERVICES = (*_OF_JOBS, "pm", "max_workers", "max_jobs", "max_age", "max_queue", "max_rss", "recycle", "slow_after")
"""Settings that a pool of a service has no use for: its one worker stays until a deploy."""
_ORDERED = (
    ("min_spare", "max_spare"),
    ("min_spare", "max_workers"),
    ("max_spare", "max_workers"),
    ("start_workers", "max_workers"),
)


def web_pool(table: Table) -> PoolConfig:
    """The pool that a table describes, and that serves requests: its ``max_jobs`` and ``max_queue`` are of requests."""
    made = pool(table, jobs=0)
    for key in _OF_JOBS:
        if table.given(key):
            what = _INSTEAD.get(key, "requests have none")
            table.problem(f"{key} is for jobs, and this pool serves requests; remove it ({what})", key)
    if table.given("max_queue") and not 0 < made.max_queue < BACKLOG:
        table.problem(f"expected 1 to {BACKLOG - 1} connections, because the kernel keeps at most {BACKLOG}", "max_queue")
    return made if table.given("max_queue") else replace(made, max_queue=MAX_QUEUE)


def service_pool(table: Table) -> PoolConfig:
    """The pool that a table describes, and that serves a service: one worker, which stays."""
    made = pool(table, jobs=0)
    for key in _NOT_OF_SERVICES:
        if table.given(key):
            table.problem(f"{key} is for jobs, and this pool is that of a service, whose one worker stays; remove it", key)
    return replace(made, pm="static", max_workers=1)


def pool(table: Table, jobs: int = PoolConfig.max_jobs) -> PoolConfig:
    """The pool that a table describes; what is wrong with it is noted. ``jobs``: its ``max_jobs`` where that is left out."""
    said = found(PoolConfig, table)
    said["max_jobs"] = said["max_jobs"] if table.given("max_jobs") else jobs
    said["start_workers"] = said["start_workers"] or said["min_spare"]
    said["max_jobs_jitter"] = round(_part(table, said, "max_jobs_jitter", said["max_jobs"] if said["max_jobs"] > 1 else 0))
    said["max_age_jitter"] = _part(table, said, "max_age_jitter", said["max_age"])
    said["cpu_affinity"] = tuple(sorted(set(said["cpu_affinity"])))
    made = PoolConfig(**said)
    _check_size(table, made)
    _check_lives(table, made)
    table.complain_of_rest()
    return made


def _part(table: Table, said: dict[str, Any], key: str, whole: float) -> float:
    """A number, or a percentage of what it is the jitter of."""
    part: float = said[key] if table.given(key) else JITTER
    return whole * part / 100 if isinstance(part, Share) else part


def _check_size(table: Table, pool: PoolConfig) -> None:
    for key, (other, wanted) in _ONLY_WITH.items():
        is_now = getattr(pool, other)
        # What is wrong has been noted; what it was meant to be nobody knows.
        if table.given(key) and is_now != wanted and table.values.get(other, is_now) == is_now:
            table.problem(
                f'{key} is for {other} = "{wanted}", and {other} is "{is_now}"; remove {key} or set {other} = "{wanted}"', key
            )
    if pool.wait_target > pool.wait_interval:
        target, interval = format_duration(pool.wait_target), format_duration(pool.wait_interval)
        table.problem(f"is {target} and wait_interval {interval}; lower wait_target or raise wait_interval", "wait_target")
    if 0 < pool.max_rss_hard < pool.max_rss:
        sentence = "is below max_rss, so no worker would be left to recycle; raise max_rss_hard or lower max_rss"
        table.problem(sentence, "max_rss_hard")
    if pool.pm == "dynamic":
        _check_spares(table, pool)


def _check_spares(table: Table, pool: PoolConfig) -> None:
    for key in ("min_spare", "max_spare"):
        if not table.given(key):
            table.problem(f'{key} is missing; pm = "dynamic" keeps between min_spare and max_spare idle workers')
    if not pool.min_spare or not pool.max_spare:  # missing, or wrong and noted as such
        return
    for small, large in _ORDERED:
        low, high = getattr(pool, small), getattr(pool, large)
        if low > high:
            table.problem(f"{small} is {low} and {large} is {high}; lower {small} or raise {large}", small)


def _check_lives(table: Table, pool: PoolConfig) -> None:
    """What needs workers that stay, what needs workers that are replaced."""
    fresh = "max_jobs is 1 (every job has a fresh process)"
    if table.given("max_jobs_jitter") and pool.max_jobs < 2:
        what = fresh if pool.max_jobs else "max_jobs is 0 (workers never leave)"
        table.problem(f"{what}, so there is nothing to spread; remove it or raise max_jobs", "max_jobs_jitter")
    if table.given("max_age_jitter") and not pool.max_age:
        table.problem("max_age is not set (workers do not grow too old), so there is nothing to spread", "max_age_jitter")
    if table.given("recycle") and pool.max_jobs == 1 and not pool.max_age:
        table.problem(f"{fresh}, so nobody is replaced; remove it or raise max_jobs", "recycle")
    if pool.refork_after and pool.max_jobs and pool.refork_after > pool.max_jobs:
        what = fresh if pool.max_jobs == 1 else f"max_jobs is {pool.max_jobs} (workers are replaced before they have run so many)"
        table.problem(f"{what}; lower refork_after or raise max_jobs", "refork_after")
    if pool.concurrency > 1 and pool.max_jobs == 1:
        table.problem(f"{fresh}, so nothing is shared; set max_jobs = 0, or more", "concurrency")
    if pool.concurrency > 1 and pool.refork_after:
        table.problem(
            f"concurrency is {pool.concurrency}, and a worker with an asyncio loop is not forked from; remove one", "refork_after"
        )


def check_users(table: Table, app: AppConfig) -> None:
    """An application that runs as a user of its own cannot become another for a pool."""
    for path, pool in ((("pool",), app.pool), *((("pools", name), pool) for name, pool in app.pools.items())):
        for key in ("user", "group"):
            mine, its = getattr(app, key), getattr(pool, key)
            if its and (app.user or app.group) and its != mine:
                what = f'{key} = "{its}" for this pool, but the application itself runs as {app.user or app.group}'
                table.problem(f"{what}, who cannot change it; set user and group in every pool instead", *path, key)


def check_choices(table: Table, app: AppConfig) -> None:
    """A target can choose only a pool that there is."""
    for target, settings in app.jobs_settings.items():
        name = settings.get("pool")
        if name and app.web is not None and name == app.web.pool:
            table.problem(
                f"the pool {name!r} serves requests, and runs no jobs; choose another one", "jobs_settings", target, "pool"
            )
        elif name in app.services:
            table.problem(
                f"the pool {name!r} is that of a service, and runs no jobs; choose another one", "jobs_settings", target, "pool"
            )
        elif name and name not in app.pools:
            there = f"there are: {', '.join(app.pools)}" if app.pools else "it has only its own"
            table.problem(
                f"there is no pool {name!r} ({there}); add [apps.{app.name}.pools.{name}] or remove pool",
                *("jobs_settings", target, "pool"),
            )
