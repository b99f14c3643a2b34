"""What is odd about a script's run: it began late, takes long, or was over too soon.

What must live here: these three. What this file must not know: where a record is from, what time it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rocksyd.schedule.script import Script

LATE, LONG, SHORT = "late", "long", "short"


def marks(script: Script, tick: int, record: Mapping[str, Any], now: float) -> list[str]:
    """The marks of the run of a tick (Unix seconds), by its record; of one that is waiting or goes on by how it is ``now``."""
    began, ended, state = record.get("started_at"), record.get("ended_at"), record.get("state")
    found = []
    if script.late_after and state and (began or (now if state == "waiting" else 0)) - tick - script.delay > script.late_after:
        found.append(LATE)
    if began and state in ("running", "ended"):
        took = ((ended or now) if state == "ended" else now) - began
        if script.long_after and took > script.long_after:
            found.append(LONG)
        if script.at_least and state == "ended" and record.get("outcome") == "ok" and took < script.at_least:
            found.append(SHORT)
    return found
