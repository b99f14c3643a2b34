"""A script: what is run, when, and what becomes of ticks that cannot be run as planned. Made from what the configuration says.

What must live here: the definition, and what is wrong with it.
What this file must not know: when it was due last, what time it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rocksyd.schedule.cron import Cron, CronError, spread
from rocksyd.schedule.timetable import Calendar, Every, Timetable
from rocksyd.ticks import command_target
from rocksyd.units import format_duration

SKIP, ONCE, ALL = "skip", "once", "all"
"""What becomes of missed ticks (``misfire``)."""
BUFFER_ONE, BUFFER_ALL, CANCEL, TERMINATE, ALLOW = "buffer_one", "buffer_all", "cancel", "terminate", "allow"
"""What becomes of a tick while the run before it goes on (``overlap``), beside SKIP."""


AS_SAID = ("retries", "retry_after", "retry_factor", "retry_most", "retry_jitter", "retry_on", "on_stop")
"""Settings of a script that are options of its runs."""


class DefinitionError(ValueError):
    """A script's definition is wrong. ``key`` says where: of the setting, or "" for all of it."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


class Script(NamedTuple):
    """One script. Durations are seconds."""

    name: str
    timetable: Timetable | None
    """None: it is run on request only."""
    when: str = ""
    """As it was written: a cron expression, or a duration."""
    zone: str = "UTC"
    """The name of the zone whose clock it goes by."""
    misfire: str = ONCE
    misfire_within: float | None = None
    """How old the latest missed tick may be for it to be run; None for one period."""
    misfire_limit: int = 100
    overlap: str = SKIP
    delay: int = 0
    """Seconds behind its nominal time at which a tick is due on this machine (``jitter``)."""
    owner: str = ""
    tags: tuple[str, ...] = ()
    order: dict[str, Any] = {}
    """The parameters of ``run``, without key and tick."""
    command: tuple[str, ...] = ()
    """The command line that it is; () where it is a job."""
    jobs: dict[str, Any] = {}
    """Of a script whose tick is a list of jobs: ``{"instances": 8}``, ``{"range": [0, 63]}``, ``{"from": target}``."""
    finish: str = ""
    """The target that is run when all jobs have ended; "" for none."""
    instances: int = 0
    """How many jobs at once; 0: as many as there is a place for."""
    depends_on: tuple[str, ...] = ()
    """Scripts whose tick has to end well before one of this script begins."""
    late_after: float = 0.0
    """Seconds behind the moment at which it is due, from which on a beginning is late; 0 for never. So are the next two."""
    long_after: float = 0.0
    at_least: float = 0.0
    expects: dict[str, Any] = {}
    """What its owner expects of it, and who is to be told if that is not so (``alerts.watch.Expected``)."""

    @property
    def listed(self) -> bool:
        """Whether its ticks are generations: lists of jobs, or runs that wait for other scripts."""
        return bool(self.jobs or self.depends_on)

    @property
    def schedule(self) -> tuple[str, str, frozenset[date]]:
        """What its times follow from, but for its name."""
        return self.when, self.zone, self.timetable.excluded if self.timetable else frozenset()

    @property
    def cron(self) -> Cron | None:
        """Its expression; None where it has an interval, or no schedule."""
        rule = self.timetable.rule if self.timetable else None
        return rule.cron if isinstance(rule, Calendar) else None


def define(
    name: str, said: Mapping[str, Any], zone: str, machine: str = "", calendars: Mapping[str, Any] | None = None
) -> Script:
    """The script that these settings describe, as ``config.ScriptConfig`` has them.

    Args:
        name: the script's name.
        said: the settings; durations are seconds.
        zone: the zone of scripts that name none.
        machine: what ``jitter`` spreads by, beside the script's name.
        calendars: lists of days, "2026-12-24", by name.

    Raises:
        DefinitionError: the cron expression, the zone or a calendar cannot be read.
    """
    zone = said.get("timezone") or zone
    clock = _zone(zone)
    jitter = int(said.get("jitter") or 0)
    labels = {"script": name}
    order = {
        "target": command_target(name) if said.get("command") else said["target"],
        "params": said.get("params", []),
        "app": said.get("app") or None,
        "timeout": said.get("max_time") or None,
        "start_within": said.get("start_within") or None,
        **{name: said.get(name) for name in AS_SAID},
        "env": said.get("env") or None,
        "needs_memory": (said.get("needs") or {}).get("memory") or None,
        "labels": labels,
    }
    overlap = said.get("overlap", SKIP)
    if overlap != ALLOW:
        order["concurrency_key"] = f"script:{name}"
    return Script(
        name,
        _timetable(name, said, clock, calendars or {}),
        said.get("cron") or (format_duration(said["every"]) if said.get("every") else ""),
        zone,
        said.get("misfire", ONCE),
        said.get("misfire_within") or None,
        said.get("misfire_limit", 100),
        overlap,
        spread(f"{name}\0{machine}", jitter + 1) if jitter else 0,
        said.get("owner", ""),
        tuple(said.get("tags", ())),
        {key: value for key, value in order.items() if value is not None},
        tuple(said.get("command", ())),
        _of_class(said, "jobs", said.get("jobs") or {}),
        _of_class(said, "finish", {"from": said.get("finish") or ""})["from"],
        said.get("instances") or 0,
        tuple(said.get("depends_on") or ()),
        float(said.get("late_after") or 0.0),
        float(said.get("long_after") or 0.0),
        float(said.get("at_least") or 0.0),
        _expects(said),
    )


