"""rocksyd depends on nothing: every import in it is of the standard library or of itself.

But an integration or a companion imports what it is made for; it is loaded only where it is named, and nothing else of rocksyd
imports it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "rocksyd"
INTEGRATIONS = {"contrib/django": "django", "testing/plugin.py": "pytest", "companions/metrics.py": "prometheus_client",
                "companions/gateway/": "uvicorn jinja2 markupsafe google", "schedule/": "cronsim",
                "worker/web/": "uvicorn httptools", "worker/staying.py": "uvloop",
                "worker/tracing.py": "opentelemetry"}  # fmt: skip
LAZY = {"protocols/framed.py": "google", "protocols/websocket.py": "websockets"}
"""What imports a package where it is used, in a function, and names it where it is missing: everybody may import these."""
USERS = {
    "companions/scheduler.py",
    "companions/ticking.py",
    "companions/schedule_store.py",
    "companions/backfill.py",
    "companions/schedule_editing.py",
    "companions/schedule_sources.py",
    "cli/crontab_measure.py",
    "companions/generations.py",
    "companions/generation_course.py",
    "companions/generation_asking.py",
    "companions/generation_methods.py",
    "companions/generation_store.py",
    "companions/consuming.py",
    "companions/telling.py",
    "cli/schedule.py",
    "cli/crontab.py",
    "worker/service/life.py",
}
"""Those that may import what has the dependency: the companion itself, and what is imported only where it is used."""
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
    own = {
        library for place, libraries in (INTEGRATIONS | LAZY).items() if here.startswith(place) for library in libraries.split()
    }
    assert names <= sys.stdlib_module_names | {"rocksyd"} | own


@pytest.mark.parametrize(("path", "library"), LAZY.items())
def test_what_everybody_may_import_loads_its_package_only_where_it_is_used(path: str, library: str) -> None:
    assert library not in set(
        imported(ast.Module([*outside_functions(ast.parse((PACKAGE / path).read_text(encoding="utf-8")))], []))
    )


def outside_functions(tree: ast.AST) -> Iterator[ast.stmt]:
    """The imports that are carried out when the module is."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from outside_functions(node)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_integration_is_imported_by_anything_else(path: Path) -> None:
    if str(path.relative_to(PACKAGE)).startswith(tuple(INTEGRATIONS)):
        return
    text = path.read_text(encoding="utf-8")
    if str(path.relative_to(PACKAGE)) in USERS:
        return
    assert not [
        place for place in INTEGRATIONS if f"from rocksyd.{place.removesuffix('.py').removesuffix('/').replace('/', '.')}" in text
    ]
