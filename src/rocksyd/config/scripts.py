"""Scripts: what ``[scripts.NAME]`` and ``[calendars]`` may say, and how the scheduler is told.

What must live here: which settings may stand together, and the plain data that the scheduler gets.
What this file must not know: cron and time zones, which only the scheduler can read (``rocksyd.schedule``).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import date, datetime
from typing import Any

from rocksyd.config.address import absolute
from rocksyd.config.forms import not_json
from rocksyd.config.locate import KeyPath
from rocksyd.config.setting import read_table
from rocksyd.config.settings import ScriptConfig
from rocksyd.config.table import Place, Problems, Source, Table
from rocksyd.ticks import NAME_MOST
from rocksyd.units import shown

NO_JOBS: dict[str, Any] = {}
LIST_MOST = 100_000
"""Jobs of a list that the configuration describes by numbers."""
NAME = re.compile(rf"[a-z0-9_-]{{1,{NAME_MOST}}}")


def parse(table: Table, apps: Collection[str]) -> dict[str, ScriptConfig]:
    """The scripts that the document ``table`` configures, by name."""
    found = {}
    for name, own in table.table("scripts").tables():
        if own.given("depth"):
            continue  # a consumer, and read as one
        if not NAME.fullmatch(name):
            own.problem(f"expected a script's name of 1 to {NAME_MOST} of a-z 0-9 _ -")
        found[name] = _script(own, apps)
    return found


def _script(table: Table, apps: Collection[str]) -> ScriptConfig:
    script = read_table(ScriptConfig, table, params=table.get("params", [], params_of), jobs=table.get("jobs", NO_JOBS, _jobs))
    if table.wrong:
        return script
    if not table.given("target") and not table.given("command"):
        table.problem('target is missing; add target = "..." (a job\'s name, or module:name), or command = ["..."] (a program)')
    for key in ("target", "params"):
        if table.given("command") and table.given(key):
            table.problem(f"{key} and command contradict each other; remove one of the two", key)
    if table.values.get("command") == [] or script.command[:1] == ("",):
        table.problem('expected a program and its arguments such as ["/usr/bin/backup", "--all"]', "command")
    if table.given("cron") and table.given("every"):
        table.problem("cron and every contradict each other; remove one of the two", "every")
    if script.app and script.app not in apps:
        table.problem(f"there is no application {script.app!r} (there are: {', '.join(apps)})", "app")
    if not script.app and len(apps) > 1:
        table.problem(f'app is missing; add app = "..." (one of {", ".join(apps)})')
    _alone(table, script)
    return script


def _alone(table: Table, script: ScriptConfig) -> None:
    """Settings that say nothing without another."""
    for key in ("instances", "finish"):
        if table.given(key) and not table.given("jobs"):
            table.problem(f"{key} says something only with jobs", key)
    if table.given("jobs") and table.given("command"):
        table.problem('jobs are runs of a target, and a command is none; write target = "..."', "jobs")
    for key, needed in (("misfire_within", "once"), ("misfire_limit", "all")):
        if table.given(key) and script.misfire != needed:
            table.problem(f'{key} says something only with misfire = "{needed}"', key)


def params_of(value: object) -> Any:
    """The arguments of a job. Raises ValueError for what JSON cannot carry."""
    wrong = not_json(value)
    if not isinstance(value, list | dict) or wrong is not None:
        raise ValueError(f"expected an array or a table of what JSON can carry, got {shown(value if wrong is None else wrong)}")
    return value


def read(
    scripts: dict[str, Any], apps: Collection[str], file: str, places: dict[KeyPath, Place] | None = None
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Scripts that stand elsewhere than in the configuration, by name, and what is wrong with them, each with its place.

    Args:
        scripts: the settings of each, as the tables ``[scripts.NAME]`` would have them.
        apps: the names of all applications.
        file: what they stand in.
        places: where in it, by path.
    """
    problems = Problems(file, places or {})
    table = Table({"scripts": scripts}, (), Source(problems, ""))
    found = parse(table, apps)
    for _, own in table.table("scripts").tables():
        if own.given("depth"):
            own.problem("a script with depth works off a queue, and stands in rocksyd.toml or scripts.d only", "depth")
    return {name: _plain(script) for name, script in found.items()}, problems.sorted()


def _plain(script: ScriptConfig) -> dict[str, Any]:
    """The settings by name. (Not ``asdict``: that copies what nobody changes, and there may be 100,000 scripts.)"""
    return vars(script).copy()


_DEFAULT = _plain(ScriptConfig())


def spoken(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a script that are not the default's, as JSON has them."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in settings.items() if value != _DEFAULT.get(key)
    }


def _jobs(value: object) -> dict[str, Any]:
    """A list of jobs: how many, a range, or the job that makes it."""
    expected = 'expected { instances = 8 }, { range = [0, 63] } or { from = "module:job" }'
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(f"{expected}, got {shown(value)}")
    ((kind, given),) = value.items()
    if kind == "range" and isinstance(given, list) and [type(one) for one in given] == [int, int]:
        right = 0 <= given[1] - given[0] < LIST_MOST
    elif kind == "instances":
        right = type(given) is int and 1 <= given <= LIST_MOST
    else:
        right = kind == "from" and isinstance(given, str) and given != ""
    if not right:
        raise ValueError(f"{expected}, up to {LIST_MOST:,} jobs, got {shown(value)}")
    return value


def calendars(table: Table) -> dict[str, list[str]]:
    """The lists of days in ``[calendars]``, by name."""
    own = table.table("calendars")
    return {name: [str(day) for day in own.array(name, "2026-12-24", _day)] for name in own.values}


def _day(value: object) -> date:
    """A day, as TOML writes it or in quotes."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"expected a day such as 2026-12-24, got {shown(value)}") from None


def told(table: Table, scripts: dict[str, ScriptConfig], file: str) -> dict[str, Any]:
    """What the scheduler is told."""
    state_dir = table.values.get("state_dir", "var")
    return {
        "scripts": {name: _plain(script) for name, script in scripts.items()},
        "calendars": calendars(table),
        "timezone": str(table.values.get("timezone", "")),
        "store": f"{absolute(table.source.folder, str(state_dir))}/schedule.sqlite",
        "file": file,
        "on_demand": not scripts and not table.given("scheduler"),
    }
