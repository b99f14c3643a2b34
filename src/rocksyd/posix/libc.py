"""The few functions of the C library that Python does not offer, through ctypes.

What must live here: ctypes. What this file must not know: why anybody calls these.

Every function is harmless where the C library lacks it or ctypes is not built in: it does nothing and says so by its result.
Imported by the zygote before it forks, so that a worker finds it loaded.

Sources: madvise(2) (MADV_HUGEPAGE 14, MADV_COLLAPSE 25 since Linux 6.1), mmap(2), setvbuf(3), fflush(3), mallopt(3),
prctl(2) (PR_SET_PDEATHSIG 1, PR_SET_DUMPABLE 4), timerfd_create(2),
https://docs.python.org/3/c-api/memory.html (PyObject_SetArenaAllocator).
"""

from __future__ import annotations

import gc
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


MADV_HUGEPAGE = 14
MADV_COLLAPSE = 25
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_IOLBF = 1
_PROT_READ, _PROT_WRITE, _MAP_SHARED = 1, 2, 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_PYMEM_DOMAIN_RAW = 0

try:
    import ctypes

    _libc: Any = ctypes.CDLL(None, use_errno=True)
except (ImportError, OSError):
    _libc = None


def _function(name: str, *types: Any) -> Any:
    found = getattr(_libc, name, None)
    if found is not None:
        found.argtypes = types
        found.restype = ctypes.c_int
    return found


_madvise: Any = None
_fflush: Any = None
_prctl: Any = None
_mmap: Any = None
if _libc is not None:
    _madvise = _function("madvise", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    _fflush = _function("fflush", ctypes.c_void_p)
    _mmap = _libc.mmap
    _mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    _mmap.restype = ctypes.c_void_p
    _prctl = _function("prctl", ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)


def map_shared(fd: int, size: int) -> memoryview:
    """``size`` bytes of the file ``fd``, shared and writable, for the process's life and without a descriptor of its own.

    (``mmap.mmap`` keeps a duplicate of the descriptor, which every forked job would have.) Private memory without ctypes.

    Raises:
        OSError: the file cannot be mapped.
    """
    if _mmap is None:
        return memoryview(bytearray(size))
    address = _mmap(None, size, _PROT_READ | _PROT_WRITE, _MAP_SHARED, fd, 0)
    if address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")


def memory_at(address: int, size: int) -> memoryview | None:
    """This process's own memory from ``address`` on, to be written to; None without ctypes."""
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B") if _libc is not None and size > 0 else None


def madvise(start: int, length: int, advice: int) -> int:
    """Advise the kernel on ``length`` bytes from address ``start``. The errno, 0 when it was taken, -1 without madvise."""
    if _madvise is None:
        return -1
    return 0 if _madvise(start, length, advice) == 0 else ctypes.get_errno()


def arenas_on_heap(largest: int) -> bool:
    """Let Python take memory for its objects from malloc, and malloc all up to ``largest`` bytes from the heap. True when done.

    Python's own way is a mapping of 1 MB for every arena, wherever there is room between the libraries. An arena that it has got
    that way must never become empty from now on, because it would be given to ``free``: so what is in them now is kept for good.
    Call it early. Where something looks over the allocators' shoulder (development mode, tracemalloc) nothing is done.
    """
    mallopt, sbrk, python = getattr(_libc, "mallopt", None), getattr(_libc, "sbrk", None), _python()
    if mallopt is None or sbrk is None or python is None:
        return False
    raw = (ctypes.c_void_p * 5)()
    python.PyMem_GetAllocator(_PYMEM_DOMAIN_RAW, raw)  # context, malloc, calloc, realloc, free
    if raw[0] or not mallopt(_M_MMAP_THRESHOLD, largest) or not mallopt(_M_TRIM_THRESHOLD, 2 * largest):
        return False
    sbrk.argtypes, sbrk.restype = (ctypes.c_ssize_t,), ctypes.c_void_p
    heap = sbrk(0)
    # Context, alloc, free: the raw functions are of the same form, but for a third argument of free, which they do not look at.
    python.PyObject_SetArenaAllocator((ctypes.c_void_p * 3)(raw[0], raw[1], raw[4]))
    _keep_arenas(lambda address: heap <= address < sbrk(0))
    return True


def _python() -> Any:
    """CPython's C API, if this is one with arenas."""
    python = getattr(ctypes, "pythonapi", None)
    return python if hasattr(python, "PyObject_SetArenaAllocator") and hasattr(python, "PyMem_GetAllocator") else None


def _keep_arenas(on_heap: Callable[[int], bool]) -> None:
    """Keep an object in every arena there is: those that live now, and new ones in what is free."""
    pieces = []
    for _ in range(_MOST_PIECES):
        pieces.append(bytes(_PIECE))
        if on_heap(id(pieces[-1])):
            break
    _kept.extend({id(piece) // _POOL: piece for piece in pieces}.values())
    _kept.extend(gc.get_objects())


_kept: list[Any] = []
_PIECE = 440
"""Bytes of content that make nearly the largest object that arenas are used for (512 bytes with its header)."""
_POOL = 16384
"""Bytes; objects of one size share a pool, and an arena is made of pools."""
_MOST_PIECES = 20_000


def flush_streams() -> None:
    """Write what C code has printed and the C library still holds (``os._exit`` would drop it)."""
    if _fflush is not None:
        _fflush(None)


def line_buffer_stdout() -> bool:
    """Make C's ``stdout`` write line by line, so that its lines and Python's keep their order. True when done."""
    setvbuf = getattr(_libc, "setvbuf", None)
    if setvbuf is None:
        return False
    try:
        stream = ctypes.c_void_p.in_dll(_libc, "stdout")
    except ValueError:
        return False
    setvbuf.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    return bool(setvbuf(stream, None, _IOLBF, 0) == 0)


def die_with_parent(number: int) -> bool:
    """Let the kernel send signal ``number`` to this process when the thread that forked it ends. True when done."""
    return _prctl is not None and _prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) == 0


def keep_dumpable() -> bool:
    """After a change of user: let this process open its own files in /proc again (title, memory). True when done."""
    return _prctl is not None and _prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0) == 0


# --- an alarm by the wall clock ---------------------------------------------------------------------------------------
_CLOCK_REALTIME, _TFD_NONBLOCK, _TFD_CLOEXEC = 0, 0o4000, 0o2000000
_TFD_TIMER_ABSTIME, _TFD_TIMER_CANCEL_ON_SET = 1, 2


def alarm() -> int:
    """A descriptor that can be read at the moment of ``set_alarm``, and when the wall clock is set; -1 where there is none."""
    create = getattr(_libc, "timerfd_create", None)
    return -1 if create is None else int(create(_CLOCK_REALTIME, _TFD_NONBLOCK | _TFD_CLOEXEC))


def set_alarm(fd: int, moment: float) -> None:
    """Let the alarm go off at ``moment`` (Unix seconds); 0 for not at all."""
    spec = (ctypes.c_long * 4)(0, 0, int(moment), int(moment % 1 * 1e9))
    _libc.timerfd_settime(fd, _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET, spec, None)
