"""From the text of ``rocksyd.toml`` to a Config: which keys there are, and which may stand together.

What must live here: the tables' shapes and the rules between settings. What this file must not know: the disk.
"""

from __future__ import annotations

import os.path
import re
import tomllib
from dataclasses import fields
from typing import Any

from rocksyd.config import pools, values
from rocksyd.config.address import Address, absolute
from rocksyd.config.locate import KeyPath, locate
from rocksyd.config.settings import (
    AppConfig,
    Config,
    EmergencyRestart,
    JobSettings,
    JournalConfig,
    OutputConfig,
    PoolConfig,
    RestartConfig,
)
from rocksyd.config.table import Problems, Table
from rocksyd.errors import ConfigError
from rocksyd.units import parse_duration, parse_size

DEFAULT_LISTEN = "unix://run/rocksyd.sock"
DEFAULT_STATE_DIR = "var"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SYNTAX_ERROR = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_WORKERS = values.integer(1, 10_000)
_COUNT = values.integer(0, 1_000_000_000)


def _homes() -> dict[str, str]:
    """Where each key belongs, for one that stands in the wrong table (a top key below the first header is the usual slip)."""
    places: dict[str, list[str]] = {}
    for settings, place in (
        (Config, "at the top of the file, before the first [table]"),
        (RestartConfig, "in [restart]"),
        (JournalConfig, "in [journal]"),
        (OutputConfig, "in [output]"),
        (AppConfig, "in [apps.NAME]"),
        (EmergencyRestart, "in [apps.NAME.emergency_restart]"),
        (PoolConfig, "in [apps.NAME.pool] or [apps.NAME.pools.POOL]"),
        (JobSettings, "in [apps.NAME.jobs_settings.TARGET]"),
    ):
        for field in fields(settings):
            if field.name not in ("path", "folder", "lines", "name"):
                places.setdefault(field.name, []).append(place)
    return {key: " or ".join(found) for key, found in places.items()}


HOMES = _homes()


def parse(text: str, path: str) -> Config:
    """The configuration that ``text`` says. Touches no file: ``path`` only gives names their folder and errors their file.

    Raises:
        ConfigError: with every error found, one a line, in the file's order.
    """
    text = text.removeprefix("\ufeff")  # some editors put it there; tomllib does not skip it
    document, lines = _document(text, path)
    problems = Problems(path, lines)
    config = _config(Table(document, (), problems), os.path.abspath(path), lines)
    problems.raise_if_any()
    return config


