"""Masks and dispositions of signals, quickly.

What must live here: the mask around a fork, and the dispositions of a fresh Python. What this file must not know: who forks.

The functions of ``signal`` make an enumeration member of every number they return: 0.1 ms for a mask with all signals in it, and
more in a forked child, where each object that is touched means a page that is copied. Those of ``_signal`` below it do not.
"""

from __future__ import annotations

import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    _signal = signal
else:
    import _signal

SIG_DFL = int(signal.SIG_DFL)
SIG_IGN = int(signal.SIG_IGN)

_FIRST = int(getattr(signal, "SIGRTMIN", 34))  # macOS, where eager mode must import this, has no real-time signals
TIME_UP = _FIRST + 8
"""To a worker whose run has reached its deadline: it raises ``JobTimeout`` in the job."""
STACKS = _FIRST + 9
"""To a worker whose interpreter is to print the stacks of all of its threads."""
STACK_IN_C = _FIRST + 10
"""To a worker whose interpreter does not come to that: C code prints the stack of the main thread."""
_OURS = frozenset((TIME_UP, STACKS, STACK_IN_C))
"""Real-time signals: nobody's by convention. What a process does not catch of them ends it, so ask ``caught`` before."""

_EVERY = frozenset(int(number) for number in signal.valid_signals())
_PYTHON_IGNORES = frozenset(int(getattr(signal, name)) for name in ("SIGPIPE", "SIGXFSZ") if hasattr(signal, name))
"""What a fresh Python ignores, so that EPIPE and EFBIG come as exceptions."""
_WANTED = tuple(
    (number, SIG_IGN if number in _PYTHON_IGNORES else SIG_DFL)
    for number in sorted(_EVERY - {int(signal.SIGKILL), int(signal.SIGSTOP)} - _OURS)
)
_NUMBERS = tuple(number for number, _ in _WANTED)


def block_all() -> set[int]:
    """Block every signal in this thread; what was blocked before, for ``restore``."""
    return _signal.pthread_sigmask(_signal.SIG_BLOCK, _EVERY)


def restore(mask: set[int]) -> None:
    """Block exactly ``mask``."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


def handle(number: int, handler: Callable[[int, FrameType | None], object] | int) -> None:
    """``signal.signal``."""
    _signal.signal(number, handler)


def restart_calls(number: int) -> None:
    """System calls that this signal interrupts go on by themselves where the kernel can do that (``signal.siginterrupt``)."""
    _signal.siginterrupt(number, False)


def unblock(number: int) -> None:
    """Let this signal through."""
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (number,))


def caught(pid: int, number: int) -> bool:
    """Whether the process ``pid`` has a handler for this signal and does not block it (proc(5): SigCgt, SigBlk).

    One that blocks TERM as well is being born: it gets nothing now, and this signal as soon as it can.
    """
    masks = {}
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                name, _, value = line.partition(b":")
                if name in (b"SigBlk", b"SigCgt"):
                    masks[name] = int(value, 16)
    except (OSError, ValueError):
        return False
    ours, term = 1 << (number - 1), 1 << (signal.SIGTERM - 1)
    blocked = masks.get(b"SigBlk", 0)
    return bool(masks.get(b"SigCgt", 0) & ours) and (not blocked & ours or bool(blocked & term))


def reset() -> None:
    """Every disposition as in a fresh Python, SIGINT left at the system's default; no wakeup descriptor, nothing blocked.

    The daemon's own signals keep their handlers: one of them may be on its way.
    """
    _signal.set_wakeup_fd(-1)
    for (number, wanted), found in zip(_WANTED, map(_signal.getsignal, _NUMBERS), strict=True):
        # None is a handler that C code set before Python began (PYTHONFAULTHANDLER): useful, and left.
        if found is not None and found != wanted:
            _signal.signal(number, wanted)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
