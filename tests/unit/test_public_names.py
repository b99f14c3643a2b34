"""What `rocksyd` itself gives: every name is there when it is asked for, and nothing is loaded before."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rocksyd
from rocksyd import errors

NAMED = {
    name
    for node in ast.walk(ast.parse(Path(rocksyd.__file__).read_text(encoding="utf-8")))
    if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("rocksyd.")
    for name in (alias.name for alias in node.names)
}
"""What type checkers see."""


def test_type_checkers_and_programs_see_the_same_names() -> None:
    assert set(rocksyd._HOMES) == NAMED
    assert set(dir(rocksyd)) >= NAMED
    assert {getattr(rocksyd, name).__name__ for name in NAMED} == NAMED


def test_what_callers_meet_is_there() -> None:
    """Every error that a call can raise is caught by a name from `rocksyd`."""
    met = {name for name, found in vars(errors).items() if isinstance(found, type) and issubclass(found, errors.RequestError)}
    assert met | {"JobFailed", "TimedOut", "NoDaemon", "ResultDropped"} <= NAMED


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'JobFailled'"):
        _ = rocksyd.JobFailled  # type: ignore[attr-defined]


def test_importing_it_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import rocksyd; print(sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(rocksyd.__file__).parent.parent)},
    )
    assert done.stdout.strip() == "['__future__', 'rocksyd']"
