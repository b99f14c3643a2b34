"""Settings of the process and of Python that a job may change, and that the next job of the same worker must not find changed.

What must live here: which settings there are, and how each is read and put back. What this file must not know: jobs, messages.

Read in the zygote once, so that a fork costs nothing; compared between two jobs of a reused worker. What is not here (a library's
own state, a monkeypatch, ``decimal``'s context, ``random``'s state) is for a fresh process: ``docs/pools.md`` has the table.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

_LIMITS = tuple(sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}))


class Setting(NamedTuple):
    """One setting: ``put`` takes what ``get`` gave."""

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], object]


def _limits() -> tuple[tuple[int, int], ...]:
    return tuple(map(resource.getrlimit, _LIMITS))


def _put_limits(wanted: tuple[tuple[int, int], ...]) -> None:
    for number, limit in zip(_LIMITS, wanted, strict=True):
        if resource.getrlimit(number) != limit:
            resource.setrlimit(number, limit)


def _put_nice(wanted: int) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, wanted)


def _attribute(name: str, holder: Any, attribute: str) -> Setting:
    return Setting(name, partial(getattr, holder, attribute), partial(setattr, holder, attribute))


def _sequence(name: str, holder: Any, attribute: str) -> Setting:
    """A list that others refer to: the object is put back, and what is in it."""

    def put(wanted: tuple[list[Any], tuple[Any, ...]]) -> None:
        setattr(holder, attribute, wanted[0])
        wanted[0][:] = wanted[1]

    def get() -> tuple[list[Any], tuple[Any, ...]]:
        there = getattr(holder, attribute)
        return there, tuple(there)

    return Setting(name, get, put)


def _warnings() -> tuple[list[Any], tuple[Any, ...]]:
    return warnings.filters, tuple(warnings.filters)  # type: ignore[return-value]


def _put_warnings(wanted: tuple[list[Any], tuple[Any, ...]]) -> None:
    warnings.filters = wanted[0]
    wanted[0][:] = wanted[1]
    warnings._filters_mutated()  # type: ignore[attr-defined]


_ALWAYS: tuple[Setting, ...] = (
    Setting("resource limits", _limits, _put_limits),
    Setting("nice value", partial(os.getpriority, os.PRIO_PROCESS, 0), _put_nice),
    Setting("CPU affinity", partial(os.sched_getaffinity, 0), partial(os.sched_setaffinity, 0)),
    Setting("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("switch interval", sys.getswitchinterval, sys.setswitchinterval),
    Setting("trace function", sys.gettrace, sys.settrace),
    Setting("profile function", sys.getprofile, sys.setprofile),
    Setting("collector", gc.isenabled, lambda enabled: gc.enable() if enabled else gc.disable()),
    Setting("collector's thresholds", gc.get_threshold, lambda three: gc.set_threshold(*three)),
    Setting("warning filters", _warnings, _put_warnings),
    _sequence("sys.path", sys, "path"),
    _sequence("sys.argv", sys, "argv"),
    _sequence("sys.meta_path", sys, "meta_path"),
    _sequence("sys.path_hooks", sys, "path_hooks"),
    _attribute("sys.excepthook", sys, "excepthook"),
    _attribute("sys.unraisablehook", sys, "unraisablehook"),
    _attribute("sys.displayhook", sys, "displayhook"),
    _attribute("threading.excepthook", threading, "excepthook"),
)


def _of_modules() -> tuple[Setting, ...]:
    """Those of modules that not every application loads."""
    found = []
    locale, logging, socket = (sys.modules.get(name) for name in ("locale", "logging", "socket"))
    if locale is not None:
        found.append(Setting("locale", lambda: locale.setlocale(locale.LC_ALL), lambda old: locale.setlocale(locale.LC_ALL, old)))
    if logging is not None:
        found.append(Setting("logging.disable", lambda: logging.root.manager.disable, logging.disable))
    if socket is not None:
        found.append(Setting("socket timeout", socket.getdefaulttimeout, socket.setdefaulttimeout))
    return tuple(found)


class Baseline:
    """The settings as they are now, to be put back later."""

    def __init__(self) -> None:
        self._settings = (*_ALWAYS, *_of_modules())
        self._reads = [setting.get for setting in self._settings]
        self._wanted = [read() for read in self._reads]
        self._zone = _zone()

    def put_back(self) -> list[str]:
        """Put back what has changed. Returns sentences on what could not be: a job after this one would find it changed."""
        if _zone() != self._zone:
            time.tzset()
        try:
            if [read() for read in self._reads] == self._wanted:
                return []  # nearly always, and so it is cheap
        except Exception:  # noqa: BLE001  (whose fault it is, is found one by one)
            pass
        failed = []
        for setting, wanted in zip(self._settings, self._wanted, strict=True):
            try:
                if setting.get() != wanted:
                    setting.put(wanted)
            except Exception as error:  # noqa: BLE001  (a limit that only root may raise, a hook that anybody has installed)
                failed.append(f"{setting.name}: {error}")
        return failed


def stop_timers() -> None:
    """No timer of a job may ring in the next one."""
    for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(which, 0)
    handler = sys.modules.get("faulthandler")
    if handler is not None:
        handler.cancel_dump_traceback_later()


def _zone() -> tuple[Any, ...]:
    return time.timezone, time.altzone, time.daylight, time.tzname
