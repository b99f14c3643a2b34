"""Which runs a command is about: the filters of ``list`` as options, and what they find.

What must live here: the options, how a moment is written, reading the runs page by page.
What this file must not know: what is done with the runs that are found.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from rocksyd import codes
from rocksyd.cli.arguments import count, pair
from rocksyd.client import Client
from rocksyd.errors import NotFound, RequestError, TooBusy
from rocksyd.model import OUTCOMES
from rocksyd.units import parse_duration

PAGE = 1000
"""Records a request; as many as the daemon gives at once."""
_TIME = re.compile(r"\d\d:\d\d(:\d\d)?")
NAMES = ("app", "target", "script", "outcome", "failed", "label", "since", "until")


def moment(word: str, now: datetime | None = None) -> str | float:
    """``1h`` (ago), ``03:00`` (the last time that it was), ``2026-01-31``, ``2026-01-31T03:00``; in this machine's zone.

    Returns:
        A duration as text, for the daemon to subtract from its own clock; else Unix seconds.
    """
    try:
        parse_duration(word)
    except ValueError:
        pass
    else:
        return word
    now = (now or datetime.now()).astimezone()
    try:
        if not _TIME.fullmatch(word):
            return datetime.fromisoformat(word).timestamp()
        at = datetime.combine(now.date(), datetime.strptime(word, "%H:%M:%S" if len(word) > len("00:00") else "%H:%M").time())
        return (at if at.timestamp() <= now.timestamp() else at - timedelta(days=1)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"expected how long ago (1h, 30m, 2d), a time (03:00) or a date with or without one (2026-01-31T03:00), got {word!r}"
        ) from None


def declare(parser: argparse.ArgumentParser, *, limit: str = "", only: Iterable[str] = NAMES) -> None:
    """The filters as options; ``only`` some of them. ``limit``: the help of ``--limit``, which is left out without."""
    options: dict[str, dict[str, Any]] = {
        "app": {"metavar": "APP", "help": "only of this application"},
        "target": {"metavar": "TARGET", "help": "only of this target"},
        "script": {"metavar": "NAME", "help": "only of this script of the schedule"},
        "outcome": {"choices": OUTCOMES, "help": "only ended like this"},
        "failed": {"action": "store_true", "help": "only ended in any other way than ok"},
        "label": {
            "metavar": "NAME=VALUE", "action": "append", "type": pair, "default": [],
            "help": "only with this label; may be repeated",
        },
        "since": {
            "metavar": "WHEN", "type": moment,
            "help": "only ended (or begun, or ordered, if not ended) since: 1h (ago), 03:00, 2026-01-31, 2026-01-31T03:00",
        },
        "until": {"metavar": "WHEN", "type": moment, "help": "the same: until then"},
    }  # fmt: skip
    for name in only:
        parser.add_argument(f"--{name}", **options[name])
    if limit:
        parser.add_argument("--limit", metavar="N", type=count, help=limit)


def asked(options: argparse.Namespace) -> dict[str, Any]:
    """The parameters of ``list`` that the options stand for; what is not asked for is not in it."""
    given = {name: getattr(options, name, None) for name in ("app", "target", "outcome", "failed", "since", "until")}
    script = getattr(options, "script", None)
    given["labels"] = {**dict(getattr(options, "label", None) or ()), **({"script": script} if script else {})}
    return {name: value for name, value in given.items() if value not in (None, False, {})}


def found(daemon: Client, filters: dict[str, Any], most: int | None = None) -> Iterator[dict[str, Any]]:
    """All runs that fit, page by page, in the daemon's order; at most so many."""
    left, size, last = most, PAGE, None
    while left is None or left > 0:
        wanted = size if left is None else min(size, left)
        try:
            page = daemon.runs(**filters, limit=wanted, after=last)
        except NotFound as error:  # the last one has been freed since: where it was is not known any more
            if last is None or error.code != codes.NOT_FOUND:
                raise
            return
        except TooBusy:  # long records
            if wanted == 1:
                raise
            size = max(wanted // 4, 1)
            continue
        except RequestError as error:
            if error.code != codes.NOT_NOW:
                raise
            continue  # a restart has met the search
        yield from page
        if len(page) < wanted:
            return
        last = page[-1]["key"]
        left = None if left is None else left - len(page)
