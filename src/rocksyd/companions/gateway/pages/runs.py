"""Run, Errors and Search: single runs, what failed, and finding either.

What must live here: which of the daemon's answers make these pages. What this file must not know: HTML.
"""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from rocksyd import codes
from rocksyd.client import failures
from rocksyd.companions.gateway.daemon import Daemon
from rocksyd.companions.gateway.web import Refused
from rocksyd.model import OUTCOMES
from rocksyd.units import parse_duration

_NUMBER = re.compile(r"[0-9]{9,11}(\.[0-9]{1,9})?")
"""Unix seconds, as they stand in an address."""
PAGE = 100
"""Runs on a page of Search."""
UNINDEXED = frozenset({"label", "app"})
"""Filters that the journal has no index for: it has to look at every run."""
HOUR, FURTHEST = 3600.0, 20 * 366 * 86_400.0
"""Seconds: how far it is looked back at first, and at most."""
PATIENCE = 0.1
"""Seconds for which it is looked further back for a page."""
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
            "hidden": self._daemon.redaction.holds_hidden(record["params"]),
            "failure": failures.fingerprint(record) if record["outcome"] not in (None, "ok") else "",
        }

    async def flame(self, query: dict[str, str], key: str) -> dict[str, Any]:
        """Where the time of a run goes, as the companion ``profiler`` has seen it, where there is one."""
        record = await self._daemon.ask("status", {"key": key})
        methods = {one["name"] for one in (await self._daemon.described())["methods"]}
        there, seen = "profile.get" in methods, None
        if there:
            (seen,) = await self._daemon.answers(("profile.get", {"key": key, "format": "svg"}))
        picture = Markup((seen or {}).get("svg", ""))  # the profiler has escaped it
        return {"title": f"Flame graph {key}", "run": record, "there": there, "seen": seen, "picture": picture}

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
        problem, reached = "", 0.0
        records: list[dict[str, Any]] = []
        pieces: dict[str, str] = {}
        try:
            if chosen.get("text"):
                records, pieces = await self._by_text(chosen, query.get("after"))
            elif chosen.keys() & UNINDEXED and not query.get("after") and chosen.get("state") in (None, "ended"):
                records, reached = await self._back_in_time(_as_list(chosen))
            else:
                records = await self._daemon.ask("list", {**_as_list(chosen), "limit": PAGE, **_after(query)})
        except Refused as refused:
            if refused.status == HTTPStatus.SERVICE_UNAVAILABLE and not refused.code:
                raise
            problem = str(refused)
        more = urlencode({**chosen, "after": records[-1]["key"]}) if len(records) >= PAGE and not reached else ""
        if reached:
            more = urlencode({**chosen, "until": f"{reached:.6f}"})
        return {
            "title": "Search", "records": records, "pieces": pieces, "chosen": chosen, "problem": problem, "more": more,
            "reached": reached, "begun": "after" in query, "outcomes": list(OUTCOMES), "states": ["waiting", "running", "ended"],
        }  # fmt: skip

    async def _back_in_time(self, asked: dict[str, Any]) -> tuple[list[dict[str, Any]], float]:
        """Runs that no index leads to: looked for in the latest hour, then further back, for as long as that is quick.

        Returns them, and the time from which on it is to be looked further back; 0 when all that there is was looked at.
        """
        now, began = time.time(), time.monotonic()
        last = _seconds_of(asked.pop("until", None), now)
        first = max(_seconds_of(asked.pop("since", None), 0.0), now - FURTHEST)
        found: dict[str, dict[str, Any]] = {}
        span, until, latest = HOUR, last, last == now
        while until > first and len(found) < PAGE and time.monotonic() - began < PATIENCE:
            since = max(first, until - span)
            upper = {} if latest else {"until": until}  # what comes at this very moment is not left out
            asked_at, latest = time.monotonic(), False
            records = await self._daemon.ask("list", {**asked, "since": since, **upper, "limit": PAGE})
            found.update((record["key"], record) for record in records)
            if time.monotonic() - asked_at < PATIENCE / 8:
                span *= 4
            until = min((_moment(record) for record in records), default=since) if len(records) >= PAGE else since
        return list(found.values()), until if until > first else 0.0

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
    for name in ("since", "until"):
        if _NUMBER.fullmatch(given.get(name, "")):
            given[name] = float(given[name])
    outcome, label = chosen.get("outcome"), chosen.get("label", "")
    if outcome == "failed*":
        given["failed"] = True
    elif outcome:
        given["outcome"] = outcome
    name, separator, value = label.partition("=")
    if separator:
        given["labels"] = {name: value}
    return given


def _seconds_of(moment: Any, otherwise: float) -> float:
    """Unix seconds of what ``since`` and ``until`` may be; what is wrong is left to the daemon to refuse."""
    if not isinstance(moment, str):
        return otherwise if moment is None else float(moment)
    try:
        return time.time() - parse_duration(moment)
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"{error}", codes.INVALID_PARAMS) from None


def _moment(record: dict[str, Any]) -> float:
    """The time by which ``list`` finds a run."""
    return float(record["ended_at"] or record["started_at"] or record["submitted_at"])


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
