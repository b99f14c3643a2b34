"""Consumers of queues in the scheduler: asks how much waits, counts the runs there are, starts those that are missing.

What must live here: the order of these steps, for each consumer in a thread of its own: a queue that does not answer holds up
no other, and no tick.
What this file must not know: how many instances there should be (``rocksyd.schedule.consumer``).

Nothing is remembered that a crash could lose: how many of a consumer's runs there are the daemon is asked each time. Only the
scheduler that acts starts any, and one that is to leave starts none after it has said so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

from rocksyd.client import Client
from rocksyd.errors import JobFailed, NoDaemon, RequestError, RocksydError
from rocksyd.posix.log import log
from rocksyd.schedule.consumer import ROLE, Consumer, Depth, History, Size, depth_of, learned, resting, size

AGAIN = 1.0
"""Seconds until the daemon is asked again that did not answer."""
SOONEST = 0.2
"""Seconds between two looks at least, when a run has ended and more waits."""


class Consuming:
    """One consumer, and how it is. ``paused`` says whether it is."""

    def __init__(self, consumer: Consumer, client: Callable[[], Client], paused: Callable[[], bool]) -> None:
        self.consumer = consumer
        self._client = client()
        self._paused = paused
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self.leaving = False
        """Whether nothing is started any more."""
        self._history = History()
        self._depth: Depth | None = None
        self._size: Size | None = None
        self._running = 0
        self._looked_at = 0.0
        self._trouble = ""

    # --- its thread ---------------------------------------------------------------------------------------------------
    def act(self) -> None:
        """Look at the queue again and again, until it is to leave."""
        while not self.leaving:
            pause = self.consumer.look_every
            if not self._paused():
                try:
                    self.look()
                except NoDaemon as error:
                    self._say(f"the daemon does not answer: {error}")
                    pause = AGAIN
                except RocksydError as error:
                    self._say(str(error))
            self._wake.wait(max(SOONEST, pause))
            if self._wake.is_set() and not self.leaving:
                self._wake.clear()
                time.sleep(min(SOONEST, self.consumer.look_every))  # several end together: one look is enough for them

    def look(self) -> None:
        """Ask the queue and the daemon, and start what is missing."""
        depth = self._asked()
        running = len(self.runs())
        now = time.time()
        with self._lock:
            if self.leaving or self._paused():
                return
            self._running, self._looked_at = running, now
            if depth is None:
                missing = 0 if resting(self._history, self.consumer.name) > now else max(0, self.consumer.min - running)
            else:
                self._depth, self._size = depth, size(self.consumer, self._history, depth, running, now)
                self._history, missing = self._size.history, self._size.start
            self._start(missing)

    def _asked(self) -> Depth | None:
        """What the queue says; None where it cannot be asked."""
        try:
            depth = depth_of(self._client.request("call", self.consumer.asked, wait=True)["result"])
        except (JobFailed, RequestError, ValueError) as error:
            self._say(f"{self.consumer.depth} cannot say how much waits: {error}")
            return None
        self._say("")
        return depth

    def _start(self, number: int) -> None:
        calls = [("run", {**self.consumer.order, "key": f"{self.consumer.name}!{uuid4().hex[:12]}"}) for _ in range(number)]
        answers = self._client.answers(calls) if calls else []
        refused = next((answer for answer in answers if isinstance(answer, RequestError)), None)
        self._running += sum(not isinstance(answer, RequestError) for answer in answers)
        if refused is not None:
            self._say(f"no instance could be started: {refused}")

    def runs(self) -> list[str]:
        """Keys of its runs that wait or run. Raises NoDaemon."""
        labels = self.consumer.order["labels"]
        wanted = [{"state": state, "labels": labels, "limit": 1000} for state in ("waiting", "running")]
        return [run["key"] for rows in self._client.requests([("list", one) for one in wanted]) for run in rows]

    def _say(self, trouble: str) -> None:
        """Write a new trouble, or its end, into the log once."""
        if trouble != self._trouble:
            log("scheduler", f"consumer {self.consumer.name}: {trouble or 'its queue answers again'}")
        self._trouble = trouble

    # --- what is heard and asked --------------------------------------------------------------------------------------
    def ended(self, record: dict[str, Any]) -> None:
        """One of its runs has ended: if more waits, the next look is now."""
        with self._lock:
            self._history = learned(self._history, record)
            more = self._depth is not None and self._depth.waiting > 0
        if more and not self._history.failures:
            self.wake()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def leave(self) -> None:
        """Start nothing any more."""
        with self._lock:
            self.leaving = True
        self.wake()

    def close(self) -> None:
        """Part with the daemon."""
        self._client.close()

    def shown(self) -> dict[str, Any]:
        """How it is, as ``schedule.list`` and ``schedule.show`` have it."""
        with self._lock:
            depth, found, consumer = self._depth, self._size, self.consumer
            return {
                "depth": consumer.depth,
                "min": consumer.min,
                "max": consumer.max,
                "waiting": depth.waiting if depth else None,
                "oldest": depth.age or None if depth else None,
                "running": self._running,
                "wanted": found.wanted if found else None,
                "why": found.why if found else None,
                "pace": self._history.pace or None,
                "failures": self._history.failures,
                "looked_at": self._looked_at or None,
                "trouble": self._trouble or None,
            }


class Consumers:
    """All consumers of the scheduler. ``paused`` says of a name whether it is."""

    def __init__(self, consumers: dict[str, Consumer], client: Callable[[], Client], paused: Callable[[str], bool]) -> None:
        self._all = {name: Consuming(one, client, partial(paused, name)) for name, one in consumers.items()}
        self._client = client() if consumers else None

    def begin(self) -> None:
        """Act: the scheduler before has left."""
        for name, one in self._all.items():
            threading.Thread(target=one.act, name=f"consumer {name}", daemon=True).start()
        if self._all:
            threading.Thread(target=self._listen, name="consumers", daemon=True).start()

    def _listen(self) -> None:
        """Hear of runs that end. What is not heard costs time: the next look comes by itself."""
        assert self._client is not None
        while not any(one.leaving for one in self._all.values()):
            try:
                with self._client.subscribe(labels={"role": ROLE}, events=["run.ended"]) as news:
                    for event in news:
                        one = self._all.get(str(event.record.get("labels", {}).get("script")))
                        if one is not None:
                            one.ended(event.record)
            except RocksydError:
                time.sleep(AGAIN)

    def row(self, name: str) -> dict[str, Any]:
        """What a row of ``schedule.list`` has of a consumer more than of a script."""
        one = self._all.get(name)
        if one is None:
            return {}
        found = one.shown()
        return {"schedule": f"{found['min']} to {found['max']} by {found['depth']}", "consumer": found}

    def going(self, name: str) -> list[str]:
        """Keys of a consumer's runs; nothing for a script."""
        one = self._all.get(name)
        return one.runs() if one is not None else []

    def wake(self, name: str) -> None:
        """Let one look now."""
        if name in self._all:
            self._all[name].wake()

    def leave(self) -> None:
        """Start nothing any more."""
        for one in self._all.values():
            one.leave()

    def close(self) -> None:
        """Part with the daemon."""
        for one in self._all.values():
            one.close()
