"""A terminal that one program has for itself for a while, and gives back as it was, whatever happens but SIGKILL.

What must live here: modes of the terminal, its size, signals that concern it.
What this file must not know: what is drawn.
"""

from __future__ import annotations

import os
import signal
import termios
import tty
from types import FrameType, TracebackType
from typing import Any

_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J"
"""The other screen, no cursor, no wrapping."""
_LEAVE = b"\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_SIGNALS = (signal.SIGWINCH, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGCONT)


class Terminal:
    """A context. ``signals`` is a descriptor from which the numbers of signals that came are read, a byte each."""

    def __init__(self, fd_in: int, fd_out: int, encoding: str = "utf-8") -> None:
        self._in, self._out, self._encoding = fd_in, fd_out, encoding
        self._before: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self.signals, self._wake = os.pipe()
        self._drawn: list[str] = []

    def __enter__(self) -> Terminal:
        for end in (self.signals, self._wake):
            os.set_blocking(end, False)
        self._before = termios.tcgetattr(self._in)
        try:
            signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
            for number in _SIGNALS:
                self._handlers[number] = signal.signal(number, _noted)
            self._enter()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._leave()
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self.signals)
        os.close(self._wake)

    def _enter(self) -> None:
        tty.setcbreak(self._in)
        self._drawn = []
        self._write(_ENTER)

    def _leave(self) -> None:
        try:
            self._write(_LEAVE)
            if self._before is not None:
                termios.tcsetattr(self._in, termios.TCSADRAIN, self._before)
        except (OSError, termios.error):
            pass  # it hung up

    def stop(self) -> None:
        """Ctrl-Z: give the terminal back, stop, and take it again when somebody goes on with us."""
        self._leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, _noted)
        self._before = termios.tcgetattr(self._in)
        self._enter()

    def came(self) -> list[int]:
        """The signals that came since the last time."""
        try:
            return list(os.read(self.signals, 64))
        except BlockingIOError:
            return []

    def keys(self) -> bytes:
        """What was typed; b"" when the terminal is gone."""
        try:
            return os.read(self._in, 1024)
        except OSError:
            return b""

    def size(self) -> tuple[int, int]:
        """Columns and rows, now."""
        try:
            size = os.get_terminal_size(self._out)
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24

    def draw(self, lines: list[str], *, anew: bool = False) -> None:
        """Show these lines; only those that have changed are written, in one write. ``anew``: the size has changed."""
        if anew or len(lines) != len(self._drawn):
            self._drawn = []
        parts = ["\x1b[2J"] if not self._drawn else []
        for number, line in enumerate(lines):
            if not self._drawn or self._drawn[number] != line:
                # Cleared first: behind a full line the cursor is still on its last column, and would take that with it.
                parts.append(f"\x1b[{number + 1};1H\x1b[K{line}")
        self._drawn = lines
        self._write("".join(parts).encode(self._encoding, "replace"))

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._out, data) :]


def _noted(number: int, frame: FrameType | None) -> None:
    """It is in the wakeup descriptor already."""
