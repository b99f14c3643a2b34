"""From a caller's order to a run: the settings of a target, from nearest to farthest.

What must live here: which setting wins, and what is wrong with an option.
What this file must not know: queues, workers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Any

from rocksyd import bounds, codes, retrying
from rocksyd.config import AppConfig, Config, PoolConfig, pool_id
from rocksyd.core import signature
from rocksyd.core.events import Submit
from rocksyd.core.targets import Target
from rocksyd.errors import RequestError
from rocksyd.kinds import kind_of
from rocksyd.model import Attempt, Now, Order, Run
from rocksyd.options import BY_NAME, OPTIONS
from rocksyd.shapes import MAX_PARAMS, deeper_than

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
_NAME_MOST = 200
_OF_POOLS = tuple(option for option in OPTIONS if option.pool)
_DEFAULTS = {option.name: option.default for option in OPTIONS if not option.pool}


def same_order(run: Run, event: Submit) -> bool:
    """Whether repeating this order means the run there is already: same target, same parameters."""
    same = run.order.name == event.target and event.app in (None, run.order.app)
    return same and run.order.each == bool(event.options.get("each")) and run.params == event.params


def new_run(event: Submit, target: Target, config: Config, number: tuple[int, int], now: Now) -> Run:
    """The waiting run, with its sequence and generation in ``number``.

    Options of the order win over ``jobs_settings``, those over ``@job``, those over the pool.
    """
    app, kind = config.apps[target.app], kind_of(event.kind)
    settings = _settings(event, target, app)
    each = bool(event.options.get("each"))
    check_params(target, event.params, each=each, typed=event.typed and not settings["after_results"])
    if settings["after_results"]:
        _check_results(event)
    for name, most in (("labels", bounds.LABELS), ("env", bounds.ENVIRONMENT)):
        if settings[name] and bounds.too_long(settings[name], most):
            data = {"parameter": name, "advice": "let the job read from params, or from a file, what is so long"}
            raise RequestError(codes.INVALID_PARAMS, f"{name} may have {most} characters, names and values together", data=data)
    pool_name, pool = _pool(settings, target, app)
    if pool.concurrency > 1:
        _check_shared(event, pool_name)
    for option in _OF_POOLS:
        if option.name not in settings:
            settings[option.name] = getattr(pool, option.pool)
    delay, start_within, eta = settings["delay"], settings["start_within"], settings["eta"]
    if eta:
        if delay:
            text = "eta and delay contradict each other: give one of the two"
            raise RequestError(codes.INVALID_PARAMS, text, classic="Invalid params", data={"parameter": "eta"})
        delay = max(0.0, eta - now.wall)
    unnamed = event.unnamed and config.journal.calls != "before"
    order = Order(
        app=target.app,
        name=event.target,
        target=target.target,
        params=event.params,
        each=each,
        kind=event.kind,
        submitted_at=now.wall,
        log=output_path(config.state_dir, event.key, now.wall) if kind.has_output else "",
        priority=settings["priority"],
        timeout=settings["timeout"],
        grace=settings["grace"],
        results=settings["results"],
        leftover=kind.leftover or settings["leftover"],
        retries=settings["retries"],
        retry=retrying.policy(settings),
        slow_after=settings["slow_after"] if kind.has_output else 0.0,
        max_running=settings["max_running"],
        concurrency_key=settings["concurrency_key"],
        max_running_per_key=settings["max_running_per_key"] if settings["concurrency_key"] else 0,
        env=dict(settings["env"]),
        labels=dict(settings["labels"]),
        tick=settings["tick"],
        after=settings["after"],
        after_outcome=settings["after_outcome"],
        after_results=settings["after_results"],
        start_within=start_within if settings["after"] else 0.0,
        unnamed=unnamed,
        eta=eta,
        traceparent=settings["traceparent"],
        on_stop=settings["on_stop"] if kind.durable and kind.retryable else "cancel",
        needs_memory=settings["needs_memory"],
        rate=tuple(settings["rate"]),
        rate_per_key=tuple(settings["rate_per_key"]) if settings["concurrency_key"] else (),
    )
    sequence, generation = number
    return Run(
        event.key,
        order,
        Attempt(generation=generation),
        pool=pool_name,
        sequence=sequence,
        not_before=now.mono + delay if delay else 0.0,
        start_by=now.mono + delay + start_within if start_within and not order.after else 0.0,
        weight=bounds.weight(event.params),
        behind=unnamed,
    )


def check_params(target: Target, params: Any, *, each: bool, typed: bool) -> None:
    """Raises RequestError unless a run of this target may have these parameters.

    Args:
        each: whether they are an array of parameters, one for each of its calls.
        typed: whether they are held against the job's signature, where that is known.
    """
    if each:
        _check_each(params)
    if deeper_than(params, MAX_PARAMS):
        data = {"parameter": "params", "advice": "let the job read from a file what is nested so deep"}
        text = f"params nest deeper than {MAX_PARAMS} levels"
        raise RequestError(codes.INVALID_PARAMS, text, classic="Invalid params", data=data)
    if typed and target.signature is not None:
        for one in params if each else [params]:
            _check(target, target.signature, one)


def _check_each(params: Any) -> None:
    """Raises RequestError unless these are parameters for so many calls as one run may be."""
    if not isinstance(params, list):
        raise RequestError(codes.INVALID_PARAMS, "params must be an array of parameters, because of each")
    if len(params) > bounds.EACH:
        text = f"params has {len(params)} members, and a run with each may have {bounds.EACH}"
        raise RequestError(codes.INVALID_PARAMS, text, classic="Invalid params", data="order several runs")


def _check_results(event: Submit) -> None:
    """Raises RequestError unless the results of other runs can come before these parameters."""
    if isinstance(event.params or [], list) and not event.options.get("each") and not kind_of(event.kind).target:
        return
    text = "after_results needs params that are an array, and no each: results come as arguments by position"
    data = {"parameter": "after_results", "advice": "leave it out, and read them in the job: current().results()"}
    raise RequestError(codes.INVALID_PARAMS, text, classic="Invalid params", data=data)


def _check_shared(event: Submit, pool: str) -> None:
    """Raises RequestError for what needs a process of its own, in a pool whose runs share theirs."""
    kind = kind_of(event.kind)
    what = kind.called if kind.own_process else "a run with variables of its own (env)" if event.options.get("env") else ""
    if what:
        raise RequestError(
            codes.INVALID_PARAMS,
            f"{what} cannot share a process with others, and in pool {pool!r} runs do (concurrency)",
            data="let it run in a pool with concurrency = 1",
        )


def _check(target: Target, known: signature.Signature, params: Any) -> None:
    """Raises RequestError, which names the parameter that does not fit the job's signature."""
    name, trouble = signature.problem(known, params)
    if trouble:
        data = {"parameter": name or None, "target": target.target, "advice": signature.shown(known)}
        raise RequestError(codes.INVALID_PARAMS, f"{target.target}: {trouble}", classic="Invalid params", data=data)


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


