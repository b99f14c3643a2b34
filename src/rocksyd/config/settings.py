"""The settings there are, each declared once: name, type, default, shape and text of what ``rocksyd.toml`` may say.

What must live here: the declarations, which the parser and the manual's tables are made from (``docs/reference.py``).
What this file must not know: how TOML is read (``setting``, ``table``), which settings may stand together (``parse``,
``pool_rules``), the disk. What may be said of a single run is declared in ``rocksyd.options``.

Every path is absolute, with symbolic links left as they are, so that a deploy that switches a ``current`` link is seen.
Every duration is a float in seconds, every size an int in bytes. Zero means "no limit" wherever a limit may be absent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from rocksyd.config import forms
from rocksyd.config.address import Address
from rocksyd.config.forms import choice
from rocksyd.config.locate import KeyPath
from rocksyd.config.services import ServiceConfig
from rocksyd.config.setting import array, declared, file_path, inner, read_by_parse, read_table, setting, table_of
from rocksyd.config.table import Place, Table
from rocksyd.config.web import WebConfig
from rocksyd.options import BY_NAME, FLAG, SIZE, whole
from rocksyd.units import parse_duration, parse_size, shown

Limit = int | Literal["unlimited"]
"""A limit of setrlimit(2), in its own unit."""
OTHER_FILES = 64
"""Descriptors of a process that are neither a connection's nor a worker's, at most."""
FEWEST_CLIENTS = 16
"""Connections of clients that are accepted whatever the limit of open files."""
DEFAULT_LISTEN = "unix://run/rocksyd.sock"

_WORKERS = whole(1, 10_000).convert
_COUNT = whole(0, 1_000_000_000).convert
_OOM_SCORE = whole(-1000, 1000).convert
_REVISION = forms.text("git")
_USER = forms.text("www-data")
_MOST_CPUS = 8192


def _of_runs_else(name: str, otherwise: str) -> Any:
    """The same where the run's own setting holds if this one is left out."""
    return setting(0.0, BY_NAME[name].form.convert, BY_NAME[name].text, otherwise)


def _as_said(name: str) -> Any:
    """The run's own setting, which holds where this one is left out."""
    return setting(None, BY_NAME[name].form.convert, BY_NAME[name].text, "the job's own")


def _of_runs(name: str, default: Any) -> Any:
    """The setting of a pool that holds for its runs where nobody says anything of the option of the same name."""
    return setting(default, BY_NAME[name].form.convert, BY_NAME[name].text)


def _needs(table: Table) -> dict[str, int]:
    """What a script's runs will probably need, by its kind; what is not said is not in it."""
    said = {"memory": table.get("memory", 0, SIZE.convert)}
    table.complain_of_rest()
    return {name: value for name, value in said.items() if value}


@dataclass(frozen=True)
class RestartConfig:
    """How long a new master may take for each step before the old one simply goes on."""

    hello_timeout: float = setting("30s", forms.positive_duration, "the new master's process must have started")
    prepare_timeout: float = setting("2m", forms.positive_duration, "applications must be loaded and their smoke checks passed")
    adopt_timeout: float = setting("10s", forms.positive_duration, "the take-over must be done; clients wait meanwhile")


@dataclass(frozen=True)
class KeepConfig:
    """How long ended runs of one target are remembered."""

    keep: float | None = setting(None, parse_duration, "how long an ended run is remembered", "`journal.keep`")
    keep_failed: float | None = setting(None, parse_duration, "how long one is that did not end well", "`keep`, if it is there")


def _kept(table: Table) -> dict[str, KeepConfig]:
    return {target: read_table(KeepConfig, one) for target, one in table.tables()}


