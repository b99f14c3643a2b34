"""Calls to a daemon that may be replaced or crash before it has answered, without I/O: what is asked now, what is asked again.

What must live here: which calls are unanswered, how long to wait before the next try, when to give up.
What this file must not know: connections and clocks (time comes in as an argument); what the methods mean, beyond which errors
a repeated call may be answered with.

A repeat is safe because every order carries a key that the caller made: the daemon answers with the run it has by that key.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from rocksyd.client.endpoint import Place
from rocksyd.client.protocol import Notification, Reply, is_done_already, result_of
from rocksyd.errors import NoDaemon, TooBusy
from rocksyd.units import format_duration, parse_duration

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds until a lost connection is tried again, at first and at most."""
BUSY_FIRST, BUSY_MOST = 0.02, 1.0
"""Seconds until a daemon that had too many runs waiting is asked again, at first and at most."""


class Call(NamedTuple):
    """One call. ``until`` is the monotonic time at which the daemon is to stop waiting (sent as ``timeout``)."""

    method: str
    params: dict[str, Any]
    until: float | None = None

    def params_at(self, now: float) -> dict[str, Any]:
        """The parameters to send at ``now``: what is left of the time, and never 0, which would mean no limit."""
        if self.until is None:
            return self.params
        return {**self.params, "timeout": round(max(self.until - now, 0.001), 3)}


def seconds(given: float | str | None) -> float | None:
    """A time in seconds, or as a duration such as ``"10m"``, in seconds. Raises ValueError."""
    return parse_duration(given) if isinstance(given, str) else given


class Backoff:
    """When a lost connection is tried again. ``limit`` is the seconds without an answer after which it is given up.

    A restart keeps the listening socket, so a client whose connection was lost (it was busy when the master died) connects again
    at once; after several crashes, or a stop and a start, it may take seconds. A daemon that was never reached is not waited for.
    """

    __slots__ = ("_pause", "_since", "limit", "reached")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.reached = False
        """Whether there was a connection."""
        self._pause = 0.0
        self._since: float | None = None

    def success(self) -> None:
        """Something was answered: the next failure is the first of a new series."""
        self._pause = 0.0
        self._since = None

    def failure(self, now: float, connected_at: float | None = None) -> float | None:
        """The connection failed at ``now``: seconds to pause before the next try, or None to give up.

        A connection that lasted (since ``connected_at``) longer than the limit begins a new series too: a wait may go on for days
        without an answer.
        """
        if connected_at is not None and now - connected_at > self.limit:
            self.success()
        if self._since is None:
            self._since = now
            self._pause = FIRST_PAUSE
            return 0.0
        if now - self._since >= self.limit:
            return None
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause


class Outstanding:
    """Calls by their place in the order they were given: which are to be asked now, and which are not answered.

    All at once; or, with ``ahead``, never more than so many that are not answered, and a call that the daemon is too busy for is
    asked again later.
    """

    __slots__ = ("_ahead", "_calls", "_done", "_pause", "again_at", "open", "put_off", "repeated")

    def __init__(self, calls: Iterable[Call], ahead: int = 0) -> None:
        self._calls = enumerate(calls)
        self._ahead = ahead
        self._done = False
        self._pause = BUSY_FIRST
        self.open: dict[int, Call] = {}
        """Asked, and not answered."""
        self.put_off: dict[int, Call] = {}
        """The daemon was too busy; to be asked again at ``again_at``, or when another one is answered."""
        self.again_at: float | None = None
        self.repeated = False
        """Whether a connection was lost, so that the daemon may have carried out what it is asked again."""

    @property
    def left(self) -> bool:
        """Whether any call is unanswered."""
        return bool(self.open or self.put_off)

    def fill(self, now: float) -> dict[int, Call]:
        """What is to be asked now; it counts as asked."""
        if self.put_off:
            if self.again_at is not None and now < self.again_at:
                return {}
            fresh, self.put_off, self.again_at = self.put_off, {}, None
        else:
            fresh = {}
            while not self._done and len(self.open) + len(fresh) < (self._ahead or sys.maxsize):
                index, call = next(self._calls, (-1, None))
                if call is None:
                    self._done = True
                else:
                    fresh[index] = call
        self.open.update(fresh)
        return fresh

    def answered(self, reply: Reply, now: float) -> Reply | None:
        """The reply as the caller is to see it; None when its call is to be asked again."""
        call = self.open.pop(reply.id)
        if self._ahead and isinstance(reply.error, TooBusy):
            self.put_off[reply.id] = call
            if self.again_at is None:
                self.again_at = now + self._pause
                self._pause = min(2 * self._pause, BUSY_MOST)
            return None
        self._pause, self.again_at = BUSY_FIRST, None
        if self.repeated and reply.error is not None and is_done_already(call.method, reply.error):
            return Reply(reply.id, result={})
        return reply


def earliest(*moments: float | None) -> float | None:
    """The first of these moments; None when there is none."""
    return min((moment for moment in moments if moment is not None), default=None)


def no_answer(place: Place, method: str, timeout: float) -> NoDaemon:
    """The error for a daemon that has a connection and does not answer."""
    return NoDaemon(
        f"the daemon at {place.address} has not answered {method!r} for {format_duration(timeout)}: "
        "it is stuck or overloaded; see its log, or wait longer with timeout="
    )


# --- following a run --------------------------------------------------------------------------------------------------
FOLLOW, ENDED, TOLD, NOW = 0, 1, 2, 3


def follow_calls(key: str, offset: int) -> dict[int, Call]:
    """What is asked to follow a run's output: FOLLOW, and ENDED, answered when the run has ended.

    Why the second: after a crash the daemon keeps the connections that are owed nothing, and one that only listens looks like
    that. A call that is not answered yet makes it close this one, so that the client notices and asks again.
    """
    return {FOLLOW: Call("logs", {"key": key, "offset": offset, "follow": True}), ENDED: Call("wait", {"key": key})}


def told_calls(key: str) -> dict[int, Call]:
    """What is asked beside ``follow_calls`` to hear how far the run is: the news of it, and how it is now."""
    news = {"keys": [key], "events": ["run.started", "run.progress"]}
    return {TOLD: Call("subscribe", news), NOW: Call("status", {"key": key})}


def record_of(event: Reply | Notification) -> dict[str, Any] | None:
    """The record in what ``told_calls`` brings; {} for what they bring beside; None when it is about something else."""
    if isinstance(event, Notification):
        return event.params if event.method.startswith("run.") else None
    if event.id not in (TOLD, NOW):
        return None
    return result_of(event) if event.id == NOW else {}
