"""The frames of `rocksyd top`: a state and a size in, lines out.

What must live here: what stands where. No line is wider than the screen, and there are no more lines than it has rows.
What this file must not know: terminals, keys, the daemon; ``now`` comes in as an argument.

Only the terminal's own sixteen colours are used, and never a background, so light and dark terminals both can be read.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from rocksyd.cli.numbers import human
from rocksyd.cli.output import clean
from rocksyd.cli.phrases import age, exit_status, progress_text
from rocksyd.cli.pool_tables import WEB, web_cells
from rocksyd.cli.progress import bar
from rocksyd.cli.tables import COLOURS, Cell, Column, Screen, columns_of, cut, lines_of, wrapped
from rocksyd.cli.top_state import FOLLOW, HELP, WHY, Row, State
from rocksyd.client.records import failure_text
from rocksyd.units import format_size, rough_duration

_POOLS = (
    Column("POOL", gives=True), Column("CODE"), Column("PM", rank=4), Column("BUSY", right=True), Column("", rank=1),
    Column("IDLE", right=True), Column("STARTING", right=True, rank=6), Column("LEAVING", right=True, rank=7),
    Column("MAX", right=True), Column("WAITING", right=True), Column("OF", right=True, rank=5),
    Column("RATE", right=True), Column("SERVED", right=True, rank=2), Column("PEAK", right=True, rank=3),
    Column("FULL", right=True, rank=8),
)  # fmt: skip
_RUNS = (
    Column("KEY", gives=True), Column("APP", rank=4), Column("TARGET", gives=True), Column("STATE"), Column("TIME", right=True),
    Column("PID", right=True, rank=3), Column("MEMORY", right=True, rank=2), Column("JOBS", right=True, rank=6),
    Column("GEN", right=True, rank=7), Column("PRIO", right=True, rank=5), Column("PROGRESS", gives=True, rank=1),
)  # fmt: skip
_STATES = {
    "running": "cyan",
    "reading": "cyan",
    "finishing": "cyan",
    "waiting": "magenta",
    "ok": "green",
    "idle": "dim",
    "starting": "dim",
}
_MARKS = {True: ("> ", "#", ".", "_.-=+*#"), False: ("▸ ", "█", "░", "▁▂▃▄▅▆▇█")}
_KEYS = "q quit  ? help  ↑↓ choose  f follow  w why  k kill  / filter  e ended  i idle  p pause"
_OUTCOMES = ("ok", "failed", "killed", "timeout", "memory", "lost", "cancelled")
_HELP = """\
↑ ↓ PgUp PgDn Home End  choose a run
f, Enter                follow its output and its progress
w                       why it waits, goes on, or ended as it did
k                       kill it: asks; y sends TERM (KILL follows after its grace), K sends KILL at once
/                       filter: only rows that hold every word, in key, app, target, state, PID or labels; Esc shows all again
i                       show or hide idle workers
e                       show or hide the last runs that ended
p, Space                pause: the screen stays as it is
q, Esc                  back; q from the table leaves

BUSY of MAX workers of a pool have a run; FULL is how often it wanted more than MAX; RATE is runs ended a second.
CODE is the generation of the code that new workers are forked from. A run with another GEN began before a restart."""
_HELP_INDENT = 24
Line = Iterable[Cell | str]


def frame(state: State, size: tuple[int, int], now: float, *, coloured: bool) -> list[str]:
    """The screen. ``size`` is columns and rows; ``now`` Unix time."""
    width, height = max(size[0], 1), max(size[1], 1)
    screen = Screen(width, coloured)
    if height == 1:
        return [_joined(_title(state, now), screen)]
    body_height = height - 1
    match state.mode:
        case "help":
            body = [_joined(_title(state, now), screen), "", *_help(state, width)]
        case "follow":
            body = _follow(state, screen, body_height, now)
        case "why":
            body = _why(state, screen, now)
        case _:
            body = _overview(state, screen, body_height, now)
    body = body[:body_height]
    body += [""] * (body_height - len(body))
    return [*body, _joined(_foot(state), screen)]


def still(state: State, target: Screen, now: float) -> str:
    """All of it once, as long as it is: for pipes and files."""
    if state.sample is None:
        return ""
    head = [_joined(line, target) for line in _head(state, now)]
    requests = _requests(state, target)
    pools = [*_pools(state, target), "", *(requests and [*requests, ""])]
    parts = [*head, "", *pools, *lines_of(_RUNS, [_row(state, row, now) for row in state.rows()], target)]
    return "".join(f"{line}\n" for line in parts)


# --- lines ------------------------------------------------------------------------------------------------------------
def _joined(cells: Line, screen: Screen) -> str:
    """Pieces one after another, cut at the screen's width."""
    left, parts = screen.width, []
    for cell in cells:
        text, colour = (cell, "") if isinstance(cell, str) else cell
        text = clean(text)
        if left is not None:
            text = cut(text, left) if left > 0 else ""
            left -= columns_of(text)
        if text:
            parts.append(f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if screen.coloured and colour else text)
    return "".join(parts)