@dataclass(frozen=True)
class JournalConfig:
    """The record of runs (SQLite in ``state_dir``)."""

    sync: Literal["full", "normal"] = setting(
        "full",
        choice("full", "normal"),
        '`"full"`: an accepted run survives a power failure; `"normal"`: a crash, and it is faster',
    )
    calls: Literal["before", "behind", "failed"] = setting(
        "behind",
        choice("before", "behind", "failed"),
        'when a `call` without a key is written down: `"before"` it is begun and answered, as any run; `"behind"` the answer: '
        "not while it waits, when it has run for 50 ms, and when it has ended, together with others; "
        '`"failed"`: as that, but one that ends well before not at all '
        "([journal](design/journal.md))",
    )
    keep: float = setting("7d", parse_duration, "how long an ended run is remembered")
    keep_failed: float | None = setting(None, parse_duration, "how long one is that did not end well", "as `keep`")
    keep_runs: int = setting(100_000, _COUNT, "how many ended runs are remembered, whatever else is said")
    targets: dict[str, KeepConfig] = inner(
        _kept,
        dict,
        'other times for single targets: `[journal.targets]` with `nightly = { keep = "90d", keep_failed = "365d" }`; a full '
        "name stands in quotes",
    )


@dataclass(frozen=True)
class OutputConfig:
    """What runs print."""

    limit: int = setting("64M", parse_size, "what is kept of what one run prints: the beginning and the end, with a mark between")
    keep: float = setting("7d", parse_duration, "how long the output of an ended run is kept")
    keep_runs: int = setting(
        0, _COUNT, "of how many ended runs it is kept, the latest; `0`: of all. The companion [`history`](#history) sees to it"
    )
    keep_size: int = setting(
        "0", parse_size, "what the outputs of ended runs may have together, the oldest go; `0`: no limit. The same companion"
    )


