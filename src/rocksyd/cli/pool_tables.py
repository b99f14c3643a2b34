"""`rocksyd pools`: the sizes of the pools, and on demand what every worker is at.

What must live here: which of the daemon's numbers are shown, in which order, and which go first where the terminal is narrow.
What this file must not know: where the numbers come from (for each worker the scoreboard, which works while the master is busy).
"""

from __future__ import annotations

import argparse
from typing import Any

from rocksyd.cli.arguments import client
from rocksyd.cli.numbers import human
from rocksyd.cli.output import json_line, write
from rocksyd.cli.tables import Cell, Column, Screen, render, screen
from rocksyd.units import fine_duration, format_size, rough_duration

_ORDER = ("pool", "app", "pm", "workers", "idle", "busy", "max_workers", "waiting", "served", "recycled", "generation")
"""Columns that stand first, in this order; the others follow as the daemon gives them."""
_SELDOM = (
    "recycled", "served", "pm", "generation", "max_workers_reached", "peak_busy", "peak_waiting", "starting", "leaving",
    "replacing", "max_queue", "app",
)  # fmt: skip
"""Columns that are left out where the terminal is too narrow for all, the last of these first, and before them all others."""
_ESSENTIAL = ("pool", "workers", "idle", "busy", "max_workers", "waiting")
_USUAL = (*_ESSENTIAL, "pm", "served", "app")
"""Columns that are shown without ``--wide``."""
WEB = (
    Column("POOL"), Column("REQ/S", right=True), Column("IN FLIGHT", right=True), Column("CONNECTIONS", right=True, rank=3),
    Column("QUEUE", right=True), Column("OF", right=True, rank=4), Column("REFUSED", right=True),
    Column("P50", right=True, rank=2), Column("P90", right=True, rank=6), Column("P99", right=True), Column("2XX", right=True),
    Column("3XX", right=True, rank=7), Column("4XX", right=True, rank=1), Column("5XX", right=True),
    Column("TIMEOUTS", right=True, rank=5),
    Column("WEBSOCKETS", right=True, rank=8), Column("SENT", right=True, rank=9),
)  # fmt: skip
"""What is shown of requests, below the sizes of all pools."""
_IN_NOTE = ("ready", "parked", "failures", "trouble")
_STAGES = {"running": "cyan", "accepting": "cyan", "idle": "dim", "starting": "magenta", "leaving": "dim"}
_WORKERS = (
    Column("POOL"), Column("WORKER", right=True, rank=7), Column("PID", right=True), Column("STAGE"), Column("TIME", right=True),
    Column("JOBS", right=True, rank=1), Column("CPU", right=True, rank=2), Column("MEMORY", right=True, rank=3),
    Column("AGE", right=True, rank=5), Column("GEN", right=True, rank=6), Column("TARGET", gives=True),
    Column("KEY", gives=True, rank=4),
)  # fmt: skip


def pools(options: argparse.Namespace) -> int:
    """A line a pool; with ``--workers`` a line a worker, too."""
    with client(options) as daemon:
        result = daemon.pools()
    if options.json:
        write(json_line(result))
    else:
        workers = f"\n{shown_workers(result, screen())}" if options.workers else ""
        write(shown_pools(result, screen(), wide=options.wide) + shown_requests(result, screen()) + workers)
    return 0


def shown_pools(result: Any, target: Screen, *, wide: bool = False) -> str:
    """A table of the pools; ``wide``: of whatever the daemon says of each but for lists (for ``--workers`` and ``--json``)."""
    entries = _entries(result)
    names = dict.fromkeys(name for name in _ORDER if any(name in entry for entry in entries))
    names |= dict.fromkeys(name for entry in entries for name, value in entry.items() if not isinstance(value, list | dict))
    hidden = {*_IN_NOTE, *(["app"] if all(entry.get("app") == entry.get("pool") for entry in entries) else [])}
    shown = [name for name in names if name not in hidden and (wide or name in _USUAL)]
    columns = [Column(name.upper(), right=_is_number(name, entries), rank=_rank(name)) for name in shown]
    rows = [[*(_cell(name, entry) for name in shown), _note(entry)] for entry in entries]
    columns.append(Column("NOTE", gives=True))
    if wide and _titles(columns, rows, target.width) != _titles(columns, rows, None):
        return _upright(columns, rows, target)
    return render(columns, rows, target)


def shown_requests(result: Any, target: Screen) -> str:
    """A table of what web pools are asked and answer, below a blank line; "" where there is none."""
    rows = [web_cells(entry) for entry in _entries(result) if entry.get("kind") == "web"]
    return "\n" + render(WEB, rows, target) if rows else ""


