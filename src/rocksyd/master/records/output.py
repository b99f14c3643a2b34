"""The output of runs: read for callers, followed as it grows, cut at its limit.

What must live here: the files' sizes and contents.
What this file must not know: who writes them; workers do, without the master in between.

Growth is noticed through inotify(7) on the folder of the day: a job that prints nothing wakes nobody. After an event the
watch is left alone for LULL seconds, so a job that prints a lot wakes the master ten times a second and not a million.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rocksyd.master.records import cutting
from rocksyd.master.records.seen import Seen, forget
from rocksyd.model import Order, Run
from rocksyd.posix.log import log

LULL = 0.1
CHUNK = 256 * 1024
EXPIRED_AT_ONCE = 50
"""Outputs that are looked at in a turn whether they are to be removed."""
STRAYS = 1000
"""Outputs that go on growing after the ends of their runs of which it is known how much was cut, the latest."""
_IN_IGNORED, _IN_MODIFY, _IN_Q_OVERFLOW, _IN_ONLYDIR, _IN_CLOEXEC, _IN_NONBLOCK = (
    0x8000,
    0x2,
    0x4000,
    0x01000000,
    0o2000000,
    0o4000,
)
_EVENT = struct.Struct("iIII")


class Chunk(NamedTuple):
    """A piece of output."""

    text: str
    offset: int
    """Where the next piece begins, in bytes."""
    end: bool
    """Whether the file has no more now."""
    begin: int = 0
    """Where it begins, when what there was from the place that was asked for was not kept; else 0."""


class Outputs:
    """The files of runs that run."""

    def __init__(self, loop: Any, limit: int, grown: Callable[[Run], None]) -> None:
        self._loop = loop
        self.limit = limit
        self._grown = grown
        self.by_path: dict[str, Run] = {}
        self.uncut: set[str] = set()
        """Paths of outputs that somebody reads what is about to be written of: they are cut when that was read."""
        self._strays: dict[str, Run] = {}
        """By path, runs that have ended and whose output has been cut: a process that outlives its run goes on printing."""
        self._spools: dict[int, Run] = {}
        """Worker -> its latest run that printed into a file of the worker's own."""
        self.seen = Seen()
        self._folders: dict[str, int] = {}
        self._by_watch: dict[int, str] = {}
        self._resume_at = 0.0
        self._aged: Iterator[os.DirEntry[str]] | None = None
        """Goes through what may be too old; None while nobody does."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK)
        if self._fd < 0:
            log("master", f"no inotify ({os.strerror(ctypes.get_errno())}): outputs are cut and followed only when runs end")
        else:
            loop.register(self._fd, self, select.EPOLLIN)

    def begin(self, run: Run) -> None:
        """A run is about to start: make its folder, watch it."""
        if not run.order.log:
            return
        folder = os.path.dirname(run.order.log)
        if folder not in self._folders:
            self._watch(folder)
        self.by_path[run.output] = run
        if run.attempt.number > 1 and not run.attempt.spool:
            run.attempt.log_from = _size(run.order.log)
        if run.attempt.spool:
            self._spools[run.attempt.worker] = run

    def _watch(self, folder: str) -> None:
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as error:  # the run will fail with a reason of its own; that is no reason for everybody's master to end
            log("master", f"cannot make {folder}: {error.strerror}")
            return
        watch = -1
        if self._fd >= 0:
            watch = self._libc.inotify_add_watch(self._fd, os.fsencode(folder), _IN_MODIFY | _IN_ONLYDIR)
            if watch < 0 and ctypes.get_errno() == errno.ENOENT:
                return  # removed again: the next run makes it
            if watch < 0:
                log("master", f"cannot watch {folder}: {os.strerror(ctypes.get_errno())}; outputs are cut only when runs end")
        self._folders[folder] = watch
        self._by_watch[watch] = folder

    def _folder_gone(self, folder: str) -> None:
        """Somebody has removed it: it is made again at once where runs print there, else for the next that does."""
        self._folders.pop(folder, None)
        if self._prints_in(folder):
            self._watch(folder)
            for run in list(self.by_path.values()):  # they may have printed before it was watched
                self.check(run, run.output)

    def _prints_in(self, folder: str) -> bool:
        return any(os.path.dirname(path) == folder for path in self.by_path)

    def watch_all(self, root: str) -> None:
        """Watch the folders of all days: who prints there may have outlived not only a run, but a master."""
        try:
            days = os.listdir(root) if self.limit else []
        except OSError:
            return
        for day in days:
            if f"{root}/{day}" not in self._folders:
                self._watch(f"{root}/{day}")

    def end(self, run: Run) -> None:
        """A run has ended. Its file may grow all the same, by a process that it has left behind."""
        path = run.attempt.spool or run.order.log
        self.by_path.pop(path, None)
        self.seen.end(path)
        if run.log_cut:
            self._stray(run)

    def _stray(self, run: Run) -> Run:
        self._strays[run.order.log] = run
        if len(self._strays) > STRAYS:
            del self._strays[next(iter(self._strays))]
        return run

    def _check_stray(self, path: str) -> None:
        """Something was written to the output of a run that has ended, perhaps before a master that has ended, too."""
        if self.limit and path.endswith(".log"):
            known = self._strays.get(path)
            run = known or Run(os.path.basename(path).removesuffix(".log"), Order(log=path))
            self.check(run, path)
            if known is None and run.log_cut:
                self._stray(run)

    def worker_gone(self, worker: int) -> None:
        """The worker has ended: what it printed at its last call, if it was at one, is that call's output."""
        run = self._spools.pop(worker, None)
        if run is None:
            return
        try:
            if run.attempt.spool in self.by_path and os.stat(run.attempt.spool).st_size:
                os.rename(run.attempt.spool, run.order.log)
            else:
                os.unlink(run.attempt.spool)
        except FileNotFoundError:
            return
        except OSError as error:
            log("master", f"the output of run {run.key} stays in {run.attempt.spool}: {error.strerror}")

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
            if mask & _IN_IGNORED:
                self._folder_gone(self._by_watch.pop(watch, ""))
                continue
            overflow = overflow or bool(mask & _IN_Q_OVERFLOW)
            paths.add(f"{self._by_watch.get(watch, '')}/{os.fsdecode(name)}")
        for run in list(self.by_path.values()) if overflow else [self.by_path[p] for p in paths if p in self.by_path]:
            self.check(run, run.output)
            self.seen.grown(run.output, time.time())
            self._grown(run)
        for path in paths - self.by_path.keys():
            self._check_stray(path)
        self._loop.modify(self._fd, 0)
        self._resume_at = time.monotonic() + LULL

    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which the watch goes on."""
        return min(filter(None, (self._resume_at, self.seen.due_at)), default=None)

    def on_time(self, now: float) -> None:
        """Look again."""
        if self._resume_at and now >= self._resume_at:
            self._resume_at = 0.0
            self._loop.modify(self._fd, select.EPOLLIN)
        self.seen.on_time(now)

    def check(self, run: Run, path: str) -> None:
        """Cut the run's output, which is at ``path``, to the limit, with a mark that says so, and how much was not kept."""
        if not self.limit or path in self.uncut:
            return
        try:
            run.log_cut = cutting.cut(path, self.limit, run.log_cut)
        except FileNotFoundError:
            return
        except OSError as error:
            log("master", f"cannot cut the output of run {run.key} ({path}): {error.strerror}")

    # --- reading ------------------------------------------------------------------------------------------------------
    @staticmethod
    def read(path: str, offset: int, *, final: bool, most: int = CHUNK) -> Chunk:
        """Up to ``most`` bytes from ``offset``. Unless the output is ``final``, half a character is left for the next piece."""
        try:
            begin, data, size = cutting.read(path, offset, most)
        except OSError:
            return Chunk("", offset, True)
        if not final or begin + len(data) < size:
            data = _whole_characters(data)
        end = begin + len(data)
        return Chunk(data.decode(errors="replace"), end, end >= size, begin if begin > offset else 0)

    def expire(self, root: str, before: float, most: int = EXPIRED_AT_ONCE) -> bool:
        """Look at up to ``most`` outputs, in the folders of days, and remove what nobody has written to since ``before`` (Unix
        seconds); whether there are more. The next call goes on where this one has stopped.

        Whole days only: a day that ``before`` is in is left for tomorrow, so that no folder is read again and again.
        """
        if self._aged is None:
            limit = f"{datetime.fromtimestamp(before, UTC):%Y-%m-%d}"
            self._aged = self._expiring([f"{root}/{day}" for day in sorted(os.listdir(root)) if day < limit], before)
        for _ in range(most):
            if next(self._aged, None) is None:
                self._aged = None
                return False
        return True

    def _expiring(self, folders: list[str], before: float) -> Iterator[os.DirEntry[str]]:
        """Remove what is old enough; one output after the other, those that stay as well."""
        for folder in folders:
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        self._expire_one(entry, before)
                        yield entry
                if not self._prints_in(folder):
                    os.rmdir(folder)
            except OSError:
                continue  # not empty: what is in it is younger, still running, or not to be removed; or it is no folder

    def _expire_one(self, entry: os.DirEntry[str], before: float) -> None:
        """Remove it if it is old enough. What cannot be removed is tried again at the next look, and hinders nothing else."""
        try:
            if entry.path not in self.by_path and entry.stat(follow_symlinks=False).st_mtime < before:
                os.unlink(entry.path)
        except OSError:
            return

    @staticmethod
    def remove(runs: Iterable[Run]) -> None:
        """The outputs of these runs are not needed any more."""
        for run in runs:
            if run.order.log:
                try:
                    os.unlink(run.order.log)
                except OSError:
                    continue
                forget(run.order.log)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _whole_characters(data: bytes) -> bytes:
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return data
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data if length == back else data[:-back]
    return data