@dataclass(frozen=True)
class PoolConfig:
    """An application's workers: how many, how long, and what waits for them."""

    pm: Literal["static", "dynamic", "ondemand"] = setting(
        "ondemand", choice("static", "dynamic", "ondemand"), "how many workers there are, as above"
    )
    max_workers: int = setting(
        16, _WORKERS, "jobs that run at the same time, each in a worker of its own (with `concurrency`: workers)"
    )
    start_workers: int = setting(0, _WORKERS, "workers at the start", "`min_spare`")
    min_spare: int = setting(0, _WORKERS, "idle workers at least", "required by `dynamic`")
    max_spare: int = setting(0, _WORKERS, "idle workers at most, not above `max_workers`", "required by `dynamic`")
    idle_timeout: float = setting("10s", forms.positive_duration, "an idle worker leaves after this")
    spawn_rate: int = setting(
        32, _WORKERS, "forks that may be on their way at the same time; spares come one, then 2, 4 … up to this many at a time"
    )
    max_jobs: int = setting(1, _COUNT, "jobs until a worker is replaced; `1`: a fresh process for every job; `0`: never replaced")
    max_jobs_jitter: int = setting(
        0,
        forms.share(_COUNT),
        "up to this many jobs more (a number, or a share of `max_jobs`), a different number for each worker, so that they are "
        "not replaced all at once",
        '`"20%"`',
    )
    timeout: float = _of_runs("timeout", 0)
    grace: float = _of_runs("grace", "10s")
    max_queue: int = setting(10_000, _COUNT, 'runs that may wait; further ones are refused with "Too busy"')
    queue_timeout: float = setting(0, parse_duration, "a run that has waited this long is given up")
    slow_after: float = _of_runs("slow_after", 0)
    max_rss: int = setting(
        0, parse_size, "a worker with more resident memory is replaced after the job it has; see [limits](limits.md#memory)"
    )
    max_rss_hard: int = setting(0, parse_size, "a worker with more is killed (outcome `memory`)", told="memory")
    max_total_rss: int = setting(
        0, parse_size, "no worker is forked while those of the pool have more, what they share counted once"
    )
    max_processes: int = setting(
        0, _COUNT, "processes and threads of one worker with all it starts; needs control groups", told="max_processes"
    )
    max_cpu: float = setting(
        0,
        forms.number(0.0, 10_000.0),
        "CPUs that one worker may use with all it starts, `1.5` for one and a half; needs control groups",
        told="max_cpu",
    )
    max_age: float = setting(0, parse_duration, "a worker older than this is replaced; `0`: none grows too old")
    max_age_jitter: float = setting(
        0.0,
        forms.share(parse_duration),
        "up to this much more (a duration, or a share of `max_age`), different for each worker",
        '`"20%"`',
    )
    recycle: int = setting(
        1, _WORKERS, "workers of the pool that may be being replaced at the same time, each after its replacement is ready"
    )
    park_after: int = setting(
        10,
        _COUNT,
        "when so many workers in a row die before their first job, the pool forks no more until a reload or restart; `0`: it "
        "tries for ever",
    )
    user: str = setting(
        "",
        _USER,
        "whom jobs run as. The application itself is loaded as the daemon's user then; needs a daemon started by root",
        "the application's",
        told="user",
    )
    group: str = setting("", _USER, "as `user`; the user's own group where only that is set", "the application's", told="group")
    umask: int | None = setting(None, forms.octal, "octal in quotes", "the application's", told="umask")
    nice: int | None = setting(None, whole(-20, 19).convert, "added to the daemon's nice value, -20 to 19", "`0`", told="nice")
    cpu_affinity: tuple[int, ...] = array(
        "0", whole(0, _MOST_CPUS).convert, "the CPUs they may run on, such as `[0, 1]`", "all", told="cpu_affinity"
    )
    rlimits: dict[str, Limit] = inner(
        forms.limits,
        dict,
        'limits of setrlimit(2), soft and hard alike, such as `{ nofile = 1024, as = "2G", core = "unlimited" }`',
        "the daemon's",
        told="rlimits",
    )
    oom_score_adj: int | None = setting(None, _OOM_SCORE, "-1000 to 1000", "the application's", told="oom_score_adj")
    env: dict[str, str] = inner(forms.environment, dict, "added to the application's environment", told="env")
    refork_after: int = setting(
        0,
        _COUNT,
        "a worker that has run so many jobs may become the template of the next ones, where that is measured to save memory "
        "([how, and whether it pays](design/refork.md)); `0`: never",
    )
    admission: Literal["fixed", "adaptive"] = setting(
        "fixed",
        choice("fixed", "adaptive"),
        '`"adaptive"`: what would have to wait too long is told "Too busy" at once ([refusal](refusal.md))',
    )
    wait_target: float = setting(
        "100ms", forms.positive_duration, "`adaptive`: how long a run may wait while the queue does not get empty any more"
    )
    wait_interval: float = setting(
        "1s",
        forms.positive_duration,
        "`adaptive`: how long it may wait otherwise, and within which time a queue has to be empty once",
    )
    concurrency: int = setting(
        1,
        _WORKERS,
        "`async def` jobs that one worker is at at the same time; more than one needs `max_jobs` other than `1` "
        "([how](pools.md#many-jobs-in-one-worker))",
    )
    max_queue_bytes: int = setting(
        "64M", parse_size, 'what the `params` of all runs that wait may have, as JSON; further ones are refused with "Too busy"'
    )

    leftover: Literal["kill", "keep"] = _of_runs("leftover", "kill")
    results: Literal["strict", "lenient"] = _of_runs("results", "strict")

    def told(self) -> dict[str, Any]:
        """What a pool's workers must know, by the names they know it as; what is not set is left out."""
        unset = PoolConfig()
        return {
            one.told: list(value) if isinstance(value, tuple) else value
            for name, one in declared(PoolConfig).items()
            if one.told and (value := getattr(self, name)) != getattr(unset, name)
        }


@dataclass(frozen=True)
class EmergencyRestart:
    """When an application is loaded afresh because its workers crash: as php-fpm's ``emergency_restart_threshold``."""

    workers: int = setting(0, whole(0, 10_000).convert, "workers dead by SIGSEGV or SIGBUS; `0`: never")
    within: float = setting("1m", forms.positive_duration, "the time in which they died")


