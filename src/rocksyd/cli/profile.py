"""`rocksyd profile`: where the time of a run goes, of one that runs or of all of a target for a while.

What must live here: what of the companion's answers is shown, and into which file.
What this file must not know: how a run is looked at (the companion ``profiler`` does).
"""

from __future__ import annotations

import argparse
import time
from datetime import datetime
from typing import Any

from rocksyd import codes
from rocksyd.cli.arguments import client
from rocksyd.cli.output import Unwritable, json_line, say, write
from rocksyd.cli.tables import Cell, Column, render, screen
from rocksyd.client import Client
from rocksyd.errors import RequestError
from rocksyd.units import rough_duration

SHOWN = 20
"""Functions that are shown."""
_WAIT = 15.0
_FUNCTIONS = (
    Column("OWN", right=True), Column("TOTAL", right=True), Column("FUNCTION", gives=True),
)  # fmt: skip
_PROFILES = (
    Column("AT", rank=1), Column("KEY", gives=True), Column("TARGET", gives=True), Column("SAMPLES", right=True),
    Column("TROUBLE", gives=True, hangs=True),
)  # fmt: skip
_FLAGS = (Column("OF", gives=True), Column("FOR ANOTHER", right=True), Column("EACH AT MOST", right=True))


def profile(options: argparse.Namespace) -> int:
    """Carry out ``rocksyd profile``."""
    with client(options) as daemon:
        try:
            if options.list:
                return _list(daemon, options)
            if options.key is not None:
                daemon.request("profile.start", _how(options, key=options.key))
                return _show(options, _seen(daemon, options, key=options.key))
            of = {name: value for name in ("target", "script") if (value := getattr(options, name)) is not None}
            if len(of) != 1:
                options.parser.error("name a KEY, --target or --script, or --list")
            if options.stop:
                return 0 if daemon.request("profile.unflag", of)["removed"] else 1
            if options.span is None:
                return _show(options, _seen(daemon, options, **of))
            row = daemon.request("profile.flag", _how(options, **of, **{"for": options.span}))
        except RequestError as error:
            if error.code == codes.METHOD_NOT_FOUND:
                say("nothing can be looked at: pip install rocksyd[profiler], add a table [profiler] to rocksyd.toml, restart")
                return 1
            raise
    if options.json:
        write(json_line(row))
    else:
        say(f"its runs are looked at until {datetime.fromtimestamp(row['until']).astimezone():%Y-%m-%d %H:%M:%S %z}")
    return 0


def _how(options: argparse.Namespace, **of: Any) -> dict[str, Any]:
    given = {"seconds": options.seconds, "rate": options.rate, "idle": options.idle or None}
    return {**of, **{name: value for name, value in given.items() if value is not None}}


def _seen(daemon: Client, options: argparse.Namespace, **of: Any) -> dict[str, Any]:
    picture = options.output is not None and options.output.endswith(".svg")
    while True:
        found: dict[str, Any] = daemon.request("profile.get", {**of, "wait": _WAIT, "format": "svg" if picture else "stacks"})
        if found["state"] == "done":
            return found


def _show(options: argparse.Namespace, found: dict[str, Any]) -> int:
    if not found["samples"]:
        say(f"nothing was seen: {found['reason']}")
        return 1
    text = found.get("svg") or found.get("stacks", "")
    if options.output is not None:
        try:
            with open(options.output, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise Unwritable(f"{options.output} cannot be written ({error.strerror})") from error
        say(f"{found['samples']:,} samples are in {options.output}")
    elif options.json:
        write(json_line(found))
    elif options.stacks:
        write(text)
    else:
        whole = found["samples"]
        rows = [
            [Cell(f"{100 * own / whole:.1f} %"), Cell(f"{100 * total / whole:.1f} %"), Cell(name)]
            for own, total, name in found["functions"][:SHOWN]
        ]
        write(render(_FUNCTIONS, rows, screen()))
        say(f"{whole:,} samples; -o FILE.svg makes a flame graph")
    return 0


def _list(daemon: Client, options: argparse.Namespace) -> int:
    found, flags = daemon.requests([("profile.list", {}), ("profile.flags", {})])
    if options.json:
        write(json_line({**found, "flags": flags}))
        return 0
    if flags:
        rows = [
            [
                Cell(flag.get("target") or f"script {flag['script']}"),
                Cell(rough_duration(max(0.0, flag["until"] - time.time()))),
                Cell(rough_duration(flag["seconds"])),
            ]
            for flag in flags
        ]
        write(render(_FLAGS, rows, screen()) + "\n")
    kept = [
        [Cell(row["at"]), Cell(row["key"]), Cell(row["target"]), Cell(f"{row['samples']:,}"), Cell(row["reason"] or "", "red")]
        for row in found["profiles"]
    ]
    going = [[Cell("now", "cyan"), Cell(key), Cell(""), Cell(""), Cell("")] for key in found["looking"]]
    write(render(_PROFILES, going + kept, screen()))
    return 0
