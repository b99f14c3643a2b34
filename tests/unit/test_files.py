"""How tests read files that another process writes: see ``tests/files.py``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.files import lines, whole

TESTS = Path(__file__).parents[1]
READS = {"read_text", "read_bytes", "open"}
SUSPECT = re.compile(r"(until|wait_for)\(.*(exists|is_file)|if .*(exists|is_file)\(.*\) else")
"""What a file has in it that is worth being parsed."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def parts(node: ast.AST) -> Iterator[ast.AST]:
    """Itself and all in it, but for what is negated."""
    yield node
    for one in ast.iter_child_nodes(node):
        if not (isinstance(one, ast.UnaryOp) and isinstance(one.op, ast.Not)):
            yield from parts(one)


def exists(node: ast.AST) -> set[str]:
    """What is asked for its existence in here: ``path.exists``, ``os.path.exists(path)``, ``path.is_file()``."""
    found = set()
    for one in parts(node):
        if isinstance(one, ast.Attribute) and one.attr in ("exists", "is_file"):
            found.add(ast.unparse(one.value))
        if isinstance(one, ast.Call) and ast.unparse(one.func) in ("os.path.exists", "os.path.isfile"):
            found.add(ast.unparse(one.args[0]))
    return found


def read(node: ast.AST) -> set[str]:
    """What is read in here, by the same names."""
    found = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr in READS:
            found.add(ast.unparse(one.func.value))
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id == "open" and one.args:
            found.add(ast.unparse(one.args[0]))
    return found


def waited(node: Function) -> Iterator[str]:
    """What this function waits to exist."""
    for one in ast.walk(node):
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id in ("until", "wait_for") and one.args:
            yield from exists(one.args[0])


def hasty(source: str) -> list[str]:
    """Each place where a file's existence is taken for its content."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            found += [f"{node.name} waits for {path} to exist and reads it" for path in sorted(set(waited(node)) & read(node))]
        if isinstance(node, ast.IfExp) and exists(node.test) & read(node):
            found.append(f"line {node.lineno} reads a file if it is there: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize(
    ("source", "places"),
    [
        ("def f():\n until((a / 'x').exists, 'it')\n assert (a / 'x').read_text() == 'x'", 1),
        ("def f():\n until(lambda: x.exists() and x.read_text(), 'it')", 1),
        ("def f():\n wait_for(lambda: os.path.exists(x), 'it')\n with open(x) as file: pass", 1),
        ("def f():\n return x.read_text() if x.exists() else ''", 1),
        ("def f():\n until(x.exists, 'it')\n assert y.read_text() == 'y'", 0),
        ("def f():\n until(lambda: not x.exists(), 'its end')\n return x.read_text()", 0),
        ("def f():\n assert wait_lines(x) == ['x']", 0),
    ],
)
def test_what_is_found(source: str, places: int) -> None:
    assert len(hasty(source)) == places


def test_no_test_takes_a_files_existence_for_its_content() -> None:
    found = {}
    for path in TESTS.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if SUSPECT.search(text) and path.parent.name != "scripts":  # those are what a user may write, errors too
            found[str(path.relative_to(TESTS))] = hasty(text)
    assert not (wrong := [f"{name}: {place}" for name, places in found.items() for place in places]), "\n".join(wrong)


def test_a_line_counts_once_it_has_its_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert (whole(path), lines(path)) == ("", [])
    for text, expected in [("", []), ("o", []), ("one\n", ["one"]), ("one\ntwo", ["one"]), ("one\ntwo\n", ["one", "two"])]:
        path.write_text(text)
        assert lines(path) == expected
    assert whole(path) == "one\ntwo\n"
