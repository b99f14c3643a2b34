"""From ``module:qualified.name`` to something that can be called with a run's parameters.

What must live here: finding the object, whether a client may reach it, how it is called. Prepared in the zygote for every
target that is known beforehand, so that a worker only looks it up.
What this file must not know: messages, output, results.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from rocksyd.errors import JobError
from rocksyd.jobs import GENERATOR, settings_of
from rocksyd.worker.convert import Conversion, conversion

FUNCTION, CLASS = "function", "class"
_LAZY = (types.GeneratorType, types.AsyncGeneratorType)


class Plan:
    """How one target is called."""

    __slots__ = ("_call", "_conversion", "_target", "kind", "target")

    def __init__(self, target: str, found: Any) -> None:
        self.target = target
        self.kind = CLASS if isinstance(found, type) and callable(getattr(found, "run", None)) else FUNCTION
        self._call = found
        # A class gets its parameters as one argument, whatever they are: there is nothing to convert by.
        self._conversion: Conversion | None = conversion(target, found) if self.kind == FUNCTION else None

    def call(self, params: Any) -> Any:
        """Run it. An awaitable result of an ``async def`` is run to its end. Raises whatever it raises, and JobError."""
        value = self._start(params)
        if isinstance(value, types.CoroutineType):
            import asyncio  # noqa: PLC0415  (loaded by the zygote when a known job is asynchronous; 100 ms for the others)

            value = asyncio.run(value)
        return self._not_lazy(value)

    async def call_async(self, params: Any) -> Any:
        """As ``call``, on the loop that runs already. Raises JobError for a plain function, which would hold up all others."""
        if not self.is_async:
            raise JobError(
                f"{self.target} is a plain function, and this pool runs several jobs at once on one asyncio loop (concurrency):"
                " make it an `async def`, or let it run in a pool with concurrency = 1"
            )
        return self._not_lazy(await self._start(params))

    def _not_lazy(self, value: Any) -> Any:
        """``value``, unless it is a generator: then nothing of the job's body has run. Raises JobError."""
        if isinstance(value, _LAZY):
            raise JobError(f"{self.target} {GENERATOR}")
        return value

    def _start(self, params: Any) -> Any:
        if self._conversion is None:
            return self._call().run(params)
        if params is None:
            return self._call()
        if isinstance(params, list):
            return self._call(*self._conversion.list(params))
        if isinstance(params, dict):
            return self._call(**self._conversion.object(params))
        return self._call(*self._conversion.list([params]))

    @property
    def is_async(self) -> bool:
        """Whether it is an ``async def`` (as far as can be seen without running it)."""
        function: Any = getattr(self._call, "run", None) if self.kind == CLASS else self._call
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        code = getattr(function, "__code__", None)
        return code is not None and bool(code.co_flags & 0x80)  # CO_COROUTINE


class Method:
    """A method of a class that is a job of its own: it is called on a new object."""

    def __init__(self, home: type, name: str) -> None:
        self.__doc__ = getattr(home, name).__doc__
        self._home = home
        self._name = name

    def __call__(self) -> Any:
        """Run it."""
        return getattr(self._home(), self._name)()


def load(target: str) -> Any:
    """The object that ``target`` names; its module is imported if need be.

    Raises:
        JobError: it is no ``module:name``, or there is nothing of that name.
        Exception: whatever importing the module raises.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise JobError(f"target {target!r} is not understood: expected module:name, for example shop.jobs:daily")
    found: Any = sys.modules.get(module_name)
    if found is None:
        found = import_module(module_name)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise JobError(f"target {target!r}: there is no {part!r} in {module_name}") from None
    return found


def import_module(name: str) -> Any:
    """Import ``name`` and return it. ``__import__`` and not importlib: Python keeps its own frames out of the traceback then.

    Raises:
        JobError: there is no such module.
        Exception: whatever the module raises.
    """
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        # Missing is the module itself or a package it is in, and not something that it imports in turn.
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise JobError(
                f"there is no module {name!r} (sys.path, where it was looked for, begins with {sys.path[0]!r})"
            ) from None
        raise
    return sys.modules[name]


def is_offered(found: Any, module_name: str) -> bool:
    """Whether ``found``, reached by a pattern, is a job of ``module_name`` and not merely a name that it has imported."""
    if settings_of(found) is not None:
        return True
    if getattr(found, "__module__", None) != module_name:
        return False
    if isinstance(found, type):
        return callable(getattr(found, "run", None)) and not getattr(found, "__abstractmethods__", None)
    return isinstance(found, types.FunctionType) or hasattr(found, "__wrapped__")


def plan_for(target: str, plans: dict[str, Plan]) -> Plan:
    """The plan made beforehand, or a new one for a target that only a pattern with an open module name allows.

    Such a name comes from a client, so it reaches what the module defines, and nothing through it: ``shop.x:os.system``
    is refused.

    Raises:
        JobError: there is no such target, or it is not to be run.
    """
    plan = plans.get(target)
    if plan is None:
        found = load(target)
        module_name, _, name = target.partition(":")
        if not is_offered(found, module_name) or any(part.startswith("_") for part in name.split(".")):
            raise JobError(f"target {target!r} is not a function or a class with a run method defined in {module_name}")
        plan = plans[target] = Plan(target, found)
    return plan