def _expects(said: Mapping[str, Any]) -> dict[str, Any]:
    named = {
        "late_after": "late_after",
        "long_after": "long_after",
        "at_least": "at_least",
        "to": "notify",
        "owner": "owner",
        "tags": "tags",
    }
    return {name: said[key] for name, key in named.items() if said.get(key) is not None}


def _of_class(said: Mapping[str, Any], key: str, hook: dict[str, Any]) -> dict[str, Any]:
    """A hook that is a method of the target's class, ``init_jobs`` or ``finish_jobs``, by its whole name."""
    name = {"jobs": "init_jobs", "finish": "finish_jobs"}[key]
    return {"from": f"{said['target']}.{name}"} if hook.get("from") == name else hook


def depending(scripts: Mapping[str, Script]) -> tuple[dict[str, Script], dict[str, str]]:
    """The scripts, those that depend on others with the times that they have by that; and by name what is wrong with any of them.

    A script that is not there may come: from the code, or by the API.
    """
    found: dict[str, Script] = {}
    wrong: dict[str, str] = {}

    def settle(name: str, behind: tuple[str, ...]) -> Script:
        if name in behind:
            wrong[name] = f"scripts that wait for each other never begin: {' -> '.join((*behind[behind.index(name) :], name))}"
            return scripts[name]
        if name not in found:
            script = scripts[name]
            before = [settle(one, (*behind, name)) for one in script.depends_on if one in scripts]
            if before:
                when = script.when if script.timetable else f"after {before[0].name}"
                table = script.timetable or before[0].timetable
                script = script._replace(timetable=table, when=when, delay=max(script.delay, *(one.delay for one in before)))
            found[name] = script
        return found[name]

    for name in scripts:
        settle(name, ())
    return {name: found[name] for name in scripts}, wrong


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: of a folder such as "Europe"
        raise DefinitionError(
            "timezone", f'there is no time zone {name!r}; expected a name such as "Europe/Berlin" or "UTC"'
        ) from error


_cron = lru_cache(4096)(Cron)
"""Many scripts have the same expression."""


def _timetable(name: str, said: Mapping[str, Any], zone: tzinfo, calendars: Mapping[str, Any]) -> Timetable | None:
    if said.get("every"):
        rule: Every | Calendar = Every(int(said["every"]))
    elif said.get("cron"):
        try:
            rule = Calendar(_cron(said["cron"], name if "~" in said["cron"] else ""), zone)
        except CronError as error:
            raise DefinitionError("cron", str(error)) from error
    else:
        return None
    excluded: set[date] = set()
    for calendar in said.get("exclude", ()):
        if calendar not in calendars:
            there = ", ".join(calendars) or "none"
            raise DefinitionError(
                "exclude", f"there is no calendar {calendar!r} (there are: {there}); add [calendars] {calendar} = [...]"
            )
        excluded.update(map(date.fromisoformat, calendars[calendar]))
    return Timetable(rule, zone, frozenset(excluded))


def define_all(
    told: Mapping[str, Any], places: Mapping[tuple[str | int, ...], object], zone: str, machine: str = ""
) -> tuple[dict[str, Script], list[str]]:
    """The scripts of a configuration by name, and a sentence for each that is wrong.

    Args:
        told: the settings of all scripts, the calendars and the zone, as ``config.scripts.told`` makes them.
        places: where every key stands, as text that names the file and the line.
        zone: the zone of scripts that name none where the configuration names none either.
        machine: what ``jitter`` spreads by, beside the script's name.
    """
    found: dict[str, Script] = {}
    problems: list[str] = []
    for name, said in told["scripts"].items():
        try:
            found[name] = define(name, said, told["timezone"] or zone, machine, told["calendars"])
        except DefinitionError as error:
            path = ("scripts", name, error.key) if said.get(error.key) else ("timezone",)
            problems.append(f"{places.get(path, told['file'])}: {'.'.join(path)}: {error}")
    found, wrong = depending(found)
    paths = ((("scripts", name, "depends_on"), text) for name, text in wrong.items())
    problems += [f"{places.get(path, told['file'])}: {'.'.join(path)}: {text}" for path, text in paths]
    return found, problems
