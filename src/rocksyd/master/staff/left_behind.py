"""Processes that runs have left behind, in a session of their own, or in the group of a run that keeps them.

What must live here: how they are told from the daemon's own, and whose they are. What this file must not know: who asks.

They are nobody's children any more, and so the keeper's, which adopts orphans. Whose they were is seen at what they print into.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from typing import Any

from rocksyd.core.submission import key_of
from rocksyd.master.staff.children import Children
from rocksyd.posix import processes

MOST = 1000
"""Processes that are listed."""
_OURS, _WORKER, _BOOT = b"rocksyd: ", b"rocksyd: worker ", b"/rocksyd/boot.py"


class LeftBehind:
    """Looks for them when somebody asks."""

    def __init__(self, children: Children, state_dir: str) -> None:
        self._children = children
        self._root = os.path.realpath(f"{state_dir}/output") + "/"
        """As the kernel names it."""

    def processes(self, log: str = "") -> Generator[None, None, list[dict[str, Any]]]:
        """``pid``, ``name``, ``key`` (None if it prints elsewhere), ``age`` in seconds; of all, or of who prints into ``log``.

        They are looked at one by one.
        """
        found: list[dict[str, Any]] = []
        wanted = os.path.realpath(log) if log else ""
        for pid in processes.children_of(os.getppid()):
            if len(found) == MOST:
                break
            yield
            if self._is_left(pid):
                output = self._output(pid)
                if not wanted or output == wanted:
                    found.append(self._described(pid, output))
        return found

    def _is_left(self, pid: int) -> bool:
        """Not the daemon's own, nor of the group of a worker that lives, nor just ending (it has no command line any more)."""
        command = _read(pid, "cmdline")
        stat = _read(pid, "stat").rpartition(b")")[2].split()
        if not command or len(stat) < 20 or stat[0] in (b"Z", b"X") or int(stat[2]) in self._children.workers.by_pid:
            return False
        own = command.startswith(_OURS) and not command.startswith(_WORKER)
        return not own and not any(word.endswith(_BOOT) for word in command.split(b"\0")[:5])

    def _output(self, pid: int) -> str:
        for number in (1, 2):
            try:
                path = os.readlink(f"/proc/{pid}/fd/{number}")
            except OSError:
                continue
            if path.startswith(self._root) and path.endswith(".log"):
                return path
        return ""

    def _described(self, pid: int, output: str) -> dict[str, Any]:
        stat = _read(pid, "stat")
        name = stat[stat.find(b"(") + 1 : stat.rfind(b")")].decode(errors="replace")
        fields = stat.rpartition(b")")[2].split()
        began = int(fields[19]) / os.sysconf("SC_CLK_TCK") if len(fields) > 19 else 0.0
        age = max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - began)
        key = key_of(output) if output else None
        return {"pid": pid, "name": name, "key": key, "age": round(age, 1)}


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read(65536)
    except OSError:
        return b""