@dataclass(frozen=True)
class AppConfig:
    """One application: what is loaded, what may be run of it, and as whom."""

    name: str
    path: str = file_path("shop", "working folder, first on `sys.path`", "required")
    python: str = file_path(
        "shop/.venv/bin/python",
        "the application's interpreter, usually its virtual environment's; rocksyd belongs there, too, where the code says "
        "`from rocksyd import job` (it has no dependencies)",
        "the daemon's own",
    )
    preload: tuple[str, ...] = array(
        "shop.urls",
        forms.module_or_target,
        "modules, or `module:callable`, loaded once in this order and shared by all jobs",
    )
    jobs: tuple[str, ...] = array(
        "shop.jobs",
        forms.module,
        "modules whose jobs may be run by their short name; `rocksyd.contrib.django` offers every "
        "[management command](how-to/django.md)",
    )
    allow: tuple[str, ...] = array(
        "shop.reports:*",
        forms.pattern,
        "further targets that clients may name, `module:name`; `*` stands for any characters, but not for the first part of the "
        "module",
    )
    env: dict[str, str] = inner(forms.environment, dict, "added to the environment; values are strings")
    unsafe: Literal["refuse", "warn"] = setting(
        "refuse",
        choice("refuse", "warn"),
        "when the preload left threads or sockets, which do not survive a fork ([whose do](fork-safety.md)): "
        '`"refuse"` to serve, or `"warn"`',
        told="unsafe",
    )
    huge_pages: bool = setting(
        True,
        FLAG.convert,
        "collapse the loaded application into huge pages where the kernel can; makes forks several times cheaper",
        told="huge_pages",
    )
    revision: str = setting(
        "git",
        _REVISION,
        "of the code, in `restarts`, `stats` (`rev`) and records: `git` reads the commit where there is a `.git` at `path` "
        "or above it; else a file's name, or a command: its first line",
        told="revision",
    )
    otel: bool = setting(
        False,
        FLAG.convert,
        "each run is a span of [OpenTelemetry](how-to/tracing.md), below that of its caller; needs `rocksyd[otel]` in the "
        "application's environment",
        told="otel",
    )
    smoke: str = setting("", forms.target, "`module:callable`: new code serves only when this has returned", "none", told="smoke")
    user: str = setting("", _USER, "whom jobs run as; needs a daemon started by root", "the daemon's", told="user")
    group: str = setting("", _USER, "as `user`; the user's own group where only that is set", "the daemon's", told="group")
    umask: int | None = setting(None, forms.octal, "of jobs, octal in quotes", "the daemon's", told="umask")
    oom_score_adj: int | None = setting(
        None,
        _OOM_SCORE,
        "of workers, -1000 to 1000: the highest is killed first when memory ends",
        "the daemon's",
        told="oom_score_adj",
    )
    emergency_restart: EmergencyRestart = table_of(
        EmergencyRestart,
        '`{ workers = 10, within = "1m" }`: when so many `workers` die by SIGSEGV or SIGBUS `within` this, the application is '
        "loaded afresh beside the one that serves",
        "off",
    )
    pool: PoolConfig = read_by_parse(PoolConfig, "the pool of every target that has none of its own, [as below](#pools)", "`{}`")
    pools: dict[str, PoolConfig] = read_by_parse(dict, "further pools by name, for targets that choose one by `pool`", "`{}`")
    web: WebConfig | None = read_by_parse(lambda: None, "what answers HTTP requests, [as below](#web-pools)", "none")
    services: dict[str, ServiceConfig] = read_by_parse(dict, "resident services by name, [as below](#services)", "`{}`")
    jobs_settings: dict[str, dict[str, Any]] = read_by_parse(dict, "settings of single targets, [as below](#single-jobs)", "`{}`")
    """By target, what is set of the options that have the scope ``options.TARGET``, by name."""

    def as_another(self, pool: PoolConfig) -> bool:
        """Whether workers of this pool run as another user than the daemon, as far as the configuration says."""
        return bool(self.user or self.group or pool.user or pool.group)

    def every_pool(self) -> dict[str, PoolConfig]:
        """Its pools by pool id, the application's own first."""
        return {pool_id(self.name, name): pool for name, pool in {"": self.pool, **self.pools}.items()}

    @property
    def web_pool(self) -> str:
        """The pool id of what serves its requests; "" where nothing does."""
        return pool_id(self.name, self.web.pool) if self.web is not None else ""

    def job_pools(self) -> dict[str, PoolConfig]:
        """Its pools by pool id, without those whose workers take their work themselves: of requests, and of services."""
        others = {self.web_pool, *self.service_pools().values()}
        return {name: pool for name, pool in self.every_pool().items() if name not in others}

    def service_pools(self) -> dict[str, str]:
        """The pool ids of what serves its services, by their names."""
        return {name: pool_id(self.name, name) for name in self.services}

    def told(self) -> dict[str, Any]:
        """What its zygote must know, by the names it knows it as; what is not set is left out."""
        said = {one.told: getattr(self, name) for name, one in declared(AppConfig).items() if one.told}
        return {name: value for name, value in said.items() if value not in ("", None)}


