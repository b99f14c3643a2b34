"""Imports that a module only announces (``lazy import``, Python 3.15 and newer, PEP 810) are made before the first fork.

What must live here: finding what is announced, and making it real. What this file must not know: the order of loading.

A lazy import is made when its name is first used: in a zygote that would be in each worker again, after the fork, of whatever
release stands on the disk by then. ``globals()`` and ``vars()`` show what is announced without making it. Modules of the standard
library have lazy imports as well; which is theirs, and nothing is said of it.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

_ANNOUNCED: Any = getattr(types, "LazyImportType", None)
"""The type of what stands for a module that is not imported yet; None where there is none."""
_given_up: set[tuple[str, str]] = set()
"""Names of modules' globals that cannot be imported: whoever uses one is told so by Python."""


class Made(NamedTuple):
    """A lazy import of the application or of a library."""

    module: str
    """That has it."""
    name: str
    """What it is called there."""
    failure: str = ""
    """Why it cannot be made; "" when it is."""

    def __str__(self) -> str:
        what = f"the lazy import of {self.name} in {self.module}"
        return f"{what} fails: {self.failure}; so will what uses it" if self.failure else what


def steps(made: list[Made]) -> Iterator[tuple[str, Callable[[], object]]]:
    """The step that makes what is announced, where something is; ``made`` gets what was."""
    if next(_announced(), None) is not None:
        yield "lazy imports", lambda: make_real(made)


def make_real(made: list[Made]) -> None:
    """Import what is announced, and what that announces in turn."""
    while found := list(_announced()):
        for module, name, lazy in found:
            names = vars(module)
            try:
                real = lazy.resolve()
            except Exception as error:  # noqa: BLE001  (anybody's module; the name stays lazy, and raises this where it is used)
                _given_up.add((module.__name__, name))
                _note(made, Made(module.__name__, name, f"{type(error).__name__}: {error}"))
                continue
            if names.get(name) is lazy:
                names[name] = real
                _note(made, Made(module.__name__, name))


def _note(made: list[Made], one: Made) -> None:
    if one.module.partition(".")[0] not in {*sys.stdlib_module_names, "rocksyd"}:
        made.append(one)


def _announced() -> Iterator[tuple[types.ModuleType, str, Any]]:
    if _ANNOUNCED is None:
        return
    modules = [module for module in list[object](sys.modules.values()) if isinstance(module, types.ModuleType)]
    for module in modules:
        for name, value in list(vars(module).items()):
            if type(value) is _ANNOUNCED and (module.__name__, name) not in _given_up:
                yield module, name, value
