"""Exceptions of jobs as exceptions here, with the traceback of there.

What must live here: from a failed run's record to what the job raised.
What this file must not know: how the record came here.
"""

from __future__ import annotations

import builtins
import sys
from typing import Any

from rocksyd.errors import Cancel, JobFailed, Retry


class RemoteTraceback(Exception):
    """The cause of an exception that a job raised: the traceback of the job's own process."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


def raised(failure: JobFailed) -> Exception:
    """What the job raised, if its class is known in this process; else the failure itself. The cause shows where it was raised.

    A class is known when it is built in or its module has been imported here: a daemon makes nobody import anything.
    """
    error = _made(failure) or failure
    if failure.traceback:
        error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def _made(failure: JobFailed) -> Exception | None:
    kind = _known(failure.type)
    if kind is None:
        return None
    details = failure.record.get("error")
    given = details.get("args") if isinstance(details, dict) else None
    try:
        error: Any = kind(*(given if isinstance(given, list) else [failure.reason]))
    except Exception:  # noqa: BLE001  (a constructor is anybody's code; not all can be called with what stands in args)
        return None
    return error if isinstance(error, Exception) else None


_OURS = {"Cancel": Cancel, "Retry": Retry}
"""What a job says to the daemon by raising it."""


def _known(name: str) -> type[Exception] | None:
    if name in _OURS:
        return _OURS[name]
    found: Any = builtins
    path = name.split(".")
    for length in range(len(path) - 1, 0, -1):
        if ".".join(path[:length]) in sys.modules:
            found, path = sys.modules[".".join(path[:length])], path[length:]
            break
    for part in path:
        found = getattr(found, part, None)
    if not isinstance(found, type) or issubclass(found, StopIteration):  # which no future of asyncio can hold: it would never end
        return None
    return found if issubclass(found, Exception) else None