def _plain(text: str, state: State) -> str:
    return text.replace("↑↓", "arrows").replace("↑ ↓", "Up, Down") if state.ascii else text


def _title(state: State, now: float) -> list[Cell | str]:
    stats = state.sample.stats if state.sample else {}
    cells: list[Cell | str] = [Cell("rocksyd", "bold"), f" {stats.get('version', '')}".rstrip()]
    if stats:
        cells.append(f"   generation {stats.get('generation')}   up {rough_duration(_float(stats.get('uptime')))}")
    if stats.get("draining"):
        cells.append(Cell("   draining", "magenta"))
    if state.paused:
        cells.append(Cell("   paused", "magenta"))
    cells.append(Cell(f"   {time.strftime('%H:%M:%S', time.localtime(now))}   {state.address}", "dim"))
    return cells


def _head(state: State, now: float) -> list[list[Cell | str]]:
    """Three lines, and a fourth when something is wrong."""
    lines: list[list[Cell | str]] = [_title(state, now)]
    if state.trouble:
        old = f" (what follows is {rough_duration(max(now - state.sample.wall, 0.0))} old)" if state.sample else ""
        lines.append([Cell(f"no answer{old}: {state.trouble}", "red")])
    if state.sample is None:
        return lines if state.trouble else [*lines, ["asking the daemon ..."]]
    stats = state.sample.stats
    runs: list[Cell | str] = [
        Cell("runs", "bold"),
        f"  {_int(stats, 'runs_running')} running  {_int(stats, 'runs_waiting')} waiting",
    ]
    for outcome in _OUTCOMES:
        count = stats.get(f"runs_ended_{outcome}")
        if count or outcome == "ok":
            runs.append(Cell(f"  {_int(stats, f'runs_ended_{outcome}')} {outcome}", "green" if outcome == "ok" else "red"))
    if state.rates is not None:
        runs.append(f"  {_rate(state.rates.ended)} {_graph(state)}")
    lines += [runs, _restarts(state, stats, now)]
    return lines


def _restarts(state: State, stats: dict[str, Any], now: float) -> list[Cell | str]:
    cells: list[Cell | str] = [Cell("restarts", "bold"), f"  {stats.get('restart_count', stats.get('restarts', 0))}"]
    records = stats.get("restarts")
    last = records[-1] if isinstance(records, list) and records and isinstance(records[-1], dict) else None
    if isinstance(records, list) and len(records) > 1 and isinstance(records[0], dict):
        last = max((one for one in records if isinstance(one, dict)), key=lambda one: _float(one.get("at")))
    if last is not None:
        when = (
            f"{rough_duration(now - _float(last.get('at')))} ago"
            if _float(last.get("at")) and now >= _float(last.get("at"))
            else ""
        )
        cells.append(f"  last {when}".rstrip() + ": ")
        cells.append(Cell("ok", "green") if last.get("ok") else Cell(f"failed ({last.get('reason') or last.get('kind')})", "red"))
        if last.get("ok") and last.get("waited_ms") is not None:
            cells.append(f", clients waited {human('waited_ms', last['waited_ms'])}")
    if stats.get("crashes"):
        cells.append(Cell(f"  {stats['crashes']} crash{'es' * (stats['crashes'] != 1)}", "red"))
    cells.append(f"  connections {stats.get('curr_connections', 0)}")
    if state.rates is not None:
        cells.append(f"  requests {_rate(state.rates.requests)}")
    return cells


def _graph(state: State) -> str:
    """The last rates, each a column."""
    signs = _MARKS[state.ascii][3]
    values = list(state.history)[-20:]
    most = max(values, default=0.0)
    return "".join(signs[round(value / most * (len(signs) - 1))] if most else signs[0] for value in values)


def _rate(value: float) -> str:
    return f"{value:.1f}/s" if value < 100 else f"{value:,.0f}/s"


