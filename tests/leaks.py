"""What a test has left behind: open descriptors, threads, processes, temporary files.

A test's processes are known by a mark in their environment, so a daemon that has detached itself is found like a child. Reading
every process's environment costs some milliseconds; the kernel's last PID says whether any process was started at all, so most
tests pay nothing.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

MARK = "ROCKSYD_TEST_RUN"
"""The environment variable that marks the processes of this process of pytest; its value is its PID."""

_EXITING = 0x4
"""PF_EXITING among a process's flags (proc_pid_stat(5), include/linux/sched.h)."""
SESSION = "ROCKSYD_TEST_SESSION"
"""The environment variable that marks all processes of a run that several processes of pytest share: the PID of who hands out."""

_PATIENCE_MS = 30_000
"""How long a process that was told to end may take to be gone, in milliseconds."""


class Watch:
    """Remembers what there was when it was made; ``found`` says what has come since."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = set(os.listdir(folder))
        self._last_pid = _last_pid()
        self._processes = set(_children())
        self._threads = set(threading.enumerate())
        self._descriptors = _descriptors()

    def found(self) -> list[str]:
        """A sentence for each thing left behind. Processes are killed and files removed, so that the next test starts clean."""
        return [*self._new_processes(), *self._new_threads(), *self._new_descriptors(), *self._new_files()]

    def _new_processes(self) -> list[str]:
        pids = set(_children())
        if _last_pid() != self._last_pid:
            pids |= _marked()
        return [said for pid in sorted(pids - self._processes) if (said := _ended(pid))]

    def _new_threads(self) -> list[str]:
        new = [thread for thread in threading.enumerate() if thread not in self._threads]
        for thread in new:
            thread.join(_PATIENCE_MS / 1000)
        return [f"thread {thread.name}" for thread in new if thread.is_alive()]

    def _new_descriptors(self) -> list[str]:
        if set(_descriptors().items()) <= set(self._descriptors.items()):
            return []
        gc.collect()  # what nobody refers to any more is closed, and its ResourceWarning is an error of its own
        new = _descriptors().items() - self._descriptors.items()
        return [f"descriptor {fd} ({target})" for fd, target in sorted(new)]

    def _new_files(self) -> list[str]:
        new = sorted(set(os.listdir(self._folder)) - self._files)
        for name in new:
            _remove(self._folder / name)
        return [f"temporary file {name}" for name in new]


def _descriptors() -> dict[int, str]:
    """Number and what it leads to of every open descriptor of this process."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the descriptor that listed the folder
            continue
    return found


def _last_pid() -> str:
    """The PID that the kernel gave last, to a process or a thread of anybody's."""
    return Path("/proc/loadavg").read_text().split()[-1]


def _children() -> list[int]:
    """Children of this process, zombies included."""
    pids: list[int] = []
    for task in os.listdir("/proc/self/task"):
        try:
            pids += map(int, Path(f"/proc/self/task/{task}/children").read_text().split())
        except FileNotFoundError:  # the thread has ended
            continue
    return pids


def _marked() -> set[int]:
    """Processes that have this run's mark in their environment (a fork has the environment its parent was started with)."""
    return {pid for pid, variables in _environments() if variables.get(MARK) == str(os.getpid())} - {os.getpid()}


def end_abandoned() -> list[str]:
    """Kill what a process of pytest that has died itself, and so could not look after it, has left of this session.

    Returns:
        A sentence for each.
    """
    ended = []
    for pid, variables in _environments():
        if variables.get(SESSION) == os.environ.get(SESSION) and (owner := variables.get(MARK, "")) and not _lives(int(owner)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            ended.append(f"process {pid}, whose test's process {owner} has died")
    return ended


def _environments() -> Iterator[tuple[int, dict[str, str]]]:
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # gone meanwhile, or another user's
            continue
        yield int(name), {name: value for name, _, value in (word.partition("=") for word in words)}


def _lives(pid: int) -> bool:
    """Whether it does. One that is ending closes its descriptors, which is heard, some time before it is a zombie."""
    try:
        state, _, _, _, _, _, flags, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return False
    return state not in "ZX" and not int(flags) & _EXITING


def _ended(pid: int) -> str:
    """Wait until ``pid`` has ended; "" if it did by itself, else it is killed and named. A zombie that is ours counts as left."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return ""
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        title = _title(pid)
        alive = not poll.poll(_PATIENCE_MS)
        if alive:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            poll.poll()
    finally:
        os.close(handle)
    try:
        reaped = os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # somebody else's child
        reaped = False
    if alive:
        return f"process {pid} ({title})"
    return f"process {pid}, ended but never waited for" if reaped else ""


def _title(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").strip()
    except OSError:
        return "gone"
    return words.decode(errors="replace") or "zombie"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for child in path.iterdir():
            _remove(child)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
