"""`rocksyd schedule import-crontab FILE --measure`: what each line of a crontab costs cold, and what it would warm.

What must live here: which lines can be measured, how often they start, the table and the sentence below it.
What this file must not know: how a program is tried (``rocksyd try`` does that, in a process of its own for each line).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Any, NamedTuple

from rocksyd.cli.tables import Cell, Column, Screen, hung, render
from rocksyd.schedule.cron import Cron
from rocksyd.schedule.crontab import Imported
from rocksyd.schedule.timetable import DAY, Calendar
from rocksyd.units import format_duration

SPAN = 364
"""Days over which starts are counted: whole weeks."""
_COLUMNS = (
    Column("LINE", right=True), Column("NAME"), Column("COLD", right=True), Column("WARM", right=True),
    Column("STARTS A DAY", right=True), Column("NOTE", gives=True, hangs=True),
)  # fmt: skip
_THEN = re.compile(r"cd\s+([^;&|<>()$`]+?)\s*&&\s*(.+)", re.DOTALL)
_SHELL = re.compile(r"[|&;<>()$`*?\[\]{}~\n]")
_NOT_PYTHON = "no Python program: it is started as before"


class Measured(NamedTuple):
    """One line. Times are seconds; None where it could not be measured."""

    number: int
    name: str
    starts: float
    """A day."""
    cold: float | None
    warm: float | None
    note: str


def measure(lines: Sequence[Imported], turns: int, tell: Callable[[str], None]) -> list[Measured]:
    """Run the Python programs among the lines, cold and warm in turns. ``tell`` is told of each before it is run."""
    found = []
    for one in lines:
        if one.name:
            starts = Calendar(Cron(one.cron, one.name), UTC).number(int(time.time()), int(time.time()) + SPAN * DAY) / SPAN
            found.append(_measured(one, starts, turns, tell))
    return found


def program_of(one: Imported) -> tuple[list[str], str] | None:
    """The words of the Python program that a line is, and its folder; None for what is none, or needs a shell."""
    words, folder = list(one.command), "."
    if len(words) == 3 and words[1] == "-c":
        text = words[2]
        if (then := _THEN.fullmatch(text)) is not None:
            folder, text = then[1].strip().strip("'\""), then[2]
        text = re.sub(r"\s*(>>?\s*\S+)?\s*(2>&1|2>\s*\S+)?\s*$", "", text)
        if _SHELL.search(text):
            return None
        try:
            words = shlex.split(text)
        except ValueError:
            return None
    if not words or not (os.path.basename(words[0]).startswith("python") or words[0].endswith(".py")):
        return None
    return words, os.path.expanduser(folder)


def _measured(one: Imported, starts: float, turns: int, tell: Callable[[str], None]) -> Measured:
    program = program_of(one)
    if program is None:
        return Measured(one.number, one.name, starts, None, None, _NOT_PYTHON)
    words, folder = program
    tell(f"line {one.number} is run {2 * turns + 1} times: {shlex.join(words)}")
    rocksyd = shutil.which("rocksyd", path=os.path.dirname(sys.executable)) or "rocksyd"
    command = [rocksyd, "try", "--json", "--turns", str(turns), "--", *words]
    if not os.path.isdir(folder):
        return Measured(one.number, one.name, starts, None, None, f"there is no folder {folder}")
    ended = subprocess.run(
        command, cwd=folder, env={**os.environ, **one.env}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    try:
        said = json.loads(ended.stdout)
    except ValueError:
        reason = "".join(ended.stderr.strip().splitlines()[-1:])
        return Measured(one.number, one.name, starts, None, None, reason or "it could not be tried")
    note = "" if said["same"] else "it prints something else each time, or warm: see docs/how-to/exec.md"
    cold, warm = (sorted(said[name])[len(said[name]) // 2] for name in ("cold", "warm"))
    return Measured(one.number, one.name, starts, cold, warm, note)


def totals(rows: Sequence[Measured]) -> tuple[float, float]:
    """Starts a day of all lines, and the part of a core that is spent on what a warm start leaves out."""
    spent = sum(row.starts * max(0.0, row.cold - row.warm) for row in rows if row.cold is not None and row.warm is not None)
    return sum(row.starts for row in rows), spent / DAY


def shown(rows: Sequence[Measured], target: Screen) -> str:
    """The table, and what it comes to."""
    cells = [
        [
            Cell(str(row.number)), Cell(row.name), Cell(_seconds(row.cold)), Cell(_seconds(row.warm), "green"),
            Cell(_number(row.starts)), Cell(row.note),
        ]
        for row in rows
    ]  # fmt: skip
    starts, share = totals(rows)
    summary = f"{_number(starts)} starts a day, {_number(100 * share)} % of a core spent importing"
    return render(_COLUMNS, cells, target) + "\n" + "".join(f"{line}\n" for line in hung("", summary, target, "bold"))


def _seconds(value: float | None) -> str:
    return "" if value is None else format_duration(round(value, 3))


def _number(value: float) -> str:
    """212, 4.3, 0.14: with as many digits as say something."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def plain(rows: Sequence[Measured]) -> dict[str, Any]:
    """As JSON."""
    starts, share = totals(rows)
    return {"lines": [row._asdict() for row in rows], "starts_a_day": starts, "core": share}