# --- the table of pools and runs --------------------------------------------------------------------------------------
def _overview(state: State, screen: Screen, height: int, now: float) -> list[str]:
    head = [_joined(line, screen) for line in _head(state, now)]
    if state.sample is None:
        return head
    most = max(2, height // 4)
    pools, requests = (_fitting(lines, most, screen) for lines in (_pools(state, screen), _requests(state, screen)))
    body = [*head, "", *pools, "", *(requests and [*requests, ""])]
    return [*body, *_table(state, screen, max(height - len(body), 2), now)]


def _pools(state: State, screen: Screen) -> list[str]:
    assert state.sample is not None
    full, empty = _MARKS[state.ascii][1:3]
    rows = []
    for pool in state.sample.pools:
        busy, most = _float(pool.get("busy")), _float(pool.get("max_workers"))
        rate = state.rates.pools.get(str(pool.get("pool"))) if state.rates else None
        rows.append([
            Cell(str(pool.get("pool"))),
            Cell(str(pool.get("generation") or "")) if pool.get("ready") else Cell("loading", "red"),
            Cell(str(pool.get("pm"))), Cell(f"{busy:.0f}", "red" if most and busy >= most else ""),
            Cell(bar(busy, most, 16, full, empty), "red" if most and busy >= most else "cyan"), Cell(str(pool.get("idle", ""))),
            Cell(str(pool.get("starting") or "")), Cell(str(pool.get("leaving") or "")), Cell(f"{most:.0f}"),
            Cell(_int(pool, "waiting"), "magenta" if pool.get("waiting") else ""), Cell(_int(pool, "max_queue")),
            Cell("" if rate is None else _rate(rate)), Cell(_int(pool, "served")), Cell(str(pool.get("peak_busy", ""))),
            Cell(str(pool.get("max_workers_reached") or "")),
        ])  # fmt: skip
    return lines_of(_POOLS, rows, screen)


def _requests(state: State, screen: Screen) -> list[str]:
    """What web pools are asked and answer."""
    assert state.sample is not None
    of_web = [pool for pool in state.sample.pools if pool.get("kind") == "web"]
    rates = state.rates.pools if state.rates else {}
    rows = [web_cells(pool, rates.get(str(pool.get("pool")))) for pool in of_web]
    return lines_of(WEB, rows, screen) if rows else []


def _fitting(lines: list[str], most: int, screen: Screen) -> list[str]:
    """At most so many lines; that there are more pools the last one says."""
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], _joined([Cell(f"and {len(lines) - most + 1} more pools", "dim")], screen)]