def pool_id(app: str, name: str = "") -> str:
    """What a pool is called everywhere but in the file: ``app`` for the application's own, ``app/name`` for another."""
    return f"{app}/{name}" if name else app


@dataclass(frozen=True)
class CompanionConfig:
    """A companion: what is started, and what it is given. Of one that is built in the file says only what is declared here."""

    name: str
    target: str
    """``module:callable``."""
    listen: tuple[tuple[str, Address], ...] = read_by_parse(
        tuple, "where it listens. The daemon holds the sockets, so nobody is refused while the companion is replaced", "`[]`"
    )
    """Each address as the companion is told it, and where that is."""
    ready_timeout: float = setting("30s", forms.positive_duration, "it must be ready; else it has failed")
    grace: float = setting("10s", parse_duration, "from the order to leave to TERM; KILL follows 2 s later")
    env: dict[str, str] = inner(forms.environment, dict, "added to its environment; values are strings")
    path: str = ""
    """Working folder, first on ``sys.path``; "" for where the daemon was started, and nothing on ``sys.path``."""
    python: str = ""
    """Its interpreter; "" for the daemon's own."""
    namespace: str = ""
    """What the methods that it adds to the protocol begin with, up to the dot; "" when it adds none."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What only the companion understands."""
    extra: str = ""
    """The extra of rocksyd that has its dependencies; "" for none."""
    needs: tuple[str, ...] = ()
    """Modules that must be installed."""
    listen_for: dict[str, tuple[tuple[str, Address], ...]] = field(default_factory=dict)
    """Where it listens besides, for companions whose work it does, by their names."""

    @property
    def sockets(self) -> tuple[tuple[str, str, Address], ...]:
        """Every socket that it is given: the companion it was configured for, the address as it is told it, where that is."""
        return tuple((name, *one) for name, listen in {self.name: self.listen, **self.listen_for}.items() for one in listen)


@dataclass(frozen=True)
class OwnCompanionConfig(CompanionConfig):
    """A companion of a user's own."""

    target: str = setting(
        "", forms.target, "`module:callable`, which is called with the companion and returns when it has left", "required"
    )
    path: str = file_path("shop", "working folder, first on `sys.path`; relative to this file", "none")
    python: str = file_path("shop/.venv/bin/python", "its interpreter", "the daemon's own")
    namespace: str = setting(
        "", forms.namespace, "what the methods that it adds to the protocol begin with, up to the dot", "none"
    )
    settings: dict[str, Any] = inner(lambda table: table.values, dict, "anything: the companion gets it as it is")


@dataclass(frozen=True)
class HistoryConfig(CompanionConfig):
    """The companion ``history``: what of the outputs of ended runs can be searched."""

    index_size: int = setting("1G", parse_size, "what the texts in the index may have together, the oldest go; `0`: no index")
    index_each: int = setting("256K", parse_size, "of each output so much of its beginning and so much of its end can be found")


@dataclass(frozen=True)
class TokenConfig:
    """Somebody who may come to the gateway."""

    file: str = file_path("tokens/alice", "the file with the secret, mode 0600; relative to this file", "required")
    scopes: tuple[str, ...] = array(
        "read", choice("read", "run", "admin"), 'what may be done with it: `["read", "run", "admin"]`'
    )
    targets: tuple[str, ...] = array(
        "shop.reports:*", forms.text("shop.reports:*"), "patterns of targets that it may run, and of whose runs it may end", "all"
    )


def _tokens(table: Table) -> dict[str, TokenConfig]:
    return {name: read_table(TokenConfig, own) for name, own in table.tables()}


