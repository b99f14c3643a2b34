"""The news that ``notify`` follows: two subscriptions, each in a thread, and how far each of them has been heard.

What must live here: going on from where a process before this one has got to, without hearing anything twice.
What this file must not know: what the news mean.

A daemon that is asked to go on from a position says again what came with that position (``client.news``): what was heard with
the last two positions is remembered, in ``rows``, together with them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from rocksyd.alerts.rows import Rows
from rocksyd.client import Client
from rocksyd.client.news import Event
from rocksyd.errors import RocksydError
from rocksyd.posix.log import WARNING, log

MOST = 1000
"""News that wait to be looked at; then no more are read for a moment."""
_PAUSE, _MOMENT = 1.0, 0.05
_FILTERS: dict[str, dict[str, Any]] = {
    "failed": {"failed": True, "events": ["run.ended", "health"]},
    "scripts": {"scripts": True, "events": ["run.started", "run.ended"]},
}


class Stream(NamedTuple):
    """Something was heard."""

    name: str
    """Of the subscription: ``failed`` or ``scripts``."""
    event: Event
    position: int


class Hearing:
    """Both subscriptions. The threads read; ``is_new`` is for the one thread that decides."""

    def __init__(self, client: Callable[[], Client], rows: Rows, inbox: queue.SimpleQueue[Any], *, scripts: bool) -> None:
        self._client = client
        self._rows = rows
        self._inbox = inbox
        self._names = ["failed", *(["scripts"] if scripts else [])]

    def begin(self) -> None:
        """Begin to hear, each from where it was left."""
        for name in self._names:
            position = self._rows.get(f"heard/{name}", {}).get("position")
            threading.Thread(target=self._listen, args=(name, position), name=f"news {name}", daemon=True).start()

    def _listen(self, name: str, position: int | None) -> None:
        client = self._client()
        told = False
        while True:
            try:
                with client.subscribe(**_FILTERS[name], position=position) as news:
                    told = False
                    self._inbox.put(Stream(name, Event("subscribed", {}), news.position))
                    for event in news:
                        position = news.position
                        while self._inbox.qsize() > MOST:
                            time.sleep(_MOMENT)
                        self._inbox.put(Stream(name, event, position))
            except RocksydError as error:
                if not told:
                    log("notify", f"the daemon's news cannot be heard, tried again: {error}", level=WARNING)
                told = True
                time.sleep(_PAUSE)

    def is_new(self, one: Stream) -> bool:
        """Whether this has not been heard before; it has from now on, as soon as the rows are written."""
        row = self._rows.get(f"heard/{one.name}") or {"position": one.position, "now": [], "before": []}
        if one.event.name in ("subscribed", "health"):
            self._rows.put(f"heard/{one.name}", row)
            return one.event.name == "health"
        if one.position > row["position"]:
            row = {"position": one.position, "now": [], "before": row["now"]}
        mark = f"{one.event.name} {one.event.record.get('attempt')} {one.event.key}"
        if mark in row["now"] or mark in row["before"]:
            self._rows.put(f"heard/{one.name}", row)
            return False
        self._rows.put(f"heard/{one.name}", {**row, "now": [*row["now"], mark]})
        return True
