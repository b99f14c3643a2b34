"""Targets: what may be run, how it has gone, and a form to run it.

What must live here: which of the daemon's answers make these pages. What this file must not know: HTML.
"""

from __future__ import annotations

import json
from collections import defaultdict
from http import HTTPStatus
from typing import Any

from rocksyd.client import failures
from rocksyd.companions.gateway.daemon import Daemon
from rocksyd.companions.gateway.pages.charts import percentile
from rocksyd.companions.gateway.web import Refused

LOOKED_AT = 500
"""Runs from which the numbers of a target are made: its latest."""
SHARES = (0.5, 0.9, 0.99, 1.0)


class Targets:
    """What finds the contents."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def all_of_them(self, query: dict[str, str]) -> dict[str, Any]:
        """Targets."""
        rows = await self._daemon.targets()
        app, text = query.get("app", ""), query.get("text", "").lower()
        records = await self._daemon.remembered("latest", lambda: self._daemon.ask("list", {"limit": LOOKED_AT}), 5.0)
        by_target: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for record in records:
            by_target[record["app"], record["target"]].append(record)
        found = []
        for row in rows:
            if (app and row["app"] != app) or text not in f"{row['name']} {row['target']}".lower():
                continue
            own = by_target[row["app"], row["name"]] + (
                by_target[row["app"], row["target"]] if row["target"] != row["name"] else []
            )
            found.append({**row, **_numbers(own)})
        return {"title": "Targets", "rows": found, "apps": sorted({row["app"] for row in rows}), "app": app, "text": text}

    async def one(self, query: dict[str, str], app: str, name: str) -> dict[str, Any]:
        """Target."""
        rows = [row for row in await self._daemon.targets() if row["app"] == app and name in (row["name"], row["target"])]
        given = {"app": app, "limit": LOOKED_AT, "state": "ended"}
        found, restarts = await self._daemon.answers(("list", {**given, "target": name}), ("restarts", {"limit": 100}))
        records = sorted(found or [], key=lambda one: -(one["ended_at"] or 0.0))
        if not rows and not records:
            raise Refused(HTTPStatus.NOT_FOUND, f"the application {app!r} has no target {name!r}, and no run of it is known")
        row = rows[0] if rows else {"app": app, "name": name, "target": name, "kind": None, "settings": {}, "signature": None}
        oldest = min((record["ended_at"] for record in records), default=0.0)
        return {
            "title": row["name"], "row": row, "records": records[:25], "fields": fields(row.get("signature")),
            "groups": [failures.plain(group) for group in failures.grouped(r for r in records if r["outcome"] != "ok")][:20],
            "points": _points(records, [one for one in restarts or [] if one["ok"] and one["at"] >= oldest]), **_numbers(records),
        }  # fmt: skip


def _numbers(records: list[dict[str, Any]]) -> dict[str, Any]:
    """What some runs have taken."""
    ended = [one for one in records if one["state"] == "ended" and one["started_at"] is not None and one["ended_at"] is not None]
    times = [max(0.0, one["ended_at"] - one["started_at"]) for one in ended]
    memory = [float(one["max_rss"]) for one in ended if one["max_rss"]]
    return {
        "runs": len(records),
        "bad": sum(one["outcome"] not in ("ok", None) for one in records),
        "times": {f"{share:.0%}": percentile(times, share) for share in SHARES},
        "memory": {f"{share:.0%}": percentile(memory, share) for share in SHARES},
        "trend": list(reversed(times[:60])),
        "last": max((one["ended_at"] for one in ended), default=None),
    }


def _points(records: list[dict[str, Any]], restarts: list[dict[str, Any]]) -> str:
    """What the chart of durations shows, as JSON: times, durations that ended well and otherwise, deploys."""
    ended = [one for one in reversed(records) if one["started_at"] is not None and one["ended_at"] is not None]
    times = [one["ended_at"] for one in ended]
    took = [max(0.0, one["ended_at"] - one["started_at"]) for one in ended]
    good = [took[place] if one["outcome"] == "ok" else None for place, one in enumerate(ended)]
    bad = [took[place] if one["outcome"] != "ok" else None for place, one in enumerate(ended)]
    marks = [[one["at"], str(one.get("to_rev") or one.get("to") or one["kind"])] for one in restarts]
    return json.dumps({"times": times, "good": good, "bad": bad, "marks": marks})


def fields(signature: dict[str, Any] | None) -> list[dict[str, Any]] | None:
    """The fields of a form for these parameters; None where the parameters are not known."""
    if signature is None:
        return None
    found = []
    for parameter in signature["parameters"]:
        if parameter.get("kind") in ("rest", "others", "positional"):
            return None  # they have no names that could be given
        schema = _simple(parameter.get("schema") or {})
        found.append({
            "name": parameter["name"], "required": bool(parameter.get("required")), "schema": json.dumps(schema),
            "kind": _kind(schema), "choices": schema.get("enum", []), "default": parameter.get("default", schema.get("default")),
            "says": schema.get("description") or schema.get("format") or _said(schema),
        })  # fmt: skip
    return found


def _simple(schema: dict[str, Any]) -> dict[str, Any]:
    """The same without null, which a field that is left empty stands for."""
    others = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if len(others) == 1 and len(schema["anyOf"]) == 2:
        return {**{name: value for name, value in schema.items() if name != "anyOf"}, **others[0]}
    return schema


def _kind(schema: dict[str, Any]) -> str:
    """Which field: of HTML's own, or ``json`` for what has no simple one."""
    if "enum" in schema:
        return "choice"
    kind, form = schema.get("type"), schema.get("format")
    if kind == "string":
        return {"date": "date"}.get(str(form), "text")
    return {"integer": "integer", "number": "number", "boolean": "boolean"}.get(str(kind), "json")


def _said(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return "one of these"
    kinds = [str(one.get("type", "")) for one in schema.get("anyOf", ())] or [str(schema.get("type", "JSON"))]
    return " or ".join(kind for kind in kinds if kind)
