"""Signals as a list: the handlers only note, the loop decides.

Blocked from before ``execve`` until the new image has its handlers, so that none is lost in between: what comes meanwhile is
pending in the kernel, which keeps it across execve.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
ALL = (*FORWARDED, signal.SIGCHLD)


class SignalInbox:
    """What came since the last ``take``. ``fileno`` is readable when something did."""

    def __init__(self) -> None:
        self._arrived: list[int] = []
        self._readable, self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """For poll."""
        return self._readable

    def open(self) -> None:
        """Install the handlers (over whatever was inherited: SIG_IGN survives exec), then let the signals through."""
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number in ALL:
            signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _note(self, number: int, _: FrameType | None) -> None:
        self._arrived.append(number)

    def take(self) -> list[int]:
        """The signals since the last time, in order of arrival."""
        # First the pipe, then the list: a handler's byte is written before its entry can be missed.
        try:
            while len(os.read(self._readable, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        arrived, self._arrived = self._arrived, []
        return arrived

    def hold_back(self) -> None:
        """Block them; they stay pending."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ALL)

    def let_through(self) -> None:
        """Undo ``hold_back``."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)
