"""How values are written on pages.

What must live here: the filters of the templates. What this file must not know: pages.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from rocksyd.units import fine_duration, format_duration, format_size, rough_duration

NOTHING = "\u2013"
"""What stands where there is no value."""
MOST_SHOWN = 20_000
"""Characters of one value that are shown."""
_UNSHOWN = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: object) -> str:
    """Without what would colour a terminal or turn the direction of reading."""
    return _UNSHOWN.sub("", str(text))


def cut(text: object, most: int = MOST_SHOWN) -> str:
    """So much of it, and how much is missing."""
    shown = clean(text)
    return shown if len(shown) <= most else f"{shown[:most]}… ({len(shown) - most} more)"


def brief(value: Any) -> str:
    """A value in a line."""
    return cut(json.dumps(value, ensure_ascii=False, default=str), 120)


def whole(value: Any) -> str:
    """A value as it is written by hand."""
    return cut(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def ago(moment: float | None) -> str:
    """How long ago that was."""
    if moment is None:
        return NOTHING
    seconds = time.time() - moment
    return f"in {rough_duration(-seconds)}" if seconds < -0.5 else f"{rough_duration(max(0.0, seconds))} ago"


def since(moment: float | None) -> str:
    """How much time has passed since."""
    return NOTHING if moment is None else rough_duration(max(0.0, time.time() - moment))


def duration(seconds: float | None) -> str:
    """How long that is."""
    return NOTHING if seconds is None else rough_duration(max(0.0, float(seconds)))


def latency(seconds: float) -> str:
    """How long that is, where it is mostly a few milliseconds."""
    return fine_duration(max(0.0, float(seconds)))


def size(number: float | None) -> str:
    """So many bytes."""
    return NOTHING if not number else format_size(int(number))


def clock(moment: float | None) -> str:
    """A moment, for machines and for whoever points at it."""
    if moment is None:
        return ""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def moment(text: str | None) -> float | None:
    """Unix seconds of a time in RFC 3339."""
    return None if not text else datetime.fromisoformat(text).timestamp()


def count(number: float | None) -> str:
    """A number with its thousands apart."""
    return NOTHING if number is None else f"{number:,.0f}".replace(",", "\u202f")


def without_after(query: dict[str, str]) -> str:
    """The same search from its beginning."""
    return urlencode({name: value for name, value in query.items() if name != "after"})


FILTERS: dict[str, Callable[..., Any]] = {
    "ago": ago, "brief": brief, "clean": clean, "clock": clock, "count": count, "cut": cut, "duration": duration,
    "latency": latency, "moment": moment, "since": since, "size": size, "whole": whole, "setting": format_duration,
    "without_after": without_after,
}  # fmt: skip
