"""Checks the shape of the package: no cycle of imports, no class with more methods than a reader can hold. ``make lint`` runs it.

    python tools/shape.py

import-linter sees cycles of packages and modules beside each other; here one is found as well that goes through a package's own
``__init__``. Imports for types count: a module that needs another's types needs the other. Counted among a class's methods are
private ones, properties and those with double underscores; a property and its setter are one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

SOURCE = Path(__file__).resolve().parent.parent / "src"
MOST_METHODS = 20


def cycles() -> Iterator[str]:
    """One cycle of imports, if there is any."""
    graph = grimp.build_graph("rocksyd", exclude_type_checking_imports=False, cache_dir=None)
    try:
        TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}).prepare()
    except CycleError as error:
        yield "a cycle of imports: " + " <- ".join(error.args[1])


def big_classes() -> Iterator[str]:
    """Each class with more than MOST_METHODS methods."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                methods = {one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
                if len(methods) > MOST_METHODS:
                    yield f"{path}:{node.lineno}: class {node.name} has {len(methods)} methods; {MOST_METHODS} are allowed"


if __name__ == "__main__":
    found = [*cycles(), *big_classes()]
    sys.exit("\n".join(found) if found else 0)
