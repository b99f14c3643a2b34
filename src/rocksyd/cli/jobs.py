"""`rocksyd jobs`: what may be run, with its parameters, its settings and what its author has written of it.

What must live here: how a target and its signature are shown.
What this file must not know: how signatures are read and checked.
"""

from __future__ import annotations

import argparse
from typing import Any

from rocksyd import codes
from rocksyd.cli.arguments import client
from rocksyd.cli.output import clean, json_line, write
from rocksyd.cli.tables import Cell, Column, Screen, coloured, hung, render, screen
from rocksyd.config.table import nearest
from rocksyd.core.schema import expected
from rocksyd.errors import NotFound

_STARS = {"rest": "*", "others": "**"}


def jobs(options: argparse.Namespace) -> int:
    """A line a target; with a name all that is known of that one."""
    with client(options) as daemon:
        rows = daemon.targets(options.app)
    if options.name:
        chosen = [row for row in rows if options.name in (row.get("name"), row.get("target"))]
        if not chosen:
            near = nearest(options.name, tuple(str(row["name"]) for row in rows))
            cure = f"did you mean {near}?" if near else "`rocksyd jobs` lists them"
            raise NotFound(codes.NOT_FOUND, f"no job is called {clean(options.name)!r}; {cure}")
        rows = chosen
    if options.json:
        write(json_line(rows))
    elif options.name:
        write("\n".join(described(row, screen()) for row in rows))
    else:
        write(table(rows, screen()))
    return 0


def table(rows: list[dict[str, Any]], target: Screen) -> str:
    """The targets and the first line of what is written of each."""
    several = len({row.get("app") for row in rows}) > 1
    columns = (Column("JOB"), Column("APP", rank=1), Column("PARAMETERS", gives=True), Column("", gives=True))
    return render(columns, [_row(row, several=several) for row in rows], target)


def _row(row: dict[str, Any], *, several: bool) -> list[Cell]:
    about = str(row.get("doc") or "").strip().partition("\n")[0]
    parameters = ", ".join(_parameter(one) for one in (row.get("signature") or {}).get("parameters") or ())
    return [Cell(str(row.get("name"))), Cell(str(row.get("app")) if several else ""), Cell(parameters, "dim"), Cell(about)]


def _parameter(one: dict[str, Any]) -> str:
    """``day``, ``[shard]``, ``*rest``."""
    name = _STARS.get(str(one.get("kind")), "") + str(one.get("name"))
    return name if one.get("required") or name[0] == "*" else f"[{name}]"


def described(row: dict[str, Any], target: Screen) -> str:
    """All that is known of one target."""
    name = str(row.get("name"))
    title = name + (f" ({row['target']})" if row.get("target") != name else "")
    lines = hung("", f"{title}, of application {row.get('app')}", target, "bold")
    for line in str(row.get("doc") or "").strip().splitlines():
        blank = len(line) - len(line.lstrip(" "))
        lines += hung("  " + " " * blank, line.strip(), target, "") or [""]
    parameters = (row.get("signature") or {}).get("parameters") or ()
    text = "".join(f"{line}\n" for line in lines)
    if parameters:
        columns = (Column("PARAMETER"), Column("", gives=True), Column("", rank=1))
        text += "\n" + render(columns, [_described(one) for one in parameters], target)
    settings = {name: value for name, value in (row.get("settings") or {}).items() if value not in (None, "")}
    if settings:
        rows = [[Cell(name), Cell(str(value))] for name, value in settings.items()]
        text += "\n" + render((Column("SETTING"), Column("", gives=True)), rows, target)
    needed = (f" {one['name']}=..." for one in parameters if one.get("required") and one.get("kind") in (None, "keyword"))
    return f"{text}\n{coloured(clean(f'rocksyd run {name}' + ''.join(needed)), 'dim', target)}\n"


def _described(one: dict[str, Any]) -> list[Cell]:
    name = _STARS.get(str(one.get("kind")), "") + str(one.get("name"))
    needed = "" if one.get("kind") in _STARS else "needed" if one.get("required") else "optional"
    return [Cell(name), Cell(expected(one["schema"]) if one.get("schema") else "anything"), Cell(needed, "dim")]
