"""When which part of an output was seen: beside the file of an output, one with times and sizes.

What must live here: that file.
What this file must not know: who prints, and who asks.

Runs print without the master in between, so a line has no time of its own. But the master is told when a file grows, and writes
down how large it was then: at most once a second for each run, and less often the longer it runs, so that the times of a run of a
week are some hundred lines. Nothing depends on them: what cannot be written or read is not known.
"""

from __future__ import annotations

import os
import time

from rocksyd.posix.files import TIMES

LEAST = 1.0
"""Seconds between two times, at least."""
SHARE = 0.005
"""The same as a share of the time since the first."""
_MOST = 1 << 20
"""Bytes that are read of the file."""


class Seen:
    """The outputs that grow now."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[float, float]] = {}
        """Path -> when the first and the last time was written (Unix seconds)."""
        self._due: dict[str, float] = {}
        """Path of an output that has grown since -> CLOCK_MONOTONIC seconds at which that is written down."""
        self.due_at = 0.0
        """The earliest of those; 0 for none."""

    def grown(self, path: str, now: float) -> None:
        """It has grown; ``now`` is Unix time."""
        if not path.endswith(".log"):
            return  # a worker's own file: nobody knows yet which call's it will be
        first, last = self._written.get(path, (now, 0.0))
        wait = max(LEAST, (now - first) * SHARE) - (now - last)
        if wait <= 0:
            self._write(path, first, now)
        elif path not in self._due:
            self._due[path] = time.monotonic() + wait
            self.due_at = min(self._due.values())

    def on_time(self, now: float) -> None:
        """Write what is due by CLOCK_MONOTONIC ``now``."""
        if not self.due_at or now < self.due_at:
            return
        for path in [path for path, at in self._due.items() if at <= now]:
            wall = time.time()
            self._write(path, self._written.get(path, (wall, 0.0))[0], wall)
        self.due_at = min(self._due.values(), default=0.0)

    def end(self, path: str) -> None:
        """Its run has ended: what came since the last time has that of the end, which the record says."""
        self._written.pop(path, None)
        if self._due.pop(path, None):
            self.due_at = min(self._due.values(), default=0.0)

    def _write(self, path: str, first: float, now: float) -> None:
        self._written[path] = (first, now)
        self._due.pop(path, None)
        try:
            size = os.stat(path).st_size
            fd = os.open(f"{path}{TIMES}", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.write(fd, f"{now:.1f} {size}\n".encode())
            finally:
                os.close(fd)
        except OSError:
            return


def times(path: str) -> list[tuple[int, float]]:
    """Sizes that the output at ``path`` has had, and when (Unix seconds), in order."""
    try:
        fd = os.open(f"{path}{TIMES}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            data = os.read(fd, _MOST)
        finally:
            os.close(fd)
    except OSError:
        return []
    found: list[tuple[int, float]] = []
    for line in data.decode(errors="replace").splitlines():
        try:
            at, size = float(line.split()[0]), int(line.split()[1])
        except (ValueError, IndexError):
            continue
        if at - at == 0 and 0 <= size < 2**63 and (not found or size > found[-1][0]):
            found.append((size, at))
    return found


def forget(path: str) -> None:
    """The output is gone: so are its times."""
    try:
        os.unlink(f"{path}{TIMES}")
    except OSError:
        return
