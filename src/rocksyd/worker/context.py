"""What a worker needs to know, gathered by the zygote once, so that nothing has to be looked up after the fork."""

from __future__ import annotations

from typing import NamedTuple

from rocksyd.worker.identity import Identity
from rocksyd.worker.target import Plan


class Context(NamedTuple):
    """The surroundings every job of an application starts in."""

    app: str
    cwd: str
    """The application's folder."""
    env: dict[str, str]
    """The whole environment: the zygote's after the preload (which may have set ``DJANGO_SETTINGS_MODULE`` and the like)."""
    umask: int
    plans: dict[str, Plan]
    """Targets known beforehand."""
    set_by_loading: dict[str, str] = {}
    """Environment variables that there were not before the application was loaded: its imports have set them."""
    memory: int = 0
    """Resident bytes above which a worker is killed (the master looks); 0 for no limit."""
    processes: int = 0
    """Processes and threads that may be in its control group; 0 for no limit."""
    cpus_most: float = 0.0
    """CPUs that its control group may use; 0 for no limit."""
    oom_score_adj: int | None = None
    limits: tuple[tuple[int, tuple[int, int]], ...] = ()
    """(``resource.RLIMIT_...``, (soft, hard)) to set after the fork."""
    pool: str = ""
    """The pool id (``app``, ``app/name``)."""
    whom: Identity | None = None
    """Whom the worker becomes; None: it stays who the zygote is."""
    own_env: bool = False
    """Whether ``env`` has more than the zygote's."""
    nice: int | None = None
    cpus: frozenset[int] = frozenset()
    """What it may run on; empty: as the zygote."""

    @property
    def needs_group(self) -> bool:
        """Whether it has limits that a control group keeps best."""
        return bool(self.memory or self.processes or self.cpus_most)

    @property
    def idle_title(self) -> str:
        """What the process title shows while the worker waits."""
        return f"rocksyd: worker {self.pool or self.app} (spare)"

    def job_title(self, title: str) -> str:
        """What the process title shows while a job runs."""
        return f"rocksyd: worker {self.pool or self.app} {title}"
