"""`rocksyd schedule`: what is due when, and a schedule's run, pause and resumption by hand.

What must live here: what of the scheduler's answers is shown.
What this file must not know: when anything is due (the scheduler says so).
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from rocksyd import codes
from rocksyd.cli.arguments import client
from rocksyd.cli.debug import lasts
from rocksyd.cli.output import json_line, say, write
from rocksyd.cli.tables import Cell, Column, Screen, hung, lines_of, render, screen
from rocksyd.client import Client
from rocksyd.config import Config, not_installed
from rocksyd.errors import RequestError
from rocksyd.units import format_duration, rough_duration

USAGE = 2
_OUTCOMES = {"ok": "green", "running": "cyan", "waiting": "dim"}
_LIST = (
    Column("NAME"), Column("SCHEDULE", gives=True), Column("NEXT"), Column("LAST", rank=2), Column("OUTCOME", rank=1),
    Column("OWNER", gives=True, rank=3), Column("TARGET", gives=True, rank=4),
)  # fmt: skip
_OF_TIMES = ("next", "last", "misfire", "overlap")
_NEXT = (Column("AT"), Column("ZONE", rank=1), Column("IN", right=True), Column("NAME"))
_CHANGES = (Column("AT"), Column("CLOCK", gives=True, hangs=True), Column("EFFECT", gives=True, hangs=True))
_TICKS = (
    Column("TICK"), Column("UP TO", rank=1), Column("COUNT", right=True), Column("WHAT"), Column("OUTCOME"),
    Column("KEY OR REASON", gives=True, hangs=True),
)  # fmt: skip


_BY_HAND = (Column("BY HAND"), Column("WHAT"), Column("WHO", gives=True), Column("OF IT", gives=True, hangs=True, rank=1))


def schedule(options: argparse.Namespace) -> int:
    """Carry out ``rocksyd schedule ACT``."""
    if (options.explain or options.act not in ("list", "next")) and not options.name:
        what = (
            "a file, or - for standard input"
            if options.act in ("import-crontab", "apply", "diff")
            else "the name of a script: schedule list shows them"
        )
        say(f"schedule {options.act} needs {what}")
        return USAGE
    return asked(options, _ACTS[options.act])


def asked(options: argparse.Namespace, act: Callable[[Client, argparse.Namespace], int]) -> int:
    """Have it done by a client of the daemon; says it where there is no scheduler."""
    with client(options) as daemon:
        try:
            return act(daemon, options)
        except RequestError as error:
            if error.code == codes.METHOD_NOT_FOUND:
                say("there is no scheduler: add a table [scripts.NAME], or [scheduler], to rocksyd.toml, and `rocksyd restart`")
                return 1
            raise


def _list(daemon: Client, options: argparse.Namespace) -> int:
    rows = daemon.request("schedule.list")
    if options.name:
        rows = [row for row in rows if row["name"] == options.name]
    if options.json:
        write(json_line(rows))
        return 0
    write(render(_LIST, [_row(row) for row in rows], screen()))
    return 0


def _row(row: Mapping[str, Any]) -> list[Cell]:
    outcome = str(row["last_outcome"] or "")
    shown = f"{outcome} {_share(row['generation'])}" if outcome == "running" and row.get("generation") else outcome
    following = Cell("paused", "magenta") if row["paused"] else _consuming(row) or Cell(when(row["next"]) or "-")
    return [
        Cell(row["name"]),
        Cell(row["schedule"]),
        following,
        Cell(when(row["last"])),
        Cell(shown, _OUTCOMES.get(outcome, "red")),
        Cell(row["owner"] or ""),
        Cell(_what(row)),
    ]


def _share(generation: Mapping[str, Any]) -> str:
    """How far a list of jobs is: ``1,234/50,000``."""
    return f"{generation['ended']:,}/{generation['total']:,}" if generation["stage"] == "jobs" else f"({generation['stage']})"


def _progress(generation: Mapping[str, Any] | None) -> str:
    """The same in a sentence."""
    if not generation:
        return ""
    failed = f", {generation['failed']:,} of them not well" if generation["failed"] else ""
    count = f"{generation['ended']:,} of {generation['total']:,} jobs ended{failed}"
    stages = {
        "waiting": f"waits for {', '.join(generation['needs']) or 'the one before it'}",
        "init": "its list is being made",
        "jobs": count,
        "finish": f"{count}; its finish hook runs",
        "ended": f"{generation['outcome']}{': ' * bool(generation['reason'])}{generation['reason']}; {count}",
    }
    return f"{generation['key']}  {stages[generation['stage']]}"


def _consuming(row: Mapping[str, Any]) -> Cell | None:
    """How a queue and its consumer are: ``3 run, 120 wait``."""
    if (found := row.get("consumer")) is None:
        return None
    waiting = "?" if found["waiting"] is None or found["trouble"] else f"{found['waiting']:,}"
    return Cell(f"{found['running']} run, {waiting} wait", "red" if found["trouble"] or found["failures"] else "")


def consumer_facts(found: Mapping[str, Any]) -> dict[str, str]:
    """What is known of a queue and its consumer, for people."""
    oldest = f", the oldest for {rough_duration(found['oldest'])}" if found["oldest"] else ""
    wanted = f"{found['running']} of {found['wanted']}, {found['min']} to {found['max']} may: {found['why']}"
    return {
        "queue": "not asked yet" if found["waiting"] is None else f"{found['waiting']:,} wait{oldest}",
        "size": wanted if found["wanted"] is not None else f"{found['running']}, {found['min']} to {found['max']} may",
        "pace": f"one handles {found['pace']:.3g} a second" if found["pace"] else "",
        "trouble": found["trouble"] or "",
    }


def _what(row: Mapping[str, Any]) -> str:
    """What a script runs: its command line, else its target."""
    return shlex.join(row["command"]) if row["command"] else str(row["target"])


def when(text: str | None) -> str:
    """A time for people, with its offset: ``2026-01-31 03:00:00 +01:00``."""
    if not text:
        return ""
    moment = datetime.fromisoformat(text)
    return f"{moment:%Y-%m-%d %H:%M:%S} {'UTC' if text.endswith('Z') else moment.isoformat()[-6:]}"


def problems(loaded: Config) -> list[str]:
    """What is wrong with a configuration's scripts, as far as only the scheduler can tell; nothing where cronsim is not there."""
    companion = loaded.companions.get("scheduler")
    if companion is None or not_installed(loaded):
        return []
    from rocksyd.posix.zone import system_zone
    from rocksyd.schedule.script import define_all

    return define_all(companion.settings, loaded.places, system_zone())[1]


