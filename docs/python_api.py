"""What applications and callers import, as Markdown: signatures and docstrings, read from the source by griffe and not imported.

What must live here: how a function, a class and an error are written down. What this file must not know: which pages there are.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import griffe

SOURCE = Path(__file__).parent.parent / "src"
_LITERAL = re.compile(r"``([^`]+)``")
_LONG = 100
"""Characters of a signature that stand in one line."""
_MADE_BY_US = frozenset(("Current",))
"""Classes that callers get and do not make."""

logging.getLogger("griffe").setLevel(logging.ERROR)  # it wants one name a line under Args
_package = griffe.load("rocksyd", search_paths=[SOURCE], docstring_parser="google")


def described(what: list[str]) -> Iterable[str]:
    """``api MODULE:NAME ...``: each with its signature and docstring; a class with its public members, inherited ones, too."""
    for name in what[1:]:
        module, _, member = name.partition(":")
        yield from _object(_package[f"{module.removeprefix('rocksyd.')}.{member}"], member)


def errors(_: list[str]) -> Iterable[str]:
    """``errors``: every exception that ``rocksyd`` names, with its sentence."""
    yield from ("| exception | |", "| --- | --- |")
    for name, found in _package["errors"].classes.items():
        if name in _package.members:
            yield f"| `{name}` | {_text(found.docstring.value.splitlines()[0])} |"


def _object(found: Any, name: str) -> Iterator[str]:
    yield from (f"### `{name}`", "")
    if found.is_function:
        yield from _signature(found, name)
    elif name not in _MADE_BY_US and (init := found.all_members.get("__init__")) is not None:
        yield from _signature(init, name)
    yield from _docstring(found)
    if not found.is_class:
        return
    for member, one in _members(found):
        yield from (f"#### `{name}.{member}`", "")
        if one.is_function:
            yield from _signature(one, member)
        yield from _docstring(one)


def _members(found: Any) -> list[tuple[str, Any]]:
    """The public ones that say what they are, in the order of the source, the class's own first."""
    named = [*found.members.items(), *found.inherited_members.items()]
    unalias = [(name, one.final_target if one.is_alias else one) for name, one in named]
    return [(name, one) for name, one in unalias if not name.startswith("_") and one.has_docstring]


def _signature(found: Any, name: str) -> Iterator[str]:
    parameters = list(_parameters([one for one in found.parameters if one.name not in ("self", "cls")]))
    returned = "" if found.returns is None or found.name == "__init__" else f" -> {found.returns}"
    prefix = "async " if "async" in found.labels else ""
    line = f"{prefix}{name}({', '.join(parameters)}){returned}"
    yield "```python"
    if len(line) <= _LONG:
        yield line
    else:
        yield f"{prefix}{name}("
        for one in parameters:
            yield f"    {one},"
        yield f"){returned}"
    yield from ("```", "")


def _parameters(shown: list[Any]) -> Iterator[str]:
    """Each as it is written in the source, with ``/`` and ``*`` between them."""
    only = griffe.ParameterKind
    kinds = [one.kind for one in shown]
    for at, (kind, one) in enumerate(zip(kinds, shown, strict=True)):
        if kind is only.keyword_only and (at == 0 or kinds[at - 1] not in (only.keyword_only, only.var_positional)):
            yield "*"
        star = {only.var_positional: "*", only.var_keyword: "**"}.get(kind, "")
        written = f"{star}{one.name}" + (f": {one.annotation}" if one.annotation is not None else "")
        default = "" if one.default is None or star else f" = {one.default}" if one.annotation is not None else f"={one.default}"
        yield written + default
        if kind is only.positional_only and (at + 1 == len(kinds) or kinds[at + 1] is not only.positional_only):
            yield "/"


def _docstring(found: Any) -> Iterator[str]:
    if not found.has_docstring:
        return
    for section in found.docstring.parsed:
        if section.kind is griffe.DocstringSectionKind.text:
            yield from (_text(section.value), "")
        elif section.kind in (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.raises):
            for one in section.value:
                raised = section.kind is griffe.DocstringSectionKind.raises
                named = str(one.annotation).strip("()") if raised else one.name
                name = ("raises " if raised else "") + ", ".join(f"`{part}`" for part in named.split(", "))
                yield f"* {name}: {_text(one.description).replace(chr(10), ' ')}"
            yield ""
        else:
            raise SystemExit(f"{found.path}: a docstring section of the kind {section.kind.value} has no form yet")


def _text(written: str) -> str:
    """A docstring's text as Markdown."""
    return _LITERAL.sub(r"`\1`", written.strip())