@dataclass(frozen=True)
class TlsConfig:
    """The gateway's certificate."""

    certificate: str = file_path("tls/cert.pem", "the file with the certificate, and those above it", "none")
    key: str = file_path("tls/key.pem", "the file with its key", "none")


@dataclass(frozen=True)
class GatewayConfig(CompanionConfig):
    """The gateway."""

    grace: float = setting(
        "10m", parse_duration, "from the order to leave to TERM: how long a request may go on in the old process"
    )
    hosts: tuple[str, ...] = array(
        "jobs.example.com",
        forms.host,
        "further names that it is called by, for example by a proxy in front of it",
    )
    redact: tuple[str, ...] = array(
        "*password*", forms.text("*password*"), "names of params, variables and labels whose values are not shown, with wildcards"
    )
    max_body: int = setting("1M", forms.size_between(parse_size, 1024, 64 << 20), "bytes of a request's body, at most")
    tls: TlsConfig = table_of(TlsConfig, "for addresses with https", "none")
    tokens: dict[str, TokenConfig] = inner(_tokens, dict, "who may come, by name", "none")


def _jitter(value: object) -> float:
    seconds = parse_duration(value)
    if seconds != int(seconds) or seconds > 86_400:
        raise ValueError(f'expected a duration of whole seconds, at most a day, such as "5m", got {shown(value)}')
    return seconds


def _word(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"expected a word of a command line, a string, got {shown(value)}")
    return value


def _interval(value: object) -> float:
    seconds = parse_duration(value)
    if seconds < 1 or seconds != int(seconds):
        raise ValueError(f'expected a duration of whole seconds such as "30s" or "5m", got {shown(value)}')
    return seconds


@dataclass(frozen=True)
class ScriptConfig:
    """A script: what is run, and when."""

    target: str = setting("", forms.text("nightly"), "what is run: a job's short name, or `module:name`", "it or `command`")
    command: tuple[str, ...] = array(
        "/usr/bin/backup", _word, 'what is run: any program with its arguments, `["sh", "-c", "..."]` for a shell\'s line'
    )
    env: dict[str, str] = inner(forms.environment, dict, "added to the application's environment")
    app: str = setting("", forms.text("shop"), "the application whose job it is", "the only one")
    params: Any = read_by_parse(list, "its arguments: an array by position, a table by name", "`[]`")
    cron: str = setting("", forms.text("0 3 * * *"), "when, as a [cron expression](#cron)", "on request only")
    every: float = setting(
        0.0,
        _interval,
        'when, as an interval: `every = "5m"` is at multiples of 5 minutes since 1970-01-01T00:00Z',
        "on request only",
    )
    timezone: str = setting("", forms.text("Europe/Berlin"), "by whose clock", "the `timezone` at the top of the file")
    exclude: tuple[str, ...] = array("holidays", forms.text("holidays"), "calendars of `[calendars]` on whose days it is not due")
    jitter: float = setting(
        0, _jitter, "it begins up to this much later: always the same for a script on a machine, spread over scripts and machines"
    )
    misfire: Literal["skip", "once", "all"] = setting(
        "once",
        choice("skip", "once", "all"),
        "what becomes of ticks that were due while nobody was there ([below](#missed-ticks))",
    )
    misfire_within: float = setting(0.0, forms.positive_duration, "`once`: how old the latest missed tick may be", "one period")
    misfire_limit: int = setting(100, whole(1, 10_000).convert, "`all`: how many of the newest are run")
    overlap: Literal["skip", "buffer_one", "buffer_all", "cancel", "terminate", "allow"] = setting(
        "skip",
        choice("skip", "buffer_one", "buffer_all", "cancel", "terminate", "allow"),
        "what becomes of a tick while the run before goes on ([below](#overlap))",
    )
    instances: int = setting(
        0, whole(1, 10_000).convert, "`jobs`: how many at once", "as many as the pool has workers for; twice as many are ordered"
    )
    jobs: dict[str, Any] = read_by_parse(
        dict,
        "a tick is a list of jobs ([generations](generations.md)): `{ instances = 8 }`, `{ range = [0, 63] }`, or "
        '`{ from = "shop.jobs:shops" }`, a job that returns the list or adds to it',
        "one run",
    )
    finish: str = setting("", forms.text("shop.jobs:done"), "`jobs`: what is run when all of them have ended", "nothing")
    depends_on: tuple[str, ...] = array(
        "import", forms.text("import"), "scripts whose tick of this time, or the latest before it, has to end well first"
    )
    max_time: float = _of_runs_else("timeout", "the job's own `timeout`")
    start_within: float = _of_runs_else("start_within", "the job's own")
    retries: int | None = _as_said("retries")
    retry_after: list[float] | None = _as_said("retry_after")
    retry_factor: float | None = _as_said("retry_factor")
    retry_most: float | None = _as_said("retry_most")
    retry_jitter: float | None = _as_said("retry_jitter")
    retry_on: list[str | int] | None = _as_said("retry_on")
    on_stop: Literal["cancel", "requeue"] | None = _as_said("on_stop")
    needs: dict[str, int] = inner(
        _needs,
        dict,
        '`{ memory = "2G" }`: what a run will probably take of the machine, [as long as that was not learned]'
        "(limits.md#what-runs-cost)",
        "the job's own `needs_memory`",
    )
    late_after: float = setting(
        "5m", parse_duration, "a tick that has not begun by then is *late*, which is [told](notifications.md); `0`: never"
    )
    long_after: float | None = setting(None, parse_duration, "a run that takes longer is told; `0`: never", "longer than usual")
    at_least: float = setting(0, parse_duration, "a run that ends well within less than this is told; `0`: none")
    notify: tuple[str, ...] = array("ops", forms.text("ops"), "the receivers of `[notify]` that are told of it", "all")
    owner: str = setting("", forms.text("shop-team"), "who is responsible; shown", "nobody")
    tags: tuple[str, ...] = array("billing", forms.text("billing"), "words to find it by; shown")


