"""From a caller's order to a run: the settings of a target, from nearest to farthest.

What must live here: which setting wins, and what is wrong with an option.
What this file must not know: queues, workers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Any

from rocksyd.config import AppConfig, Config, PoolConfig, pool_id
from rocksyd.core import signature
from rocksyd.core.events import Submit
from rocksyd.core.targets import NOT_FOUND, Target
from rocksyd.errors import RequestError
from rocksyd.model import SCRIPT, Now, Run
from rocksyd.units import parse_duration, shown

INVALID_PARAMS = -32602
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
_NAME_MOST = 200
_MOST = 1 << 31


def same_order(run: Run, event: Submit) -> bool:
    """Whether repeating this order means the run there is already: same target, same parameters."""
    same = run.name == event.target and run.params == event.params and event.app in (None, run.app)
    return same and run.each == bool(event.options.get("each"))


def new_run(event: Submit, target: Target, config: Config, sequence: int, now: Now) -> Run:
    """The waiting run. Options of the order win over ``jobs_settings``, those over ``@job``, those over the pool."""
    app = config.apps[target.app]
    settings = _settings(event, target, app)
    each = bool(event.options.get("each"))
    if each and not isinstance(event.params, list):
        raise RequestError(INVALID_PARAMS, "params must be an array of parameters, because of each")
    if event.typed and target.signature is not None:
        for params in event.params if each else [event.params]:
            _check(target, target.signature, params)
    pool_name, pool = _pool(settings, target, app)
    if pool.concurrency > 1:
        _check_shared(event, pool_name)
    delay = _duration(settings, "delay")
    start_within = _duration(settings, "start_within", pool.queue_timeout)
    key = str(event.options.get("concurrency_key") or "")
    unnamed = event.unnamed and config.journal.calls != "before"
    return Run(
        key=event.key,
        app=target.app,
        pool=pool_name,
        name=event.target,
        target=target.target,
        params=event.params,
        each=each,
        kind=event.kind,
        unnamed=unnamed,
        behind=unnamed,
        log="" if event.kind == SCRIPT else output_path(config.state_dir, event.key, now.wall),
        submitted_at=now.wall,
        sequence=sequence,
        priority=_integer(settings, "priority", -_MOST),
        timeout=_duration(settings, "timeout", pool.timeout),
        grace=_duration(settings, "grace", pool.grace),
        slow_after=0.0 if event.kind == SCRIPT else _duration(settings, "slow_after", pool.slow_after),
        retries=_integer(settings, "retries"),
        max_running=_integer(settings, "max_running"),
        concurrency_key=key,
        max_running_per_key=(_integer(settings, "max_running_per_key") or 1) if key else 0,
        env=_strings(settings, "env"),
        labels=_strings(settings, "labels"),
        not_before=now.mono + delay if delay else 0.0,
        start_by=now.mono + delay + start_within if start_within else 0.0,
    )


def _check_shared(event: Submit, pool: str) -> None:
    """Raises RequestError for what needs a process of its own, in a pool whose runs share theirs."""
    what = "a script" if event.kind == SCRIPT else "a run with variables of its own (env)" if event.options.get("env") else ""
    if what:
        raise RequestError(
            INVALID_PARAMS,
            f"{what} cannot share a process with others, and in pool {pool!r} runs do (concurrency)",
            data="let it run in a pool with concurrency = 1",
        )


def _check(target: Target, known: signature.Signature, params: Any) -> None:
    """Raises RequestError, which names the parameter that does not fit the job's signature."""
    name, trouble = signature.problem(known, params)
    if trouble:
        data = {"parameter": name or None, "target": target.target, "advice": signature.shown(known)}
        raise RequestError(INVALID_PARAMS, f"{target.target}: {trouble}", classic="Invalid params", data=data)


def output_path(state_dir: str, key: str, wall: float) -> str:
    """Where the output of a run goes: a folder a day (UTC), the key as file name with what is special percent-encoded."""
    name = key
    if not _PLAIN.issuperset(key):
        name = "".join(c if c in _PLAIN else "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "replace")) for c in key)
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if len(name) > _NAME_MOST:
        name = f"{name[: _NAME_MOST - 66]}~{sha256(name.encode()).hexdigest()}"
    return f"{state_dir}/output/{_day(int(wall // 86400))}/{name}.log"


@cache
def _day(number: int) -> str:
    return f"{datetime.fromtimestamp(86400 * number, UTC):%Y-%m-%d}"


def _settings(event: Submit, target: Target, app: AppConfig) -> dict[str, Any]:
    settings = dict(target.settings)
    configured = app.jobs_settings.get(event.target) or app.jobs_settings.get(target.target)
    if configured is not None:
        for name in (
            "pool",
            "timeout",
            "grace",
            "max_running",
            "max_running_per_key",
            "retries",
            "priority",
            "start_within",
            "slow_after",
        ):
            value = getattr(configured, name)
            if value is not None:
                settings[name] = value
    settings.update({name: value for name, value in event.options.items() if value is not None})
    return settings


def _pool(settings: dict[str, Any], target: Target, app: AppConfig) -> tuple[str, PoolConfig]:
    """The pool id and the pool of a target: its own by ``pool``, else the application's."""
    name = settings.get("pool") or ""
    if name and name not in app.pools:
        there = ", ".join(app.pools) or "none"
        raise RequestError(
            NOT_FOUND,
            f"{target.target} is for pool {name!r}, and application {app.name!r} has none of that name (there are: {there})",
            classic="Class not found",
            data=f"add [apps.{app.name}.pools.{name}] to rocksyd.toml, or set pool in jobs_settings",
        )
    return pool_id(app.name, name), app.pools[name] if name else app.pool


def _duration(settings: dict[str, Any], name: str, default: float = 0.0) -> float:
    value = settings.get(name)
    if value is None:
        return default
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise RequestError(INVALID_PARAMS, f"{name}: {error}", data='durations look like "250ms", "10s", "5m", "1h"') from error
    return seconds


def _integer(settings: dict[str, Any], name: str, least: int = 0) -> int:
    value = settings.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
        raise RequestError(INVALID_PARAMS, f"{name} must be a whole number from {least} to {_MOST}, got {shown(value)}")
    return value


def _strings(settings: dict[str, Any], name: str) -> dict[str, str]:
    value = settings.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise RequestError(INVALID_PARAMS, f"{name} must be an object whose values are strings, got {value!r}")
    return dict(value)
