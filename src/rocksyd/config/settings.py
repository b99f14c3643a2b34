"""The settings there are, as values: what ``rocksyd.toml`` says after it was read and found right.

What must live here: names, types, units and defaults. What this file must not know: TOML, the disk.

Every path is absolute, with symbolic links left as they are, so that a deploy that switches a ``current`` link is seen.
Every duration is a float in seconds, every size an int in bytes. Zero means "no limit" wherever a limit may be absent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rocksyd.config.address import Address
from rocksyd.config.locate import KeyPath

Limit = int | Literal["unlimited"]
"""A limit of setrlimit(2), in its own unit."""


@dataclass(frozen=True)
class RestartConfig:
    """How long a new master may take for each step before the old one simply goes on."""

    hello_timeout: float = 30.0
    """Seconds from the start of its process to HELLO."""
    prepare_timeout: float = 120.0
    """Seconds to load the applications and run their smoke checks."""
    adopt_timeout: float = 10.0
    """Seconds to take over; clients wait meanwhile."""


@dataclass(frozen=True)
class JournalConfig:
    """The record of runs (SQLite in ``state_dir``)."""

    sync: Literal["full", "normal"] = "full"
    """``full``: an accepted run survives a power failure. ``normal``: it survives a crash, and is faster."""
    calls: Literal["before", "behind", "failed"] = "behind"
    """When a call without a key is written down: ``before`` it is begun and answered, as any run; ``behind`` the answer, together
    with others; ``failed``: as that, but not at all when it soon ends well."""
    keep: float = 7 * 86400.0
    """Seconds an ended run is remembered."""
    keep_runs: int = 100_000
    """How many ended runs are remembered at most."""


@dataclass(frozen=True)
class OutputConfig:
    """What runs print."""

    limit: int = 64 * 1024**2
    """Bytes one run may write before its output is cut (with a mark); 0 for never."""
    keep: float = 7 * 86400.0
    """Seconds the output of an ended run is kept."""


@dataclass(frozen=True)
class PoolConfig:
    """An application's workers: how many, how long, and what waits for them."""

    pm: Literal["static", "dynamic", "ondemand"] = "ondemand"
    max_workers: int = 16
    start_workers: int = 0
    """``dynamic``: workers forked at the start; ``min_spare`` where it is not set."""
    min_spare: int = 0
    """``dynamic``: idle workers never fewer than this."""
    max_spare: int = 0
    """``dynamic``: idle workers never more than this."""
    idle_timeout: float = 10.0
    """``ondemand``: seconds after which an idle worker leaves."""
    spawn_rate: int = 32
    """Forks that may be on their way at the same time; spares come one, then 2, 4 ... up to this many at a time."""
    max_jobs: int = 1
    """Jobs a worker runs before it leaves; 1: a fresh process for each; 0: it never leaves."""
    max_jobs_jitter: int = 0
    """Jobs; each worker's ``max_jobs`` is made larger by a number of its own from 0 to this. (In the file also ``"20%"``.)"""
    timeout: float = 0.0
    """Seconds a run may take; 0 for no limit."""
    grace: float = 10.0
    """Seconds from TERM to KILL."""
    max_queue: int = 10_000
    """Runs that may wait; what comes then is told "Too busy"."""
    queue_timeout: float = 0.0
    """Seconds a run may wait; 0 for no limit."""
    slow_after: float = 0.0
    """Seconds after which a run is slow: the stacks of its threads are written down, once; 0 for never."""
    max_rss: int = 0
    """Resident bytes above which a worker leaves after the job it has; 0 for no limit."""
    max_rss_hard: int = 0
    """Resident bytes above which a worker is killed; 0 for no limit."""
    max_total_rss: int = 0
    """Bytes of all workers together, what they share counted once, above which no worker is forked; 0 for no limit."""
    max_processes: int = 0
    """Processes and threads of one worker and all it starts; 0 for no limit. Needs control groups."""
    max_cpu: float = 0.0
    """CPUs that one worker and all it starts may use; 0 for no limit. Needs control groups."""
    max_age: float = 0.0
    """Seconds after which a worker is replaced; 0 for never."""
    max_age_jitter: float = 0.0
    """Seconds; each worker's ``max_age`` is made larger by a number of its own from 0 to this. (In the file also ``"20%"``.)"""
    recycle: int = 1
    """Workers that may be being replaced at the same time, because of ``max_jobs`` or ``max_age``."""
    park_after: int = 10
    """Workers in a row that die before their first job until nothing is forked any more; 0 for never."""
    user: str = ""
    """"" for the application's."""
    group: str = ""
    """"" for the user's own group."""
    umask: int | None = None
    """None: the application's."""
    nice: int | None = None
    """Added to the daemon's nice value."""
    cpu_affinity: tuple[int, ...] = ()
    """CPUs the workers may run on; () for all the daemon may."""
    rlimits: dict[str, Limit] = field(default_factory=dict)
    """setrlimit(2) by its names in small letters, soft and hard alike: ``nofile``, ``core``, ``as`` ..."""
    oom_score_adj: int | None = None
    """None: the application's."""
    env: dict[str, str] = field(default_factory=dict)
    """Added to the environment of the application, in this pool's workers."""
    refork_after: int = 0
    """Jobs after which a worker may become the template of the next ones, where that saves memory; 0 for never."""
    admission: Literal["fixed", "adaptive"] = "fixed"
    """Who is told "Too busy": what comes when ``max_queue`` wait (``fixed``), or also what would have to wait too long."""
    wait_target: float = 0.1
    """``adaptive``: seconds a run may wait while the queue does not get empty any more."""
    wait_interval: float = 1.0
    """``adaptive``: seconds a run may wait otherwise, and within which a queue has to be empty once."""
    concurrency: int = 1
    """Jobs that one worker is at at the same time, on one asyncio loop; more than one only for ``async def``."""


