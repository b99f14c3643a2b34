"""What wakes a zygote beside its channel: a child's end, and the order to end.

What must live here: the handlers of signals after the application has been loaded, and the pipe that they write to.
What this file must not know: what is done when it wakes.
"""

from __future__ import annotations

import os
import signal

from rocksyd.zygote.loading import NOTICED, ignore


class Wakeups:
    """A pipe that can be read from when a signal has come."""

    def __init__(self) -> None:
        self.terminated = False
        """Whether TERM has come."""
        self.fd, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def begin(self) -> None:
        """From here on the application has no say in signals: what it installed while it was loaded is replaced."""
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in NOTICED:
            signal.signal(number, ignore)
        signal.signal(signal.SIGTERM, self._on_term)
        # A handler is what makes the wakeup descriptor be written to; SIG_IGN would lose the exit statuses.
        signal.signal(signal.SIGCHLD, ignore)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def _on_term(self, _number: int, _frame: object) -> None:
        self.terminated = True

    def empty(self) -> None:
        """Take what the signals have written."""
        try:
            while len(os.read(self.fd, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """In a child, which has its own way with signals."""
        os.close(self.fd)
        os.close(self._write)
