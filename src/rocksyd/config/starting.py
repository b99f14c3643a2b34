"""How an application's zygote, or a companion, is started: its command line, its environment, and the first order it gets.

What must live here: an application's settings as the zygote is told them. What this file must not know: who starts it and when
(the master, and ``rocksyd doctor``, which must load an application exactly as the master would).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from rocksyd import messages
from rocksyd.config.settings import AppConfig, CompanionConfig

BOOT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "boot.py")
_OURS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""What a service manager tells the daemon, and is nobody else's."""


def command(app: AppConfig, role: str = "zygote") -> tuple[str, ...]:
    """The command line of a process that loads ``app``."""
    return (app.python or sys.executable, BOOT, role)


def companion_command(companion: CompanionConfig) -> tuple[str, ...]:
    """The command line of a companion: with its interpreter's packages, without what the environment and a user add."""
    return (companion.python or sys.executable, "-I", BOOT, "companion", companion.name)


def environment(app: AppConfig | CompanionConfig, inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of such a process, from that of the process that orders it."""
    return {**{name: value for name, value in inherited.items() if name not in _OURS}, **app.env}


def order_to_load(app: AppConfig, generation: int, fds: tuple[int, ...] = (), cgroup: str = "") -> messages.Load:
    """LOAD for ``app``; ``fds[0]`` is the scoreboard, ``cgroup`` the control group to make those of workers in."""
    pools = {name: pool.told() for name, pool in app.every_pool().items()}
    web = {"web": app.web.wsgi or app.web.asgi} if app.web is not None else {}
    settings = {
        **app.told(),
        **web,
        **({"services": list(app.services)} if app.services else {}),
        "grace": app.pool.grace,
        "pools": pools,
        "signals": True,
        **({"cgroup": cgroup} if cgroup else {}),
    }
    return messages.Load(app.name, generation, app.path, app.preload, app.jobs, app.allow, dict(app.env), settings, fds)
