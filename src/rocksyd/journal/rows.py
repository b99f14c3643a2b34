"""Rows as they are read back: values of the types that they were written with, or a sentence that says why not.

What must live here: what makes a row good. What this file must not know: SQL, what becomes of a bad one.

A row can be bad because a disk, a person or an older version's mistake made it so. It is one row's matter: nobody else's.
"""

from __future__ import annotations

import json
from typing import Any

from rocksyd.model import ENDED, ROW_TYPES, RUNNING, WAITING, Run
from rocksyd.shapes import MAX_INSIDE, Shape, deeper_than, shape_of


class BadRow(ValueError):
    """A row cannot be used; the message says why."""


_RUN = {**{key: shape_of(kind) for key, kind in ROW_TYPES.items()}, "error": shape_of("Failure | None")}
_OFFERED = {
    "generation": shape_of("int"), "ready": shape_of("bool"), "jobs": shape_of("dict[str, dict[str, Json]]"),
    "allowed": shape_of("tuple[str, ...]"), "open_patterns": shape_of("tuple[str, ...]"),
    "crashes": shape_of("tuple[float, ...]"), "revisions": shape_of("dict[str, str]"),
}  # fmt: skip
_META = {
    "service": {
        "generation": shape_of("int"), "started_at": shape_of("float"), "restarts": shape_of("int"), "crashes": shape_of("int"),
        "version": shape_of("str"), "applications": shape_of("dict[str, dict[str, Json]]"),
    },
    "stopped": {"at": shape_of("float")},
}  # fmt: skip


def document(data: Any) -> dict[str, Any]:
    """The object that a column holds as JSON. Raises BadRow."""
    if not isinstance(data, str):
        raise BadRow(f"it is not text but {type(data).__name__}")
    try:
        value = json.loads(data)
    except ValueError as error:
        raise BadRow(f"it is not JSON: {error}") from None
    except RecursionError:
        value = None
    if value is None or (data.count("[") + data.count("{") > MAX_INSIDE and deeper_than(value, MAX_INSIDE)):
        raise BadRow(f"it nests deeper than {MAX_INSIDE} levels" if value is not None or data != "null" else "it is null")
    if not isinstance(value, dict):
        raise BadRow("it is not an object")
    return value


def run_of(key: Any, ended: Any, data: Any) -> Run:
    """The run in a row. Raises BadRow."""
    value = document(data)
    _hold_against(_RUN, value)
    if value.get("key") != key:
        raise BadRow(f"its key is {value.get('key')!r}")
    run = Run.load(value)
    if run.state not in (WAITING, RUNNING, ENDED) or (run.state == ENDED) != (ended == 1):
        raise BadRow(f"its state is {run.state!r}, and its column ended {ended!r}")
    return run


def meta_of(name: str, data: Any) -> dict[str, Any]:
    """A value under a name. Raises BadRow."""
    value = document(data)
    _hold_against(_META.get(name, {}), value)
    for offered in value.get("applications", {}).values() if name == "service" else ():
        _hold_against(_OFFERED, offered)
        if not all(isinstance(job.get("target"), str) for job in offered.get("jobs", {}).values()):
            raise BadRow("a job in it has no target")
    return value


def _hold_against(shapes: dict[str, Shape], value: dict[str, Any]) -> None:
    for name, member in value.items():
        shape = shapes.get(name)
        if shape is not None and not shape.fits(member):
            raise BadRow(f"its {name} is not of the right type")
