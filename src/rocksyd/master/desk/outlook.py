"""What will keep the daemon from doing its work if nobody does anything: a disk, a queue or a machine that is nearly full.

What must live here: where "nearly" begins, and what is said of it. What this file must not know: who is told (``condition``).

The sentences name steps (less than 256M, more than 8) and no measured figures: those change with every look, and whoever follows
``health`` is told of each change.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from rocksyd.core.engine import Engine
from rocksyd.posix.processes import load
from rocksyd.units import format_size

DISK_PART, DISK_SIZE = 0.05, 2 << 30
"""A disk is nearly full when less than this part of it is free, and less than so many bytes: 5 % of a large one is plenty."""
QUEUE_PART = 0.8
"""A queue is nearly full when more than this part of ``max_queue`` waits."""
LOAD = 4
"""A machine is overloaded when on average of five minutes more processes than this want each of its processors."""


class Problem(NamedTuple):
    """Something that keeps the daemon from doing its work, or is about to."""

    kind: str
    """What it is of: ``pool:shop``, ``companion:metrics``, ``journal``, ``disk`` ..."""
    text: str
    cure: str


def outlook(engine: Engine) -> list[Problem]:
    """What is to be expected: warnings, while the daemon does its work."""
    return [*disk(engine.config.state_dir), *_queues(engine), *machine()]


def disk(folder: str) -> Iterator[Problem]:
    """Whether the file system of ``folder`` is nearly full: its bytes, or the files that it can have."""
    try:
        found = os.statvfs(folder)
    except OSError:  # what cannot be reached shows when it is written to
        return
    free, files = found.f_bavail * found.f_frsize, found.f_favail
    cure = "make room before new runs are refused: `du -x` shows what takes it; `[output] keep` says how long outputs are kept"
    if free < min(DISK_SIZE, DISK_PART * found.f_blocks * found.f_frsize):
        left = f"less than {format_size(_step(free))} is left" if free else "nothing is left"
        yield Problem("disk", f"the disk of {folder} is nearly full: {left}", cure)
    elif found.f_files and files < DISK_PART * found.f_files and files < DISK_SIZE >> 14:
        yield Problem(
            "disk", f"the disk of {folder} is nearly full: there is room for less than {_step(files):,} more files", cure
        )


def _queues(engine: Engine) -> Iterator[Problem]:
    for name, line in engine.queues.items():
        pool = engine.pools.get(name)
        most = pool.policy.max_queue if pool is not None else 0
        if not most or len(line) <= QUEUE_PART * most:
            continue
        text = (
            f"the queue of pool {name} is full (max_queue = {most:,}): new runs are refused"
            if len(line) >= most
            else f"the queue of pool {name} is nearly full: more than {QUEUE_PART:.0%} of max_queue = {most:,} wait"
        )
        yield Problem(
            f"queue:{name}",
            text,
            "`rocksyd pools --workers` shows what its workers do, `rocksyd stack KEY` what a run waits for; if all is well, "
            "raise max_workers",
        )


def machine() -> Iterator[Problem]:
    """Whether the machine has more to do than it can."""
    each = load() / len(os.sched_getaffinity(0))
    if each > LOAD:
        step = LOAD
        while 2 * step < each:
            step *= 2
        text = f"the machine is overloaded: for five minutes more than {step} processes have wanted each of its processors"
        yield Problem(
            "machine",
            text,
            "`rocksyd top` shows which runs take the most, `top` who else does; lower max_workers, or spread the work",
        )


def _step(number: int) -> int:
    """The next power of two above."""
    return 1 << number.bit_length()