def sentences(loaded: Config) -> dict[str, str]:
    """When each script of a configuration is due, in words."""
    companion = loaded.companions.get("scheduler")
    if companion is None or not companion.settings:
        return {}
    from rocksyd.posix.zone import system_zone
    from rocksyd.schedule import words
    from rocksyd.schedule.script import define_all

    return {name: words.schedule(script) for name, script in define_all(companion.settings, {}, system_zone())[0].items()}


def _explain(daemon: Client, options: argparse.Namespace) -> int:
    found = daemon.request("schedule.explain", {"name": options.name})
    if options.json:
        write(json_line(found))
        return 0
    write(explained(found, screen()))
    return 0


def explained(found: Mapping[str, Any], target: Screen) -> str:
    """What the changes of the clock do to a script, for people."""
    rows = [[Cell(when(one["at"])), Cell(one["clock"]), Cell(one["effect"])] for one in found["changes"]]
    lines = [*hung("", f"{found['name']}: {found['schedule']}", target, ""), ""]
    nothing = f"the clock of {found['zone']} is not set within two years"
    lines += lines_of(_CHANGES, rows, target) if rows else hung("", nothing, target, "")
    return "".join(f"{line}\n" for line in lines)


def _next(daemon: Client, options: argparse.Namespace) -> int:
    if options.explain:
        return _explain(daemon, options)
    given = {"count": options.count or (10 if options.name else 1)}
    rows = daemon.request("schedule.next", {**given, **({"name": options.name} if options.name else {})})
    if options.json:
        write(json_line(rows))
        return 0
    now = datetime.now().astimezone()
    shown = [
        [Cell(when(row["at"])), Cell(row["zone"]), Cell(_left(datetime.fromisoformat(row["at"]), now)), Cell(row["name"])]
        for row in rows
    ]
    write(render(_NEXT, shown, screen()))
    return 0


