"""`rocksyd ps`: what runs, waits and has ended."""

from __future__ import annotations

import argparse
import time
from typing import Any

from rocksyd import codes
from rocksyd.cli.arguments import client
from rocksyd.cli.filters import asked, found
from rocksyd.cli.output import json_line, say, write
from rocksyd.cli.phrases import age, clock, progress_text
from rocksyd.cli.tables import Cell, Column, Screen, render, screen
from rocksyd.client import Client
from rocksyd.client.records import failure_text
from rocksyd.errors import RequestError
from rocksyd.units import format_size, rough_duration

_COLUMNS = (
    Column("KEY"), Column("APP", rank=5), Column("TARGET", gives=True), Column("STATE"), Column("STARTED", right=True, rank=1),
    Column("ENDED", right=True, rank=3), Column("DURATION", right=True), Column("PID", right=True, rank=2),
    Column("CPU", right=True, rank=6), Column("MEMORY", right=True, rank=4), Column("NOTE", gives=True),
)  # fmt: skip
_LEFT = (Column("KEY", gives=True), Column("PROCESS"), Column("TIME", right=True), Column("PID", right=True))
_BUSY = ("running", "reading", "finishing")
_COLOURS = {"running": "cyan", "reading": "cyan", "finishing": "cyan", "waiting": "magenta", "ok": "green"}
_ORDER = {"running": 0, "waiting": 1, "ended": 2}
ENDED_SHOWN = 100


def ps(options: argparse.Namespace) -> int:
    """List runs; without ``-a``, a state and a filter that is about ends only those that have not ended."""
    filters = asked(options)
    ends = options.failed or options.outcome is not None
    states = [options.state] if options.state else ["ended"] if ends else ["running", "waiting"]
    if not options.state and not ends and (options.all or options.since is not None or options.until is not None):
        states = ["running", "waiting", "ended"]
    with client(options) as daemon:
        pages = [[*found(daemon, {**filters, "state": state}, _most(state, options.limit))] for state in states]
        processes = {} if options.json or "running" not in states else _processes(daemon)
        left = [] if options.json or "running" not in states else _left_behind(daemon)
    # Asked for one state at a time, a run that has just been started may be in both answers.
    records = {str(record.get("key")): record for page in pages for record in page}
    shown = sorted(records.values(), key=_place)[: options.limit]
    if options.limit is None and len(pages[-1]) == ENDED_SHOWN and "ended" in states:
        say(f"only the last {ENDED_SHOWN} that ended; --limit N shows more")
    if options.json:
        write(json_line(shown))
    else:
        now = [_as_of_now(record, processes.get(str(record.get("key"))[:160], {})) for record in shown]
        write(table(now, time.time(), screen()))
    if left:
        write("\nLEFT BEHIND BY RUNS, and alive\n" + left_table(left, screen()))
    return 0


def _most(state: str, limit: int | None) -> int | None:
    """Of those that ended only some unless a limit is given."""
    return limit if limit is not None else ENDED_SHOWN if state == "ended" else None


def _left_behind(daemon: Client) -> list[dict[str, Any]]:
    try:
        return daemon.left_behind()
    except RequestError as error:
        if error.code != codes.METHOD_NOT_FOUND:  # a daemon of an earlier version
            raise
        return []


def _processes(daemon: Client) -> dict[str, dict[str, Any]]:
    """What the scoreboard has of each worker that has a run, by the run's key."""
    found = (process for pool in daemon.pools() for process in pool.get("processes") or ())
    return {str(process["key"])[:160]: process for process in found if process.get("key")}


def _as_of_now(record: dict[str, Any], process: dict[str, Any]) -> dict[str, Any]:
    """A running run's record says nothing of CPU and memory before its end; its process does."""
    if record.get("state") != "running" or not process:
        return record
    stage = process.get("stage")
    shown = stage if stage in ("reading", "finishing") else record["state"]
    return {**record, "state": shown, "cpu": process.get("job_cpu"), "max_rss": process.get("rss"), "pid": process.get("pid")}


def _place(record: dict[str, Any]) -> tuple[int, float]:
    """Running, waiting, ended; of each the oldest first, but of those ended the last first."""
    state = str(record.get("state"))
    if state == "ended":
        return 2, -(record.get("ended_at") or 0.0)
    return _ORDER.get(state, 3), record.get("started_at") or record.get("submitted_at") or 0.0


def table(records: list[dict[str, Any]], now: float, target: Screen) -> str:
    """The table of these records. ``now`` is Unix time."""
    return render(_COLUMNS, [_row(record, now) for record in records], target)


def left_table(processes: list[dict[str, Any]], target: Screen) -> str:
    """The table of processes that runs have left behind."""
    rows = [
        [
            Cell(str(one.get("key") or "")),
            Cell(str(one.get("name") or "")),
            Cell(rough_duration(float(one.get("age") or 0.0))),
            Cell(str(one.get("pid"))),
        ]
        for one in processes
    ]
    return render(_LEFT, rows, target)


def _row(record: dict[str, Any], now: float) -> list[Cell]:
    state, outcome = str(record.get("state")), record.get("outcome")
    shown = str(outcome) if outcome else state
    seconds = age(record, now)
    cpu, memory = record.get("cpu"), record.get("max_rss")
    return [
        Cell(str(record.get("key"))),
        Cell(str(record.get("app") or "")),
        Cell(str(record.get("target") or "")),
        Cell(shown, _COLOURS.get(shown, "red")),
        Cell(clock(record.get("started_at"), now)),
        Cell(clock(record.get("ended_at"), now) if state == "ended" else ""),
        Cell("" if seconds is None else rough_duration(seconds)),
        Cell(str(record["pid"]) if record.get("pid") and state in _BUSY else ""),
        Cell(rough_duration(cpu) if isinstance(cpu, (int, float)) and cpu else ""),
        Cell(format_size(memory) if isinstance(memory, int) and memory else "", "dim"),
        Cell(_note(record), "dim"),
    ]


def _note(record: dict[str, Any]) -> str:
    logs = "debug log" if record.get("debug") else ""
    if record.get("state") == "ended":
        text = logs if record.get("outcome") == "ok" else failure_text(record)
        return "" if text == record.get("outcome") else text  # it stands under STATE already
    waits_for = record.get("waits_for")
    waits = str(waits_for.get("text") or "") if isinstance(waits_for, dict) else ""
    attempt = f"attempt {record['attempt']}" if (record.get("attempt") or 1) > 1 else ""
    progress = record.get("progress")
    said = progress_text(progress) if isinstance(progress, dict) else ""
    return " ".join(text for text in (attempt, said, waits, f"({logs})" if logs else "") if text)
