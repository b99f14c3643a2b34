"""`rocksyd restarts`: each deploy, who ordered it, from what to what, what it carried, how long it took, or why it was refused.

What must live here: what of the audit is shown.
What this file must not know: what is written into it.
"""

from __future__ import annotations

import argparse
import pwd
import re
import time
from typing import Any

from rocksyd.cli.arguments import client
from rocksyd.cli.numbers import human
from rocksyd.cli.output import json_line, write
from rocksyd.cli.phrases import clock
from rocksyd.cli.tables import Cell, Column, Screen, hung, lines_of, screen

SHOWN = 20
_COLUMNS = (
    Column("WHEN"), Column("KIND"), Column("RESULT"), Column("WHO", gives=True, rank=3), Column("FROM → TO"),
    Column("TOOK", right=True, rank=1), Column("WAITED", right=True), Column("CONNECTIONS", right=True, rank=4),
    Column("RUNS", right=True, rank=5), Column("BYTES", right=True, rank=6),
)  # fmt: skip


def restarts(options: argparse.Namespace) -> int:
    """A line a restart, the latest first."""
    with client(options) as daemon:
        rows = daemon.restarts(SHOWN if options.limit is None else options.limit)
    write(json_line(rows) if options.json else table(rows, time.time(), screen()))
    return 0


def table(rows: list[dict[str, Any]], now: float, target: Screen) -> str:
    """The table of these records of the audit, and below each that was refused why, below a crash what the master died of.

    ``now`` is Unix time.
    """
    titles, *lines = lines_of(_COLUMNS, [_row(row, now) for row in rows], target)
    text = [titles]
    for line, row in zip(lines, rows, strict=True):
        text.append(line)
        if not row.get("ok") or row.get("kind") == "crash":
            text += [one for part in _reason(row) for one in hung("    ", part, target, "dim")]
    return "".join(f"{line}\n" for line in text)


def _row(row: dict[str, Any], now: float) -> list[Cell]:
    good = bool(row.get("ok"))
    carried = [_number(row, name) if good else "" for name in ("connections", "jobs", "bytes")]
    return [
        Cell(clock(row["at"], now) if isinstance(row.get("at"), int | float) else ""),
        Cell(str(row.get("kind") or "")),
        Cell("ok", "green") if good else Cell("refused" if row.get("kind") != "crash" else "crash", "red"),
        Cell(_who(str(row.get("ordered_by") or ""))),
        Cell(_way(row)),
        Cell(_number(row, "took_ms")),
        Cell(_number(row, "waited_ms") if good else ""),
        *(Cell(text) for text in carried),
    ]


def _way(row: dict[str, Any]) -> str:
    """``3f2c1 → 9ab04`` by the revisions of the code, or the generations where they are not known or the same."""
    before, after = row.get("from_rev"), row.get("to_rev")
    generations = [str(row.get(name)) for name in ("from", "to") if row.get(name) is not None]
    if not row.get("ok"):
        return str(before or (generations[0] if generations else ""))
    if before and after and before != after:
        return f"{before} → {after}"
    numbers = " → ".join(dict.fromkeys(generations))
    return f"{numbers} ({after})" if after else numbers


def _who(ordered_by: str) -> str:
    """``ann, pid 4711``: the daemon asks nobody for names, because that may take long."""
    found = re.match(r"uid (\d+)(?=, )", ordered_by)
    if found is None:
        return ordered_by
    try:
        return pwd.getpwuid(int(found[1])).pw_name + ordered_by[found.end() :]
    except (KeyError, OverflowError):
        return ordered_by


def _reason(row: dict[str, Any]) -> list[str]:
    """Why, without the traceback behind it: its last line is the exception, and is in the first mostly."""
    lines = [line.strip() for line in str(row.get("reason") or "").splitlines() if line.strip()]
    return lines[:1] if len(lines) < 2 or lines[-1] in lines[0] else [lines[0], lines[-1]]


def _number(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    return human(name, value) if isinstance(value, int | float) and value else ""