INSTANCES = 1000
"""Instances of a consumer, at most."""


@dataclass(frozen=True)
class ConsumerConfig:
    """A queue's consumer: what handles the queue, and how many of it there are."""

    target: str = setting("", forms.text("shop.jobs:consume"), "what is run: a job that takes from the queue", "needed")
    depth: str = setting(
        "", forms.text("shop.queues:depth"), "what says how much waits: a job, or a function that `allow` names", "needed"
    )
    app: str = setting("", forms.text("shop"), "the application whose job it is", "the only one")
    params: Any = read_by_parse(list, "the arguments of `target`: an array by position, a table by name", "`[]`")
    env: dict[str, str] = inner(forms.environment, dict, "added to the application's environment")
    min: int = setting(0, whole(0, INSTANCES).convert, "instances that there are always, also where nothing waits")
    max: int = setting(1, whole(1, INSTANCES).convert, "instances at the same time, at most")
    per_instance: int = setting(1, whole(1).convert, "how much that waits is worth an instance")
    within: float = setting(
        0.0,
        forms.positive_duration,
        "in what time that which waits is to be worked off, at the pace that its runs have shown",
        "no aim",
    )
    max_age: float = setting(
        0.0, forms.positive_duration, "the oldest is not to wait longer: else another instance at each look", "no aim"
    )
    look_every: float = setting("5s", forms.positive_duration, "how often `depth` is asked")
    shrink_after: float = setting("1m", forms.positive_duration, "for how long what was needed counts before there are fewer")
    max_time: float = _of_runs_else("timeout", "the job's own `timeout`")
    owner: str = setting("", forms.text("shop-team"), "who is responsible; shown", "nobody")
    tags: tuple[str, ...] = array("billing", forms.text("billing"), "words to find it by; shown")


@dataclass(frozen=True)
class PeerConfig:
    """The daemon of another machine, which commands are sent to from here."""

    address: str = setting("", forms.elsewhere, "where it is: `tcp://HOST:PORT`", "required")
    token_file: str = file_path(
        "tokens/web1",
        "the file with the secret that it wants to be shown; relative to this file",
        "this daemon's own `token_file`",
    )


