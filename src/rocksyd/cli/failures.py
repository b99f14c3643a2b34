"""`rocksyd errors`: failures that are the same one, told once.

What must live here: who is asked, and how a group of failures is shown.
What this file must not know: what makes two failures the same (``client.failures``), how runs are found (``filters``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from typing import Any

from rocksyd import codes
from rocksyd.cli.arguments import client
from rocksyd.cli.filters import asked, found
from rocksyd.cli.output import clean, json_line, say, write
from rocksyd.cli.phrases import clock
from rocksyd.cli.tables import Screen, coloured, hung, screen
from rocksyd.client import Client
from rocksyd.client.failures import grouped, plain
from rocksyd.errors import RequestError

LOOKED_AT = 10_000
"""Failures that are looked at, the latest, unless another limit is given."""
SINCE = "1d"
_LINES = 12
"""Lines of a traceback, its last, that are shown without ``--full``."""


def errors(options: argparse.Namespace) -> int:
    """The groups of what failed; one day unless told otherwise."""
    filters = asked(options)
    if "since" not in filters and "until" not in filters:
        filters["since"] = SINCE
    most = options.limit if options.limit is not None else LOOKED_AT
    with client(options) as daemon:
        groups, complete = _of_history(daemon, filters, most) or _of_list(daemon, filters, most)
    if not complete:
        say(f"only the last {most} failures were looked at; --limit N looks at more")
    if options.json:
        write(json_line(groups))
    elif groups:
        write("\n".join(shown(group, time.time(), screen(), full=options.full) for group in groups))
    else:
        write(f"nothing failed{_within(filters)}\n")
    return 0


def _of_history(daemon: Client, filters: dict[str, Any], most: int) -> tuple[list[dict[str, Any]], bool] | None:
    """What the companion says, which reads the journal beside the master; None where there is none, or none that answers now."""
    try:
        answer = daemon.request("history.errors", {**filters, "limit": max(most, 1)})
    except RequestError as error:
        if error.code in (codes.METHOD_NOT_FOUND, codes.NOT_NOW, codes.TOO_BUSY):
            return None
        raise
    return answer["groups"], answer["complete"]


def _of_list(daemon: Client, filters: dict[str, Any], most: int) -> tuple[list[dict[str, Any]], bool]:
    looked_at = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal looked_at
        for record in found(daemon, {**filters, "failed": True, "state": "ended"}, most):
            looked_at += 1
            yield record

    return [plain(group) for group in grouped(counted())], looked_at < most


def _within(filters: dict[str, Any]) -> str:
    since = filters.get("since")
    return f" within {since}" if isinstance(since, str) and "until" not in filters else " in that time"


def shown(group: dict[str, Any], now: float, target: Screen, *, full: bool) -> str:
    """A group as text: how often and what, when and where, a traceback."""
    times = f"{group['count']:,} x"
    head = hung(f"{times} ", group["text"], target, "")
    head[0] = head[0].replace(clean(group["text"]), coloured(clean(group["text"]), "red", target), 1)
    seen = f"last {clock(group['last_at'], now)}" + (f", first {clock(group['first_at'], now)}" if group["count"] > 1 else "")
    where = ", ".join(_targets(group["by_target"]))
    outcomes = ", ".join(sorted(group["by_outcome"]))
    revisions = f"; revision {', '.join(group['revisions'])}" if group["revisions"] else ""
    lines = [*head, *hung("  ", f"{seen}; {where} ({outcomes}){revisions}", target, "")]
    lines += hung("  ", f"rocksyd why {group['key']}, rocksyd logs {group['key']}", target, "dim")
    trace = group["traceback"].rstrip().splitlines()
    cut = len(trace) > _LINES and not full
    lines += hung("    ", f"({len(trace) - _LINES} lines before; --full shows them)", target, "dim") if cut else []
    for line in trace[-_LINES:] if cut else trace:
        blank = len(line) - len(line.lstrip(" "))
        lines += hung("    " + " " * min(blank, 8), line.strip(), target, "dim")
    return "".join(f"{line}\n" for line in lines)


def _targets(counts: dict[str, int]) -> Iterable[str]:
    most_first = sorted(counts.items(), key=lambda item: -item[1])
    return (f"{name} {count:,}" if len(counts) > 1 else name for name, count in most_first)
