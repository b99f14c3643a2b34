"""The outputs of ended runs: what of them can be searched, and which are removed because there are too many.

What must live here: the files. What this file must not know: SQL, which runs there are (it is told).

The master removes outputs by their age. How many there are and how large they are together would have to be counted by looking
at each, which is long: so it is done here, once at the beginning, and from then on it is known.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator

from rocksyd.companions.history_index import Index
from rocksyd.posix.files import TIMES, open_file

AT_ONCE = 500
"""Files that are removed, or written down, together."""
SHARE = 20
"""Before any is removed all are looked at once more, whenever one in so many is new."""
_STEERS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.|[\x00-\x08\x0b-\x1f\x7f]")


def text_of(path: str, each: int) -> str:
    """The beginning and the end of an output, without what steers a terminal."""
    try:
        with open(open_file(path, os.O_RDONLY), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(each)
            if size > each:
                start = max(each, size - each)
                file.seek(start)
                data += (b"\n" if start > each else b"") + file.read(each)
    except OSError:
        return ""
    return _STEERS.sub(" ", data.replace(b"\0", b"").decode(errors="replace"))


def on_disk(path: str) -> tuple[str, float, int] | None:
    """Path, time of the last write, bytes on the disk; None where there is no such file."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return path, found.st_mtime, found.st_blocks * 512


class Keeping:
    """Removes the oldest outputs when there are more than ``most``, or more than ``size`` bytes of them; 0: no limit."""

    def __init__(self, root: str, most: int, size: int, index: Index) -> None:
        self._root = root
        self._most = most
        self._size = size
        self._index = index
        self._number = self._bytes = 0
        self._unseen = 0
        """Outputs that were put down since all were looked at: others may have removed some (by age, ``free``)."""
        self._counted = False

    @property
    def wanted(self) -> bool:
        """Whether there is any limit."""
        return bool(self._most or self._size)

    def ended(self, ends: list[tuple[str, float]]) -> None:
        """Outputs of runs that have ended, and when they did (Unix seconds)."""
        if self.wanted and self._counted:
            found = [(path, at, on_disk(path)) for path, at in ends]
            self._put([(path, at, file[2]) for path, at, file in found if file is not None])

    def _put(self, files: list[tuple[str, float, int]]) -> None:
        self._index.put_files(files)
        self._unseen += len(files)
        self._number, self._bytes = self._index.files_kept()

    def keep(self, live: Callable[[], set[str]]) -> int:
        """Remove what is too much; ``live``: paths that runs print into which have not ended. Returns how many were removed."""
        if not self.wanted:
            return 0
        if not self._counted:
            self._count(live())
        removed, spared = 0, None
        if self._too_much() and self._unseen >= self._number // SHARE:
            self._unseen = 0
            self._index.drop_files([path for path, _ in self._index.oldest_files(-1) if on_disk(path) is None])
            self._number, self._bytes = self._index.files_kept()
        while self._too_much():
            spared = live() if spared is None else spared
            oldest = self._index.oldest_files(AT_ONCE)
            gone = self._removed(oldest, spared)
            if not gone:
                break
            removed += len(gone)
        return removed

    def _too_much(self) -> bool:
        return bool((self._most and self._number > self._most) or (self._size and self._bytes > self._size))

    def _removed(self, oldest: list[tuple[str, int]], spared: set[str]) -> list[str]:
        gone = []
        for path, size in oldest:
            if not self._too_much():
                break
            if path not in spared:
                for one in (path, f"{path}{TIMES}"):
                    with contextlib.suppress(OSError):
                        os.unlink(one)
            gone.append(path)  # one that is spared is put down again when its run has ended
            self._number, self._bytes = self._number - 1, self._bytes - size
        self._index.drop_files(gone)
        return gone

    def _count(self, live: set[str]) -> None:
        """See what is there. What was known and has gone meanwhile counts for nothing."""
        known = {path for path, _ in self._index.oldest_files(-1)}
        batch: list[tuple[str, float, int]] = []
        for path in self._files():
            known.discard(path)
            found = on_disk(path) if path not in live else None
            if found is not None:
                batch.append(found)
            if len(batch) == AT_ONCE:
                self._index.put_files(batch)
                batch = []
        self._counted = True
        self._index.drop_files(sorted(known))
        self._put(batch)

    def _files(self) -> Iterator[str]:
        with contextlib.suppress(OSError):
            for day in sorted(os.listdir(self._root)):
                with contextlib.suppress(OSError), os.scandir(f"{self._root}/{day}") as entries:
                    for entry in entries:
                        if entry.name.endswith(".log"):
                            yield entry.path
