"""The slow log: what slow runs were at, in one file beside the journal.

What must live here: the file and its size. What this file must not know: what is slow.
"""

from __future__ import annotations

import os

from rocksyd.posix.files import open_file
from rocksyd.posix.log import log

LIMIT = 10 * 1024**2
"""Bytes at which the file is put aside, as ``slow.log.1``; the one before that goes."""


class SlowLog:
    """Appends. The file is opened for each entry: slow runs are rare, and nothing is to be kept open over a hand-over."""

    def __init__(self, path: str, limit: int = LIMIT) -> None:
        self._path = path
        self._limit = limit

    def write(self, text: str) -> None:
        """Add an entry. A disk that is full costs the entry and a line in the log, nothing else."""
        data = text.encode("utf-8", "backslashreplace")
        try:
            fd = open_file(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                if 0 < os.fstat(fd).st_size > self._limit - len(data):
                    os.replace(self._path, f"{self._path}.1")
                    os.close(fd)
                    fd = open_file(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                os.write(fd, data)
            finally:
                os.close(fd)
        except OSError as error:
            log("master", f"{self._path} cannot be written: {error.strerror}")
