"""A service's own object: calls of its methods, and those that are due later.

What must live here: calling, what becomes of an exception, timers, rooms.
What this file must not know: sockets, buffers (``engine``).
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any

from rocksyd.errors import JobError
from rocksyd.services import Service
from rocksyd.worker import output, results
from rocksyd.worker.service.connection import Conn


class Inside:
    """The connections, as a service's methods see them. It may change while somebody goes through it."""

    def __init__(self) -> None:
        self.by_number: dict[int, Conn] = {}
        self._rooms: dict[str, set[Conn]] = {}

    def __iter__(self) -> Iterator[Conn]:
        return iter(tuple(self.by_number.values()))

    def __len__(self) -> int:
        return len(self.by_number)

    def __contains__(self, connection: object) -> bool:
        return isinstance(connection, Conn) and self.by_number.get(connection.id) is connection

    def get(self, number: int) -> Conn | None:
        """The one with this id; None where it is gone."""
        return self.by_number.get(number)

    def add(self, c: Conn) -> None:
        """One more."""
        self.by_number[c.id] = c
        self.moved(c, None)

    def remove(self, c: Conn) -> None:
        """It is gone."""
        self.by_number.pop(c.id, None)
        self._take_out(c, c.room)

    def moved(self, c: Conn, before: str | None) -> None:
        """It is in another room than before."""
        self._take_out(c, before)
        if c.room is not None and c.id in self.by_number:
            self._rooms.setdefault(c.room, set()).add(c)

    def _take_out(self, c: Conn, room: str | None) -> None:
        there = self._rooms.get(room) if room is not None else None
        if room is not None and there is not None:
            there.discard(c)
            if not there:
                del self._rooms[room]

    def room(self, name: str | None) -> tuple[Conn, ...]:
        """Those in it; None: all."""
        return tuple(self.by_number.values() if name is None else self._rooms.get(name, ()))


class Timer:
    """What ``after`` has set."""

    def __init__(self, calls: Calls, at: float, method: str, args: list[Any]) -> None:
        self._calls, self.at, self.method, self.args = calls, at, method, args
        self.handle: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """Do not call it after all."""
        self.disarm()
        self._calls.timers.discard(self)

    def disarm(self) -> None:
        """Do not call it now."""
        if self.handle is not None:
            self.handle.cancel()


class Calls:
    """One object of a service's class, and what is going on in it."""

    def __init__(self, name: str, cls: type, loop: asyncio.AbstractEventLoop, connections: Inside) -> None:
        self._name, self._loop, self.connections = name, loop, connections
        self.timers: set[Timer] = set()
        self.allowed = False
        """Whether anything may be called now that is due."""
        self.running = 0
        """Calls of methods that have not returned."""
        self.changed = True
        """Whether anything was called since this was asked last."""
        self.broken: Callable[[Conn], None] = lambda c: None
        """Told of the connection for which a method raised."""
        self.returned: Callable[[Conn | None], None] = lambda c: None
        """Told when a method has returned that was waited for, or that was due."""
        whole: Any = cls if issubclass(cls, Service) else type(cls.__name__, (cls, Service), {"__module__": cls.__module__})
        self.service: Any = whole.__new__(whole)
        self.service.host = self  # before its own code, which may ask for it
        self.service.__init__()

    # --- what it may call ---------------------------------------------------------------------------------------------
    def announce(self, room: str | None, message: Any) -> None:
        """Send a message over every connection in a room; None: over all."""
        for one in self.connections.room(room):
            one.send(message)

    def after(self, seconds: float, method: str, args: tuple[Any, ...]) -> Timer:
        """Call a method in so many seconds."""
        return self.set(time.monotonic() + float(seconds), method, list(args))

    def set(self, at: float, method: str, args: list[Any]) -> Timer:
        """Call a method at that moment (CLOCK_MONOTONIC seconds)."""
        if not callable(getattr(self.service, method, None)):
            raise JobError(f"service {self._name}: after(..., {method!r}) names no method of {type(self.service).__name__}")
        timer = Timer(self, at, method, args)
        self.timers.add(timer)
        self.changed = True
        if self.allowed:
            self._arm(timer)
        return timer

    def allow(self, allowed: bool) -> None:
        """From now on what is due may be called, or not."""
        self.allowed = allowed
        for timer in self.timers:
            timer.disarm()
            if allowed:
                self._arm(timer)

    def _arm(self, timer: Timer) -> None:
        timer.handle = self._loop.call_later(max(0.0, timer.at - time.monotonic()), self._ring, timer)

    def _ring(self, timer: Timer) -> None:
        self.timers.discard(timer)
        self.call(None, getattr(self.service, timer.method), *timer.args)
        self.returned(None)

    # --- calls --------------------------------------------------------------------------------------------------------
    def call(self, c: Conn | None, method: Callable[..., Any], *args: Any) -> None:
        """Call a method of the service. What it raises closes the connection that it was called for."""
        self.changed = True
        try:
            result = method(*args)
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  (anybody's code)
            self.failed(c, method, error)
            return
        if not inspect.isawaitable(result):
            return
        self.running += 1
        if c is not None:
            c.working = True
        task = self._loop.create_task(_awaited(result))
        task.add_done_callback(lambda done: self._done(c, method, done))

    def _done(self, c: Conn | None, method: Callable[..., Any], done: asyncio.Task[Any]) -> None:
        self.running -= 1
        if c is not None:
            c.working = False
        error = done.result()
        if error is not None:
            self.failed(c, method, error)
        self.returned(c)

    def failed(self, c: Conn | None, method: Callable[..., Any], error: BaseException) -> None:
        """Somebody's code has raised."""
        where = f", and {c} is closed" if c is not None and not c.lost else ""
        text = results.traceback_of(error)
        output.write(f"rocksyd: service {self._name}: {getattr(method, '__name__', method)} raised{where}:\n{text}")
        if c is not None:
            self.broken(c)


async def _awaited(result: Any) -> BaseException | None:
    """What it raises. Never raises itself: an end of the process that is meant for one connection would be everybody's."""
    try:
        await result
    except BaseException as error:  # noqa: BLE001
        return error
    return None
