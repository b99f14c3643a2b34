"""What a worker says of its runs: each RESULT is kept until it is acknowledged, and said again to whoever asks.

What must live here: which results may not have been heard, and the answer to INVENTORY.
What this file must not know: how a run ended, how many runs a worker has at the same time, how something is sent.

Every kind of work says its results through this, so that no kind can lose one: a master that dies before its journal holds a
RESULT is followed by one that asks with INVENTORY.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from rocksyd import messages
from rocksyd.worker import results


class Report:
    """The results of one worker. ``send`` sends a message to the master, and may raise ChannelClosed."""

    def __init__(self, worker: int, send: Callable[[Any], None]) -> None:
        self._worker = worker
        self._pid = os.getpid()
        self._send = send
        self._unheard: dict[str, messages.Result] = {}

    def __len__(self) -> int:
        return len(self._unheard)

    def keep(self, result: messages.Result) -> None:
        """A run has ended, and its result is about to be sent."""
        self._unheard[result.key] = result

    def say(self, result: messages.Result) -> None:
        """A run has ended: keep its result, and send it."""
        self.keep(result)
        self._send(result)

    def heard(self, key: str) -> bool:
        """The journal holds this run's result. Whether it was one of those that are kept."""
        return self._unheard.pop(key, None) is not None

    def all_heard(self) -> None:
        """The journal holds all of them (the next JOB says so as well), or nobody will ever ask."""
        self._unheard.clear()

    def answer(self, epoch: int, going_on: Mapping[str, float] | None = None) -> None:
        """Answer INVENTORY: every result again, then what else is held.

        A worker that runs share names the runs ``going_on``, with the deadline of each (0 for none). Another one reads no message
        while its run goes on, and its RESULT is the whole answer.
        """
        for result in list(self._unheard.values()):
            self._send(result)
        if going_on is not None and (keys := (*going_on, *self._unheard)):
            self._send(messages.Holding(self._worker, self._pid, epoch, keys, tuple(going_on.values())))
        elif not self._unheard:
            self._send(messages.Idle(self._worker, self._pid, epoch))


def progress(key: str, done: Any, total: Any, note: Any, gauges: dict[str, float] | None = None) -> messages.Progress:
    """What a job says of how far it is, and its gauges, as a message."""
    return messages.Progress(key, results.number(done), results.number(total), results.text(str(note))[:1000], gauges or {})
