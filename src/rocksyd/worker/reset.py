"""What a worker resets: right after the fork, and again between two jobs.

What must live here: signals, group, mask, folder, environment, limits, hooks.
What this file must not know: messages, jobs, standard output.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import time

from rocksyd.jobs import after_fork_hooks
from rocksyd.posix import signals
from rocksyd.posix.titles import set_title
from rocksyd.worker import settings
from rocksyd.worker.context import Context
from rocksyd.worker.identity import become
from rocksyd.worker.integrations import registry

_SIGINT = int(signal.SIGINT)


def after_fork(context: Context) -> None:
    """Make a forked child a worker of its own. Signals are blocked when this is called, and free when it returns.

    Raises:
        ConfigError: it cannot become the user it should.
        OSError: the system refuses a limit or a CPU.
        Exception: whatever an ``after_fork`` hook of the application raises.
    """
    # A group of its own in the zygote's session: in a session of its own a process cannot be stopped by a terminal's signals,
    # because its group would be an orphaned one (credentials(7), setpgid(2)).
    os.setpgid(0, 0)
    signals.reset()
    if context.oom_score_adj is not None:
        _set_oom_score(context.oom_score_adj)
    if context.nice is not None:
        _set_nice(context.nice)
    if context.cpus:
        os.sched_setaffinity(0, context.cpus)
    for number, limit in context.limits:
        resource.setrlimit(number, limit)
    os.umask(context.umask)
    if context.whom is not None:  # last: what is above may take the rights of root
        become(context.whom)
    if context.own_env:
        add_to_environment(context.env)
    set_title(context.idle_title)
    gc.enable()
    registry.after_fork()
    for hook in after_fork_hooks:
        hook()


def add_to_environment(env: dict[str, str]) -> None:
    """Set these variables; a time zone among them holds from now on (tzset(3))."""
    os.environ.update(env)
    if "TZ" in env:
        time.tzset()


def allow_interrupt() -> None:
    """SIGINT raises ``KeyboardInterrupt`` from now on, as in a fresh Python. (A spare dies of it, as of any signal.)"""
    signals.handle(_SIGINT, signal.default_int_handler)


def between_jobs(context: Context, baseline: settings.Baseline) -> list[str]:
    """Undo what a job may have left in the process: signals, timers, mask, folder, environment, settings, stale connections.

    Returns sentences on what could not be undone: the process is not fit for another job then.
    """
    settings.stop_timers()
    signals.reset()
    os.umask(context.umask)
    try:
        os.chdir(context.cwd)
    except OSError:
        os.chdir("/")  # a deploy has removed the folder; the result of the job before must still be said
    if not _same_environment(context.env):
        os.environ.clear()
        os.environ.update(context.env)
    failed = baseline.put_back()
    set_title(context.idle_title)
    registry.between_jobs()
    return failed


_encoded: tuple[dict[str, str], dict[bytes, bytes]] | None = None
"""The environment that jobs begin with, and the same as ``os.environ`` keeps it: decoding it for every job takes long."""


def _same_environment(env: dict[str, str]) -> bool:
    global _encoded
    if _encoded is None or _encoded[0] is not env:
        _encoded = env, {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    return bool(os.environ._data == _encoded[1])  # type: ignore[attr-defined]


def _set_nice(value: int) -> None:
    try:
        os.nice(value)
    except OSError as error:
        # Below zero takes CAP_SYS_NICE. A job at the daemon's own priority is better than none.
        os.write(2, f"rocksyd: nice = {value} cannot be set ({error.strerror}); it stays as it is\n".encode())


def _set_oom_score(value: int) -> None:
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(value))
    except OSError as error:
        # Lowering it takes CAP_SYS_RESOURCE. A job that runs at the daemon's own score is better than none.
        os.write(2, f"rocksyd: oom_score_adj = {value} cannot be set ({error.strerror}); it stays as it is\n".encode())
