"""Now: what runs, what waits and why, the pools, the last hour. And Restarts: what deploys did.

What must live here: which of the daemon's answers make these pages. What this file must not know: HTML.
"""

from __future__ import annotations

import time
from typing import Any

from rocksyd.companions.gateway.daemon import Daemon

SHOWN = 50
"""Runs of each state that are shown."""
HOUR, BARS = 3600.0, 60
STAGES = ("running", "finishing", "reading", "starting", "idle")


class Now:
    """What finds the contents."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def page(self, query: dict[str, str]) -> dict[str, Any]:
        """Now."""
        app = {"app": query["app"]} if query.get("app") else {}
        stats, pools, running, waiting, restarts = await self._daemon.answers(
            ("stats", {}),
            ("pools", {}),
            ("list", {"state": "running", "limit": SHOWN, **app}),
            ("list", {"state": "waiting", "limit": SHOWN, **app}),
            ("restarts", {"limit": 5}),
        )
        hour = await self._daemon.remembered(f"hour {query.get('app', '')}", lambda: self._hour(app), 5.0)
        shown = [pool for pool in pools or [] if query.get("app", pool["app"]) == pool["app"]]
        return {
            "title": "Now", "stats": stats or {}, "pools": shown, "running": running or [], "waiting": waiting or [],
            "recent": restarts or [], "app": query.get("app", ""), **hour,
        }  # fmt: skip

    async def _hour(self, app: dict[str, str]) -> dict[str, Any]:
        """The last hour: runs a minute that ended well and badly, and the latest that failed."""
        since = time.time() - HOUR
        ended, failed = await self._daemon.answers(
            ("list", {"state": "ended", "since": since, "limit": 1000, **app}),
            ("list", {"state": "ended", "failed": True, "since": since, "limit": 8, **app}),
        )
        minutes = [[0, 0] for _ in range(BARS)]
        for record in ended or []:
            place = int((record["ended_at"] - since) * BARS / HOUR)
            if 0 <= place < BARS:
                minutes[place][record["outcome"] != "ok"] += 1
        reached = min((record["ended_at"] for record in ended or []), default=since)
        return {
            "minutes": minutes,
            "failed": failed or [],
            "hour_ended": len(ended or []),
            "hour_failed": sum(bad for _, bad in minutes),
            "hour_from": reached if len(ended or []) == 1000 else since,
        }

    async def restarts(self, query: dict[str, str]) -> dict[str, Any]:
        """Restarts."""
        (rows,) = await self._daemon.answers(("restarts", {"limit": 200}))
        kinds = [row for row in rows or [] if query.get("kind", row["kind"]) == row["kind"]]
        return {
            "title": "Restarts",
            "rows": kinds,
            "waits": [row.get("waited_ms") or 0.0 for row in reversed(kinds) if row["ok"]],
            "refused": sum(not row["ok"] for row in kinds),
        }
