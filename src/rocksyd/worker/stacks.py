"""Where the threads of a job are, printed on a signal: from within the process and without ptrace.

What must live here: the handlers. What this file must not know: who asks, and who reads it.

The interpreter prints, between two of its instructions. ``faulthandler`` could at any moment, but it reads the frames of code
that is being executed, and has ended processes by that (CPython 3.11 to 3.13). So it is asked only when the interpreter does not
come to it, which is when C code keeps it: then the frames of the main thread stand still, and those of others need not. Both
print to descriptor 2, which is the run's output: a file of its own would be a descriptor that a job finds.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from _thread import get_ident
from collections.abc import Iterator
from types import FrameType

from rocksyd.posix import signals

THREADS = FRAMES = 100
"""At most so many are printed, as by ``faulthandler``, whose form the text has."""


def prepare() -> None:
    """In the zygote: handlers are inherited by forks, so this costs no worker anything."""
    signals.handle(signals.STACKS, _print)
    signals.restart_calls(signals.STACKS)
    faulthandler.register(signals.STACK_IN_C, file=2, all_threads=False, chain=False)


def forget() -> None:
    """For a script that is run as if by a fresh Python."""
    signals.handle(signals.STACKS, signals.SIG_DFL)
    faulthandler.unregister(signals.STACK_IN_C)


def _print(_number: int, frame: FrameType | None) -> None:
    """In the main thread, at ``frame``, wherever the job is: nothing of this may reach it."""
    try:
        me = get_ident()
        others = [(ident, top) for ident, top in sys._current_frames().items() if ident != me][: THREADS - 1]
        found = [*(("Thread", *other) for other in others), ("Current thread", me, frame)]
        data = "\n".join(f"{word} 0x{ident:016x} (most recent call first):\n{''.join(_lines(top))}" for word, ident, top in found)
        rest = memoryview(data.encode("utf-8", "backslashreplace"))
        while rest:
            rest = rest[os.write(2, rest) :]
    except (OSError, RecursionError, MemoryError):
        pass


def _lines(frame: FrameType | None) -> Iterator[str]:
    for _ in range(FRAMES):
        if frame is None:
            return
        yield f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}\n'
        frame = frame.f_back
    yield "  ...\n"
