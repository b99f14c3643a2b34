"""Answers that take long, made piece by piece: each turn goes on with them for a while, so that nobody waits for another's.

What must live here: whose is made when, and how much of all of them in a turn.
What this file must not know: what is made, how a reply reaches a client (``replies``).

Work is a generator. It yields after each piece, which is bounded by a number and not by how much there is of anything, and
returns the answer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from rocksyd.errors import JournalError, RequestError
from rocksyd.master.turn import SHARE, Turn, left

Work = Generator[None, None, Any]


class Task(NamedTuple):
    """Something that is being made."""

    client: int
    """Whose it is."""
    work: Work
    done: Callable[[Any], object]
    """Told what it has come to."""
    failed: Callable[[RequestError | JournalError], object]
    """Told why it has come to nothing."""


class Pieces:
    """All that is being made: one after the other for each client, and the clients in turn."""

    def __init__(self, turn: Turn, here: Callable[[int], bool], broken: Callable[[int, Exception], object]) -> None:
        """``here`` says whether a client is still there; ``broken`` is told of one whose work raised what nobody expected."""
        self._turn = turn
        self._here = here
        self._broken = broken
        self._begun: deque[Task] = deque()
        turn.due(lambda: 0.0 if self._begun else None, lambda now: self.go_on(left(turn)))

    def begin(self, task: Task) -> None:
        """Make this: at once, as far as this turn has time for it and nothing else of its client's is being made."""
        if any(other.client == task.client for other in self._begun) or not self._make(task, left(self._turn)):
            self._begun.append(task)

    def go_on(self, share: float = SHARE) -> None:
        """Go on with what has waited longest for ``share`` seconds, and one piece at least."""
        task = self._begun.popleft()
        if not self._here(task.client):
            task.work.close()
        elif not self._make(task, max(share, 1e-9)):
            mine = [task, *(other for other in self._begun if other.client == task.client)]
            self._begun = deque([other for other in self._begun if other.client != task.client] + mine)

    def finish(self) -> bool:
        """Make all of them, because a hand-over carries none; whether there were any."""
        any_begun = bool(self._begun)
        while self._begun:
            self.go_on(float("inf"))
        return any_begun

    def _make(self, task: Task, share: float) -> bool:
        """Make pieces for ``share`` seconds; true when it is complete, or failed, and that was said."""
        until = time.monotonic() + share
        try:
            while share > 0:
                next(task.work)
                share = until - time.monotonic()
            return False
        except StopIteration as over:
            self._say(task, task.done, over.value)
        except (RequestError, JournalError) as error:
            self._say(task, task.failed, error)
        except Exception as error:  # noqa: BLE001  (the barrier)
            self._broken(task.client, error)
        return True

    def _say(self, task: Task, say: Callable[[Any], object], what: Any) -> None:
        try:
            say(what)
        except Exception as error:  # noqa: BLE001  (the barrier)
            self._broken(task.client, error)
