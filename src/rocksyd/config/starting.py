"""How an application's zygote is started: its command line, its environment, and the first order it gets.

What must live here: an application's settings as the zygote is told them. What this file must not know: who starts it and when
(the master, and ``rocksyd doctor``, which must load an application exactly as the master would).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from rocksyd import messages
from rocksyd.config.settings import AppConfig, PoolConfig

BOOT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "boot.py")
_OURS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""What a service manager tells the daemon, and is nobody else's."""


def command(app: AppConfig, role: str = "zygote") -> tuple[str, ...]:
    """The command line of a process that loads ``app``."""
    return (app.python or sys.executable, BOOT, role)


def environment(app: AppConfig, inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of such a process, from that of the process that orders it."""
    return {**{name: value for name, value in inherited.items() if name not in _OURS}, **app.env}


def order_to_load(app: AppConfig, generation: int, fds: tuple[int, ...] = (), cgroup: str = "") -> messages.Load:
    """LOAD for ``app``; ``fds[0]`` is the scoreboard, ``cgroup`` the control group to make those of workers in."""
    settings = {
        "unsafe": app.unsafe,
        "huge_pages": app.huge_pages,
        "smoke": app.smoke,
        "grace": app.pool.grace,
        "user": app.user,
        "group": app.group,
        "umask": app.umask,
        "oom_score_adj": app.oom_score_adj,
        "pools": {name: _settings_of(pool) for name, pool in app.every_pool().items()},
        "signals": True,
        "cgroup": cgroup,
    }
    settings = {name: value for name, value in settings.items() if value not in ("", None)}
    return messages.Load(app.name, generation, app.path, app.preload, app.jobs, app.allow, dict(app.env), settings, fds)


def _settings_of(pool: PoolConfig) -> dict[str, Any]:
    """What a pool's workers must know; what is not set is left out."""
    settings = {
        "memory": pool.max_rss_hard or None,
        "max_processes": pool.max_processes or None,
        "max_cpu": pool.max_cpu or None,
        "user": pool.user,
        "group": pool.group,
        "umask": pool.umask,
        "nice": pool.nice,
        "cpu_affinity": list(pool.cpu_affinity),
        "rlimits": pool.rlimits,
        "oom_score_adj": pool.oom_score_adj,
        "env": pool.env,
    }
    return {name: value for name, value in settings.items() if value not in ("", None, [], {})}
