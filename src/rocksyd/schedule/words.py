"""A schedule in words, for people: "every day at 03:00 Europe/Berlin".

What must live here: the sentences. What this file must not know: when anything is due.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

from cronsim import CronSim

from rocksyd.schedule.cron import Cron
from rocksyd.schedule.script import Script
from rocksyd.schedule.timetable import Every

_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_TIMES_MOST = 4


def schedule(script: Script) -> str:
    """When it is due, as a sentence without its end."""
    table = script.timetable
    if table is None:
        return "on request only"
    if isinstance(table.rule, Every):
        return interval(table.rule.seconds)
    return f"{cron(table.rule.cron)} {script.zone}"


def interval(seconds: int) -> str:
    """``every 5 minutes``."""
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
    return f"every {unit}" if seconds == size else f"every {seconds // size} {unit}s"


def cron(expression: Cron) -> str:
    """What the expression says. Where there is no short sentence for it, the longer one of ``cronsim``."""
    second, minute, hour, day, month, weekday = expression.fields
    days = _days(day, month, weekday)
    if days and second == "0":
        if minute.isdigit() and _plain_list(hour):
            times = [f"{int(one):02}:{int(minute):02}" for one in hour.split(",")]
            if len(times) <= _TIMES_MOST:
                return f"{days} at {' and '.join(', '.join(times).rsplit(', ', 1))}"
        every = _step(minute, 60)
        if every and hour == "*" and days == "every day":
            return interval(60 * every)
        if minute.isdigit() and hour == "*" and days == "every day":
            return "every hour" if minute == "0" else f"every hour at minute {int(minute)}"
    text = CronSim(
        " ".join(expression.fields if expression.seconds_given else expression.fields[1:]), datetime(2000, 1, 1)
    ).explain()
    return text[:1].lower() + text[1:]


def _step(field: str, whole: int) -> int:
    """N of ``*/N`` where that divides the whole; 1 for ``*``; 0 for anything else."""
    if field == "*":
        return 1
    step = field.removeprefix("*/")
    return int(step) if field.startswith("*/") and step.isdigit() and int(step) and whole % int(step) == 0 else 0


def _plain_list(field: str) -> bool:
    return all(one.isdigit() for one in field.split(","))


def _days(day: str, month: str, weekday: str) -> str:
    if month != "*" or (day != "*" and weekday != "*"):
        return ""
    if day == weekday == "*":
        return "every day"
    if day != "*":
        return {"L": "on the last day of every month"}.get(day, f"on day {day} of every month" if day.isdigit() else "")
    number = {name[:3].upper(): str(at) for at, name in enumerate(_DAYS[:7])}
    first, _, last = (number.get(word.upper(), word) for word in weekday.partition("-"))
    if first.isdigit() and last.isdigit():
        return f"{_DAYS[int(first)]} to {_DAYS[int(last)]}"
    return f"every {_DAYS[int(first)]}" if first.isdigit() and not last else ""


def moment(instant: int, zone: tzinfo) -> str:
    """An instant as RFC 3339 by the clock of a zone: ``2026-01-31T03:00:00+01:00``, ``Z`` for UTC."""
    return (
        datetime.fromtimestamp(instant, zone)
        .isoformat()
        .replace("+00:00", "Z" if zone is UTC or str(zone) == "UTC" else "+00:00")
    )


def key_time(instant: int) -> str:
    """The nominal time as keys and ticks have it: ``2026-01-31T02:00:00Z``."""
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
