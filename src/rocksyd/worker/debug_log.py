"""What a run logs is in its output from DEBUG on, and afterwards all is as it was.

What must live here: the levels of ``logging`` that stand in the way, and how they are put back.
What this file must not know: who wants that, and for how long.

Handlers that print where the run's output is are lowered; those that write or send elsewhere stay as they are: nobody wants a
letter for every line. What the job's own code sets up later holds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Levels:
    """Those of one worker. Runs that share it share them: as long as one of them wants it, others log more as well."""

    def __init__(self) -> None:
        self._wanted = 0
        self._put_back: Callable[[], None] = lambda: None

    def want(self) -> None:
        """A run wants to log everything."""
        if not self._wanted:
            self._put_back = lower()
        self._wanted += 1

    def done(self) -> None:
        """One that wanted it has ended."""
        self._wanted -= 1
        if not self._wanted:
            self._put_back()


def lower() -> Callable[[], None]:
    """Lower the levels; returns what puts back each of them that nobody has changed meanwhile."""
    import logging  # noqa: PLC0415  (who has not loaded it pays for it only here)

    class Printing(logging.StreamHandler[Any]):
        """Prints to what ``sys.stderr`` is at that moment."""

        def emit(self, record: logging.LogRecord) -> None:
            self.stream = sys.stderr
            super().emit(record)

    root = logging.root
    lowered: list[tuple[Any, int]] = []
    for logger in [root, *(one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger))]:
        here: list[Any] = [logger, *filter(_prints, logger.handlers)]
        for one in here:
            if one.level > logging.DEBUG:
                lowered.append((one, one.level))
                one.setLevel(logging.DEBUG)
    own = None
    if not any(map(_prints, root.handlers)):
        own = Printing(sys.stderr)
        own.setFormatter(logging.Formatter(_FORMAT))
        root.addHandler(own)
    disabled = root.manager.disable
    logging.disable(logging.NOTSET)

    def end() -> None:
        for one, level in lowered:
            if one.level == logging.DEBUG:
                one.setLevel(level)
        if own is not None:
            root.removeHandler(own)
        if root.manager.disable == logging.NOTSET:
            logging.disable(disabled)

    return end


def _prints(handler: Any) -> bool:
    """Whether it writes to standard output or error, which are the run's output."""
    stream = getattr(handler, "stream", None)
    if stream is None:
        return False
    try:
        return stream in (sys.stdout, sys.stderr) or stream.fileno() in (1, 2)
    except (AttributeError, OSError, ValueError):
        return False
