"""Folders watched, one or with everything below it, through inotify(7): nobody wakes up while nothing changes.

What must live here: inotify. What this file must not know: what a changed file means.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable

_MODIFY, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x8, 0x40, 0x80, 0x100, 0x200
_Q_OVERFLOW, _IGNORED, _ONLYDIR, _ISDIR = 0x4000, 0x8000, 0x01000000, 0x40000000
_CLOEXEC, _NONBLOCK = 0o2000000, 0o4000
_MASK = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ONLYDIR
_EVENT = struct.Struct("iIII")
_BUFFER = 65536


class Tree:
    """Watches folders. ``fileno()`` is readable when something has happened; ``changed()`` says what.

    Args:
        enter: whether a folder below a watched one (its path) is to be watched, too.

    Raises:
        OSError: there is no inotify, or too many instances of it.
    """

    def __init__(self, enter: Callable[[str], bool]) -> None:
        self._enter = enter
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(_CLOEXEC | _NONBLOCK)
        if self._fd < 0:
            raise _error("inotify_init1")
        self._paths: dict[int, str] = {}

    def fileno(self) -> int:
        """For poll."""
        return int(self._fd)

    def close(self) -> None:
        """Watch nothing any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._paths.clear()

    def add(self, folder: str) -> list[str]:
        """Watch a folder and what is below; links are not followed. Returns the files that are there.

        Raises:
            OSError: the kernel watches no more folders (``fs.inotify.max_user_watches``). One that is gone or closed is no error.
        """
        found: list[str] = []
        open_ = [folder]
        while open_:
            path = open_.pop()
            if not self._watch(path):
                continue
            try:
                with os.scandir(path) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            if self._enter(entry.path):
                                open_.append(entry.path)
                        else:
                            found.append(entry.path)
            except OSError:
                continue
        return found

    def _watch(self, path: str) -> bool:
        watch = self._libc.inotify_add_watch(self._fd, os.fsencode(path), _MASK)
        if watch < 0:
            error = _error(path)
            if isinstance(error, (FileNotFoundError, NotADirectoryError, PermissionError)):
                return False
            raise error
        self._paths[watch] = path
        return True

    def changed(self) -> set[str]:
        """Paths of files that were written, made, moved or removed since; a folder's own where what happened in it is not known.

        Raises OSError as ``add``, for a folder that is new.
        """
        found: set[str] = set()
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return found
            at = 0
            while at < len(data):
                watch, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                name = os.fsdecode(data[at : at + length].rstrip(b"\0"))
                at += length
                found |= self._happened(watch, mask, name)

    def _happened(self, watch: int, mask: int, name: str) -> set[str]:
        if mask & _Q_OVERFLOW:
            return set(self._paths.values())
        if mask & _IGNORED:
            self._paths.pop(watch, None)
            return set()
        if watch not in self._paths:
            return set()
        path = os.path.join(self._paths[watch], name)
        if mask & _ISDIR:
            # What was put into it before it was watched has no event of its own.
            return set(self.add(path)) if mask & (_CREATE | _MOVED_TO) and self._enter(path) else set()
        return set() if mask & _CREATE and not os.path.islink(path) else {path}


class Writes:
    """Watches the files in one folder being written to: ``fileno()`` is readable when it has happened. Use it with ``with``.

    Raises:
        OSError: there is no inotify, or no such folder.
    """

    def __init__(self, folder: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = int(libc.inotify_init1(_CLOEXEC | _NONBLOCK))
        if self._fd < 0:
            raise _error("inotify_init1")
        if libc.inotify_add_watch(self._fd, os.fsencode(folder), _MODIFY | _ONLYDIR) < 0:
            os.close(self._fd)
            raise _error(folder)

    def fileno(self) -> int:
        """For poll."""
        return self._fd

    def read(self) -> None:
        """Everything up to now is known."""
        try:
            while os.read(self._fd, _BUFFER):
                pass
        except BlockingIOError:
            pass

    def __enter__(self) -> Writes:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)
