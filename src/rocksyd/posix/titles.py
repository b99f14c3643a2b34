"""The process title, as ``ps`` and ``top`` show it.

The kernel shows whatever stands in the memory where the arguments were at exec. Its address is in ``/proc/self/stat``
(``arg_start``, ``arg_end``), and a process may write its own memory through ``/proc/self/mem``: no C library is needed.

Sources: proc(5) ``/proc/<pid>/stat`` fields 48 and 49, ``/proc/<pid>/comm`` (15 bytes).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ARG_START = 48 - 3
_COMM_LIMIT = 15


_room: tuple[int, int] | None = None
"""Where the arguments stand: a fork keeps it, and reading it again is most of the time that setting a title takes."""
_memory: memoryview | None = None
"""That memory itself, where ``write_directly`` was called."""
_comm = b""
"""The name this process and those forked from it have been given."""


def set_title(title: str) -> None:
    """Show ``title`` as this process's command line (cut to the room there is) and its first 15 bytes as its name.

    A title is a courtesy: where the system does not let it be set, nothing happens.
    """
    global _room, _comm
    text = title.encode(errors="replace").replace(b"\0", b" ")
    try:
        if _room is None:
            _room = _argument_memory()
        start, end = _room
        room = end - start
        if room > 1:
            # The last byte stays NUL: otherwise the kernel takes the environment for a continuation of the title.
            shown = text[: room - 1].ljust(room, b"\0")
            if _memory is not None:
                _memory[:] = shown
            else:
                _write("/proc/self/mem", shown, start)
        if text[:_COMM_LIMIT] != _comm:
            _write("/proc/self/comm", text[:_COMM_LIMIT])
            _comm = text[:_COMM_LIMIT]
    except (OSError, ValueError, IndexError):
        return


def write_directly(memory_at: Callable[[int, int], memoryview | None]) -> None:
    """Set titles without asking the kernel: for who sets many, and has something (``libc.memory_at``) to reach memory with."""
    global _room, _memory
    try:
        _room = _room or _argument_memory()
        _memory = memory_at(_room[0], _room[1] - _room[0])
    except (OSError, ValueError, IndexError):
        return


def _argument_memory() -> tuple[int, int]:
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[_ARG_START]), int(fields[_ARG_START + 1])


def _write(path: str, data: bytes, at: int = 0) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if at:
            os.lseek(fd, at, os.SEEK_SET)
        os.write(fd, data)  # not pwrite: the kernel does not take that for a name
    finally:
        os.close(fd)
