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
STRIP = 40
"""Ticks in the strip of what became of them."""
MOST = 100
"""Scripts that are shown on a page."""


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
        calls = [call for row in shown for call in (("schedule.show", {"name": row["name"], "count": STRIP}),
                                                    ("schedule.next", {"name": row["name"], "count": MARKS}))]  # fmt: skip
        found = await self._daemon.remembered(
            f"schedules {[row['name'] for row in shown]}", lambda: self._daemon.answers(*calls), 5.0
        ) if calls else []  # fmt: skip
        now = time.time()
        for place, row in enumerate(shown):
            shows, due = found[2 * place] or {"ticks": []}, found[2 * place + 1] or []
            row.update(_of_ticks(shows), marks=_marks(due, now))
        more = begin + MOST if begin + MOST < len(wanted) else 0
        return {"title": "Schedules", "rows": shown, "all": len(wanted), "there": rows is not None, "text": text, "more": more}

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


def _marks(due: list[dict[str, Any]], now: float) -> list[tuple[float, str]]:
    """Where in the next 24 hours its ticks are."""
    shares = [((datetime.fromisoformat(one["at"]).timestamp() - now) / DAY, str(one["at"])) for one in due]
    return [(share, text) for share, text in shares if 0 <= share <= 1]