def key_of(path: str) -> str:
    """The key of the run whose output is there; of a long one, what is left of it in the name."""
    first, *rest = path.rpartition("/")[2].removesuffix(".log").split("%")
    return (first.encode() + b"".join(bytes.fromhex(part[:2]) + part[2:].encode() for part in rest)).decode(errors="replace")


@cache
def _day(number: int) -> str:
    return f"{datetime.fromtimestamp(86400 * number, UTC):%Y-%m-%d}"


def _settings(event: Submit, target: Target, app: AppConfig) -> dict[str, Any]:
    """What the order says of each option, else ``jobs_settings``, else ``@job``, else the default, if that is not the pool's."""
    settings = {**_DEFAULTS, **_converted(target.settings)}
    settings.update(app.jobs_settings.get(event.target) or app.jobs_settings.get(target.target) or {})
    settings.update(_converted(event.options))
    return settings


def _converted(said: dict[str, Any]) -> dict[str, Any]:
    """What was said, as it is used. Raises RequestError, which names the option; what this version does not know is left out."""
    found = {}
    for name, value in said.items():
        option = BY_NAME.get(name)
        if option is not None and value is not None:
            try:
                found[name] = option.form.convert(value)
            except ValueError as error:
                data = {"parameter": name, "advice": option.text}
                raise RequestError(codes.INVALID_PARAMS, f"{name}: {error}", data=data) from error
    return found


def _pool(settings: dict[str, Any], target: Target, app: AppConfig) -> tuple[str, PoolConfig]:
    """The pool id and the pool of a target: its own by ``pool``, else the application's."""
    name = settings["pool"]
    if name and pool_id(app.name, name) not in app.job_pools():
        there = ", ".join(one for one in app.pools if pool_id(app.name, one) in app.job_pools()) or "none"
        raise RequestError(
            codes.NOT_FOUND,
            f"{target.target} is for pool {name!r}, and application {app.name!r} has none of that name (there are: {there})",
            classic="Class not found",
            data=f"add [apps.{app.name}.pools.{name}] to rocksyd.toml, or set pool in jobs_settings",
        )
    return pool_id(app.name, name), app.pools[name] if name else app.pool
