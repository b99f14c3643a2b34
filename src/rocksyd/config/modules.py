"""Whether a module that the configuration names can be there, without importing anything of the application.

What must live here: looking for files. What this file must not know: what a module is wanted for.

Only what is certain is said. A module in a package of the application's folder is a file in that package's folder; that a name
is nowhere can be said only where every place is known: not with an interpreter, or a PYTHONPATH, of the application's own.
"""

from __future__ import annotations

import os
from importlib.machinery import all_suffixes
from importlib.util import find_spec

from rocksyd.config.settings import AppConfig


def missing(app: AppConfig, name: str) -> str:
    """Why there can be no module ``name`` for this application; "" when there is one, or nobody can know."""
    first, *parts = name.split(".")
    if not os.path.isdir(app.path):
        return ""
    folder = app.path
    if not _is_in(folder, first):
        if app.python or "PYTHONPATH" in app.env or _is_elsewhere(first):
            return ""
        return f"no module {first!r} in {app.path} or among what is installed; correct the name, or path"
    for part in parts:
        folder, package = os.path.join(folder, first), first
        # Without __init__.py it is a namespace, whose parts may lie anywhere; and a package may change its own __path__.
        if not os.path.isfile(os.path.join(folder, "__init__.py")) or "__path__" in _text(os.path.join(folder, "__init__.py")):
            return ""
        if not _is_in(folder, part):
            return f"no module {part!r} in the package {package!r} ({folder}); correct the name"
        first = part
    return ""


def _is_in(folder: str, name: str) -> bool:
    paths = (os.path.join(folder, name + suffix) for suffix in all_suffixes())
    return os.path.isdir(os.path.join(folder, name)) or any(map(os.path.isfile, paths))


def _is_elsewhere(name: str) -> bool:
    try:
        return find_spec(name) is not None  # of a name without dots: imports nothing
    except (ImportError, ValueError, AttributeError):
        return True


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return "__path__"
