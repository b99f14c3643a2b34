"""Where `rocksyd top` has its samples from: a thread that asks the daemon, so that the screen never waits for it.

What must live here: what is asked, how often, and what becomes of orders.
What this file must not know: the screen.

A daemon that restarts is not noticed; one that was killed or stopped is asked again at every turn until it is there.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from rocksyd.cli.top_state import FOLLOW, WHY, KeyAction, Sample, State
from rocksyd.client import Client
from rocksyd.client.records import records_of
from rocksyd.errors import RocksydError

RUNNING_SHOWN, WAITING_SHOWN, ENDED_SHOWN = 500, 200, 50
"""Records asked for: of those that wait and have ended the latest."""
PIECES = 50
"""Pieces of output that are read in one turn."""
FOLLOW_INTERVAL = 0.2

News = Callable[[State], None]
"""What was heard, to be applied to the state by whoever owns it."""


def sample(client: Client, *, ended: bool) -> Sample:
    """Ask once. Raises RocksydError."""
    states = [("running", RUNNING_SHOWN), ("waiting", WAITING_SHOWN), *([("ended", ENDED_SHOWN)] if ended else [])]
    calls = [("stats", {}), ("pools", {}), *(("list", {"state": state, "limit": limit}) for state, limit in states)]
    stats, pools, *lists = client.requests(calls)
    records = {str(record.get("key")): record for found in reversed(lists) for record in records_of(found)}
    return Sample(time.monotonic(), time.time(), stats, pools, sorted(records.values(), key=_place))


def _place(record: dict[str, Any]) -> tuple[int, float, float]:
    """Running: the oldest first. Waiting: as they will start. Ended: the last first."""
    if record.get("state") == "running":
        return 0, record.get("started_at") or 0.0, 0.0
    if record.get("state") == "waiting":
        return 1, -float(record.get("priority") or 0), record.get("submitted_at") or 0.0
    return 2, -(record.get("ended_at") or 0.0), 0.0


class Feed:
    """The thread. ``readable`` is a descriptor that can be read when there is news."""

    def __init__(self, client: Client, interval: float) -> None:
        self._client = client
        self._interval = interval
        self._orders: SimpleQueue[KeyAction] = SimpleQueue()
        self._news: SimpleQueue[News] = SimpleQueue()
        self.readable, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._subject = KeyAction("")
        self._offset = 0
        self._ended = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """Ask no more. An answer that is still waited for keeps the thread until it comes; the process may end before."""
        self._closed = True
        self._orders.put(KeyAction("quit"))

    def order(self, order: KeyAction) -> None:
        """Carry this out soon."""
        self._orders.put(order)

    def apply(self, state: State) -> None:
        """Let everything heard since the last time change the state."""
        os.read(self.readable, 4096)
        while True:
            try:
                news = self._news.get_nowait()
            except Empty:
                return
            news(state)

    # --- in the thread ------------------------------------------------------------------------------------------------
    def _tell(self, news: News) -> None:
        self._news.put(news)
        try:
            os.write(self._wake, b".")
        except BlockingIOError:
            pass  # it is readable already

    def _run(self) -> None:
        look_at = 0.0
        while not self._closed:
            now = time.monotonic()
            if now >= look_at:
                look_at = now + self._interval
                self._try(self._look)
            self._try(self._look_at_subject)
            until = look_at if not self._subject.name else min(look_at, time.monotonic() + FOLLOW_INTERVAL)
            try:
                order = self._orders.get(timeout=max(until - time.monotonic(), 0.01))
            except Empty:
                continue
            self._try(lambda: self._obey(order))  # noqa: B023  (called at once)
            look_at = 0.0

    def _try(self, ask: Callable[[], None]) -> None:
        try:
            ask()
        except RocksydError as error:
            text = str(error)
            self._tell(lambda state: setattr(state, "trouble", text))

    def _look(self) -> None:
        found = sample(self._client, ended=self._ended)
        self._tell(lambda state: state.take(found))

    def _look_at_subject(self) -> None:
        key = self._subject.key
        if self._subject.name == FOLLOW:
            for _ in range(PIECES):
                record, piece = self._client.requests([("status", {"key": key}), ("logs", {"key": key, "offset": self._offset})])
                text, self._offset = piece.get("text", ""), piece.get("offset", self._offset)
                self._tell(lambda state, text=text, record=record: state.take_output(key, text, record))  # type: ignore[misc]
                if not text:
                    return
        elif self._subject.name == WHY:
            record, why = self._client.requests([("status", {"key": key}), ("why", {"key": key})])

            def heard(state: State) -> None:
                if state.subject == key:
                    state.record, state.reasons = record, why

            self._tell(heard)

    def _obey(self, order: KeyAction) -> None:
        if order.name in (FOLLOW, WHY):
            self._subject, self._offset = order, 0
        elif order.name == "forget":
            self._subject = KeyAction("")
        elif order.name == "look":
            self._ended = not self._ended
        elif order.name == "kill":
            try:
                self._client.terminate(order.key, order.signal)
                said = f"{order.key}: {'KILL sent' if order.signal else 'TERM sent; KILL follows after its grace'}"
            except RocksydError as error:
                said = str(error)
            self._tell(lambda state: setattr(state, "message", said))
