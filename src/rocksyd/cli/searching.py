"""`rocksyd search`: ended runs in whose output, key, labels or error the words are found.

What must live here: what of the companion's answer is shown.
What this file must not know: how anything is found (the companion ``history`` does).
"""

from __future__ import annotations

import argparse
import re
import time
from typing import Any

from rocksyd import codes
from rocksyd.cli.arguments import client
from rocksyd.cli.filters import asked
from rocksyd.cli.output import clean, json_line, say, write
from rocksyd.cli.phrases import clock
from rocksyd.cli.tables import COLOURS, Screen, coloured, columns_of, screen
from rocksyd.errors import RequestError

SHOWN = 20
"""Runs that are shown unless another limit is given."""
NOTHING = 1
_REFUSED = 1


def search(options: argparse.Namespace) -> int:
    """The runs, latest first; 1 when there are none, as grep does."""
    params = {
        **asked(options),
        "text": " ".join(options.words),
        "limit": SHOWN if options.limit is None else max(options.limit, 1),
    }
    with client(options) as daemon:
        try:
            rows = daemon.request("history.search", params)
        except RequestError as error:
            if error.code != codes.METHOD_NOT_FOUND:
                raise
            say("nothing is kept to be searched: add a table [history] to rocksyd.toml, and `rocksyd restart`")
            return _REFUSED
    if options.json:
        write(json_line(rows))
    else:
        target = screen()
        write("".join(shown(row, time.time(), target) for row in rows))
        if len(rows) == params["limit"]:
            say(f"these are the last {len(rows)}; --limit N shows more")
    return 0 if rows else NOTHING


def shown(row: dict[str, Any], now: float, target: Screen) -> str:
    """A run: when, which, how it ended, and a piece of the text."""
    outcome = str(row["outcome"])
    head = f"{clock(row['ended_at'], now)}  {clean(row['key'])}  {clean(row['target'])}  "
    first = coloured(head.rstrip(), "bold", target) + "  " + coloured(outcome, "green" if outcome == "ok" else "red", target)
    return f"{first}\n    {_piece(row['text'], None if target.width is None else target.width - 4, target)}\n"


def _piece(pieces: list[str], width: int | None, target: Screen) -> str:
    """The text on one line, what was found in colour; where it is too long, a part in which the first is."""
    flat = [clean(re.sub(r"\s+", " ", piece)) for piece in pieces]
    flat[0] = flat[0].lstrip(" ")
    if width is not None and sum(map(columns_of, flat)) > width:
        flat = _cut(flat, max(width, 1))
    return "".join(_found(piece, target) if number % 2 else piece for number, piece in enumerate(flat))


def _cut(pieces: list[str], width: int) -> list[str]:
    """The pieces in at most ``width`` columns, an ellipsis where something is left out."""
    lead, before = pieces[0], width // 3
    if len(pieces) > 1 and len(lead) > before:
        lead = "…" + lead[len(lead) - before :]
    pieces = [lead, *pieces[1:]]
    if sum(map(columns_of, pieces)) <= width:
        return pieces
    kept, left = [], width - 1
    for piece in pieces:
        part = piece
        while part and columns_of(part) > left:
            part = part[:-1]
        kept.append(part)
        left = left - columns_of(part) if part == piece else 0
    return [*kept[:-1], kept[-1] + "…"]


def _found(text: str, target: Screen) -> str:
    return f"\x1b[{COLOURS['bold']};{COLOURS['magenta']}m{text}\x1b[0m" if target.coloured and text else text
