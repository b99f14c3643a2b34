"""Jobs that the demonstration adds to its copy of the shop: they say when they began, of which release they are.

Copied into every release; not imported by the demonstration itself.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from rocksyd import current, job

HERE = Path(__file__).resolve().parent
FOLDER = Path(os.environ["DEMO_FOLDER"])


@job
def beginning() -> list[object]:
    """The release this is, and the moment (CLOCK_MONOTONIC, the same for every process) in which its first line ran."""
    now = time.monotonic()
    return [HERE.name, now]


@job
def tally(number: int) -> None:
    """Leave a line that says that this has run."""
    fd = os.open(FOLDER / "tally", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(fd, f"{number}\n".encode())
    os.close(fd)


@job
def status(number: int) -> None:
    """End with an exit status of the caller's choice."""
    raise SystemExit(number)


@job
def work() -> dict[str, object]:
    """Work in small steps until the demonstration is over; says how many they were and how long the longest took."""
    steps, longest = 0, 0.0
    last = time.monotonic()
    while not (FOLDER / "enough").exists() and not current().stopping:
        time.sleep(0.02)
        now = time.monotonic()
        steps, longest, last = steps + 1, max(longest, now - last), now
    return {"release": HERE.name, "pid": os.getpid(), "steps": steps, "longest": longest}
