"""Children between fork and exec: started without waiting, known to have failed or not a moment later."""

from __future__ import annotations

import os

from rocksyd.posix.processes import Command, failure, start
from rocksyd.values import Value


class Attempt(Value):
    """A child whose exec is not known to have come about."""

    pid: int
    name: str
    master: int
    """Number of the master that asked for it; of the master it is to be when ``name`` is empty."""
    command: Command


class Spawner:
    """Starts commands; ``verdicts`` are the descriptors to poll for how that went."""

    def __init__(self) -> None:
        self.verdicts: dict[int, Attempt] = {}

    def start(self, command: Command, name: str, master: int) -> Attempt:
        """Fork. Raises OSError when there can be no further process."""
        started = start(command)
        attempt = Attempt(started.pid, name, master, command)
        self.verdicts[started.verdict] = attempt
        return attempt

    def verdict(self, fd: int) -> tuple[Attempt, str] | None:
        """What became of the attempt with this descriptor: a reason, "" for a success; None while it is not known."""
        try:
            text = os.read(fd, 4096)
        except BlockingIOError:
            return None
        attempt = self.verdicts.pop(fd)
        os.close(fd)
        return attempt, failure(attempt.command, text) if text else ""

    def verdict_of(self, pid: int) -> tuple[Attempt, str] | None:
        """As ``verdict``, for a child that has been reaped (so that it is known); None when it had been known before."""
        fd = next((fd for fd, attempt in self.verdicts.items() if attempt.pid == pid), None)
        return None if fd is None else self.verdict(fd)
