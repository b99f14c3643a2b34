"""What a fork of the loaded application costs, and what it stops sharing: measured in forks that do nothing else.

What must live here: those forks. What this file must not know: how an application is loaded, reports.

A fork shares every page with its parent until one of the two writes to it, and Python writes to nearly every object it looks at,
because the count of references is in the object. So "what is un-shared" is measured as the growth of a child's private memory
(``Private_Dirty``, proc(5)) while it reads the objects of one package once: a job that uses all of the package un-shares about
that much, one that uses little of it less. Data outside of Python's objects (numpy's arrays) stays shared until it is written.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, NoReturn

from rocksyd.posix import signals
from rocksyd.worker import output

STANDARD_LIBRARY = "(standard library)"
_MOST_OBJECTS = 20_000_000


class ForkCost(NamedTuple):
    """Milliseconds, the median of several."""

    fork: float
    """The call itself: for so long the zygote does nothing else."""
    whole: float
    """With the child's end and its reaping."""


def fork_cost(times: int = 15) -> ForkCost:
    """Fork children that end at once."""
    output.flush()
    forks, wholes = [], []
    for _ in range(times):
        began = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        forked = time.perf_counter()
        os.waitpid(pid, 0)
        wholes.append(time.perf_counter() - began)
        forks.append(forked - began)
    return ForkCost(statistics.median(forks) * 1000, statistics.median(wholes) * 1000)


class Sample(NamedTuple):
    """What a child said of itself."""

    before: int
    """Bytes of private memory when it had just been forked."""
    after: int
    seconds: float
    error: str
    """Why what it was to do failed; "" when it did not."""

    @property
    def grown(self) -> int:
        """Bytes."""
        return max(0, self.after - self.before)


def in_child(act: Callable[[], object]) -> Sample:
    """Let a forked child do it, and take its private memory before and after."""
    output.flush()
    report, says = os.pipe2(os.O_CLOEXEC)
    before = signals.block_all()
    try:
        pid = os.fork()
        if pid == 0:
            _child(act, says)
    finally:
        signals.restore(before)
        os.close(says)
    data = b""
    while part := os.read(report, 65536):
        data += part
    os.close(report)
    os.waitpid(pid, 0)
    words = data.decode(errors="replace").split(" ", 3)
    if len(words) < 4:
        return Sample(0, 0, 0.0, "the forked child ended without a word")
    return Sample(int(words[0]), int(words[1]), float(words[2]), words[3])


def _child(act: Callable[[], object], says: int) -> NoReturn:
    error = ""
    try:
        first, began = private_memory(), time.perf_counter()
        try:
            act()
        except BaseException as caught:  # noqa: BLE001  (hooks are anybody's code)
            error = f"{type(caught).__name__}: {caught}"
        took = time.perf_counter() - began
        os.write(says, f"{first} {private_memory()} {took} {error}".encode(errors="replace")[:4000])
        output.flush()
    finally:
        os._exit(0)


def private_memory(pid: int | str = "self") -> int:
    """Bytes that only this process has and that it has written to; 0 where the kernel does not say."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Private_Dirty:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


# --- whose objects ----------------------------------------------------------------------------------------------------
def packages() -> dict[str, list[ModuleType]]:
    """The loaded modules by package: the first part of their names, with the standard library as one."""
    found: dict[str, list[ModuleType]] = {}
    for name, module in list(sys.modules.items()):
        if issubclass(type(module), ModuleType):
            found.setdefault(package_of(name), []).append(module)
    found.pop("rocksyd", None)
    return found


def package_of(module: str) -> str:
    """``shop`` for ``shop.reports``."""
    top = module.partition(".")[0]
    ours = top in sys.stdlib_module_names or top in ("__main__", "__mp_main__") or top.startswith("_sysconfigdata_")
    return STANDARD_LIBRARY if ours else top


class Owned(NamedTuple):
    """The objects of one package."""

    package: str
    objects: list[Any]


def owned(wanted: Iterable[str]) -> Iterator[Owned]:
    """The objects that are reached from each package's modules, in this order; each belongs to the package that reaches it first.

    The way does not lead through another package's modules, classes and functions.
    """
    known = packages()
    homes = {id(vars(module)): package for package, modules in known.items() for module in modules}
    seen: set[int] = {id(sys.modules), id(known), id(homes)}
    seen.add(id(seen))
    left = _MOST_OBJECTS
    for package in wanted:
        found: list[Any] = []
        todo: list[Any] = [module for module in known.get(package, ()) if id(module) not in seen]
        seen.update(map(id, todo))
        while todo and left:
            one = todo.pop()
            found.append(one)
            left -= 1
            for other in gc.get_referents(one):
                if id(other) not in seen and _home(other, homes) in (package, ""):
                    seen.add(id(other))
                    todo.append(other)
        yield Owned(package, found)


def _home(one: Any, homes: dict[int, str]) -> str:
    """The package that a module, a module's dictionary, a class or a function belongs to; "" for anything else."""
    kind = type(one)
    if kind is dict:
        return homes.get(id(one), "")
    name: Any = ""
    if kind is FunctionType:
        name = one.__module__
    elif issubclass(kind, type):
        name = type.__dict__["__module__"].__get__(one)
    elif issubclass(kind, ModuleType):
        name = getattr(one, "__name__", "")
    return package_of(name) if isinstance(name, str) and name and name != "builtins" else ""


def read_all(objects: list[Any]) -> None:
    """Look at each object once, as using it would."""
    for _ in objects:
        pass
