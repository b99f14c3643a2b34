"""Time for tests: the real one, which eager runs may jump ahead of, and one that only moves when it is told to.

What must live here: what time it is, and how it passes. What this file must not know: runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rocksyd.model import Now
from rocksyd.units import parse_duration

_monotonic, _wall, _real_sleep = time.monotonic, time.time, time.sleep


class Clock:
    """Real time, and what was skipped: who waits for a run that is due in an hour does not wait, the clock is an hour ahead."""

    def __init__(self) -> None:
        self.skipped = 0.0
        """Seconds."""

    def now(self) -> Now:
        """The moment it is."""
        return Now(_monotonic() + self.skipped, _wall() + self.skipped)

    def go_to(self, mono: float) -> None:
        """Skip to a moment on the monotonic clock; one that has passed changes nothing."""
        self.skipped += max(0.0, mono - self.now().mono)

    def as_seen(self, mono: float) -> float:
        """What ``time.monotonic()`` will say in this process at that moment."""
        return mono - self.skipped


class FakeClock(Clock):
    """Time that stands still until ``advance`` or ``time.sleep``. Use it as a context: it takes the place of the real one there.

    Covered are ``time.time``, ``time.time_ns``, ``time.monotonic``, ``time.monotonic_ns`` and ``time.sleep``, called by these
    names (a ``from time import sleep`` from before has the real one), and with them ``current().deadline``, timeouts, delays,
    retries and the times in the records of eager runs. Not covered is what does not ask the module ``time``:
    ``datetime.now()``, asyncio's own clock and sleep (which stay real), threads and locks that wait, and other processes, so
    a real daemon.

    Args:
        start: Unix seconds at which it begins; 2026-01-01T00:00:00Z if left out.
    """

    def __init__(self, start: float = 1_767_225_600.0) -> None:
        super().__init__()
        self._mono, self._wall = 1000.0, start
        self._watchers: list[Callable[[float], float]] = []
        self._real: dict[str, Any] = {}
        self._loop_time: Any = None

    def now(self) -> Now:
        """The moment it is."""
        return Now(self._mono, self._wall)

    def go_to(self, mono: float) -> None:
        """Let it be this moment."""
        seconds = max(0.0, mono - self._mono)
        self._mono += seconds
        self._wall += seconds

    def as_seen(self, mono: float) -> float:
        """What ``time.monotonic()`` will say in this process at that moment."""
        return mono

    def advance(self, seconds: float | str) -> None:
        """Let time pass: seconds, or a duration such as ``"10m"``. What is due meanwhile happens, each at its moment.

        Raises ValueError: it is no duration.
        """
        until = self._mono + parse_duration(seconds)
        while True:
            moment = min([until, *(watcher(until) for watcher in self._watchers)])
            if self._mono >= until:
                return
            self.go_to(moment)

    def watch(self, watcher: Callable[[float], float]) -> None:
        """``watcher(until)`` is asked before time passes: it does what is due, and returns the next moment that matters to it."""
        self._watchers.append(watcher)

    # --- in the place of the real one -------------------------------------------------------------------------------------
    def __enter__(self) -> FakeClock:
        import asyncio  # noqa: PLC0415  (only tests with a fake clock pay for it)

        fakes: dict[str, Callable[..., Any]] = {
            "time": lambda: self._wall,
            "time_ns": lambda: round(self._wall * 1e9),
            "monotonic": lambda: self._mono,
            "monotonic_ns": lambda: round(self._mono * 1e9),
            "sleep": self.advance,
        }
        self._real = {name: getattr(time, name) for name in fakes}
        for name, fake in fakes.items():
            setattr(time, name, fake)
        # A loop's clock that stands still would never wake anybody: it keeps the real one.
        real = self._real["monotonic"]
        self._loop_time = asyncio.BaseEventLoop.time
        asyncio.BaseEventLoop.time = lambda _loop: real()  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        import asyncio  # noqa: PLC0415

        asyncio.BaseEventLoop.time = self._loop_time  # type: ignore[method-assign]
        for name, real in self._real.items():
            setattr(time, name, real)
        self._real = {}
