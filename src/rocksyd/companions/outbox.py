"""Alerts on their way to receivers: tried until they are delivered, or given up.

What must live here: a thread a receiver, when there is another try, what has been delivered.
What this file must not know: what an alert means, how one try is made (``receivers``).

What is in the outbox is in ``rows`` as well, written down before the first try. A try that was made, and whose outcome was not
written down because the machine lost its power, is made again, with the same id.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from rocksyd.companions.receivers import NotDelivered, deliver
from rocksyd.posix.log import ERROR, WARNING, log
from rocksyd.units import rough_duration

LADDER = (1.0, 5.0, 30.0, 120.0, 600.0, 1800.0)
"""Seconds until the next try: after the first, the second ...; then always the last."""
MOST = 1000
"""Alerts that wait for one receiver; beyond it the oldest go."""


class Post:
    """One receiver and what waits for it."""

    def __init__(self, settings: dict[str, Any], done: Callable[[str, str], None]) -> None:
        self.settings = settings
        self.name: str = settings["name"]
        self.waiting: dict[str, dict[str, Any]] = {}
        """By the alerts' ids: the alert as it is sent (``said``), since when, how often it was tried."""
        self.delivered = 0
        self.given_up = 0
        self.trouble = ""
        """Why the last try failed; "" when it did not."""
        self._done = done
        self._changed = threading.Condition()
        self._leaving = False
        self._thread = threading.Thread(target=self._work, name=f"receiver {self.name}", daemon=True)

    def begin(self) -> None:
        """Go to work."""
        self._thread.start()

    def put(self, number: str, row: dict[str, Any]) -> list[str]:
        """There is something to deliver; returns what is given up for it, because too much waits."""
        with self._changed:
            self.waiting[number] = {**row, "again": 0.0}
            beyond = list(self.waiting)[: max(0, len(self.waiting) - MOST)]
            for one in beyond:
                del self.waiting[one]
            self.given_up += len(beyond)
            self._changed.notify()
            return beyond

    def leave(self) -> None:
        """Begin no further try, and wait for the one that is being made."""
        with self._changed:
            self._leaving = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while (number := self._next()) is not None:
            row = self.waiting[number]
            try:
                deliver(self.settings, row["said"])
            except NotDelivered as error:
                self._failed(number, row, error)
            except Exception as error:  # noqa: BLE001  (whatever one receiver's try raises, the others are told)
                self._failed(number, row, NotDelivered(f"{type(error).__name__}: {error}"))
            else:
                self.delivered += 1
                if self.trouble:
                    log("notify", f"{self.name} can be reached again")
                self.trouble = ""
                self._finish(number)

    def _next(self) -> str | None:
        """Wait for something to try; None when it is time to leave. In order: the oldest first, and nothing overtakes it."""
        with self._changed:
            while not self._leaving:
                number = next(iter(self.waiting), None)
                if number is None:
                    self._changed.wait()
                    continue
                left = self.waiting[number]["again"] - time.monotonic()
                if left <= 0:
                    return number
                self._changed.wait(left)
            return None

    def _failed(self, number: str, row: dict[str, Any], error: NotDelivered) -> None:
        row["tries"] = row.get("tries", 0) + 1
        age = time.time() - row["since"]
        if not self.trouble:
            log("notify", f"{self.name} cannot be told, tried again: {error}", level=WARNING)
        self.trouble = str(error)
        if age > self.settings["give_up"]:
            log("notify", f"{self.name} was not told within {rough_duration(age)}: {row['said']['title']}", level=ERROR)
            self.given_up += 1
            self._finish(number)
            return
        pause = max(LADDER[min(row["tries"], len(LADDER)) - 1], min(error.after, LADDER[-1]))
        row["again"] = time.monotonic() + pause

    def _finish(self, number: str) -> None:
        with self._changed:
            self.waiting.pop(number, None)
        self._done(self.name, number)
