"""`rocksyd health`: whether the daemon can do its work, for people and, by its exit status, for scripts.

What must live here: what of the answer is shown, problems first.
What this file must not know: what makes a daemon healthy (it says so itself, with what to do).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from rocksyd.cli.arguments import client
from rocksyd.cli.output import json_line, write
from rocksyd.cli.tables import Cell, Column, Screen, hung, render, screen
from rocksyd.shelf_names import ZYGOTE
from rocksyd.units import format_size

HEALTHY, UNHEALTHY = 0, 1
_STATES = {"ready": "green", "failed": "red", "starting": "magenta", "loading": "magenta", "absent": "dim", "retiring": "dim"}
_ZYGOTES = (
    Column("ZYGOTE"), Column("STATE"), Column("PID", right=True), Column("MEMORY", right=True),
    Column("IN HUGE PAGES", right=True, rank=1),
)  # fmt: skip
_COMPANIONS = (
    Column("COMPANION"), Column("STATE"), Column("PID", right=True), Column("RESTARTS", right=True), Column("REASON", gives=True),
)  # fmt: skip


def health(options: argparse.Namespace) -> int:
    """Ask and print; 0 when the daemon is healthy, 1 when not."""
    with client(options) as daemon:
        found = daemon.health()
    write(json_line(found) if options.json else shown(found, screen()))
    return HEALTHY if found.get("ok") else UNHEALTHY


def shown(found: Mapping[str, Any], target: Screen) -> str:
    """The verdict, each problem and warning with its cure, then what there is: addresses, zygotes, companions, faults."""
    problems = [str(problem) for problem in found.get("problems") or ()]
    verdict, colour = ("healthy", "green") if found.get("ok") else ("not healthy", "red")
    words = [f"rocksyd {found['version']}"] if found.get("version") else []
    words += [f"generation {found['generation']}"] if "generation" in found else []
    lines = hung("", ", ".join([verdict, *words]), target, colour)
    cures = [str(cure) for cure in found.get("advice") or ()]
    for number, problem in enumerate(problems):
        lines += hung("- ", problem, target, "red")
        if number < len(cures):
            lines += hung("  ", cures[number], target, "dim")
    warnings = found.get("warnings") or ()
    for warning in warnings:
        lines += hung("- ", str(warning.get("text") or ""), target, "magenta")
        lines += hung("  ", str(warning.get("advice") or ""), target, "dim")
    lines += [""] if problems or warnings else []
    for title, name in (("listens at ", "listen"), ("exec at    ", "exec")):
        addresses = [str(address) for address in found.get(name) or ()]
        lines += hung(title, ", ".join(addresses), target, "") if addresses else []
    parts = ["".join(f"{line}\n" for line in lines)]
    zygotes = [_zygote(name, zygote) for name, zygote in (found.get("zygotes") or {}).items()]
    companions = [_companion(companion) for companion in found.get("companions") or ()]
    parts += [render(_ZYGOTES, zygotes, target)] if zygotes else []
    parts += [render(_COMPANIONS, companions, target)] if companions else []
    faults = {name: count for name, count in (found.get("faults") or {}).items() if count}
    if faults:
        title = "\n".join(hung("", "what was shut out because it made no sense, without harm to others", target, "bold"))
        rows = [[Cell(str(name)), Cell(f"{count:,}" if isinstance(count, int) else str(count))] for name, count in faults.items()]
        parts.append(f"{title}\n" + render((Column("FROM"), Column("COUNT", right=True)), rows, target))
    return "\n".join(parts)


def _zygote(name: str, zygote: Mapping[str, Any]) -> list[Cell]:
    return [
        Cell(name.removeprefix(ZYGOTE)),
        _state(zygote),
        _number(zygote, "pid"),
        _size(zygote, "memory"),
        _size(zygote, "huge"),
    ]


def _companion(companion: Mapping[str, Any]) -> list[Cell]:
    name, reason = str(companion.get("name") or ""), str(companion.get("reason") or "")
    return [Cell(name), _state(companion), _number(companion, "pid"), _number(companion, "restarts"), Cell(reason)]


def _state(one: Mapping[str, Any]) -> Cell:
    state = str(one.get("state") or "")
    return Cell(state, _STATES.get(state, ""))


def _number(one: Mapping[str, Any], name: str) -> Cell:
    return Cell(str(one.get(name) or ""))


def _size(one: Mapping[str, Any], name: str) -> Cell:
    size = one.get(name)
    return Cell(format_size(size) if isinstance(size, int) and size > 0 else "")