def _peers(table: Table) -> dict[str, PeerConfig]:
    found = {}
    for name, own in table.tables():
        if not forms.NAME.fullmatch(name) or name == "all":
            own.problem("expected a name of at most 64 letters, digits, - and _, beginning with a letter or digit, and not all")
        if not own.wrong and not own.given("address"):
            own.problem('address is missing; add address = "tcp://HOST:PORT"')
        found[name] = read_table(PeerConfig, own)
    return found


@dataclass(frozen=True)
class Config:
    """A whole ``rocksyd.toml``."""

    path: str
    """Absolute path of the file."""
    folder: str
    """The folder it is in, which relative paths start from."""
    listen: tuple[Address, ...] = read_by_parse(
        None,
        "`unix://PATH` and `tcp://HOST:PORT` (`tcp://[::1]:31337` for IPv6; port 0: the system chooses). "
        "Missing folders are made",
        f'`["{DEFAULT_LISTEN}"]`',
    )
    state_dir: str = file_path("var", "journal and outputs; made if missing", default="var")
    token_file: str = file_path(
        "token",
        'file with one secret line, readable for its owner only. TCP clients must show it first: `auth {"token":"..."}`',
        "none",
    )
    auth: Literal["token", "none"] = setting(
        "token", choice("token", "none"), '`"none"`: TCP clients need no token; only where every TCP address is loopback'
    )
    max_line: int = setting("1M", forms.size_between(parse_size, 1024, 1024**3), "longest request line, 1 KiB to 1 GiB")
    write_timeout: float = setting(
        "30s", forms.positive_duration, "a client that does not read is dropped after this long without progress"
    )
    auth_timeout: float = setting(
        "10s",
        forms.positive_duration,
        "a tcp connection that has not shown the token after this long is dropped, whether it is silent or not",
    )
    max_connections: int = setting(4096, whole(1, 1_000_000).convert, "clients at the same time")
    cgroup: str = file_path(
        "auto",
        "the control group (version 2) to make those of workers in: the one delegated to the daemon, if there is one; "
        '`"off"`; or the path of one; see [limits](limits.md#control-groups)',
        default="auto",
        words=("auto", "off"),
    )
    keep_free: int = setting(
        "0",
        parse_size,
        "memory that is to stay free on the machine: a run that will probably need more than is left beyond it waits "
        "([what runs cost](limits.md#what-runs-cost)); `0`: nobody looks",
    )
    timezone: str = setting(
        "",
        forms.text("Europe/Berlin"),
        "the time zone by whose clock [scripts](schedules.md) are due that name none",
        "the system's",
    )
    restart: RestartConfig = table_of(RestartConfig)
    journal: JournalConfig = table_of(JournalConfig)
    output: OutputConfig = table_of(OutputConfig)
    peers: dict[str, PeerConfig] = inner(_peers, dict, "")
    """By name, in the file's order."""
    apps: dict[str, AppConfig] = read_by_parse(dict, "")
    """By name, in the file's order."""
    scripts: dict[str, ScriptConfig] = read_by_parse(dict, "")
    """By name, in the file's order."""
    consumers: dict[str, ConsumerConfig] = read_by_parse(dict, "")
    """By name, in the file's order."""
    companions: dict[str, CompanionConfig] = read_by_parse(dict, "")
    on_demand: dict[str, CompanionConfig] = read_by_parse(dict, "")
    """Those that are started when the code of an application declares something for them."""
    """By name, those that are built in first."""
    places: dict[KeyPath, Place] = field(default_factory=dict, repr=False, compare=False)
    """Where every key stands, for messages. No part of the settings' equality."""

    @property
    def other_files(self) -> int:
        """Descriptors that keeper and master need for what is no connection, at most."""
        workers = sum(2 * pool.max_workers for app in self.apps.values() for pool in app.every_pool().values())
        return OTHER_FILES + workers + 4 * len(self.apps)

    @property
    def service_connections(self) -> int:
        """Connections that all services may have: each is a descriptor in keeper, master and worker."""
        return sum(service.max_connections for app in self.apps.values() for service in app.services.values())