@dataclass(frozen=True)
class JobSettings:
    """Settings of one target. None: as the job's own code declares it, else as the pool has it."""

    timeout: float | None = None
    grace: float | None = None
    max_running: int | None = None
    """Runs of this target at the same time; 0 for no limit."""
    retries: int | None = None
    """How often a failed run is tried again."""
    priority: int | None = None
    """Among those that wait the highest goes first; 0 is usual."""
    start_within: float | None = None
    """Seconds after which a run that has not begun is not worth beginning; 0 for no limit."""
    slow_after: float | None = None
    """Seconds after which the stacks of its threads are written down; 0 for never."""
    pool: str | None = None
    """Which of the application's ``pools`` it runs in; None or "" for the application's own."""
    max_running_per_key: int | None = None
    """Runs of this target with the same ``concurrency_key`` at the same time; None for 1."""


@dataclass(frozen=True)
class EmergencyRestart:
    """When an application is loaded afresh because its workers crash: as php-fpm's ``emergency_restart_threshold``."""

    workers: int = 0
    """Workers dead by SIGSEGV or SIGBUS; 0 for never."""
    within: float = 60.0
    """Seconds in which they died."""


@dataclass(frozen=True)
class AppConfig:
    """One application: what is loaded, what may be run of it, and as whom."""

    name: str
    path: str
    """Working folder, first on ``sys.path``."""
    python: str = ""
    """The application's interpreter; "" for the daemon's own."""
    preload: tuple[str, ...] = ()
    """``module`` or ``module:callable``, in this order."""
    jobs: tuple[str, ...] = ()
    """Modules whose jobs may be run by short name."""
    allow: tuple[str, ...] = ()
    """Further targets that clients may name: ``module:name``, ``*`` stands for any characters."""
    env: dict[str, str] = field(default_factory=dict)
    """Added to the environment of the application's processes."""
    unsafe: Literal["refuse", "warn"] = "refuse"
    """What to do when the preload left threads or sockets, which do not survive a fork."""
    huge_pages: bool = True
    """Collapse the loaded application into huge pages where the kernel can: a fork gets several times cheaper."""
    smoke: str = ""
    """``module:callable`` that must return before new code may serve."""
    user: str = ""
    group: str = ""
    """"" for the user's own group."""
    umask: int | None = None
    """None: the daemon's."""
    oom_score_adj: int | None = None
    """Of workers, -1000 to 1000, the highest is killed first; None: the daemon's."""
    emergency_restart: EmergencyRestart = EmergencyRestart()
    pool: PoolConfig = PoolConfig()
    """The pool of every target that has none of its own."""
    pools: dict[str, PoolConfig] = field(default_factory=dict)
    """Further pools by name, for targets that choose one by ``pool``."""
    jobs_settings: dict[str, JobSettings] = field(default_factory=dict)
    """By target."""

    def as_another(self, pool: PoolConfig) -> bool:
        """Whether workers of this pool run as another user than the daemon, as far as the configuration says."""
        return bool(self.user or self.group or pool.user or pool.group)

    def every_pool(self) -> dict[str, PoolConfig]:
        """Its pools by pool id, the application's own first."""
        return {pool_id(self.name, name): pool for name, pool in {"": self.pool, **self.pools}.items()}


def pool_id(app: str, name: str = "") -> str:
    """What a pool is called everywhere but in the file: ``app`` for the application's own, ``app/name`` for another."""
    return f"{app}/{name}" if name else app


@dataclass(frozen=True)
class Config:
    """A whole ``rocksyd.toml``."""

    path: str
    """Absolute path of the file."""
    folder: str
    """The folder it is in, which relative paths start from."""
    listen: tuple[Address, ...]
    state_dir: str
    token_file: str = ""
    """"" for none."""
    auth: Literal["token", "none"] = "token"
    """What TCP clients must show; ``none`` only where every TCP address is loopback."""
    max_line: int = 1024**2
    """Bytes of the longest request line."""
    write_timeout: float = 30.0
    """Seconds without progress after which a client that does not read is dropped."""
    auth_timeout: float = 10.0
    """Seconds after which a connection that has to show the token, and has not, is dropped."""
    max_connections: int = 4096
    cgroup: str = "auto"
    """``auto``: the control group that was delegated to the daemon, if one was; ``off``; or the path of one."""
    restart: RestartConfig = RestartConfig()
    journal: JournalConfig = JournalConfig()
    output: OutputConfig = OutputConfig()
    apps: dict[str, AppConfig] = field(default_factory=dict)
    """By name, in the file's order."""
    lines: dict[KeyPath, int] = field(default_factory=dict, repr=False, compare=False)
    """Line of every key in the file, for messages. No part of the settings' equality."""
