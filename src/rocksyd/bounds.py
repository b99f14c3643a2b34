"""How long what others say may be, and what becomes of what is longer: it is cut, and says so.

What must live here: the bounds of a record's fields, and the cut. ``docs/limits.md`` lists them.
What this file must not know: who says it; whose record it is.

A worker keeps to them by itself, so that nothing is sent in vain; the core holds everything against them once more, because a
job may write messages of its own on its worker's channel.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MESSAGE, TRACEBACK, NAME = 16 << 10, 128 << 10, 200
"""Characters of an exception's message, traceback and type."""
SENTENCE = 2000
"""Characters of a sentence that a record keeps: the note of a progress, why a result was dropped, why a fork failed."""
ARGS, MOST_ARGS = 10_000, 100
"""Characters that the arguments of an exception may have, and how many they may be; else they are left out."""
TARGET = 4096
"""Characters of the target that a caller names."""
LABELS, ENVIRONMENT = 16 << 10, 256 << 10
"""Characters of all names and values of a run's labels, and of its environment variables."""
LARGE, LARGE_ENDED = 16 << 10, 32 << 20
"""Bytes of JSON from which params and result of a run are large, and which all large ones of ended runs may have in memory."""
EACH = 10_000
"""Parameters in the ``params`` of a run with ``each``."""
RESULT = 1 << 20
"""Bytes of JSON that a result may have."""
FROM_WORKER = 4 << 20
"""Bytes of a message from a worker: a result and an error at their bounds, all of it escaped, fit in."""
_encode = json.JSONEncoder(separators=(",", ":")).encode
_MARK = 40
"""Characters that say how much was cut, at most."""


def cut(value: str, limit: int) -> str:
    """``value`` in at most ``limit`` characters: its beginning and its end, and between them how much is missing."""
    if len(value) <= limit:
        return value
    half = (limit - _MARK) // 2
    return f"{value[:half]}... [{len(value) - 2 * half} characters cut] ...{value[-half:]}"


def failure(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """What is kept of an exception that a worker tells of; members that nobody knows are left out."""
    if error is None:
        return None
    limits = (("type", NAME), ("message", MESSAGE), ("traceback", TRACEBACK))
    kept: dict[str, Any] = {name: cut(error[name], limit) for name, limit in limits}
    args = error.get("args")
    if isinstance(args, list) and len(args) <= MOST_ARGS and all(isinstance(one, str | int | float | None) for one in args):
        texts = sum(len(one) for one in args if isinstance(one, str))
        return kept | {"args": args} if texts <= ARGS else kept
    return kept


def weight(value: Any) -> int:
    """Bytes of JSON that ``value`` has; a few of them are not worth counting."""
    if not value or isinstance(value, int | float):
        return 0
    return len(value) if isinstance(value, str) else len(_encode(value))


def too_long(texts: dict[str, str], limit: int) -> bool:
    """Whether names and values have more than ``limit`` characters together."""
    return sum(len(name) + len(value) for name, value in texts.items()) > limit
