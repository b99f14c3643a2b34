"""What becomes of processes that a run has started, and that are in its group when its own process has ended normally.

What must live here: how a worker tells that to its zygote, which sees to it. What this file must not know: who decides it; how a
group is ended.

A page of memory that the zygote shares with its workers, and no message: a script can become another program (``exec``), and a
worker can be gone before a message of the master has reached the zygote.
"""

from __future__ import annotations

import mmap
import struct

KEEP = "keep"
_SECONDS = struct.Struct("d")
_PLACES = 8192
_KEPT = -1.0


class Leftovers:
    """A zygote's page: of each worker 0 for "nothing said", -1 for "they live on", else the seconds from TERM to KILL."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _PLACES * _SECONDS.size)
        self._free = list(range(_PLACES - 1, -1, -1))

    def take(self) -> int:
        """A place for a worker that is about to be forked; -1 when there are none, and then nothing can be said."""
        return self._free.pop() if self._free else -1

    def give_back(self, place: int) -> None:
        """Its worker is no more."""
        if place >= 0:
            self._write(place, 0.0)
            self._free.append(place)

    def say(self, place: int, leftover: str, grace: float) -> None:
        """In a worker that begins a run: what becomes of those that it leaves. One that keeps them keeps all of the worker's."""
        if place >= 0 and self._read(place) != _KEPT:
            self._write(place, _KEPT if leftover == KEEP else max(grace, 0.001))

    def grace(self, place: int, default: float) -> float | None:
        """Seconds from TERM to KILL for what a worker has left; None: it lives on."""
        said = self._read(place) if place >= 0 else 0.0
        return None if said == _KEPT else said or default

    def _read(self, place: int) -> float:
        return float(_SECONDS.unpack_from(self._page, place * _SECONDS.size)[0])

    def _write(self, place: int, seconds: float) -> None:
        _SECONDS.pack_into(self._page, place * _SECONDS.size, seconds)
