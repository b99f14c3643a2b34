"""The scoreboard: one page of memory in which every worker says what it is at, readable without asking it.

What must live here: the slots' layout, and reading one while its owner writes.
What this file must not know: what a stage means to anybody.

A memfd on the shelf, mapped by master, zygotes and (through the fork) workers, so it outlives each of them. A slot has one
writer. Its first word is a sequence lock (https://docs.kernel.org/locking/seqlock.html): odd while it is written, so a reader
that sees it odd or changed reads again, and no reader ever holds up a writer. The model is Apache's and php-fpm's scoreboard.
"""

from __future__ import annotations

import os
import struct

from rocksyd.posix import libc
from rocksyd.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SLOT_SIZE = 320
SLOTS = 16384
"""The file is sparse: what no worker has used costs nothing."""
STAGES = ("none", "starting", "idle", "reading", "running", "finishing")
"""``reading``: has a job and prepares its surroundings. ``finishing``: the job's code is done, its result is not safe yet."""

_SEQUENCE = struct.Struct("<I")
_BODY = struct.Struct("<IQIBxxxddQdQ48s160sHHQd")
_AT = 8
"""Where the body begins, behind the sequence."""
_KEY_SIZE, _POOL_SIZE = 160, 48
TRIES = 100
"""How often a reader looks again; a writer is inside for about a microsecond."""


class Entry(Value):
    """What one worker says."""

    slot: int = 0
    pid: int = 0
    worker: int = 0
    generation: int = 0
    stage: str = "none"
    since: float = 0.0
    """CLOCK_MONOTONIC seconds since which it is at this stage."""
    born: float = 0.0
    """CLOCK_MONOTONIC seconds of the worker's fork."""
    jobs: int = 0
    """Jobs done."""
    cpu: float = 0.0
    """Seconds, user and system, at the last change of stage."""
    memory: int = 0
    """Peak resident bytes at the last change of stage."""
    pool: str = ""
    key: str = ""
    """Of the run it is at (its first 160 bytes); "" where it can be at several."""
    capacity: int = 1
    """Runs that it can be at at the same time."""
    running: int = 0
    """How many it is at, where it can be at several."""
    deadline: float = 0.0
    """CLOCK_MONOTONIC seconds at which the run is timed out; 0 for never, and where the worker does not say."""


def create() -> int:
    """A new scoreboard; the descriptor."""
    fd = os.memfd_create("rocksyd-scoreboard", os.MFD_CLOEXEC)
    os.ftruncate(fd, SLOTS * SLOT_SIZE)
    return fd


class Scoreboard:
    """A mapped scoreboard. The descriptor may be closed afterwards: the mapping keeps none (a job must not find one)."""

    def __init__(self, fd: int) -> None:
        self._memory = libc.map_shared(fd, SLOTS * SLOT_SIZE)

    def slot(self, number: int) -> Slot:
        """The slot a worker writes; one beyond the end is written nowhere."""
        if not 0 <= number < SLOTS:
            return Slot(memoryview(bytearray(SLOT_SIZE)))
        return Slot(self._memory[number * SLOT_SIZE : (number + 1) * SLOT_SIZE])

    def read(self, number: int) -> Entry | None:
        """What stands in a slot; None for one never used, or one that cannot be read because its writer died in the middle."""
        if not 0 <= number < SLOTS:
            return None
        at = number * SLOT_SIZE
        for _ in range(TRIES):
            (before,) = _SEQUENCE.unpack_from(self._memory, at)
            body = bytes(self._memory[at + _AT : at + _AT + _BODY.size])
            (after,) = _SEQUENCE.unpack_from(self._memory, at)
            if before == after and not before & 1:
                return _entry(number, body) if before else None
        return None

    def untouched(self, number: int) -> bool:
        """Whether nobody has ever written into this slot."""
        return 0 <= number < SLOTS and not _SEQUENCE.unpack_from(self._memory, number * SLOT_SIZE)[0]

    def find(self, worker: int) -> Entry | None:
        """What the worker with this number says, whichever slot it has; slow, for when nobody knows its slot any more."""
        entries = (self.read(number) for number in range(SLOTS))
        return next((entry for entry in entries if entry is not None and entry.worker == worker), None)


class Slot:
    """A worker's own slot."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory

    def write(self, entry: Entry) -> None:
        """Replace what stands there."""
        memory = self._memory
        (sequence,) = _SEQUENCE.unpack_from(memory, 0)
        sequence = (sequence | 1) & 0xFFFFFFFF
        _SEQUENCE.pack_into(memory, 0, sequence)
        _BODY.pack_into(
            memory, _AT, entry.pid, entry.worker, entry.generation, STAGES.index(entry.stage), entry.since, entry.born,
            entry.jobs, entry.cpu, entry.memory, _cut(entry.pool, _POOL_SIZE), _cut(entry.key, _KEY_SIZE),
            entry.capacity, entry.running, entry.worker, entry.deadline,
        )  # fmt: skip
        _SEQUENCE.pack_into(memory, 0, (sequence + 1) & 0xFFFFFFFF or 2)


def _cut(text: str, size: int) -> bytes:
    """As much of ``text`` as fits, in whole characters."""
    data = text.encode("utf-8", "replace")
    return data if len(data) <= size else data[:size].decode("utf-8", "ignore").encode()


def _entry(number: int, body: bytes) -> Entry:
    pid, worker, generation, stage, since, born, jobs, cpu, memory, pool, key, capacity, running, whose, deadline = _BODY.unpack(
        body
    )
    return Entry(
        slot=number, pid=pid, worker=worker, generation=generation, stage=STAGES[stage] if stage < len(STAGES) else "none",
        since=since, born=born, jobs=jobs, cpu=cpu, memory=memory, pool=_text(pool), key=_text(key),
        capacity=capacity or 1, running=running,
        deadline=deadline if whose == worker else 0.0,  # else it is from another worker, and this one does not know the field
    )  # fmt: skip


def _text(data: Any) -> str:
    return bytes(data).rstrip(b"\0").decode("utf-8", "replace")
