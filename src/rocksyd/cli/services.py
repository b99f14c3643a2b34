"""`rocksyd services`: where each resident service can be reached, what it has, and how its last hand-over went.

What must live here: how it is shown. What this file must not know: where the numbers come from.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from rocksyd.cli.arguments import client
from rocksyd.cli.output import json_line, write
from rocksyd.cli.phrases import clock
from rocksyd.cli.tables import Cell, Column, Screen, hung, render, screen
from rocksyd.units import fine_duration, format_size, rough_duration

_COLUMNS = (
    Column("SERVICE"), Column("LISTENS AT", gives=True), Column("STATE"), Column("PID", right=True),
    Column("CONNECTIONS", right=True), Column("OF", right=True, rank=6), Column("MSG/S", right=True),
    Column("MESSAGES", right=True, rank=8), Column("UNSENT", right=True, rank=3), Column("KEPT STATE", right=True, rank=4),
    Column("CPU", right=True, rank=9), Column("MEMORY", right=True, rank=7), Column("AGE", right=True, rank=11),
    Column("GEN", right=True, rank=10), Column("TAKEN OVER", right=True, rank=2), Column("SILENCE", right=True, rank=1),
    Column("GAUGES", gives=True, rank=5),
)  # fmt: skip
_COLOURS = {
    "serving": "green",
    "handing over": "magenta",
    "starting": "magenta",
    "leaving": "dim",
    "parked": "red",
    "none": "red",
}


def services(options: argparse.Namespace) -> int:
    """Ask and print."""
    with client(options) as daemon:
        rows = daemon.services()
    write(json_line(rows) if options.json else shown(rows, screen(), time.time()))
    return 0


def shown(rows: list[dict[str, Any]], target: Screen, now: float) -> str:
    """A line a service, and below the table what somebody should look at."""
    if not rows:
        return "no application has a service\n"
    lines = [line for row in rows for note in _notes(row) for line in hung("- ", note, target, "red")]
    return render(_COLUMNS, [_cells(row, now) for row in rows], target) + "".join(f"{line}\n" for line in lines)


def _notes(row: dict[str, Any]) -> list[str]:
    name, found = row["service"], []
    if row.get("kept"):
        found.append(f"{name} goes on in the code before: {_first(row['kept'])}")
    if row.get("trouble"):
        found.append(f"{name} is in trouble: {_first(row['trouble'])}")
    return found


def _first(text: str) -> str:
    return text.partition("\n")[0]


def _cells(row: dict[str, Any], now: float) -> list[Cell]:
    def count(name: str, colour: str = "") -> Cell:
        return Cell(f"{row[name]:,}", colour if row[name] else "")

    def size(name: str) -> Cell:
        return Cell(format_size(row[name]) if row[name] else "")

    per_second, state = row["messages_per_second"], row["state"]
    gauges = " ".join(f"{name}={value:,.6g}" for name, value in sorted(row["gauges"].items()))
    return [
        Cell(row["service"]), Cell(" ".join(row["listen"])), Cell(state, _COLOURS.get(state, "")), Cell(str(row["pid"] or "")),
        count("connections"), count("max_connections"), Cell(f"{per_second:,.1f}" if per_second < 100 else f"{per_second:,.0f}"),
        count("messages"), Cell(format_size(row["unsent"]) if row["unsent"] else "", "magenta"), size("checkpoint_bytes"),
        Cell(rough_duration(row["cpu"]) if row["cpu"] else ""), size("rss"),
        Cell(rough_duration(row["age"]) if row["age"] is not None else ""), count("generation"),
        Cell(clock(row["taken_over_at"], now)), Cell("" if row["silence"] is None else fine_duration(row["silence"])),
        Cell(gauges),
    ]  # fmt: skip
