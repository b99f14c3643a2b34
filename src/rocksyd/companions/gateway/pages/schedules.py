"""Schedules: what is due when, and what became of it.

What must live here: which of the daemon's answers make these pages. What this file must not know: HTML.
"""

from __future__ import annotations

import time
from datetime import datetime
from http import HTTPStatus
from typing import Any

from rocksyd.companions.gateway.daemon import Daemon
from rocksyd.companions.gateway.web import Refused

DAY = 86400.0
MARKS = 200
"""Ticks of one script in the calendar of the next day."""
STRIP, SHORT_STRIP = 40, 20
"""Ticks in the strip of what became of them: of one script, and of each in the list."""
MOST = 50
"""Scripts that are shown on a page."""
LOOKS = (2, 25, MARKS)
"""How many ticks are asked for, as long as all of them are within a day: of a script that has few, many would be weeks ahead."""


class Schedules:
    """What finds the contents."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def all_of_them(self, query: dict[str, str]) -> dict[str, Any]:
        """Schedules."""
        (rows,) = await self._daemon.answers(("schedule.list", {}))
        text, begin = query.get("text", "").lower(), int(query["from"]) if query.get("from", "").isdecimal() else 0
        wanted = [row for row in rows or [] if text in f"{row['name']} {row.get('target') or ''} {' '.join(row['tags'])}".lower()]
        shown = wanted[begin : begin + MOST]
        names = [row["name"] for row in shown]
        found = await self._daemon.remembered(f"schedules {names}", lambda: self._ticks(names), 5.0)
        now = time.time()
        for row in shown:
            shows, due = found[row["name"]]
            row.update(_of_ticks(shows), marks=_marks(due, now))
        more = begin + MOST if begin + MOST < len(wanted) else 0
        return {"title": "Schedules", "rows": shown, "all": len(wanted), "there": rows is not None, "text": text, "more": more}

    async def _ticks(self, names: list[str]) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
        """What became of the latest ticks of each of these scripts, and those of the next day."""
        shows = await self._daemon.answers(*(("schedule.show", {"name": name, "count": SHORT_STRIP}) for name in names))
        due: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        wanted, end = list(names), time.time() + DAY
        for count in LOOKS:
            for name, rows in zip(wanted, await self._next(wanted, count), strict=True):
                due[name] = rows
            wanted = [name for name in wanted if len(due[name]) >= count and _at(due[name][-1]) < end]
        return {name: (show or {"ticks": []}, due[name]) for name, show in zip(names, shows, strict=True)}

    async def _next(self, names: list[str], count: int) -> list[list[dict[str, Any]]]:
        found = await self._daemon.answers(*(("schedule.next", {"name": name, "count": count}) for name in names))
        return [one or [] for one in found]

    async def one(self, query: dict[str, str], name: str) -> dict[str, Any]:
        """Schedule."""
        shows, due, versions = await self._daemon.answers(
            ("schedule.show", {"name": name, "count": 100}),
            ("schedule.next", {"name": name, "count": MARKS}),
            ("schedule.versions", {"name": name}),
        )
        if shows is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no script {name!r}")
        rows = versions.get("versions", []) if isinstance(versions, dict) else versions or []
        return {
            "title": name, "script": {**shows, **_of_ticks(shows)}, "due": (due or [])[:20],
            "marks": _marks(due or [], time.time()), "versions": rows,
        }  # fmt: skip


def _of_ticks(shows: dict[str, Any]) -> dict[str, Any]:
    """The strip of what became of the latest ticks, the oldest first, and how many in a row went as the last one."""
    ticks = list(reversed(shows.get("ticks", [])))
    cells = [(_outcome(tick), f"{tick['first']} {_outcome(tick)}") for tick in ticks]
    streak = 0
    for outcome, _ in reversed(cells):
        if outcome != cells[-1][0]:
            break
        streak += 1
    return {"cells": cells[-STRIP:], "streak": streak, "streak_of": cells[-1][0] if cells else ""}


def _outcome(tick: dict[str, Any]) -> str:
    """How the tick's run ended, or is; of one that had no run what became of it."""
    return str(tick["outcome"] or tick["what"])


def _at(one: dict[str, Any]) -> float:
    return datetime.fromisoformat(one["at"]).timestamp()


def _marks(due: list[dict[str, Any]], now: float) -> list[tuple[float, str]]:
    """Where in the next 24 hours its ticks are."""
    shares = [((_at(one) - now) / DAY, str(one["at"])) for one in due]
    return [(share, text) for share, text in shares if 0 <= share <= 1]
