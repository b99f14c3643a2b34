"""A generation: one tick of a script as a list of jobs, with a hook before and one after them.

What must live here: the stages and what leads from one to the next, keys, and how many jobs are ordered at once.
What this file must not know: how a run is ordered, where anything is kept, clocks.

Every order of a generation has a key that follows from the generation's own, so whoever goes on after a crash orders the same. A
stage is left only when all that belongs to it has ended, and that is written down before the next one begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from rocksyd.schedule.script import Script
from rocksyd.schedule.words import key_time

QUEUED, INIT, JOBS, FINISH, ENDED = "waiting", "init", "jobs", "finish", "ended"
"""Its stages. QUEUED: it waits for the generation before it, or for other scripts (``depends_on``)."""
OK, FAILED, CANCELLED = "ok", "failed", "cancelled"
AHEAD = 2
"""Jobs that are ordered and have not ended, for each worker that the pool may have."""
JOBS_MOST = 1_000_000
"""Jobs of a generation."""


@dataclass
class Generation:
    """One of them, as far as it has come. It keeps the orders that its script had when it began."""

    key: str
    """``SCRIPT@TIME``, or ``SCRIPT!ID`` of one ordered by hand."""
    script: str
    time: str
    """The nominal time."""
    order: dict[str, Any] = field(default_factory=dict)
    """The parameters of ``run`` that its jobs share."""
    jobs: dict[str, Any] = field(default_factory=dict)
    """As ``[scripts.NAME] jobs``; empty: it is a single run that waits for other scripts."""
    finish: str = ""
    instances: int = 0
    alone: bool = True
    """Whether it waits for generations of its script that began before it."""
    fill: bool = False
    """Whether it fills a tick of a time that has passed, however much newer ones have been run."""
    needs: list[str] = field(default_factory=list)
    """Keys of runs and generations that have to end well before it begins."""
    stage: str = QUEUED
    total: int = 0
    ended: int = 0
    failed: int = 0
    outcome: str = ""
    reason: str = ""
    killed: str = ""
    """Who has ended it, and when; "" while nobody has."""
    began: float = 0.0
    over: float = 0.0

    @property
    def by_hand(self) -> bool:
        """Whether somebody has ordered it, and no schedule."""
        return "@" not in self.key

    @property
    def hook(self) -> str:
        """The target that makes the list; "" where the configuration says it."""
        return str(self.jobs.get("from", ""))


def of(script: Script, key: str, time: str, needs: list[str]) -> Generation:
    """The generation of a script's tick."""
    alone = script.overlap != "allow"
    order, jobs = _shared(script), dict(script.jobs)
    return Generation(key, script.name, time, order, jobs, script.finish, script.instances, alone, needs=needs)


def of_tick(script: Script, tick: int, needs: list[str]) -> Generation:
    """That of one of its times."""
    time = key_time(tick)
    return of(script, f"{script.name}@{time}", time, needs)


def _shared(script: Script) -> dict[str, Any]:
    """What the jobs' orders share. They don't wait for each other, as runs of other scripts do."""
    return {name: value for name, value in script.order.items() if name != "concurrency_key"}


def after_waiting(one: Generation) -> str:
    """The stage that follows QUEUED."""
    return INIT if one.hook else JOBS


def listed(one: Generation) -> list[Any] | None:
    """The data of the jobs that the configuration describes; None where a hook makes the list, or it is a single run."""
    if "instances" in one.jobs:
        return [None] * int(one.jobs["instances"])
    if "range" in one.jobs:
        first, last = one.jobs["range"]
        return list(range(first, last + 1))
    return None if one.hook else [None]


def verdict(one: Generation, finish: str) -> tuple[str, str]:
    """How it has ended, and why not well, when all stages are over. ``finish``: how the last hook has; "" where there is none."""
    if one.killed:
        return CANCELLED, f"ended {one.killed}"
    if finish not in ("", OK):
        return FAILED, f"{one.key}.finish ended as {finish}"
    if one.failed:
        return FAILED, f"{one.failed:,} of {one.total:,} jobs did not end well"
    return OK, ""


def window(one: Generation, workers: int) -> int:
    """How many of its jobs are ordered and have not ended."""
    return one.instances or max(1, AHEAD * workers)


def digest(n: int, data: Any) -> bytes:
    """What jobs with the same data have in common. Jobs without data are told apart by their number."""
    text = f"#{n}" if data is None else json.dumps(data, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


# --- orders -----------------------------------------------------------------------------------------------------------
def job_key(one: Generation, n: int) -> str:
    """The key of a job's run."""
    return f"{one.key}.{n}" if one.jobs else one.key


def job_order(one: Generation, n: int, data: Any) -> dict[str, Any]:
    """The parameters of ``run`` for a job. Where the script has no ``params``, the job's data are its arguments."""
    tick: dict[str, Any] = {"script": one.script, "time": one.time, **({"fill": True} if one.fill else {})}
    if not one.jobs:
        return {**one.order, "key": one.key, "tick": tick}
    tick |= {"n": n, "fill": True, "total": one.total, **({} if data is None else {"job": data})}
    params = one.order.get("params") or _params(data)
    return {**_labelled(one), "params": params, "key": job_key(one, n), "tick": tick}


def _params(data: Any) -> Any:
    return [] if data is None else data if isinstance(data, list | dict) else [data]


def _labelled(one: Generation) -> dict[str, Any]:
    return {**one.order, "labels": {**one.order.get("labels", {}), "generation": one.key}}


def hook_order(one: Generation, name: str) -> dict[str, Any]:
    """The parameters of ``run`` for the hook ``init`` or ``finish``: with the script's limits and without its params."""
    target = one.hook if name == INIT else one.finish
    tick = {"script": one.script, "time": one.time, **({"fill": True} if one.fill or name == FINISH else {})}
    return {**_labelled(one), "target": target, "params": [], "key": f"{one.key}.{name}", "tick": tick}


def keys(one: Generation, numbers: list[int]) -> Iterator[str]:
    """The keys of the runs that may be going on, those of these jobs among them."""
    for name in (INIT, FINISH) if one.jobs else ():
        yield f"{one.key}.{name}"
    for n in numbers:
        yield job_key(one, n)


def progress(one: Generation) -> dict[str, Any]:
    """How far it is, for people and programs."""
    names = ("key", "script", "time", "stage", "total", "ended", "failed", "outcome", "reason", "needs")
    found: Mapping[str, Any] = vars(one)
    return {**{name: found[name] for name in names}, "began": one.began or None, "over": one.over or None}
