"""Questions and answers with a daemon that may be replaced or crash in the middle of them.

What must live here: asking again, on a new connection, what was not answered on the old one.
What this file must not know: what the methods mean, beyond which errors a repeated order may be met with.

A repeat is safe because every order carries a key that the caller made: the daemon answers with the run it has by that key.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple

from rocksyd.client.address import Place
from rocksyd.client.link import Link, LinkLost
from rocksyd.client.patience import Patience
from rocksyd.client.protocol import ClientProtocol, Notification, Reply, is_done_already, result_of
from rocksyd.errors import MessageError, NoDaemon, TooBusy


class Call(NamedTuple):
    """One question. ``until`` is the monotonic time at which the daemon is to stop waiting (sent as ``timeout``)."""

    method: str
    params: dict[str, Any]
    until: float | None = None

    def params_at(self, now: float) -> dict[str, Any]:
        """The parameters to send at ``now``: what is left of the time, and never 0, which would mean no limit."""
        if self.until is None:
            return self.params
        return {**self.params, "timeout": round(max(self.until - now, 0.001), 3)}


FOLLOW, ENDED, TOLD, NOW = 0, 1, 2, 3
BUSY_FIRST, BUSY_MOST = 0.02, 1.0
"""Seconds until a daemon that had too many runs waiting is asked again, at first and at most."""


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


class Conversation:
    """One connection, and what has been asked on it. Not for several threads at once."""

    __slots__ = ("_next", "_protocol", "link", "opened_at", "unanswered")

    def __init__(self, place: Place) -> None:
        self.link = Link(place.address)
        self.opened_at = time.monotonic()
        self.unanswered: dict[int, int] = {}
        """Number of a call on this connection -> index of the question."""
        self._protocol = ClientProtocol(place.token)
        self._next = 1

    def ask(self, calls: dict[int, Call], timeout: float | None) -> None:
        """Send these questions (by their index) in one write. Raises LinkLost, NoDaemon, TypeError."""
        lines = [self._protocol.opening()] if self._next == 1 else []
        now = time.monotonic()
        for index, call in calls.items():
            lines.append(self._protocol.call(self._next, call.method, call.params_at(now)))
            self.unanswered[self._next] = index
            self._next += 1
        self.link.send(b"".join(lines), timeout)

    def events(self, deadline: float | None) -> list[Reply | Notification]:
        """What has been said, replies with the index of their question as ``id``.

        Raises LinkLost, TimeoutError at the monotonic time ``deadline``, NoDaemon when the other end is no rocksyd daemon.
        """
        timeout = None if deadline is None else deadline - time.monotonic()
        if timeout is not None and timeout <= 0:
            raise TimeoutError
        try:
            events = self._protocol.receive(self.link.receive(timeout))
        except MessageError as error:
            raise NoDaemon(f"{self.link.address}: {error}") from error
        answers: list[Reply | Notification] = []
        for event in events:
            if not isinstance(event, Reply):
                answers.append(event)
            elif event.id in self.unanswered:
                answers.append(event._replace(id=self.unanswered.pop(event.id)))
        return answers

    def close(self) -> None:
        """Close the connection."""
        self.link.close()


class Line:
    """Connections to one daemon: idle ones are used again; a lost one is replaced, with back-off, for ``patience`` seconds."""

    __slots__ = ("_idle", "_pid", "patience", "place", "timeout")

    def __init__(self, place: Place, timeout: float, patience: float) -> None:
        self.place = place
        self.timeout = timeout
        self.patience = patience
        self._idle: list[Conversation] = []
        self._pid = os.getpid()

    def take(self) -> Conversation:
        """An idle connection, or a new one. Raises NoDaemon."""
        if self._pid != os.getpid():
            # A fork shares its parent's connections; two processes on one would get each other's answers.
            self.close()
            self._pid = os.getpid()
        while self._idle:
            try:
                conversation = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if conversation.link.is_quiet():
                return conversation
            conversation.close()
        return Conversation(self.place)

    def give_back(self, conversation: Conversation) -> None:
        """Keep for the next question, unless answers are still to come on it."""
        if conversation.unanswered:
            conversation.close()
        else:
            self._idle.append(conversation)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def ask(self, calls: Iterable[Call], deadline: float | None = None, *, ahead: int = 0) -> Iterator[Reply]:
        """Ask ``calls``; yield the answers as they come, ``id`` being the call's place in ``calls``.

        All at once; or, with ``ahead``, never more than so many that are not answered, and one that the daemon is too busy for
        is asked again later.

        Raises NoDaemon, TypeError; TimeoutError at the monotonic time ``deadline``.
        """
        queue = Queue(calls, ahead)
        patience = Patience(self.patience)
        attempt = 0
        while queue.fill(time.monotonic()) or queue.open or queue.put_off:
            conversation = self.connect(patience, first=attempt == 0)
            attempt += 1
            try:
                conversation.ask(queue.open, self.timeout)
                while queue.open or queue.put_off:
                    for reply in _replies(conversation, queue, deadline):
                        call = queue.answered(reply, time.monotonic())
                        patience.success()
                        if call is not None:
                            yield _settled(call, reply, repeated=attempt > 1)
                    fresh = queue.fill(time.monotonic())
                    if fresh:
                        conversation.ask(fresh, self.timeout)
            except LinkLost as error:
                conversation.close()
                pause(patience, error, conversation.opened_at)
            except GeneratorExit:  # the caller has heard enough
                self.give_back(conversation)
                raise
            except BaseException:
                conversation.close()
                raise
            else:
                self.give_back(conversation)

    def listen(self, calls: Callable[[], dict[int, Call]], until: float | None = None) -> Generator[Reply | Notification]:
        """Ask ``calls()`` on a connection of its own, and again on each that replaces it; yield everything that is said.

        Call number 0 is answered at once, and if not the daemon is stuck; afterwards it may be silent for as long as it likes.
        Ends never by itself. Raises NoDaemon; TimeoutError at the monotonic time ``until``.
        """
        patience = Patience(self.patience)
        attempt = 0
        while True:
            conversation = self.connect(patience, first=attempt == 0)
            attempt += 1
            try:
                conversation.ask(calls(), self.timeout)
                limit = time.monotonic() + self.timeout
                while True:
                    owed = 0 in conversation.unanswered.values()
                    for event in conversation.events(_earliest(limit if owed else None, until)):
                        patience.success()
                        yield event
            except LinkLost as error:
                pause(patience, error, conversation.opened_at)
            finally:
                # Never used again: notifications may still be on their way.
                conversation.close()

    def connect(self, patience: Patience, *, first: bool) -> Conversation:
        """A connection. A daemon that was never reached is reported at once; one that was is waited for."""
        while True:
            try:
                return self.take()
            except NoDaemon as error:
                if first:
                    raise
                pause(patience, error, None)


def pause(patience: Patience, error: Exception, connected_at: float | None) -> None:
    """Sleep before the next try, or give up with NoDaemon."""
    seconds = patience.failure(time.monotonic(), connected_at)
    if seconds is None:
        raise NoDaemon(f"{error}; tried again for {patience.limit:g} s: see the daemon's log") from error
    if seconds:
        # Up to half as much again, so that a thousand clients of one crash do not come back in the same instant.
        time.sleep(seconds * (1 + os.urandom(1)[0] / 512))


class Queue:
    """Calls on their way, without I/O: which are to be asked now, which are not answered."""

    __slots__ = ("_ahead", "_calls", "_done", "_pause", "again_at", "open", "put_off")

    def __init__(self, calls: Iterable[Call], ahead: int) -> None:
        self._calls = enumerate(calls)
        self._ahead = ahead
        self._done = False
        self._pause = BUSY_FIRST
        self.open: dict[int, Call] = {}
        """Asked, and not answered."""
        self.put_off: dict[int, Call] = {}
        """The daemon was too busy; to be asked again at ``again_at``, or when another one is answered."""
        self.again_at: float | None = None

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

    def answered(self, reply: Reply, now: float) -> Call | None:
        """The call that this is the answer to; None when it is to be asked again."""
        call = self.open.pop(reply.id)
        if self._ahead and isinstance(reply.error, TooBusy):
            self.put_off[reply.id] = call
            if self.again_at is None:
                self.again_at = now + self._pause
                self._pause = min(2 * self._pause, BUSY_MOST)
            return None
        self._pause, self.again_at = BUSY_FIRST, None
        return call


def _replies(conversation: Conversation, queue: Queue, deadline: float | None) -> list[Reply]:
    """Those that have come; none when it is time to ask something again."""
    try:
        return [event for event in conversation.events(_earliest(deadline, queue.again_at)) if isinstance(event, Reply)]
    except TimeoutError:
        if deadline is not None and time.monotonic() >= deadline:
            raise
        return []


def _earliest(*moments: float | None) -> float | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _settled(call: Call, reply: Reply, *, repeated: bool) -> Reply:
    if repeated and reply.error is not None and is_done_already(call.method, reply.error):
        return Reply(reply.id, result={})
    return reply
