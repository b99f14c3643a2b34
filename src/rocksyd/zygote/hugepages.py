"""The loaded application in huge pages: a fork copies page tables, and huge pages have 512 times fewer entries.

What must live here: which memory, which advice. What this file must not know: what is in the memory.

So that there is something to collapse, what the application allocates is gathered in one place: left to itself, Python puts its
arenas, 1 MB each, between the shared libraries, and a huge page is 2 MB of nothing else.

Only memory that is mostly in use is collapsed, so that this never makes the process noticeably larger. A kernel that cannot
(older than 6.1, huge pages off, memory too fragmented) leaves things as they are; that is never an error.

Source: madvise(2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rocksyd.posix import libc

HUGE = 2 * 1024 * 1024
"""Bytes of a huge page (a PMD entry on x86-64 and on AArch64 with 4 KiB pages; on others nothing collapses)."""
_IN_USE = 0.75
"""Share of a mapping that must be resident for it to be worth collapsing."""
_LARGEST_ON_HEAP = 4 * 1024 * 1024
"""Bytes of the largest allocation that goes on the heap. Larger ones are mappings, so that they can be given back."""


def gather() -> None:
    """From now on allocate in one place. Call it before the application is loaded."""
    libc.arenas_on_heap(_LARGEST_ON_HEAP)


class Mapping(NamedTuple):
    """One line of /proc/self/smaps with what matters here."""

    start: int
    end: int
    resident: int
    """Bytes."""


def collapse() -> None:
    """Collapse the heap. Call it when everything is loaded and nothing runs yet."""
    for mapping in heap():
        start, end = inner_range(mapping)
        if end <= start:
            continue
        libc.madvise(start, end - start, libc.MADV_HUGEPAGE)
        libc.madvise(start, end - start, libc.MADV_COLLAPSE)


def inner_range(mapping: Mapping) -> tuple[int, int]:
    """The part of ``mapping`` between its first and its last multiple of a huge page; empty where too little is in use."""
    start, end = -(-mapping.start // HUGE) * HUGE, mapping.end // HUGE * HUGE
    if end <= start or mapping.resident < _IN_USE * (mapping.end - mapping.start):
        return mapping.start, mapping.start
    return start, end


def heap() -> list[Mapping]:
    """This process's private anonymous writable memory: what malloc and Python's own allocator hand out."""
    try:
        with open("/proc/self/smaps", encoding="latin-1") as file:
            return list(parse(file))
    except OSError:
        return []


def parse(lines: Iterator[str] | list[str]) -> Iterator[Mapping]:
    """The heap's mappings in the lines of a smaps file (proc(5))."""
    bounds: tuple[int, int] | None = None
    for line in lines:
        fields = line.split()
        if fields and "-" in fields[0] and not fields[0].endswith(":"):
            name = fields[5] if len(fields) > 5 else ""
            wanted = len(fields) > 4 and fields[1] == "rw-p" and fields[4] == "0" and (not name or name in _NAMES or _named(name))
            low, _, high = fields[0].partition("-")
            bounds = (int(low, 16), int(high, 16)) if wanted else None
        elif bounds is not None and fields and fields[0] == "Rss:":
            yield Mapping(bounds[0], bounds[1], int(fields[1]) * 1024)
            bounds = None


_NAMES = ("[heap]",)


def _named(name: str) -> bool:
    return name.startswith("[anon:")  # PR_SET_VMA_ANON_NAME: Python 3.14 and jemalloc name their arenas


class Memory(NamedTuple):
    """What this process has in memory, in bytes."""

    resident: int
    huge: int
    """The part that is in huge pages."""


def memory() -> Memory:
    """Read it from /proc/self/smaps_rollup; zeros where there is none."""
    found = {}
    try:
        with open("/proc/self/smaps_rollup", encoding="latin-1") as file:
            for line in file:
                name, _, rest = line.partition(":")
                fields = rest.split()
                if len(fields) == 2 and fields[1] == "kB":
                    found[name] = int(fields[0]) * 1024
    except (OSError, ValueError):
        return Memory(0, 0)
    return Memory(found.get("Rss", 0), found.get("AnonHugePages", 0))
