"""Callers that are told how a run has ended, or that they have waited long enough.

What must live here: the answers, and how many of them in a turn.
What this file must not know: who waits (``waiters``); how a reply reaches a client (``replies``).
"""

from __future__ import annotations

from collections import deque
from copy import copy

from rocksyd import codes
from rocksyd.core import events as ev
from rocksyd.core import outcome
from rocksyd.errors import RequestError
from rocksyd.master.desk.replies import Replies
from rocksyd.master.desk.waiters import TOLD_AT_ONCE, Waiter, Waiters
from rocksyd.master.turn import Turn
from rocksyd.model import OK, Run


class Endings:
    """Tells them."""

    def __init__(self, turn: Turn, waiters: Waiters, replies: Replies) -> None:
        self._turn = turn
        self._waiters = waiters
        self._replies = replies
        self._untold: deque[tuple[Waiter, Run]] = deque()
        """Callers, and the run as it ended, that are told in the next turns."""
        turn.performs(ev.Answered, self._on_answered)
        turn.performs(ev.Ended, self._on_ended)
        turn.due(waiters.next_deadline, self._on_time)
        turn.due(lambda: 0.0 if self._untold or waiters.gone else None, self._go_on)

    def _on_answered(self, effect: ev.Answered) -> None:
        self._tell_all(self._waiters.answered(effect.run.key), effect.run)

    def _on_ended(self, effect: ev.Ended) -> None:
        self._tell_all(self._waiters.ended(effect.run.key), effect.run)

    def _tell_all(self, waiters: list[Waiter], run: Run) -> None:
        """Tell some of them now; where very many wait for one run, the others in the next turns."""
        for waiter in waiters[:TOLD_AT_ONCE]:
            self.tell(waiter, run)
        if len(waiters) > TOLD_AT_ONCE:
            as_it_ended = copy(run)  # it may be run again before
            self._untold += [(waiter, as_it_ended) for waiter in waiters[TOLD_AT_ONCE:]]

    def _go_on(self, now: float) -> None:
        self._waiters.tidy()
        self.tell_more()

    def tell_more(self, most: int = TOLD_AT_ONCE) -> None:
        """Tell the next of those that were not told yet of the end of a run that they waited for."""
        for _ in range(min(most, len(self._untold))):
            waiter, run = self._untold.popleft()
            if not waiter.done:
                self.tell(waiter, run)

    def finish(self) -> bool:
        """Tell all of them, because a hand-over carries none; whether there were any."""
        any_left = bool(self._untold)
        self.tell_more(len(self._untold))
        return any_left

    def tell(self, waiter: Waiter, run: Run) -> None:
        """The run that a caller waited for has ended, or has answered."""
        self._waiters.over(waiter)
        try:
            if not waiter.call:
                self._replies.answer(waiter.caller, run.record())
            elif run.attempt.outcome == OK or run.attempt.answered_at:
                self._replies.answer(waiter.caller, run.returned())
            else:
                self._replies.fail(waiter.caller, _job_failed(run), waited=True)
        except Exception as error:  # noqa: BLE001  (the barrier: the others that wait are told all the same)
            self._replies.broken(waiter.caller.client, error)

    def _on_time(self, now: float) -> None:
        """Callers that have waited long enough."""
        for waiter in self._waiters.overdue(now):
            try:
                run = self._turn.lookup(waiter.key)
                record = run.record() if run is not None else {"key": waiter.key}
                self._replies.answer(waiter.caller, {**record, "timed_out": True})
            except Exception as error:  # noqa: BLE001  (the barrier)
                self._replies.broken(waiter.caller.client, error)


def _job_failed(run: Run) -> RequestError:
    data = run.failure()
    code = codes.TOO_BUSY if data["type"] == outcome.TOO_BUSY and not run.attempt.started_at else codes.JOB_FAILED
    return RequestError(code, f"{data['type']}: {data['message']}", data=data)
