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

TIME_UP = int(signal.SIGRTMIN) + 8
"""To a worker whose run has reached its deadline: it raises ``JobTimeout`` in the job."""
STACKS = int(signal.SIGRTMIN) + 9
"""To a worker that is to print the stacks of all of its threads."""
_OURS = frozenset((TIME_UP, STACKS))
"""Real-time signals: nobody's by convention. What a process does not catch of them ends it, so ask ``caught`` before."""

_EVERY = frozenset(int(number) for number in signal.valid_signals())
_PYTHON_IGNORES = frozenset(int(getattr(signal, name)) for name in ("SIGPIPE", "SIGXFSZ") if hasattr(signal, name))
"""What a fresh Python ignores, so that EPIPE and EFBIG come as exceptions."""
_WANTED = tuple(
    (number, SIG_IGN if number in _PYTHON_IGNORES else SIG_DFL)
    for number in sorted(_EVERY - {int(signal.SIGKILL), int(signal.SIGSTOP)} - _OURS)
)


def block_all() -> set[int]:
    """Block every signal in this thread; what was blocked before, for ``restore``."""
    return _signal.pthread_sigmask(_signal.SIG_BLOCK, _EVERY)


def restore(mask: set[int]) -> None:
    """Block exactly ``mask``."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


def handle(number: int, handler: Callable[[int, FrameType | None], object] | int) -> None:
    """``signal.signal``."""
    _signal.signal(number, handler)


def unblock(number: int) -> None:
    """Let this signal through."""
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (number,))


def caught(pid: int, number: int) -> bool:
    """Whether the process ``pid`` has a handler for this signal and does not block it (proc(5): SigCgt, SigBlk)."""
    masks = {}
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                name, _, value = line.partition(b":")
                if name in (b"SigBlk", b"SigCgt"):
                    masks[name] = int(value, 16) >> (number - 1) & 1
    except (OSError, ValueError):
        return False
    return masks.get(b"SigCgt") == 1 and not masks.get(b"SigBlk")


def reset() -> None:
    """Every disposition as in a fresh Python, SIGINT left at the system's default; no wakeup descriptor, nothing blocked.

    The daemon's own two signals keep their handlers: one of them may be on its way.
    """
    _signal.set_wakeup_fd(-1)
    for number, wanted in _WANTED:
        # None is a handler that C code set before Python began (PYTHONFAULTHANDLER): useful, and left.
        if _signal.getsignal(number) not in (wanted, None):
            _signal.signal(number, wanted)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
