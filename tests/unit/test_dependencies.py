"""rocksyd depends on nothing: every import in it is of the standard library or of itself.

But an integration imports what it integrates with; it is loaded only where it is named, and nothing else of rocksyd imports it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "rocksyd"
INTEGRATIONS = {"contrib/django": "django", "testing/plugin.py": "pytest"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Top-level names of everything that ``tree`` imports, at whatever place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_standard_library_is_imported(path: Path) -> None:
    names = set(imported(ast.parse(path.read_text(encoding="utf-8"))))
    here = str(path.relative_to(PACKAGE))
    own = {library for place, library in INTEGRATIONS.items() if here.startswith(place)}
    assert names <= sys.stdlib_module_names | {"rocksyd"} | own


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_integration_is_imported_by_anything_else(path: Path) -> None:
    if str(path.relative_to(PACKAGE)).startswith(tuple(INTEGRATIONS)):
        return
    text = path.read_text(encoding="utf-8")
    assert not [place for place in INTEGRATIONS if f"from rocksyd.{place.removesuffix('.py').replace('/', '.')}" in text]
