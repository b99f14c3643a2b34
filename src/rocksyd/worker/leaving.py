"""The end of a worker's last job: what a user relies on at the end of a Python program, and nothing else.

What must live here: threads, ``atexit``, open files, all within the grace. What this file must not know: messages.

Finalising the interpreter would do the same and then take everything apart, object by object, which in a forked child of a
120 MB application costs some 100 ms; the process ends anyway.
"""

from __future__ import annotations

import atexit
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from rocksyd.posix import signals
from rocksyd.units import format_duration
from rocksyd.worker import files, output

_AGAIN = 0.5
"""Seconds that each further step gets once the grace is over."""
_SIGALRM = int(signal.SIGALRM)


class _GraceOver(BaseException):
    """Cuts short what is waited for."""


def finish(grace: float) -> None:
    """Join threads that are not daemons, run ``atexit`` handlers, write out open files, within ``grace`` seconds. Never raises.

    ``threading._shutdown`` and ``atexit._run_exitfuncs`` are what the interpreter calls itself, in this order; with them come
    the ends of ``concurrent.futures``, ``multiprocessing`` and ``logging``.
    """
    alarm = _Alarm(grace)
    # What is cut short inside of the interpreter's own loops is not raised to us but reported here; a note says it better.
    reported, sys.unraisablehook = sys.unraisablehook, lambda what: None if what.exc_type is _GraceOver else reported(what)
    alarm.run(threading._shutdown, _tell_of_threads)  # type: ignore[attr-defined]
    over = f"after the grace of {format_duration(grace)}"
    alarm.run(atexit._run_exitfuncs, lambda: output.note(f"an atexit handler was cut short {over}"))
    alarm.run(files.flush, lambda: output.note(f"files that take no more were left {over}"))
    alarm.off()
    output.flush()


def _tell_of_threads() -> None:
    main = threading.main_thread()
    names = ", ".join(repr(thread.name) for thread in threading.enumerate() if thread is not main and not thread.daemon)
    output.note(f"threads that had not ended within the grace were ended with the process: {names}")


class _Alarm:
    """Raises _GraceOver in the main thread when the grace is over, and again while something is still being waited for."""

    def __init__(self, grace: float) -> None:
        self._armed = False
        self._rang = False
        signals.handle(_SIGALRM, self._ring)
        signals.unblock(_SIGALRM)
        signal.setitimer(signal.ITIMER_REAL, max(grace, 0.001), _AGAIN)

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        if self._armed:
            self._rang = True
            raise _GraceOver

    def run(self, step: Callable[[], object], cut_short: Callable[[], object]) -> None:
        """Call ``step``; ``cut_short`` when it took too long. What it raises is printed."""
        self._rang = False
        try:
            self._armed = True
            step()
            self._armed = False
        except _GraceOver:
            self._armed = False
        except BaseException as error:  # noqa: BLE001  (anybody's code, after which the process still has a result to send)
            self._armed = False
            sys.__excepthook__(type(error), error, error.__traceback__)
        if self._rang:
            cut_short()

    def off(self) -> None:
        """No more alarms."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signals.handle(_SIGALRM, signals.SIG_DFL)
