"""Files that are open in Python, and what their buffers still hold.

What must live here: finding them, and writing their buffers out: before a fork, so that nothing is written twice, and before
``os._exit``, which writes nothing. What this file must not know: who forks, when a worker leaves.

``gc.freeze`` hides every object that was made before the fork from ``gc.get_objects``, so the zygote remembers its open files.
"""

from __future__ import annotations

import _io
import gc
import io
import select
import threading
import weakref
from typing import Any

_BUFFERS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
_COMPRESSING = frozenset({"gzip", "bz2", "lzma"})
_remembered: list[weakref.ref[Any]] = []
"""The files that were open when the application was frozen."""


def remember() -> None:
    """Write out what every open file holds, and remember these files. For a process that is about to be forked from."""
    _remembered[:] = [weakref.ref(found) for found in _open()]
    flush_remembered()


def flush_remembered() -> None:
    """Write out what the files hold that were open before the fork. A file that cannot be written is passed over."""
    for reference in _remembered:
        _flush(reference())


def flush() -> None:
    """Write out what every open file holds, whoever opened it; files that compress are closed, because that is how they end."""
    files = _open()
    patient = threading.active_count() == 1
    for found in files:
        if not issubclass(type(found), _BUFFERS) and (patient or _is_writable(found)):
            try:
                found.close()
            except Exception:  # noqa: BLE001  (a full disk, anybody's subclass: the process ends all the same)
                continue
    # A text file before the buffer below it; a thread that is blocked in a write holds its file's lock, and is not waited for.
    for kind in _BUFFERS:
        for found in files:
            if issubclass(type(found), kind) and (patient or _is_writable(found)):
                _flush(found)
    flush_remembered()


def _open() -> list[Any]:
    """Files with buffers of their own that the collector knows.

    Their types are looked for first: asking an abstract class of every object would take longer than all the rest of a
    worker's end. ``type`` and not ``isinstance``, because a proxy may raise at that.
    """
    objects = gc.get_objects()
    kinds = {kind for kind in set(map(type, objects)) if issubclass(kind, _io._IOBase) and _is_buffered(kind)}
    return [found for found in objects if type(found) in kinds]


def _is_buffered(kind: type) -> bool:
    return issubclass(kind, _BUFFERS) or (issubclass(kind, io.BufferedIOBase) and kind.__module__ in _COMPRESSING)


def _is_writable(found: Any) -> bool:
    try:
        poll = select.poll()
        poll.register(found.fileno(), select.POLLOUT)
        return bool(poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return True  # it has no descriptor to be blocked in


def _flush(found: Any) -> None:
    try:
        if found is not None and not found.closed:
            found.flush()
    except Exception:  # noqa: BLE001  (closed, full, or anybody's subclass)
        return
