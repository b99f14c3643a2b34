"""Run, Errors and Search: single runs, what failed, and finding either.

What must live here: which of the daemon's answers make these pages. What this file must not know: HTML.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from rocksyd.client import failures
from rocksyd.companions.gateway.daemon import Daemon
from rocksyd.companions.gateway.web import Refused
from rocksyd.model import OUTCOMES

PAGE = 100
"""Runs on a page of Search."""
FILTERS = ("text", "target", "app", "state", "outcome", "label", "since", "until")


class Runs:
    """What finds the contents."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    # --- one run ------------------------------------------------------------------------------------------------------
    async def run(self, query: dict[str, str], key: str) -> dict[str, Any]:
        """Run."""
        record = await self._daemon.ask("status", {"key": key})
        (why,) = await self._daemon.answers(("why", {"key": key}))
        return {
            "title": f"{record['target']} {key}",
            "run": record,
            "why": why or {"reasons": [], "ahead": None},
            "stretches": stretches(record, time.time()),
            "failure": failures.fingerprint(record) if record["outcome"] not in (None, "ok") else "",
        }

    # --- what failed --------------------------------------------------------------------------------------------------
    async def errors(self, query: dict[str, str]) -> dict[str, Any]:
        """Errors."""
        chosen = {name: query[name] for name in ("app", "target", "outcome", "since") if query.get(name)}
        chosen.setdefault("since", "24h")
        wanted = query.get("fingerprint", "")
        groups, complete = await self._groups(chosen)
        return {
            "title": "Errors",
            "groups": [group for group in groups if wanted in ("", group["fingerprint"])],
            "complete": complete,
            "chosen": {**chosen, **({"fingerprint": wanted} if wanted else {})},
            "outcomes": [outcome for outcome in OUTCOMES if outcome != "ok"],
        }

    async def _groups(self, chosen: dict[str, str]) -> tuple[list[dict[str, Any]], bool]:
        """By the companion that reads the journal beside the master, where there is one; else by the master's own list."""
        (found,) = await self._daemon.answers(("history.errors", chosen))
        if found is not None:
            return list(found["groups"]), bool(found["complete"])
        records = await self._daemon.ask("list", {"failed": True, "state": "ended", "limit": 1000, **chosen})
        return [failures.plain(group) for group in failures.grouped(records)], len(records) < 1000

    # --- finding ------------------------------------------------------------------------------------------------------
    async def search(self, query: dict[str, str]) -> dict[str, Any]:
        """Search."""
        chosen = {name: query[name] for name in FILTERS if query.get(name)}
        problem = ""
        records: list[dict[str, Any]] = []
        pieces: dict[str, str] = {}
        try:
            if chosen.get("text"):
                records, pieces = await self._by_text(chosen, query.get("after"))
            else:
                records = await self._daemon.ask("list", {**_as_list(chosen), "limit": PAGE, **_after(query)})
        except Refused as refused:
            if refused.status == HTTPStatus.SERVICE_UNAVAILABLE and not refused.code:
                raise
            problem = str(refused)
        more = urlencode({**chosen, "after": records[-1]["key"]}) if len(records) >= PAGE else ""
        return {
            "title": "Search", "records": records, "pieces": pieces, "chosen": chosen, "problem": problem, "more": more,
            "begun": "after" in query, "outcomes": list(OUTCOMES), "states": ["waiting", "running", "ended"],
        }  # fmt: skip

    async def _by_text(self, chosen: dict[str, str], after: str | None) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Runs with these words: by the index of outputs where there is one, else the run that has this very key."""
        asked = {name: value for name, value in _as_list(chosen).items() if name not in ("state", "labels")}
        try:
            found = await self._daemon.ask(
                "history.search", {**asked, "text": chosen["text"], "limit": PAGE, **({"after": after} if after else {})}
            )
        except Refused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
            (record,) = await self._daemon.answers(("status", {"key": chosen["text"]}))
            if record is None:
                text = "no run has this key; outputs can be searched where [history] is configured"
                raise Refused(HTTPStatus.NOT_FOUND, text) from None
            return [record], {}
        records = await self._daemon.answers(*(("status", {"key": row["key"]}) for row in found))
        return [record for record in records if record], {row["key"]: _piece(row.get("text")) for row in found}


def _piece(text: Any) -> str:
    """The piece of the text in which the words were found, however it is marked."""
    return text if isinstance(text, str) else "".join(str(part[0] if isinstance(part, list) else part) for part in text or ())


def _as_list(chosen: dict[str, str]) -> dict[str, Any]:
    """The filters as the method ``list`` takes them."""
    given: dict[str, Any] = {name: value for name, value in chosen.items() if name not in ("text", "label", "outcome")}
    outcome, label = chosen.get("outcome"), chosen.get("label", "")
    if outcome == "failed*":
        given["failed"] = True
    elif outcome:
        given["outcome"] = outcome
    name, separator, value = label.partition("=")
    if separator:
        given["labels"] = {name: value}
    return given


def _after(query: dict[str, str]) -> dict[str, str]:
    return {"after": query["after"]} if query.get("after") else {}


def stretches(record: dict[str, Any], now: float) -> list[tuple[str, float, float, str]]:
    """The run's life as stretches of time: it waits, each attempt, and what it is at."""
    begin = record["submitted_at"]
    end = record["ended_at"] or now
    length = max(end - begin, 0.001)
    found: list[tuple[str, float, float, str]] = []
    at = begin
    tries = [*record.get("attempts", ()), record]
    for one in tries:
        started, ended = one.get("started_at"), one.get("ended_at") or (now if one is record else None)
        if started is None:
            continue
        if started - at > 0.001:
            found.append(("waits", (at - begin) / length, (started - begin) / length, "waits"))
        at = ended or started
        outcome = one.get("outcome") or "running"
        text = f"attempt {one.get('attempt', 1)}: {outcome}"
        found.append((f"o-{outcome}", (started - begin) / length, (at - begin) / length, text))
    if record["state"] == "waiting":
        found.append(("waits", (at - begin) / length, 1.0, "waits"))
    return [(kind, max(0.0, min(1.0, low)), max(0.0, min(1.0, high)), text) for kind, low, high, text in found]
