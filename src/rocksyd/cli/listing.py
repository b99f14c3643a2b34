"""`rocksyd ps`: what runs, waits and has ended."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from rocksyd.cli.arguments import client
from rocksyd.cli.output import say, write
from rocksyd.cli.phrases import age, elapsed, progress_text
from rocksyd.cli.tables import Cell, Column, Screen, render, screen
from rocksyd.client import Client
from rocksyd.client.records import failure_text
from rocksyd.errors import NotFound
from rocksyd.units import format_size

_COLUMNS = (
    Column("KEY"), Column("APP", rank=2), Column("TARGET", gives=True), Column("STATE"), Column("TIME", right=True),
    Column("PID", right=True, rank=1), Column("CPU", right=True, rank=4), Column("MEMORY", right=True, rank=3),
    Column("NOTE", gives=True),
)  # fmt: skip
_BUSY = ("running", "reading", "finishing")
_COLOURS = {"running": "cyan", "reading": "cyan", "finishing": "cyan", "waiting": "magenta", "ok": "green"}
_ORDER = {"running": 0, "waiting": 1, "ended": 2}
PAGE = 1000
"""Records a request; as many as the daemon gives at once."""
ENDED_SHOWN = 100


def ps(options: argparse.Namespace) -> int:
    """List runs; without ``-a`` and ``--state`` only those that have not ended."""
    states = [options.state] if options.state else ["running", "waiting", "ended"] if options.all else ["running", "waiting"]
    with client(options) as daemon:
        pages = [_runs(daemon, state, options.app, options.limit) for state in states]
        processes = {} if options.json or "running" not in states else _processes(daemon)
    # Asked for one state at a time, a run that has just been started may be in both answers.
    records = {str(record.get("key")): record for page in pages for record in page}
    shown = sorted(records.values(), key=_place)[: options.limit]
    if options.limit is None and len(pages[-1]) == ENDED_SHOWN and "ended" in states:
        say(f"only the last {ENDED_SHOWN} that ended; --limit N shows more")
    if options.json:
        write(json.dumps(shown, ensure_ascii=False) + "\n")
    else:
        now = [_as_of_now(record, processes.get(str(record.get("key"))[:160], {})) for record in shown]
        write(table(now, time.time(), screen()))
    return 0


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


def _runs(daemon: Client, state: str, app: str | None, limit: int | None) -> list[dict[str, Any]]:
    """All runs in this state, page by page, the latest first; of those that ended only some unless a limit is given."""
    wanted = limit if limit is not None else ENDED_SHOWN if state == "ended" else None
    found: list[dict[str, Any]] = []
    while wanted is None or len(found) < wanted:
        size = PAGE if wanted is None else min(PAGE, wanted - len(found))
        try:
            page = daemon.runs(state=state, app=app, limit=size, after=found[-1]["key"] if found else None)
        except NotFound:  # the last one has been freed since
            break
        found += page
        if len(page) < size:
            break
    return found


def _place(record: dict[str, Any]) -> tuple[int, float]:
    """Running, waiting, ended; of each the oldest first, but of those ended the last first."""
    state = str(record.get("state"))
    if state == "ended":
        return 2, -(record.get("ended_at") or 0.0)
    return _ORDER.get(state, 3), record.get("started_at") or record.get("submitted_at") or 0.0


def table(records: list[dict[str, Any]], now: float, target: Screen) -> str:
    """The table of these records. ``now`` is Unix time."""
    return render(_COLUMNS, [_row(record, now) for record in records], target)


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
        Cell("" if seconds is None else elapsed(seconds)),
        Cell(str(record["pid"]) if record.get("pid") and state in _BUSY else ""),
        Cell(elapsed(cpu) if isinstance(cpu, (int, float)) and cpu else ""),
        Cell(format_size(memory) if isinstance(memory, int) and memory else "", "dim"),
        Cell(_note(record), "dim"),
    ]


def _note(record: dict[str, Any]) -> str:
    if record.get("state") == "ended":
        text = "" if record.get("outcome") == "ok" else failure_text(record)
        return "" if text == record.get("outcome") else text  # it stands under STATE already
    attempt = f"attempt {record['attempt']}" if (record.get("attempt") or 1) > 1 else ""
    progress = record.get("progress")
    return " ".join(text for text in (attempt, progress_text(progress) if isinstance(progress, dict) else "") if text)
