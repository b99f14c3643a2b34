"""`rocksyd stats`: numbers for people.

The names are the daemon's, so that one seen here can be looked for in the manual and in what monitoring shows. What a number
counts is taken from its name: ``..._bytes``, ``..._seconds``, ``..._ms``, ``..._at``.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from rocksyd.cli.arguments import client
from rocksyd.cli.output import clean, json_line, write
from rocksyd.cli.tables import Cell, Column, Screen, coloured, render, screen
from rocksyd.units import format_size, rough_duration

_RESTARTS = ("at", "kind", "ok", "from", "to", "waited_ms", "connections", "jobs", "bytes", "reason")
_TITLES = {"waited_ms": "WAITED", "ok": "RESULT"}
_NUMBERS = ("from", "to", "waited_ms", "connections", "jobs", "bytes")
_SELDOM = ("connections", "jobs", "bytes", "from")
"""Columns that are left out where the terminal is too narrow for all, the last of these first."""
_SINCE_1990 = 631152000
"""Unix time; a smaller number in ``..._at`` is no wall clock."""


def stats(options: argparse.Namespace) -> int:
    """The numbers in groups, and the last restarts."""
    with client(options) as daemon:
        numbers = daemon.stats()
    write(json_line(numbers) if options.json else shown_stats(numbers, screen()))
    return 0


def shown_stats(numbers: dict[str, Any], target: Screen) -> str:
    """The text of `rocksyd stats`."""
    parts = []
    for title, names in grouped([name for name in numbers if name != "restarts"]):
        rows = [[Cell(""), Cell(name), Cell(human(name, numbers[name]))] for name in names]
        width = max(len(row[1].text) for row in rows)
        body = "".join(f"  {clean(row[1].text):<{width}}  {clean(row[2].text)}\n" for row in rows)
        parts.append(f"{coloured(clean(title), 'bold', target)}\n{body}")
    restarts = numbers.get("restarts")
    if isinstance(restarts, list) and restarts:
        columns = [Column(_TITLES.get(name, name.upper()), name in _NUMBERS, name == "reason", _rank(name)) for name in _RESTARTS]
        rows = [[_restart_cell(name, item) for name in _RESTARTS] for item in restarts if isinstance(item, dict)]
        parts.append(f"{coloured('restarts', 'bold', target)}\n{render(columns, rows, target)}")
    return "\n".join(parts)


def grouped(names: list[str]) -> list[tuple[str, list[str]]]:
    """Names that begin with the same word, in the order they came; the ones that stand alone come first, as ``daemon``."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.replace(".", "_").partition("_")[0], []).append(name)
    alone = [name for group in groups.values() if len(group) == 1 for name in group]
    several = [(title, group) for title, group in groups.items() if len(group) > 1]
    return [("daemon", alone), *several] if alone else several


def human(name: str, value: Any) -> str:
    """A value as people read it: ``12.5M``, ``3 min 12 s``, ``1,234``."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    if not isinstance(value, (int, float)):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    word = name.replace(".", "_").rpartition("_")[2]
    if word in ("bytes", "rss", "memory") and value >= 0:
        return format_size(int(value))
    if word in ("seconds", "uptime") and value >= 0:
        return rough_duration(value)
    if word == "ms":
        return rough_duration(value / 1000)
    if word in ("at", "time") and value > _SINCE_1990:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
    return f"{value:,}" if isinstance(value, int) and word != "pid" else f"{value:g}" if isinstance(value, float) else str(value)


def _restart_cell(name: str, item: dict[str, Any]) -> Cell:
    value = item.get(name)
    if name == "ok":
        return Cell("ok", "green") if value else Cell("failed", "red")
    if name == "at" and not isinstance(value, str):
        return Cell(human("at", value))
    if value is None:
        return Cell("")
    return Cell(str(value) if name in ("from", "to", "kind", "reason") else human(name, value))


def _rank(name: str) -> int:
    return _SELDOM.index(name) + 1 if name in _SELDOM else 0