def _document(text: str, path: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    try:
        return tomllib.loads(text), locate(text)
    except RecursionError as error:
        raise ConfigError(f"{path}: arrays or tables are nested too deeply; no setting needs more than four levels") from error
    except ValueError as error:  # a number of more than 4300 digits is a ValueError that is no TOMLDecodeError
        found = _SYNTAX_ERROR.fullmatch(str(error))
        if found is None:
            raise ConfigError(f"{path}: not valid TOML: {error}") from error
        sentence, line, column = found.groups()
        if line is None:
            lines = text.split("\n")
            line, column = len(lines), len(lines[-1]) + 1
        cure = "; a string stands in quotes" if sentence == "Invalid value" else ""
        raise ConfigError(f"{path}:{line}:{column}: not valid TOML: {sentence}{cure}") from error


def _config(table: Table, path: str, lines: dict[KeyPath, int]) -> Config:
    folder = os.path.dirname(path)
    listen = _listen(table, folder)
    config = Config(
        path=path,
        folder=folder,
        listen=tuple(listen.values()),
        state_dir=table.get("state_dir", absolute(folder, DEFAULT_STATE_DIR), values.path(folder, DEFAULT_STATE_DIR)),
        token_file=table.get("token_file", "", values.path(folder, "token")),
        auth=table.get("auth", "token", values.choice("token", "none")),
        max_line=table.get("max_line", Config.max_line, values.size_between(parse_size, 1024, 1024**3)),
        write_timeout=table.get("write_timeout", Config.write_timeout, values.positive_duration),
        auth_timeout=table.get("auth_timeout", Config.auth_timeout, values.positive_duration),
        max_connections=table.get("max_connections", Config.max_connections, values.integer(1, 1_000_000)),
        cgroup=table.get("cgroup", Config.cgroup, values.word_or_path(folder, "auto", "off")),
        restart=_restart(table.table("restart")),
        journal=_journal(table.table("journal")),
        output=_output(table.table("output")),
        apps=_apps(table.table("apps"), folder),
        lines=lines,
    )
    _check_access(table, config, listen)
    table.complain_of_rest(HOMES)
    return config


def _listen(table: Table, folder: str) -> dict[int, Address]:
    """The addresses by their index in the file."""
    convert = values.address(folder)
    if not table.given("listen"):
        table.array("listen", DEFAULT_LISTEN, convert)  # asked for, so that the key counts as known
        try:
            return {0: convert(DEFAULT_LISTEN)}
        except ValueError as error:  # the folder alone is too long for a socket's path
            table.problem(f"{error} (it is not set, so it is {DEFAULT_LISTEN} beside this file)", "listen")
            return {}
    addresses = table.elements("listen", DEFAULT_LISTEN, convert)
    if table.values["listen"] == []:
        table.problem(f'expected at least one address such as "{DEFAULT_LISTEN}", got an empty array', "listen")
    seen: dict[str, int] = {}
    for index, address in addresses.items():
        first = seen.setdefault(str(address), index)
        # Port 0 twice are two ports, chosen by the system.
        if first != index and (address.kind == "unix" or address.port):
            table.problem(f"the same address as listen[{first}]; remove one of the two", "listen", index)
    return addresses


def _check_access(table: Table, config: Config, listen: dict[int, Address]) -> None:
    """Whoever reaches an address may run jobs: a TCP address wants a token, or ``auth = "none"`` and loopback."""
    tcp = {index: address for index, address in listen.items() if address.kind == "tcp"}
    if config.auth == "none":
        if table.given("token_file"):
            table.problem('auth = "none" and token_file contradict each other; remove one of the two', "auth")
        for index, address in tcp.items():
            if not address.loopback:
                table.problem(
                    f'{address} can be reached from other machines, and auth = "none" is for loopback addresses only; '
                    'remove auth and set token_file = "token" (a file with a secret)',
                    *("listen", index),
                )
    elif not table.given("token_file"):
        if table.values.get("auth") == "token" and not tcp:
            table.problem('auth = "token" needs token_file = "token" (a file with a secret)', "auth")
        for index, address in tcp.items():
            table.problem(
                f'{address} would let anybody who reaches it run jobs; set token_file = "token" (a file with a secret)'
                + (', or auth = "none" if every user of this machine may' if address.loopback else ""),
                *("listen", index),
            )


def _restart(table: Table) -> RestartConfig:
    d = RestartConfig
    restart = RestartConfig(
        hello_timeout=table.get("hello_timeout", d.hello_timeout, values.positive_duration),
        prepare_timeout=table.get("prepare_timeout", d.prepare_timeout, values.positive_duration),
        adopt_timeout=table.get("adopt_timeout", d.adopt_timeout, values.positive_duration),
    )
    table.complain_of_rest(HOMES)
    return restart


def _journal(table: Table) -> JournalConfig:
    d = JournalConfig
    journal = JournalConfig(
        sync=table.get("sync", d.sync, values.choice("full", "normal")),
        calls=table.get("calls", d.calls, values.choice("before", "behind", "failed")),
        keep=table.get("keep", d.keep, parse_duration),
        keep_runs=table.get("keep_runs", d.keep_runs, _COUNT),
    )
    table.complain_of_rest(HOMES)
    return journal


def _output(table: Table) -> OutputConfig:
    output = OutputConfig(
        limit=table.get("limit", OutputConfig.limit, parse_size),
        keep=table.get("keep", OutputConfig.keep, parse_duration),
    )
    table.complain_of_rest(HOMES)
    return output


def _apps(table: Table, folder: str) -> dict[str, AppConfig]:
    apps = {}
    for name, app in table.tables():
        if not _NAME.fullmatch(name):
            app.problem("expected an application's name of at most 64 letters, digits, - and _, beginning with a letter or digit")
        apps[name] = _app(name, app, folder)
    if not apps and not table.wrong:
        table.problem('no application; add a table [apps.NAME] with path = "..." and jobs = ["..."]')
    return apps


def _app(name: str, table: Table, folder: str) -> AppConfig:
    app = AppConfig(
        name=name,
        path=table.get("path", "", values.path(folder, "shop")),
        python=table.get("python", "", values.path(folder, "shop/.venv/bin/python")),
        preload=table.array("preload", "shop.urls", values.module_or_target),
        jobs=table.array("jobs", "shop.jobs", values.module),
        allow=table.array("allow", "shop.reports:*", values.pattern),
        env=pools.environment(table.table("env")),
        unsafe=table.get("unsafe", "refuse", values.choice("refuse", "warn")),
        huge_pages=table.get("huge_pages", AppConfig.huge_pages, values.boolean),
        smoke=table.get("smoke", "", values.target),
        user=table.get("user", "", values.text("www-data")),
        group=table.get("group", "", values.text("www-data")),
        umask=table.get("umask", None, values.octal),
        oom_score_adj=table.get("oom_score_adj", None, values.integer(-1000, 1000)),
        emergency_restart=pools.emergency_restart(table.table("emergency_restart")),
        pool=_pool(table.table("pool")),
        pools=_pools(table.table("pools")),
        jobs_settings={target: _job_settings(settings) for target, settings in table.table("jobs_settings").tables()},
    )
    if not table.given("path") and not table.wrong:
        table.problem('path is missing; add path = "..." (the application\'s folder, relative to this file)')
    if not table.values.get("jobs") and not table.values.get("allow") and not table.wrong:
        table.problem('nothing of it could be run; add jobs = ["..."] (modules) or allow = ["..."] (targets)')
    _check_choice_of_pools(table, app)
    pools.check_users(table, app)
    table.complain_of_rest(HOMES)
    return app


def _job_settings(table: Table) -> JobSettings:
    if any(isinstance(value, dict) for value in table.values.values()):
        table.problem('expected settings, got a table; a target with dots stands in quotes, as jobs_settings."shop.jobs:nightly"')
        return JobSettings()
    settings = JobSettings(
        timeout=table.get("timeout", None, parse_duration),
        grace=table.get("grace", None, parse_duration),
        max_running=table.get("max_running", None, values.integer(0, 10_000)),
        max_running_per_key=table.get("max_running_per_key", None, values.integer(1, 10_000)),
        retries=table.get("retries", None, values.integer(0, 1000)),
        priority=table.get("priority", None, values.integer(-1000, 1000)),
        start_within=table.get("start_within", None, parse_duration),
        slow_after=table.get("slow_after", None, parse_duration),
        pool=table.get("pool", None, values.text("slow")),
    )
    table.complain_of_rest(HOMES)
    return settings


def _pools(table: Table) -> dict[str, PoolConfig]:
    found = {}
    for name, pool in table.tables():
        if not _NAME.fullmatch(name):
            pool.problem("expected a pool's name of at most 64 letters, digits, - and _, beginning with a letter or digit")
        found[name] = _pool(pool)
    return found


def _check_choice_of_pools(table: Table, app: AppConfig) -> None:
    for target, settings in app.jobs_settings.items():
        if settings.pool and settings.pool not in app.pools:
            there = f"there are: {', '.join(app.pools)}" if app.pools else "it has only its own"
            table.problem(
                f"there is no pool {settings.pool!r} ({there}); add [apps.{app.name}.pools.{settings.pool}] or remove pool",
                *("jobs_settings", target, "pool"),
            )


def _pool(table: Table) -> PoolConfig:
    d = PoolConfig
    min_spare = table.get("min_spare", d.min_spare, _WORKERS)
    max_jobs = table.get("max_jobs", d.max_jobs, _COUNT)
    pool = PoolConfig(
        pm=table.get("pm", d.pm, values.choice("static", "dynamic", "ondemand")),
        max_workers=table.get("max_workers", d.max_workers, _WORKERS),
        start_workers=table.get("start_workers", min_spare, _WORKERS),
        min_spare=min_spare,
        max_spare=table.get("max_spare", d.max_spare, _WORKERS),
        idle_timeout=table.get("idle_timeout", d.idle_timeout, values.positive_duration),
        spawn_rate=table.get("spawn_rate", d.spawn_rate, _WORKERS),
        concurrency=table.get("concurrency", d.concurrency, values.integer(1, 10_000)),
        max_jobs=max_jobs,
        refork_after=table.get("refork_after", d.refork_after, _COUNT),
        timeout=table.get("timeout", d.timeout, parse_duration),
        grace=table.get("grace", d.grace, parse_duration),
        max_queue=table.get("max_queue", d.max_queue, _COUNT),
        queue_timeout=table.get("queue_timeout", d.queue_timeout, parse_duration),
        admission=table.get("admission", d.admission, values.choice("fixed", "adaptive")),
        wait_target=table.get("wait_target", d.wait_target, values.positive_duration),
        wait_interval=table.get("wait_interval", d.wait_interval, values.positive_duration),
        slow_after=table.get("slow_after", d.slow_after, parse_duration),
        max_rss=table.get("max_rss", d.max_rss, parse_size),
        max_rss_hard=table.get("max_rss_hard", d.max_rss_hard, parse_size),
        max_total_rss=table.get("max_total_rss", d.max_total_rss, parse_size),
        max_processes=table.get("max_processes", d.max_processes, _COUNT),
        max_cpu=table.get("max_cpu", d.max_cpu, values.number(0.0, 10_000.0)),
        **pools.lifetime(table, max_jobs),
        **pools.surroundings(table),
    )
    _check_pool(table, pool)
    _check_refork(table, pool)
    pools.check_concurrency(table, pool)
    table.complain_of_rest(HOMES)
    return pool


_ONLY_WITH = {"min_spare": "dynamic", "max_spare": "dynamic", "start_workers": "dynamic", "idle_timeout": "ondemand"}


def _check_pool(table: Table, pool: PoolConfig) -> None:
    for key, pm in _ONLY_WITH.items():
        # A pm that is wrong has been noted; what it was meant to be nobody knows.
        if table.given(key) and pool.pm != pm and table.values.get("pm", pool.pm) == pool.pm:
            table.problem(f'{key} is for pm = "{pm}", and pm is "{pool.pm}"; remove {key} or set pm = "{pm}"', key)
    if table.given("max_jobs_jitter") and pool.max_jobs < 2:
        what = "every job has a fresh process" if pool.max_jobs else "workers never leave"
        sentence = f"max_jobs is {pool.max_jobs} ({what}), so there is nothing to spread; remove it or raise max_jobs"
        table.problem(sentence, "max_jobs_jitter")
    for key in ("wait_target", "wait_interval"):
        if table.given(key) and pool.admission == "fixed" and table.values.get("admission", "fixed") == "fixed":
            table.problem(f'{key} is for admission = "adaptive"; remove {key} or set admission = "adaptive"', key)
    if pool.wait_target > pool.wait_interval:
        sentence = (
            f"is {pool.wait_target:g} s and wait_interval {pool.wait_interval:g} s; lower wait_target or raise wait_interval"
        )
        table.problem(sentence, "wait_target")
    if 0 < pool.max_rss_hard < pool.max_rss:
        sentence = "is below max_rss, so no worker would be left to recycle; raise max_rss_hard or lower max_rss"
        table.problem(sentence, "max_rss_hard")
    if pool.pm == "dynamic":
        _check_spares(table, pool)


def _check_refork(table: Table, pool: PoolConfig) -> None:
    if pool.refork_after and pool.max_jobs and pool.refork_after > pool.max_jobs:
        what = "every job has a fresh process" if pool.max_jobs == 1 else "workers are replaced before they have run so many"
        table.problem(f"max_jobs is {pool.max_jobs} ({what}); lower refork_after or raise max_jobs", "refork_after")


_ORDERED = (
    ("min_spare", "max_spare"),
    ("min_spare", "max_workers"),
    ("max_spare", "max_workers"),
    ("start_workers", "max_workers"),
)


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
