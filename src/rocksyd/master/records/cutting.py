"""An output that is too long: its beginning and its end are kept, what is between is given back to the disk.

What must live here: how a file is cut while others append to it, and how it is read past what is gone.
What this file must not know: runs, limits for what.

What is between becomes a hole (fallocate(2), FALLOC_FL_PUNCH_HOLE): nobody who is writing notices, each byte that is left keeps
its place, and nothing that is written meanwhile can be lost. A file that cannot have one, and one with a small limit (a hole is
made of whole blocks), is truncated to its beginning.
"""

from __future__ import annotations

import ctypes
import os

from rocksyd.posix.files import open_file
from rocksyd.units import format_size

BOTH = 4 << 20
"""Bytes of a limit from which on the end is kept, too."""
BLOCK = 65536
"""A hole begins and ends at multiples of this many bytes."""
MARK = 160
"""Bytes of the line that stands before a hole."""
_KEEP_SIZE, _PUNCH_HOLE = 0x1, 0x2
_CONTINUES = range(0x80, 0xC0)
"""Bytes of UTF-8 that no character begins with."""
_libc = ctypes.CDLL(None, use_errno=True)


def cut(path: str, limit: int, before: int) -> int:
    """Cut the output to about ``limit`` bytes; ``before``: what was cut of it up to now. Returns what has been cut altogether.

    Raises OSError.
    """
    size = os.stat(path).st_size
    if size <= limit:
        return before
    if limit >= BOTH:
        done = _hole(path, limit, size, before)
        if done is not None:
            return done
    return _truncate(path, limit, size, before)


def _hole(path: str, limit: int, size: int, before: int) -> int | None:
    """Keep the beginning and the end; None where the file system makes no holes."""
    begin, end = limit // 2 // BLOCK * BLOCK, (size - limit // 2) // BLOCK * BLOCK
    length = end - begin
    if length - before < max(limit // 16, BLOCK):
        return before  # not for each line that comes
    fd = open_file(path, os.O_RDWR)
    try:
        if _libc.fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, ctypes.c_long(begin), ctypes.c_long(length)):
            return None
        text = f"\n[rocksyd: output cut here, {length + MARK} bytes were not kept (limit {format_size(limit)})]"
        os.pwrite(fd, f"{text:<{MARK - 1}}\n".encode(), begin - MARK)
    finally:
        os.close(fd)
    return length


def _truncate(path: str, limit: int, size: int, before: int) -> int:
    """Keep the beginning."""
    kept = limit + (len(_mark(limit, before)) if before else 0)
    if size <= kept:
        return before
    after = before + size - kept
    fd = open_file(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.ftruncate(fd, limit)
        os.write(fd, _mark(limit, after))
    finally:
        os.close(fd)
    return after


def _mark(limit: int, cut: int) -> bytes:
    return f"\n[rocksyd: output cut here, at least {cut} bytes more were not kept (limit {format_size(limit)})]\n".encode()


def read(path: str, offset: int, most: int) -> tuple[int, bytes, int]:
    """Up to ``most`` bytes from ``offset``, or from the end of the hole that it is in: where they begin, they, the file's size.

    Raises OSError.
    """
    with open(open_file(path, os.O_RDONLY), "rb") as file:
        status = os.fstat(file.fileno())
        size = status.st_size
        begin = offset = min(offset, size)
        if status.st_blocks * 512 < size and begin < size:
            try:
                begin = os.lseek(file.fileno(), offset, os.SEEK_DATA)
                most = min(most, os.lseek(file.fileno(), begin, os.SEEK_HOLE) - begin)
            except OSError:  # there is nothing behind it but a hole
                begin = size
        file.seek(begin)
        data = file.read(most)
    if begin > offset:
        rest = next((n for n, byte in enumerate(data[:4]) if byte not in _CONTINUES), 0)
        begin, data = begin + rest, data[rest:]
    return begin, data, size
