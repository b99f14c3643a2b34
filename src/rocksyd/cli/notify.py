"""`rocksyd notify`: who is told of alerts, and trying whether they can be.

What must live here: what of the companion's answers is shown.
What this file must not know: how anybody is told.
"""

from __future__ import annotations

import argparse

from rocksyd import codes
from rocksyd.cli.arguments import client
from rocksyd.cli.output import json_line, say, write
from rocksyd.cli.tables import Cell, Column, render, screen
from rocksyd.client import Client
from rocksyd.errors import RequestError

_LIST = (
    Column("NAME"), Column("BY"), Column("TO", gives=True), Column("OF", gives=True, rank=2),
    Column("DELIVERED", right=True, rank=1), Column("WAITING", right=True), Column("TROUBLE", gives=True, hangs=True),
)  # fmt: skip
_TEST = (Column("NAME"), Column("RESULT", gives=True, hangs=True))


def notify(options: argparse.Namespace) -> int:
    """Carry out ``rocksyd notify ACT``."""
    with client(options) as daemon:
        try:
            return _list(daemon, options) if options.act == "list" else _test(daemon, options)
        except RequestError as error:
            if error.code == codes.METHOD_NOT_FOUND:
                say("nobody is told of anything: add a table [notify.NAME] to rocksyd.toml, and `rocksyd restart`")
                return 1
            raise


def _list(daemon: Client, options: argparse.Namespace) -> int:
    rows = daemon.request("notify.list")
    if options.json:
        write(json_line(rows))
        return 0
    shown = [
        [
            Cell(row["name"]),
            Cell(row["way"]),
            Cell(row["to"]),
            Cell(", ".join(row["on"]) or "all"),
            Cell(f"{row['delivered']:,}"),
            Cell(f"{row['waiting']:,}" if row["waiting"] else "", "magenta"),
            Cell(row["trouble"] or "", "red"),
        ]
        for row in rows
    ]
    write(render(_LIST, shown, screen()))
    return 0


def _test(daemon: Client, options: argparse.Namespace) -> int:
    rows = daemon.request("notify.test", {"name": options.name} if options.name else {}, wait=True)
    if options.json:
        write(json_line(rows))
    else:
        shown = [
            [Cell(row["name"]), Cell("told" if row["ok"] else row["error"], "green" if row["ok"] else "red")] for row in rows
        ]
        write(render(_TEST, shown, screen()))
    return 0 if all(row["ok"] for row in rows) else 1
