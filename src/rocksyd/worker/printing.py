"""What jobs that share a process print: each into its own file, by whose code it is that prints.

What must live here: Python's ``sys.stdout`` and ``sys.stderr`` where several runs are going on.
What this file must not know: tasks, messages. It knows the run whose code is running by asking.

Only what goes through Python's objects can be told apart: what C code and subprocesses print goes to descriptors 1 and 2 of the
process, which are nobody's (``/dev/null``).
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any

from rocksyd.worker import output


class Printed:
    """One run's output file, opened append."""

    def __init__(self) -> None:
        self._file: io.TextIOWrapper | None = None

    def open(self, log: str, fd: int = -1) -> None:
        """Make it the file ``log``; "" for ``/dev/null``. ``fd``: it has been opened already. Raises OSError."""
        if fd < 0:
            fd = os.open(log or os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._file = open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115

    @property
    def file(self) -> io.TextIOWrapper | None:
        """None before it is opened, and after its end."""
        return self._file if self._file is not None and not self._file.closed else None

    def close(self) -> None:
        """Write what is held and close it. A full disk loses what could not be written, as it does for any process."""
        if self._file is not None:
            with contextlib.suppress(OSError, ValueError):
                self._file.close()


class _Routed:
    """Stands for ``sys.stdout`` or ``sys.stderr``: everything asked of it is asked of the file of the run that asks."""

    def __init__(self, whose: Callable[[], Printed | None], otherwise: Any) -> None:
        self._whose = whose
        self._otherwise = otherwise

    def __getattr__(self, name: str) -> Any:
        printed = self._whose()
        file = printed.file if printed is not None else None
        return getattr(file if file is not None else self._otherwise, name)

    def __iter__(self) -> Any:
        raise io.UnsupportedOperation("not readable")


def share_streams(whose: Callable[[], Printed | None]) -> None:
    """From now on the run that ``whose`` names gets what is printed; handlers of ``logging`` that print there follow."""
    for name in ("stdout", "stderr"):
        before = getattr(sys, name)
        routed = _Routed(whose, before)
        setattr(sys, name, routed)
        _redirect_logging(before, routed)

    def descriptor() -> int:
        printed = whose()
        file = printed.file if printed is not None else None
        return file.fileno() if file is not None else 2

    output.route(descriptor)


def _redirect_logging(before: Any, routed: Any) -> None:
    logging = sys.modules.get("logging")
    for reference in list(getattr(logging, "_handlerList", ())):
        handler = reference()
        if handler is not None and getattr(handler, "stream", None) is before and hasattr(handler, "setStream"):
            handler.setStream(routed)
