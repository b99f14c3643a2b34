"""`rocksyd schedule import-crontab FILE`: a crontab as tables for rocksyd.toml, and what could not be carried over.

What must live here: reading the file, and what is said of it. What this file must not know: the syntax (``schedule.crontab``).
"""

from __future__ import annotations

import argparse
import sys

from rocksyd.cli.output import json_line, say, write

USAGE, NOT_ALL = 2, 1


def import_crontab(options: argparse.Namespace) -> int:
    """Print the tables; 1 when a line became no script."""
    from rocksyd.cli import crontab_measure
    from rocksyd.cli.tables import screen
    from rocksyd.schedule import crontab

    try:
        if options.name == "-":
            text = sys.stdin.read()
        else:
            with open(options.name, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read()
    except OSError as error:
        say(f"{options.name}: {error.strerror}")
        return USAGE
    lines = crontab.read(text, system=options.system)
    if options.measure:
        rows = crontab_measure.measure(lines, options.turns, say)
        write(json_line(crontab_measure.plain(rows)) if options.json else crontab_measure.shown(rows, screen()))
        return 0
    if options.json:
        write(json_line([{**one._asdict(), "command": list(one.command), "notes": list(one.notes)} for one in lines]))
    else:
        write(crontab.written(lines, options.app or ""))
    left = [one for one in lines if not one.name]
    noted = sum(1 for one in lines if one.name and one.notes)
    say(f"{len(lines)} lines: {len(lines) - len(left)} became scripts, {noted} of them with a note, {len(left)} did not")
    for one in left:
        say(f"line {one.number} became none: {'; '.join(one.notes)}")
    return NOT_ALL if left else 0
