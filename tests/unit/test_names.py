"""What the source takes from the standard library is there at run time: type checkers also know names that are not."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rocksyd

SOURCE = Path(rocksyd.__file__).parent


def for_checkers_only(tree: ast.Module) -> Iterator[ast.AST]:
    """Annotations, which are never evaluated, and what stands under ``if TYPE_CHECKING``."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation:
            yield node.annotation
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns:
            yield node.returns
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from node.body


def missing(text: str) -> list[str]:
    """Names that this source takes from a module of the standard library which does not have them."""
    tree = ast.parse(text)
    left_out = {id(inner) for outer in for_checkers_only(tree) for inner in ast.walk(outer)}
    nodes = [node for node in ast.walk(tree) if id(node) not in left_out]
    modules = {
        alias.asname or alias.name: alias.name
        for node in nodes
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.partition(".")[0] in sys.stdlib_module_names
    }
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and (name := modules.get(ast.unparse(node.value)))
        if not hasattr(importlib.import_module(name), node.attr)
    ]


def test_a_name_that_only_type_checkers_know_is_found() -> None:
    text = "import sys\nif TYPE_CHECKING:\n    sys.nothing\ndef f(x: sys.nothing) -> None:\n    return sys.UnraisableHookArgs"
    assert missing(text) == ["line 5: sys.UnraisableHookArgs"]


@pytest.mark.parametrize("path", [str(path.relative_to(SOURCE)) for path in sorted(SOURCE.rglob("*.py"))])
def test_every_name_of_the_standard_library_is_there_at_run_time(path: str) -> None:
    assert not missing((SOURCE / path).read_text())
