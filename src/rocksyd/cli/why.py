"""`rocksyd why KEY`: why a run waits, goes on, or ended as it did."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rocksyd.cli.arguments import client
from rocksyd.cli.check import not_found
from rocksyd.cli.output import clean, write
from rocksyd.cli.tables import COLOURS, Screen, screen, wrapped
from rocksyd.errors import NotFound

_NARROWEST = 8
"""Columns below which nothing is indented."""
_COLOURS = {"running": "cyan", "waiting": "magenta", "ok": "green"}


def why(options: argparse.Namespace) -> int:
    """Print the reasons, the one that decides first."""
    with client(options) as daemon:
        try:
            found = daemon.request("why", {"key": options.key})
        except NotFound:
            raise NotFound(-32001, not_found(options.key)) from None
    write(json.dumps(found, ensure_ascii=False) + "\n" if options.json else shown(found, screen()))
    return 0


def shown(found: dict[str, Any], target: Screen) -> str:
    """``KEY (TARGET) waiting``, and a line a reason with what can be done about it below."""
    state = str(found.get("outcome") or found.get("state"))
    title = clean(f"{found.get('key')} ({found.get('target')})")
    lines = wrapped(f"{title} {state}", target.width)
    if target.coloured and lines and lines[-1].endswith(state):
        lines[-1] = lines[-1].removesuffix(state) + f"\x1b[{COLOURS[_COLOURS.get(state, 'red')]}m{state}\x1b[0m"
    for reason in found.get("reasons") or ():
        lines += _hung("- ", str(reason.get("text") or ""), target, "")
        if reason.get("advice"):
            lines += _hung("  ", str(reason["advice"]), target, "dim")
    return "".join(f"{line}\n" for line in lines)


def _hung(lead: str, text: str, target: Screen, colour: str) -> list[str]:
    if target.width is not None and target.width < _NARROWEST:
        return wrapped(clean(text), max(target.width, 1))
    lines = wrapped(clean(text), None if target.width is None else target.width - len(lead))
    on, off = (f"\x1b[{COLOURS[colour]}m", "\x1b[0m") if target.coloured and colour else ("", "")
    return [f"{'  ' if n else lead}{on}{line}{off}" for n, line in enumerate(lines)]
