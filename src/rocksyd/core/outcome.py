"""How a run ended, from whatever is known: a result, an exit status, a limit, nothing.

What must live here: the rules of retcode, signal, reason, outcome, and of trying again.
What this file must not know: how the facts came in.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rocksyd.core.events import WorkerExited, WorkerResult
from rocksyd.model import CANCELLED, FAILED, KILLED, LOST, LOST_RETCODE, MEMORY, OK, REASONS, TIMEOUT, Run

CANCELLED_RETCODE = 143
"""What a run shows that was cancelled before it started: as if TERM had ended it."""
TOO_LATE_RETCODE = 124
"""As timeout(1) exits."""
TOO_BUSY = "TooBusy"
"""Type of the error of a run that was given up because its pool cannot keep up."""
BACKOFF_FIRST, BACKOFF_MOST = 1.0, 300.0


GONE = "the configuration has no application {!r} any more"


class Ending(NamedTuple):
    """The facts of one ending."""

    outcome: str
    retcode: int
    signal: int = 0
    result: Any = None
    error: dict[str, Any] | None = None
    cpu: float = 0.0
    max_rss: int = 0
    dropped: str = ""


def from_result(run: Run, event: WorkerResult) -> Ending:
    """The worker said how it went; if it had been told to end, that is the reason whatever it says."""
    outcome = run.kill_reason or _limit(event) or (OK if event.ok and event.retcode == 0 else FAILED)
    return Ending(outcome, event.retcode, event.signal, event.value, event.error, event.cpu, event.max_rss, event.dropped)


def _limit(event: WorkerResult) -> str:
    """The limit that the worker came to before the master did."""
    return event.reason if event.reason in (TIMEOUT, MEMORY) else ""


def from_exit(run: Run, event: WorkerExited) -> Ending:
    """The worker ended without a word: its exit status is all there is (wait(2))."""
    if event.status is None:
        return lost("its worker is gone and nobody knows how it ended")
    number = event.status & 0x7F
    retcode = 128 + number if number else event.status >> 8
    outcome = run.kill_reason or (MEMORY if number and event.oom else KILLED if number else OK if retcode == 0 else FAILED)
    return Ending(outcome, retcode, number, None, None, event.cpu, event.max_rss)


def from_shared_exit(run: Run, event: WorkerExited, number: int, stubborn: str) -> Ending:
    """The worker ended without a word while this run was one of ``number`` at it: it has not brought its result.

    Which of them ended the worker is known only when it was killed because one, ``stubborn``, did not obey. What the process has
    used is not this run's alone, so none of it is.
    """
    ending = from_exit(run, event)._replace(cpu=0.0, max_rss=0)
    if ending.outcome == LOST or run.kill_reason:
        return ending
    why = f", because run {stubborn!r} had not ended within its grace" if stubborn else ""
    shared = f", which it shared with {number - 1} others," if number > 1 else ""
    message = f"its worker{shared} ended by {shown_status(event.status)}{why}"
    if ending.outcome == OK:
        return lost(message)  # that is how the worker ended, and not how its run did
    return ending._replace(error={"type": "WorkerDied", "message": message, "traceback": ""})


def never_began(run: Run, event: WorkerExited) -> Ending:
    """One worker after another died before its code began: it is the run that does not agree with them."""
    ending = from_exit(run, event)
    message = f"{run.given_back + 1} workers died before its code began, this one with {shown_status(event.status)}"
    error = {"type": "WorkerDied", "message": message, "traceback": ""}
    return ending._replace(outcome=FAILED if ending.outcome == OK else ending.outcome, error=error)


def never_started(reason: str) -> Ending:
    """Ended while it waited."""
    return Ending(reason, CANCELLED_RETCODE if reason == CANCELLED else TOO_LATE_RETCODE)


def too_late() -> Ending:
    """``start_within`` passed while it waited."""
    error = {"type": "TooLate", "message": "no worker was free within start_within", "traceback": ""}
    return Ending("timeout", TOO_LATE_RETCODE, error=error)


def waited_too_long() -> Ending:
    """It was taken by a pool that limits how long runs wait, and no worker was free within that time after all."""
    error = {"type": TOO_BUSY, "message": "no worker was free in time: the pool cannot keep up", "traceback": ""}
    return Ending("timeout", TOO_LATE_RETCODE, error=error)


def lost(why: str) -> Ending:
    """Nobody knows."""
    return Ending(LOST, LOST_RETCODE, error={"type": "Lost", "message": why, "traceback": ""})


def application_gone(name: str) -> Ending:
    """The configuration no longer has what it was to run in."""
    return lost(GONE.format(name))


def shown_status(status: int | None) -> str:
    """An exit status as waitpid gives it, in words."""
    if status is None:
        return "nobody knows how"
    return f"signal {status & 0x7F}" if status & 0x7F else f"exit status {status >> 8}"


def apply(run: Run, ending: Ending) -> None:
    """Write the ending into the run (its state is the engine's)."""
    run.outcome, run.retcode, run.signal = ending.outcome, ending.retcode, ending.signal
    if not run.answered_at:
        run.result, run.result_dropped = ending.result, ending.dropped
    run.error = ending.error
    run.cpu, run.max_rss = ending.cpu, ending.max_rss


def clear(run: Run) -> None:
    """Forget the last ending: the run is to run again."""
    run.outcome, run.retcode, run.signal, run.result, run.result_dropped, run.error = "", None, 0, None, "", None
    run.cpu, run.max_rss, run.progress, run.ended_at, run.started_at = 0.0, 0, None, 0.0, 0.0
    run.slow_at = run.answered_at = 0.0
    run.given_back = 0
    run.kill_reason, run.kill_at, run.deadline, run.started, run.worker, run.pid = "", 0.0, 0.0, 0.0, 0, 0


def try_again_after(run: Run, ending: Ending) -> float | None:
    """Seconds until the next attempt, or None when this was the last: 1 s, doubling, at most five minutes."""
    if run.answered_at or ending.outcome in (OK, CANCELLED) or run.state == "waiting" or run.attempt > run.retries:
        return None
    return min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(run.attempt - 1, 20))


def classic(run: Run) -> dict[str, Any]:
    """The answer to ``check`` in the classic dialect."""
    if run.state != "ended":
        return {"error_text": "Still running"}
    reply: dict[str, Any] = {"retcode": run.retcode}
    if run.signal:
        reply["signal"] = run.signal
    if run.outcome in REASONS:
        reply["reason"] = run.outcome
    return reply
