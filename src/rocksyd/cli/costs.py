"""`rocksyd costs`: what runs usually take.

What must live here: how it is shown. What this file must not know: how it was learned.
"""

from __future__ import annotations

import argparse

from rocksyd.cli.arguments import client
from rocksyd.cli.output import json_line, write
from rocksyd.cli.tables import Cell, Column, render, screen
from rocksyd.units import format_size, rough_duration

_COLUMNS = (
    Column("APP", rank=5), Column("WHAT", gives=True), Column("RUNS", right=True), Column("OK", right=True),
    Column("MEDIAN", right=True), Column("95 %", right=True, rank=1), Column("99 %", right=True, rank=3),
    Column("LONG", right=True, rank=2), Column("CPU", right=True, rank=4), Column("MEMORY", right=True),
)  # fmt: skip


def costs(options: argparse.Namespace) -> int:
    """Ask and print."""
    with client(options) as daemon:
        rows = daemon.request("costs")
    if options.json:
        write(json_line(rows))
        return 0
    shown = [
        [
            Cell(row["app"]),
            Cell(row["target"] or f"script {row['script']}"),
            Cell(f"{row['runs']:,}"),
            Cell("" if row["ok"] is None else f"{100 * row['ok']:.3g} %", "green" if row["ok"] == 1 else ""),
            *(Cell(rough_duration(row[name]) if row[name] else "") for name in ("p50", "p95", "p99", "long", "cpu")),
            Cell(format_size(row["memory"]) if row["memory"] else ""),
        ]
        for row in rows
    ]
    write(render(_COLUMNS, shown, screen()))
    return 0