def _table(state: State, screen: Screen, height: int, now: float) -> list[str]:
    """The runs and workers, scrolled so that the chosen one is seen."""
    rows, chosen, mark = state.rows(), state.chosen_row(), _MARKS[state.ascii][0]
    assert screen.width is not None
    if not rows:
        said = f"nothing fits the filter {state.filter!r}" if state.filter else "nothing runs or waits"
        return [_joined([Cell(said, "dim")], screen)]
    at = next((n for n, row in enumerate(rows) if chosen is not None and row.id == chosen.id), 0)
    room = max(1, height - 1)
    first = min(max(0, at - room + 1 + min(2, room // 3)), max(0, len(rows) - room))
    cells = [_row(state, row, now) for row in rows[first : first + room]]
    if screen.width <= len(mark):
        return [cut(line, screen.width) for line in lines_of(_RUNS, cells, Screen(screen.width))]
    head, *lines = lines_of(_RUNS, cells, Screen(screen.width - len(mark), screen.coloured))
    marked = [(mark if first + n == at else "  ") + line for n, line in enumerate(lines)]
    return ["  " + head, *marked]


def _row(state: State, row: Row, now: float) -> list[Cell]:
    record, process = row.record, row.process
    shown = str(record.get("outcome") or record.get("state") or process.get("stage") or "")
    if record.get("state") == "running" and process.get("stage") == "finishing":
        shown = "finishing"
    seconds = age(record, now) if row.is_run else process.get("seconds")
    memory = process.get("rss") or (record.get("max_rss") if record.get("state") == "ended" else 0)
    pid = process.get("pid") or (record.get("pid") if record.get("state") == "running" else None)
    return [
        Cell(str(record.get("key", "")) if row.is_run else "(worker)", "" if row.is_run else "dim"),
        Cell(str(record.get("app") or "")),
        Cell(str(record.get("target") or "")),
        Cell(shown, _STATES.get(shown, "red")),
        Cell(rough_duration(seconds) if isinstance(seconds, int | float) and seconds >= 0 else ""),
        Cell(str(pid or "")),
        Cell(format_size(memory) if isinstance(memory, int) and memory > 0 else ""),
        Cell(str(process.get("jobs") or "")),
        Cell(str(process.get("generation") or record.get("generation") or "")),
        Cell(str(record.get("priority") or "")),
        Cell(_note(state, record)),
    ]


def _note(state: State, record: dict[str, Any]) -> str:
    if record.get("state") == "ended":
        return "" if record.get("outcome") == "ok" else failure_text(record)
    progress = record.get("progress")
    if not isinstance(progress, dict):
        return f"attempt {record['attempt']}" if _float(record.get("attempt")) > 1 else ""
    drawn = bar(progress.get("done"), progress.get("total"), 10, *_MARKS[state.ascii][1:3])
    return f"{drawn} {progress_text(progress)}".strip()


# --- one run ----------------------------------------------------------------------------------------------------------
def _help(state: State, width: int) -> list[str]:
    lines = []
    for line in _plain(_HELP, state).splitlines():
        keys, text = (line[:_HELP_INDENT], line[_HELP_INDENT:]) if line[_HELP_INDENT - 2 : _HELP_INDENT] == "  " else ("", line)
        room = width - len(keys)
        parts = wrapped(text, room) if room > _HELP_INDENT else [text]
        lines += [cut((keys if not n else " " * len(keys)) + part, width) for n, part in enumerate(parts or [""])]
    return lines


def _subject(state: State, now: float) -> list[Cell | str]:
    record = state.record
    shown = str(record.get("outcome") or record.get("state") or "")
    seconds = age(record, now)
    cells: list[Cell | str] = [
        Cell(state.subject, "bold"),
        f"  {record.get('target', '')}  ",
        Cell(shown, _STATES.get(shown, "red")),
    ]
    if seconds is not None:
        cells.append(f"  {rough_duration(seconds)}")
    if record.get("state") == "ended" and exit_status(record):
        cells.append(f"  {failure_text(record)}")
    elif record.get("state") != "ended" and record.get("progress"):
        cells.append(f"  {_note(state, record)}")
    return cells


def _follow(state: State, screen: Screen, height: int, now: float) -> list[str]:
    """The head of the run, and the end of its output."""
    assert screen.width is not None
    head = [_joined(_subject(state, now), screen)]
    if state.trouble:
        head.append(_joined([Cell(f"no answer: {state.trouble}", "red")], screen))
    head.append("")
    room = max(1, height - len(head))
    text = list(state.output)
    if text and not text[-1]:
        text.pop()
    folded = [part for line in text[-room:] for part in (wrapped(line, screen.width) or [""])]
    return [*head, *(cut(part, screen.width) for part in folded[-room:])]


def _why(state: State, screen: Screen, now: float) -> list[str]:
    assert screen.width is not None
    lines = [_joined(_subject(state, now), screen), ""]
    for reason in state.reasons.get("reasons") or ():
        lines += _bullet(str(reason.get("text")), screen, "")
        if reason.get("advice"):
            lines += _bullet(str(reason["advice"]), screen, "dim")
    return lines if state.reasons else [*lines, cut(state.trouble or "asking the daemon ...", screen.width)]


def _bullet(text: str, screen: Screen, colour: str) -> list[str]:
    assert screen.width is not None
    lead = "  " if colour else "- "
    return [
        _joined([lead if not n else "  ", Cell(line, colour)], screen)
        for n, line in enumerate(wrapped(clean(text), max(screen.width - 2, 1)))
    ]


# --- the last line ----------------------------------------------------------------------------------------------------
def _foot(state: State) -> list[Cell | str]:
    if state.typing:
        return [Cell("filter: ", "bold"), state.filter, "_"]
    if state.killing:
        return [Cell(f"kill {state.killing}?", "red"), "  y TERM, then KILL after its grace   K KILL now   any other key: no"]
    if state.message:
        return [Cell(state.message, "magenta")]
    if state.mode == FOLLOW:
        return [Cell("k kill   w why   q back", "dim")]
    if state.mode in (WHY, HELP):
        return [Cell("q back", "dim")]
    keys = Cell(_plain(_KEYS, state), "dim")
    return [Cell(f"filter: {state.filter}", "magenta"), " (Esc shows all)   ", keys] if state.filter else [keys]


def _int(values: dict[str, Any], name: str) -> str:
    value = values.get(name, 0)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
