"""`rocksyd debug`: what the runs of a target or a script log, from DEBUG on, for a while.

What must live here: which of the two a name is, and what is shown.
What this file must not know: how a run's log comes to have more in it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rocksyd import codes
from rocksyd.cli.arguments import client
from rocksyd.cli.output import json_line, say, write
from rocksyd.cli.tables import Cell, Column, render, screen
from rocksyd.client import Client
from rocksyd.errors import RequestError
from rocksyd.units import rough_duration

_FLAGS = (Column("FLAG"), Column("OF", gives=True), Column("FOR ANOTHER", right=True), Column("SET BY", gives=True, rank=1))


def debug(options: argparse.Namespace) -> int:
    """Carry out ``rocksyd debug``."""
    with client(options) as daemon:
        if options.list:
            rows = daemon.flags()
            write(json_line(rows) if options.json else _table(rows))
            return 0
        if options.name is None:
            options.parser.error("name a target or a script, or --list")
        whose = _whose(daemon, options.name, options.kind)
        if whose is None:
            return 1
        if options.stop:
            return 0 if daemon.unflag("debug", **whose) else 1
        row = daemon.flag("debug", **whose, lasts=options.span or "1h")
    if options.json:
        write(json_line(row))
    else:
        what, name = next(iter(whose.items()))
        until = f"{datetime.fromtimestamp(row['until']).astimezone():%Y-%m-%d %H:%M:%S %z}"
        say(f"runs of {what} {name} that begin until {until} log everything; rocksyd logs KEY shows it")
    return 0


def _whose(daemon: Client, name: str, kind: str | None) -> dict[str, str] | None:
    """``target`` or ``script``, whichever there is; None where that is not clear, which has been said."""
    if kind == "target":
        return {"target": name}
    script = _script(daemon, name)
    if script is not None and script.get("command"):
        say(f"script {name} is a command line, whose log is not the daemon's to set: give the command itself an option for it")
        return None
    if kind == "script" or (script is not None and not _is_target(daemon, name)):
        if script is None:
            say(f"no script is called {name}; rocksyd schedule list shows them")
            return None
        return {"script": name}
    if script is not None:
        say(f"{name} is a target and a script: say which with --target or --script")
        return None
    return {"target": name}


def _script(daemon: Client, name: str) -> Mapping[str, Any] | None:
    try:
        return next((row for row in daemon.request("schedule.list") if row["name"] == name), None)
    except RequestError as error:
        if error.code == codes.METHOD_NOT_FOUND:
            return None
        raise


def _is_target(daemon: Client, name: str) -> bool:
    return any(name in (row["name"], row["target"]) for row in daemon.targets())


def _table(rows: list[dict[str, Any]]) -> str:
    shown = [[Cell(row["flag"]), Cell(_of(row)), Cell(lasts(row)), Cell(row["by"])] for row in rows]
    return render(_FLAGS, shown, screen())


def _of(row: Mapping[str, Any]) -> str:
    return f"script {row['script']}" if "script" in row else str(row["target"])


def lasts(row: Mapping[str, Any]) -> str:
    """For how long a flag holds from now on."""
    return rough_duration(max(0.0, row["until"] - time.time()))
