"""A time is shown in one spelling, that of settings: no text puts a number and a unit together itself."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

import rocksyd

SOURCE = Path(rocksyd.__file__).parent
UNIT = re.compile(r" ?(ms|s|sec|seconds?|min|minutes?|hours?)\b")


def spelt(text: str) -> list[str]:
    """Texts of this source in which a value is followed by a unit of time."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.JoinedStr)
        for value, after in pairwise(node.values)
        if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant) and UNIT.match(str(after.value))
        and (value.format_spec is not None or str(after.value).startswith(" "))
    ]  # fmt: skip


def test_what_it_looks_for() -> None:
    assert spelt('f"not within {limit:g} s"; f"{left:.1f}s"; f"for {n} seconds: it goes on"')
    assert not spelt('f"{count} runs"; f"run{s}s"; f"in {format_duration(left)}"; f"{size} small"')


@pytest.mark.parametrize("path", sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py")))
def test_no_text_spells_a_time_itself(path: str) -> None:
    assert spelt((SOURCE / path).read_text()) == []