def _left(moment: datetime, now: datetime) -> str:
    seconds = max(0, round((moment - now).total_seconds()))
    if not seconds:
        return "now"
    return format_duration(seconds if seconds < 120 else seconds // 60 * 60)


def _show(daemon: Client, options: argparse.Namespace) -> int:
    given = {"name": options.name, **({"count": options.count} if options.count else {})}
    found = daemon.request("schedule.show", given)
    try:
        flags = daemon.flags()
    except RequestError as error:
        if error.code != codes.METHOD_NOT_FOUND:  # a daemon of an earlier version
            raise
        flags = []
    found["flags"] = [row for row in flags if options.name == row.get("script") or found["target"] == row.get("target", "")]
    write(json_line(found) if options.json else shown_script(found, screen()))
    return 0


def shown_script(found: Mapping[str, Any], target: Screen) -> str:
    """A script for people: its settings, then what became of its latest ticks."""
    order = found["order"]
    facts = {
        "schedule": found["schedule"] + (f" ({found['when']})" if found["when"] else ""),
        "command" if found["command"] else "target": _what(found) + (f" of {order['app']}" if order.get("app") else ""),
        "next": f"paused {found['paused_by']}" if found["paused"] else when(found["next"]) or "never",
        "last": f"{when(found['last'])}  {found['last_outcome'] or ''}".rstrip() or "never",
        **(consumer_facts(found["consumer"]) if found.get("consumer") else {}),
        "runs now": ", ".join(found["going"]),
        "list": _progress(found.get("generation")),
        "after": ", ".join(found.get("depends_on") or ()),
        "misfire": found["misfire"],
        "overlap": found["overlap"],
        "jitter": format_duration(found["jitter"]) if found["jitter"] else "",
        "owner": found["owner"],
        "tags": ", ".join(found["tags"]),
        "flags": ", ".join(f"{row['flag']} log for another {lasts(row)}" for row in found.get("flags", ())),
    }
    if found.get("consumer"):  # it has no times
        facts = {name: value for name, value in facts.items() if name not in _OF_TIMES or (name == "next" and found["paused"])}
    lines = hung("", found["name"], target, "bold")
    for name, value in facts.items():
        lines += hung(f"  {name:<9}", str(value), target, "") if value else []
    ticks = render(_TICKS, [_tick(tick) for tick in found["ticks"]], target) if found["ticks"] else ""
    by_hand = render(_BY_HAND, [_order(one) for one in found["by_hand"]], target) if found.get("by_hand") else ""
    return "\n".join(lines) + "\n" + "".join(f"\n{table}" for table in (ticks, by_hand) if table)


def _order(one: Mapping[str, Any]) -> list[Cell]:
    return [Cell(when(one["at"])), Cell(one["what"], "magenta"), Cell(one["author"]), Cell(one["text"])]


def _tick(tick: Mapping[str, Any]) -> list[Cell]:
    several, outcome = tick["count"] != 1, tick["outcome"] or ""
    return [
        Cell(when(tick["first"])),
        Cell(when(tick["last"]) if several else ""),
        Cell(f"{tick['count']:,}" if several else ""),
        Cell(tick["what"], "" if tick["what"] == "run" else "magenta"),
        Cell(", ".join([*([outcome] if outcome else []), *tick.get("marks", ())]), _OUTCOMES.get(outcome, "red")),
        Cell(tick["key"] or tick["reason"] or ""),
    ]


def _run(daemon: Client, options: argparse.Namespace) -> int:
    record = daemon.request("schedule.run", {"name": options.name})
    write(json_line(record) if options.json else f"{record['key']}\n")
    return 0


def _backfill(daemon: Client, options: argparse.Namespace) -> int:
    if not options.times or len(options.times) > 2:
        say("schedule backfill needs a time, or from and to: rocksyd schedule backfill nightly 2026-01-01 2026-01-31")
        return USAGE
    given = {"name": options.name, "from": options.times[0], "to": options.times[-1], "again": options.again}
    found = daemon.request("schedule.backfill", given)
    if options.json:
        write(json_line(found))
    else:
        words = {"ordered": "ordered", "again": "tried again", "known": "had been run"}
        write("".join(f"{key}  {word}\n" for name, word in words.items() for key in found[name]))
        write("".join(f"{key}  refused: {reason}\n" for key, reason in found["refused"].items()))
    return 1 if found["refused"] else 0


def _kill(daemon: Client, options: argparse.Namespace) -> int:
    found = daemon.request("schedule.kill", {"name": options.name})
    write(json_line(found) if options.json else "".join(f"{key}\n" for key in found["ended"]))
    return 0


def _pause(daemon: Client, options: argparse.Namespace) -> int:
    found = daemon.request("schedule.pause", {"name": options.name})
    write(json_line(found) if options.json else f"{options.name} is paused; what runs goes on\n")
    return 0


def _resume(daemon: Client, options: argparse.Namespace) -> int:
    found = daemon.request("schedule.resume", {"name": options.name})
    left_out = found.get("left_out") or 0
    said = f"; it has missed {left_out} tick{'s' if left_out > 1 else ''} meanwhile" if left_out else ""
    write(json_line(found) if options.json else f"{options.name} goes on{said}\n")
    return 0


_ACTS: dict[str, Callable[[Client, argparse.Namespace], int]] = {
    "list": _list, "next": _next, "show": _show, "run": _run, "pause": _pause, "resume": _resume,
    "backfill": _backfill, "kill": _kill,
}  # fmt: skip
