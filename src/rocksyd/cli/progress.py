"""`run --follow` on a terminal: the output as it comes, and below it how far the run is.

What must live here: the line of progress, and how it keeps out of the output's way.
What this file must not know: where output and progress come from.

The line is on standard error, so what is piped is the job's output and nothing else. It is drawn only below a finished line of
output: a job that prints dots is not disturbed.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, TypeGuard

from rocksyd.cli.output import clean
from rocksyd.cli.outputs import Terminal
from rocksyd.cli.tables import COLOURS, columns_of, cut
from rocksyd.units import rough_duration

_NARROWEST_BAR, _WIDEST_BAR = 8, 40
_ERASE = "\r\x1b[K"


def bar(done: Any, total: Any, width: int, full: str = "█", empty: str = "░") -> str:
    """``████░░░░``: how much of ``total`` is done, in ``width`` columns; "" when that is not known."""
    if not _is_number(done) or not _is_number(total) or total <= 0:
        return ""
    filled = int(min(max(done / total, 0.0), 1.0) * width)
    return full * filled + empty * (width - filled)


def line(record: dict[str, Any], width: int, now: float, *, signs: str = "█░") -> str:
    """The line of progress in at most ``width`` columns; "" when there is nothing to say. ``now`` is Unix time."""
    if record.get("state") == "waiting":
        attempt = record.get("attempt") or 1
        return cut(f"waiting{f' for attempt {attempt}' if attempt != 1 else ''}", width)
    progress = record.get("progress")
    if not isinstance(progress, dict):
        return ""
    done, total, note = progress.get("done"), progress.get("total"), clean(progress.get("note") or "")
    if not _is_number(done) or not _is_number(total) or total <= 0:
        return cut(f"{f'{done:,.10g}' if _is_number(done) else ''} {note}".strip(), width)
    share = f"{100 * min(max(done / total, 0.0), 1.0):3.0f} %"
    words = [f"{done:,.10g}/{total:,.10g}", _left(record, done / total, now), note]
    text = "  ".join(word for word in words if word)
    room = width - len(share) - 1
    size = min(_WIDEST_BAR, room - columns_of(text) - 2)
    if size < _NARROWEST_BAR:  # the words give way
        size = min(_WIDEST_BAR // 2, room // 2)
    drawn = bar(done, total, size, *signs) if size >= _NARROWEST_BAR else ""
    return cut(f"{share} {drawn}  {text}" if drawn else f"{share}  {text}", width)


_LONGEST = 100 * 365 * 86400.0
"""Seconds beyond which nobody wants to know how long it will take."""


def _left(record: dict[str, Any], share: float, now: float) -> str:
    """About how long it will take, once that can be said."""
    started = record.get("started_at")
    if not _is_number(started) or not 0 < share < 1 or now - started < 1:
        return ""
    left = (now - started) * (1 - share) / share
    return f"{rough_duration(left)} left" if left < _LONGEST else ""


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


class Progress:
    """What stands on the terminal below the output. Where there is no terminal it does nothing but write the output."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._coloured = self._shown and not os.environ.get("NO_COLOR")
        self._signs = "█░" if (sys.stderr.encoding or "").lower().replace("-", "") == "utf8" else "#."
        self._same = self._shown and sys.stdout.isatty()
        self._terminal = Terminal(raw=False)
        self._record: dict[str, Any] = {}
        self._drawn = ""
        self._at_start = True
        """Whether the cursor is at the beginning of a line as far as the output goes."""

    @property
    def shown(self) -> bool:
        """Whether there is a terminal to show it on."""
        return self._shown

    def output(self, text: str) -> None:
        """Write a piece of the job's output."""
        if not self._same:
            self._terminal.write(text)
            return
        self._erase()
        self._terminal.write(text)
        if text:
            self._at_start = text.endswith("\n")
        self._draw()

    def told(self, record: dict[str, Any]) -> None:
        """The run has said how far it is."""
        known = self._record
        if not record.get("progress") and (known.get("state"), known.get("attempt")) == (
            record.get("state"),
            record.get("attempt"),
        ):
            # A master that took over after a crash has not heard of it yet; what the run said before is still true.
            record = {**record, "progress": known.get("progress")}
        self._record = record
        self._draw()

    def close(self) -> None:
        """Leave nothing of it on the terminal."""
        self._erase()
        self._terminal.close()

    def _draw(self) -> None:
        if not self._shown or not self._at_start:
            return
        try:
            width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        except OSError:
            return
        text = line(self._record, width - 1, time.time(), signs=self._signs)
        if text == self._drawn:
            return
        self._drawn = text  # before it is: Ctrl-C may come in between, and it is erased then
        self._say(_ERASE + (f"\x1b[{COLOURS['cyan']}m{text}\x1b[0m" if self._coloured and text else text))

    def _erase(self) -> None:
        if self._drawn:
            self._say(_ERASE)
            self._drawn = ""

    @staticmethod
    def _say(text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            pass