def web_cells(entry: dict[str, Any], rate: float | None = None) -> list[Cell]:
    """The line of one web pool; ``rate``: requests a second, where whoever shows it has counted them."""

    def count(name: str, colour: str = "") -> Cell:
        value = entry.get(name) or 0
        return Cell(human(name, value), colour if value else "")

    def status(code: str, colour: str = "") -> Cell:
        value = (entry.get("status") or {}).get(code, 0)
        return Cell(f"{value:,}" if value else "", colour)

    latency = entry.get("latency") or {}
    times = [Cell(_short(latency.get(share) or 0.0)) for share in ("p50", "p90", "p99")]
    per_second = entry.get("requests_per_second", 0.0) if rate is None else rate
    return [
        Cell(str(entry.get("pool", ""))), Cell(f"{per_second:,.1f}" if per_second < 100 else f"{per_second:,.0f}"),
        count("in_flight"), count("connections"), count("waiting", "magenta"), count("max_queue"), count("refused", "red"),
        *times, status("2xx"), status("3xx"), status("4xx"), status("5xx", "red"), count("timeouts", "red"), count("websockets"),
        Cell(format_size(entry.get("bytes_sent") or 0)),
    ]  # fmt: skip


def _short(seconds: float) -> str:
    """A time that is mostly a few milliseconds; "" for none."""
    return fine_duration(seconds) if seconds else ""


def _titles(columns: list[Column], rows: list[list[Cell]], width: int | None) -> list[str]:
    """Those that are shown in this width."""
    return render(columns, rows, Screen(width)).partition("\n")[0].split()


def _upright(columns: list[Column], rows: list[list[Cell]], target: Screen) -> str:
    """A line a number and a column a pool, because not all the numbers stand beside each other."""
    titles = [Column(columns[0].title), *(Column(row[0].text, right=True, gives=True) for row in rows)]
    lines = [[Cell(column.title, "bold"), *(row[n] for row in rows)] for n, column in enumerate(columns) if n]
    return render(titles, [line for line in lines if any(cell.text for cell in line[1:])], target)


def _cell(name: str, entry: dict[str, Any]) -> Cell:
    value = entry.get(name, "")
    return Cell(human(name, value), "magenta" if name == "waiting" and value else "")


def _note(entry: dict[str, Any]) -> Cell:
    """What somebody should look at."""
    if entry.get("parked"):
        return Cell(f"parked: {entry.get('trouble') or 'workers die at their start'}", "red")
    if entry.get("trouble"):
        return Cell(str(entry["trouble"]), "red")
    return Cell("not loaded", "red") if entry.get("ready") is False else Cell("")


def shown_workers(result: Any, target: Screen) -> str:
    """A table of all workers, pool by pool."""
    rows = [
        _worker(str(entry.get("pool", "")), process)
        for entry in _entries(result)
        for process in entry.get("processes") or ()
        if isinstance(process, dict)
    ]
    return render(_WORKERS, rows, target)


def _worker(pool: str, process: dict[str, Any]) -> list[Cell]:
    def number(name: str) -> str:
        return str(process.get(name) or "")

    def time(name: str) -> str:
        value = process.get(name)
        return rough_duration(value) if isinstance(value, int | float) and value >= 0 else ""

    stage, memory = number("stage"), process.get("rss") or process.get("max_rss")
    running = process.get("running")
    what = "requests" if process.get("title") else "runs"
    several = f" ({running} {what})" if isinstance(running, int) and running > 1 else ""
    return [
        Cell(pool), Cell(number("title") or number("worker"), "dim"), Cell(number("pid")),
        Cell(stage + several, _STAGES.get(stage, "")),
        Cell(time("seconds")), Cell(number("jobs")), Cell(time("cpu") if process.get("cpu") else ""),
        Cell(format_size(memory) if isinstance(memory, int) and memory > 0 else ""), Cell(time("age")),
        Cell(number("generation")), Cell(number("target")), Cell(number("key"), "dim"),
    ]  # fmt: skip


def _rank(name: str) -> int:
    if name in _ESSENTIAL:
        return 0
    return _SELDOM.index(name) + 1 if name in _SELDOM else len(_SELDOM) + 1


def _is_number(name: str, entries: list[dict[str, Any]]) -> bool:
    return all(isinstance(entry.get(name, 0), (int, float)) for entry in entries)


def _entries(result: Any) -> list[dict[str, Any]]:
    """A list of pools, or pools by name."""
    if isinstance(result, dict):
        return [{"pool": name, **entry} for name, entry in result.items() if isinstance(entry, dict)]
    return [entry for entry in result if isinstance(entry, dict)] if isinstance(result, list) else []
