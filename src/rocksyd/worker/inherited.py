"""What a worker must not share with the zygote it was forked from: finalizers, ``atexit`` handlers, buffers of open files.

What must live here: preparing them in the zygote, once, so that a fork costs nothing. What this file must not know: jobs, and
libraries that have to be looked after (``worker.integrations``).
"""

from __future__ import annotations

import atexit
import sys
import weakref
from collections.abc import Callable
from typing import Any

from rocksyd.worker import files

FLUSHERS = frozenset(
    {"coverage", "ddtrace", "elasticapm", "newrelic", "opentelemetry", "pytest_cov", "rollbar", "sentry_sdk", "statsd"}
)
"""Libraries whose ``atexit`` handlers run in every worker, because they send what that worker has collected. The standard
library's run as well (``logging``, ``multiprocessing``, ``weakref``): they know of forks."""


def watch() -> None:
    """In the zygote, before anything of the application is imported: note who registers ``atexit`` handlers."""
    if atexit.register is not _handlers.register:
        atexit.register = _handlers.register
        atexit.unregister = _handlers.unregister


def prepare() -> None:
    """In the zygote, when everything is loaded; and again in a worker that is to be forked from itself."""
    registry: Any = getattr(weakref.finalize, "_registry", None)
    if type(registry) in (dict, _Registry):
        weakref.finalize._registry = _Registry(registry)  # type: ignore[attr-defined]
    _handlers.set_aside()
    files.remember()


def take_back() -> None:
    """At the end of the process that has prepared: what it had registered until then is its own to run."""
    _handlers.take_back()
    registry = getattr(weakref.finalize, "_registry", None)
    if isinstance(registry, _Registry):
        registry.before.update(registry)
        weakref.finalize._registry = registry.before  # type: ignore[attr-defined]


def forget() -> None:
    """At the end of a process that is never forked again, when its handlers have run: what they refer to can go."""
    _handlers.forget()


class _Handlers:
    """The ``atexit`` handlers that the application registers while it is loaded. Those of workers are their own."""

    def __init__(self) -> None:
        self._register, self._unregister = atexit.register, atexit.unregister
        self._known: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        """Registered since the last ``set_aside``, in this order."""
        self._aside: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        """What only the process that called ``set_aside`` is to run."""

    def register(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        """``atexit.register``."""
        self._register(func, *args, **kwargs)
        self._known.append((func, args, kwargs))
        return func

    def unregister(self, func: Callable[..., Any], /) -> None:
        """``atexit.unregister``."""
        self._unregister(func)
        self._known = [known for known in self._known if known[0] != func]
        self._aside = [known for known in self._aside if known[0] != func]

    def set_aside(self) -> None:
        """From now on forked children do not run what was registered here, except for what flushes."""
        self._aside = [known for known in self._known if not _flushes(known[0])]
        self._known = []
        for func, _, _ in self._aside:
            self._unregister(func)

    def forget(self) -> None:
        """Refer to nothing of what was registered."""
        self._known = []

    def take_back(self) -> None:
        """This process runs them at its end."""
        for func, args, kwargs in self._aside:
            self._register(func, *args, **kwargs)
        self._aside = []


def _flushes(func: Any) -> bool:
    """Whether a handler is of use in every worker, by the package that defines it (seen through ``functools.partial``)."""
    func = getattr(func, "func", func)
    package = str(getattr(func, "__module__", None) or type(func).__module__).partition(".")[0]
    return package in FLUSHERS or package in sys.stdlib_module_names


_handlers = _Handlers()


class _Registry(dict[Any, Any]):
    """The registry of ``weakref.finalize`` in which those from before the fork are found, but not at the end of the process.

    Temporary folders and the like made while the application was loaded belong to the zygote: no worker removes them by ending.
    """

    def __init__(self, before: dict[Any, Any]) -> None:
        super().__init__()
        self.before = before

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self.before

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key) or self.before.get(key, default)

    def pop(self, key: Any, default: Any = None) -> Any:
        return super().pop(key, None) or self.before.pop(key, default)
