"""`rocksyd schedule apply|diff|versions`: what scripts are to be, what that changes, and what they were.

What must live here: reading the file, and what is shown of the answers.
What this file must not know: what a script may say, and which source's word holds (the scheduler says so).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from typing import Any

from rocksyd.cli.output import json_line, say, write
from rocksyd.cli.schedule import USAGE, asked, when
from rocksyd.cli.tables import Screen, hung, screen
from rocksyd.client import Client

_COLOURS = {"new": "green", "changed": "cyan", "removed": "red", "same": "dim"}


def edit(options: argparse.Namespace) -> int:
    """Carry out ``rocksyd schedule apply|diff|versions``."""
    return asked(options, _versions if options.act == "versions" else _apply)


def _apply(daemon: Client, options: argparse.Namespace) -> int:
    try:
        if options.name == "-":
            text, file = sys.stdin.read(), "standard input"
        else:
            file = os.path.abspath(options.name)
            with open(file, encoding="utf-8") as opened:
                text = opened.read()
    except (OSError, UnicodeDecodeError) as error:
        say(f"{options.name}: {error.strerror if isinstance(error, OSError) else 'not UTF-8'}")
        return USAGE
    rest = "remove" if options.remove_others else "keep"
    given = {"text": text, "file": file, "rest": rest, "dry": options.diff or options.act == "diff"}
    found = daemon.request("schedule.apply", given)
    write(json_line(found) if options.json else changed(found["changes"], screen()))
    return 0


def changed(changes: list[Mapping[str, Any]], target: Screen) -> str:
    """What would change, or has, for people."""
    lines = []
    for one in changes:
        lines += hung("", f"{one['name']}  {one['what']}", target, _COLOURS[one["what"]])
        lines += _diff(one["diff"], target)
    return "".join(f"{line}\n" for line in lines)


def _diff(lines: list[str], target: Screen) -> list[str]:
    return [shown for line in lines for shown in hung("  ", line, target, "green" if line.startswith("+") else "red")]


def _versions(daemon: Client, options: argparse.Namespace) -> int:
    rows = daemon.request("schedule.versions", {"name": options.name})
    rows = rows[: options.count] if options.count else rows
    write(json_line(rows) if options.json else versions(options.name, rows, screen()))
    return 0


def versions(name: str, rows: list[Mapping[str, Any]], target: Screen) -> str:
    """The versions of a script for people, the latest first."""
    lines = []
    for row in rows:
        where = f", {row['source']} ({row['place']})" if row["source"] else ", gone from its source"
        by = f" by {row['author']}" if row["author"] else ""
        lines += hung("", f"{name} version {row['number']}  {when(row['at'])}{by}{where}", target, "bold")
        lines += _diff(row["diff"], target)
    return "".join(f"{line}\n" for line in lines)
