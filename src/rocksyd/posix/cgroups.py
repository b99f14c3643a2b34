"""Control groups, version 2: the part of the hierarchy that a service manager has delegated to this daemon.

What must live here: finding that part, the few files of it that are read and written, and removing what may be in use.
What this file must not know: what is in a group, and why it is limited.

The daemon's own processes go to a leaf of their own, because a group whose children have controllers may have no processes itself
(the rule of "no internal processes"). A folder that is not one of cgroupfs can stand for one: every file is written as if it was.

Sources: cgroups(7), https://docs.kernel.org/admin-guide/cgroup-v2.html, https://systemd.io/CGROUP_DELEGATION/
"""

from __future__ import annotations

import math
import os

LEAF = "daemon"
"""Where the daemon's own processes are, below what was delegated."""
CONTROLLERS = ("cpu", "memory", "pids")
_DELEGATED = ("user.delegate", "trusted.delegate")
"""Extended attributes that systemd sets to ``1``."""
_PERIOD = 100_000
"""Microseconds of one period of cpu.max."""
_FIRST_PAUSE, _LAST_PAUSE = 0.02, 60.0
"""Seconds from the first try to remove a group until the second, and the longest pause between two tries by time."""
_IN_PASSING = 8
"""Groups that are tried again each time that their owner has something to do."""


def delegated(proc: str = "/proc/self") -> str:
    """The folder that this process's service manager has delegated to it; "" where there is none."""
    folder = _own(proc)
    if os.path.basename(folder) == LEAF:
        folder = os.path.dirname(folder)
    return folder if folder and any(_attribute(folder, name) == b"1" for name in _DELEGATED) else ""


def _own(proc: str) -> str:
    """The folder of this process's group; "" without version 2."""
    try:
        with open(f"{proc}/cgroup", encoding="utf-8") as file:
            group = next((line[3:].strip() for line in file if line.startswith("0::")), "")
        with open(f"{proc}/mountinfo", encoding="utf-8") as file:
            for line in file:
                before, _, after = line.partition(" - ")
                if after.startswith("cgroup2 ") and group:
                    root, point = before.split()[3:5]
                    inside = group if root == "/" else group.removeprefix(root)
                    return f"{point}{inside}".rstrip("/")
    except (OSError, ValueError):
        pass
    return ""


def _attribute(folder: str, name: str) -> bytes:
    try:
        return os.getxattr(folder, name)
    except OSError:
        return b""


def settle(root: str) -> None:
    """Make ``root`` a group that can have limited groups below it: this daemon's processes move to its leaf.

    Raises:
        OSError: it is no control group, or not this user's to change; the message names the file.
    """
    _read(f"{root}/cgroup.controllers")
    leaf = f"{root}/{LEAF}"
    os.makedirs(leaf, exist_ok=True)
    for pid in _read(f"{root}/cgroup.procs", "").split():
        try:
            _write(f"{leaf}/cgroup.procs", pid)
        except ProcessLookupError:
            continue  # it has ended meanwhile
    divide(root)


def divide(folder: str) -> None:
    """Let the groups below ``folder`` have limits of their own. Raises OSError."""
    wanted = " ".join(f"+{name}" for name in controllers(folder))
    if wanted:
        _write(f"{folder}/cgroup.subtree_control", wanted)


def controllers(folder: str) -> list[str]:
    """Those of CONTROLLERS that this group has; without them a group can still be killed as one."""
    known = _read(f"{folder}/cgroup.controllers", " ".join(CONTROLLERS)).split()
    return [name for name in CONTROLLERS if name in known]


def give(folder: str, uid: int, gid: int) -> None:
    """Let another user divide this group. Raises OSError."""
    for name in ("", "/cgroup.procs", "/cgroup.subtree_control"):
        if os.path.exists(folder + name):
            os.chown(folder + name, uid, gid)


def create(folder: str, memory: int = 0, processes: int = 0, cpus: float = 0.0) -> None:
    """Make a group with these limits: bytes, processes and threads, CPUs; 0 for none.

    What is out of memory in it is killed as one (memory.oom.group): half a job is of no use.

    Raises:
        OSError: it cannot be, the message names the file.
    """
    os.makedirs(folder, exist_ok=True)
    there = controllers(folder)
    if memory and "memory" in there:
        _write(f"{folder}/memory.max", str(memory))
        _write(f"{folder}/memory.oom.group", "1")
    if processes and "pids" in there:
        _write(f"{folder}/pids.max", str(processes))
    if cpus and "cpu" in there:
        _write(f"{folder}/cpu.max", f"{round(cpus * _PERIOD)} {_PERIOD}")


def enter(folder: str) -> None:
    """Move the calling process. Raises OSError."""
    _write(f"{folder}/cgroup.procs", "0")


def kill(folder: str) -> None:
    """SIGKILL to all that is in a group, whatever session and process group it has made its own (Linux 5.14)."""
    try:
        _write(f"{folder}/cgroup.kill", "1")
    except OSError:
        return  # an older kernel, or the group is gone: the process group is killed as well


def oom_kills(folder: str) -> int:
    """How many processes of a group the kernel has killed for want of memory; 0 when that cannot be known."""
    for line in _read(f"{folder}/memory.events", "").splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill" and count.strip().isdigit():
            return int(count)
    return 0


def remove(folder: str) -> bool:
    """Remove a group and the empty ones below it; one that somebody is in stays. Whether it is gone."""
    try:
        with os.scandir(folder) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for path in below:
            remove(path)
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


class Removals:
    """Groups that could not be removed at their time, because somebody was in them, and when they are tried again.

    A process that was killed leaves its group some moments later (or much later, where a disk or a file server holds it), and
    whoever removes the group is not its parent, so nobody is told. So each group is tried again by time, after pauses that
    double, and then no more, because a daemon with nothing to do does not wake; and whenever its owner has something to do.
    """

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}
        """Folder -> when it is tried again (CLOCK_MONOTONIC seconds), and the pause after that."""

    def remove(self, folder: str, now: float) -> None:
        """Remove a group now, or as soon as it can be."""
        if not remove(folder):
            self._left[folder] = now + _FIRST_PAUSE, 2 * _FIRST_PAUSE

    @property
    def left(self) -> list[str]:
        """The groups that are still there."""
        return list(self._left)

    def next_try(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which ``on_time`` is wanted; None for never."""
        return min((at for at, _ in self._left.values() if at != math.inf), default=None)

    def on_time(self, now: float) -> None:
        """Try those whose time has come."""
        for folder, (at, pause) in list(self._left.items()):
            if at > now:
                continue
            del self._left[folder]
            if not remove(folder):
                self._left[folder] = (now + pause, 2 * pause) if pause <= _LAST_PAUSE else (math.inf, pause)

    def in_passing(self) -> None:
        """Try some, the longest not tried first, since there is something to do anyway."""
        for folder in list(self._left)[:_IN_PASSING]:
            when = self._left.pop(folder)
            if not remove(folder):
                self._left[folder] = when

    def once_more(self) -> None:
        """Try all of them: there will be no other time."""
        for folder in list(self._left):
            if remove(folder):
                del self._left[folder]


def _read(path: str, default: str | None = None) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        if default is None:
            raise
        return default


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
