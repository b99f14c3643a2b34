"""The output of runs: read for callers, followed as it grows, cut at its limit.

What must live here: the files' sizes and contents.
What this file must not know: who writes them; workers do, without the master in between.

Growth is noticed through inotify(7) on the folder of the day: a job that prints nothing wakes nobody. After an event the
watch is left alone for LULL seconds, so a job that prints a lot wakes the master ten times a second and not a million.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rocksyd.model import Run
from rocksyd.posix.log import log
from rocksyd.units import format_size

LULL = 0.1
CHUNK = 256 * 1024
_IN_MODIFY, _IN_Q_OVERFLOW, _IN_ONLYDIR, _IN_CLOEXEC, _IN_NONBLOCK = 0x2, 0x4000, 0x01000000, 0o2000000, 0o4000
_EVENT = struct.Struct("iIII")


class Chunk(NamedTuple):
    """A piece of output."""

    text: str
    offset: int
    """Where the next piece begins, in bytes."""
    end: bool
    """Whether the file has no more now."""


class Outputs:
    """The files of runs that run."""

    def __init__(self, loop: Any, limit: int, grown: Callable[[Run], None]) -> None:
        self._loop = loop
        self.limit = limit
        self._grown = grown
        self.by_path: dict[str, Run] = {}
        self.uncut: set[str] = set()
        """Paths of outputs that somebody reads what is about to be written of: they are cut when that was read."""
        self._spools: dict[int, Run] = {}
        """Worker -> its latest run that printed into a file of the worker's own."""
        self._folders: dict[str, int] = {}
        self._by_watch: dict[int, str] = {}
        self._resume_at = 0.0
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK)
        if self._fd < 0:
            log("master", f"no inotify ({os.strerror(ctypes.get_errno())}): outputs are cut and followed only when runs end")
        else:
            loop.register(self._fd, self, select.EPOLLIN)

    def begin(self, run: Run) -> None:
        """A run is about to start: make its folder, watch it."""
        if not run.log:
            return
        folder = os.path.dirname(run.log)
        if folder not in self._folders:
            self._watch(folder)
        self.by_path[run.output] = run
        if run.spool:
            self._spools[run.worker] = run

    def _watch(self, folder: str) -> None:
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as error:  # the run will fail with a reason of its own; that is no reason for everybody's master to end
            log("master", f"cannot make {folder}: {error.strerror}")
            return
        watch = -1
        if self._fd >= 0:
            watch = self._libc.inotify_add_watch(self._fd, os.fsencode(folder), _IN_MODIFY | _IN_ONLYDIR)
            if watch < 0:
                log("master", f"cannot watch {folder}: {os.strerror(ctypes.get_errno())}; outputs are cut only when runs end")
        self._folders[folder] = watch
        self._by_watch[watch] = folder
        for old in [f for f in self._folders if f != folder and not any(os.path.dirname(p) == f for p in self.by_path)]:
            watch = self._folders.pop(old)
            self._by_watch.pop(watch, None)
            if watch >= 0:
                self._libc.inotify_rm_watch(self._fd, watch)

    def end(self, run: Run) -> None:
        """A run has ended: its file has been checked for the last time."""
        self.by_path.pop(run.spool or run.log, None)

    def worker_gone(self, worker: int) -> None:
        """The worker has ended: what it printed at its last call, if it was at one, is that call's output."""
        run = self._spools.pop(worker, None)
        if run is None:
            return
        try:
            if run.spool in self.by_path and os.stat(run.spool).st_size:
                os.rename(run.spool, run.log)
            else:
                os.unlink(run.spool)
        except FileNotFoundError:
            return
        except OSError as error:
            log("master", f"the output of run {run.key} stays in {run.spool}: {error.strerror}")

    # --- growth -------------------------------------------------------------------------------------------------------
    def handle(self, events: int) -> None:
        """Something was written."""
        overflow = False
        paths = set()
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            at += _EVENT.size + length
            overflow = overflow or bool(mask & _IN_Q_OVERFLOW)
            paths.add(f"{self._by_watch.get(watch, '')}/{os.fsdecode(name)}")
        for run in list(self.by_path.values()) if overflow else [self.by_path[p] for p in paths if p in self.by_path]:
            self.check(run, run.output)
            self._grown(run)
        self._loop.modify(self._fd, 0)
        self._resume_at = time.monotonic() + LULL

    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which the watch goes on."""
        return self._resume_at or None

    def on_time(self, now: float) -> None:
        """Look again."""
        if self._resume_at and now >= self._resume_at:
            self._resume_at = 0.0
            self._loop.modify(self._fd, select.EPOLLIN)

    def check(self, run: Run, path: str) -> None:
        """Cut the run's output, which is at ``path``, to the limit, with a mark that says so, and how much was not kept."""
        if not self.limit or path in self.uncut:
            return
        try:
            size = os.stat(path).st_size
            if size <= self.limit:
                return
            mark = _mark(self.limit, run.log_cut)
            kept = self.limit + (len(mark) if run.log_cut else 0)
            if size <= kept:
                return
            run.log_cut += size - kept
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                os.ftruncate(fd, self.limit)
                os.write(fd, _mark(self.limit, run.log_cut))
            finally:
                os.close(fd)
        except FileNotFoundError:
            return
        except OSError as error:
            log("master", f"cannot cut the output of run {run.key} ({path}): {error.strerror}")

    # --- reading ------------------------------------------------------------------------------------------------------
    @staticmethod
    def read(path: str, offset: int, *, final: bool, most: int = CHUNK) -> Chunk:
        """Up to ``most`` bytes from ``offset``. Unless the output is ``final``, half a character is left for the next piece."""
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                offset = min(offset, size)
                file.seek(offset)
                data = file.read(most)
        except OSError:
            return Chunk("", offset, True)
        if not final or offset + len(data) < size:
            data = _whole_characters(data)
        return Chunk(data.decode(errors="replace"), offset + len(data), offset + len(data) >= size)

    def expire(self, root: str, before: float, most: int = 500) -> int:
        """Remove up to ``most`` outputs, in the folders of days, that nobody has written to since ``before`` (Unix seconds).

        Whole days only: a day that ``before`` is in is left for tomorrow, so that no folder is read again and again.
        """
        removed = 0
        limit = f"{datetime.fromtimestamp(before, UTC):%Y-%m-%d}"
        for day in sorted(name for name in os.listdir(root) if name < limit):
            folder = f"{root}/{day}"
            with os.scandir(folder) as entries:
                for entry in entries:
                    if removed >= most:
                        return removed
                    if entry.path not in self.by_path and entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)
                        removed += 1
            if folder not in self._folders:
                try:
                    os.rmdir(folder)
                except OSError:
                    continue  # not empty: what is in it is younger, or still running
        return removed

    @staticmethod
    def remove(runs: Iterable[Run]) -> None:
        """The outputs of these runs are not needed any more."""
        for run in runs:
            if run.log:
                try:
                    os.unlink(run.log)
                except OSError:
                    continue


def _mark(limit: int, cut: int) -> bytes:
    return f"\n[rocksyd: output cut here, at least {cut} bytes more were not kept (limit {format_size(limit)})]\n".encode()


def _whole_characters(data: bytes) -> bytes:
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return data
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data if length == back else data[:-back]
    return data
