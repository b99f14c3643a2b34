"""`rocksyd why KEY`: why a run waits, goes on, or ended as it did."""

from __future__ import annotations

import argparse
from typing import Any

from rocksyd import codes
from rocksyd.cli.arguments import client
from rocksyd.cli.check import not_found
from rocksyd.cli.output import clean, json_line, write
from rocksyd.cli.tables import Screen, coloured, hung, screen, wrapped
from rocksyd.errors import NotFound

_COLOURS = {"running": "cyan", "waiting": "magenta", "ok": "green"}


def why(options: argparse.Namespace) -> int:
    """Print the reasons, the one that decides first."""
    with client(options) as daemon:
        try:
            found = daemon.why(options.key)
        except NotFound:
            raise NotFound(codes.NOT_FOUND, not_found(options.key)) from None
    write(json_line(found) if options.json else shown(found, screen()))
    return 0


def shown(found: dict[str, Any], target: Screen) -> str:
    """``KEY (TARGET) waiting``, and a line a reason with what can be done about it below."""
    state = str(found.get("outcome") or found.get("state"))
    title = clean(f"{found.get('key')} ({found.get('target')})")
    lines = wrapped(f"{title} {state}", target.width)
    if lines and lines[-1].endswith(state):
        lines[-1] = lines[-1].removesuffix(state) + coloured(state, _COLOURS.get(state, "red"), target)
    for reason in found.get("reasons") or ():
        lines += hung("- ", str(reason.get("text") or ""), target, "")
        if reason.get("advice"):
            lines += hung("  ", str(reason["advice"]), target, "dim")
    return "".join(f"{line}\n" for line in lines)
