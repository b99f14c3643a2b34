"""How a run ended, from whatever is known: a result, an exit status, a limit, nothing.

What must live here: the rules of retcode, signal, reason, outcome, and of trying again.
What this file must not know: how the facts came in.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rocksyd import bounds, retrying
from rocksyd.core.events import WorkerExited
from rocksyd.exit_status import describe
from rocksyd.kinds import unknown
from rocksyd.messages import Result
from rocksyd.model import CANCELLED, FAILED, INTERRUPTED, KILLED, LOST, LOST_RETCODE, MEMORY, OK, REASONS, TIMEOUT, Attempt, Run

CANCELLED_RETCODE = 143
"""What a run shows that was cancelled before it started: as if TERM had ended it."""
TOO_LATE_RETCODE = 124
"""As timeout(1) exits."""
TOO_BUSY = "TooBusy"
"""Type of the error of a run that was given up because its pool cannot keep up."""
ASKED_MOST = 100
"""Attempts of a run whose job asks for each (``raise Retry``), where its order allows none by itself."""
PREDECESSOR = "PredecessorFailed"
"""Type of the error of a run that was cancelled because one that it was to come after did not end well."""


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
    final: bool = False
    """Whether it is not to be tried again, whatever the order allows."""
    again: float | None = None
    """The job asked to be tried again: in how many seconds, -1 for as usual."""
    lineage: tuple[str, ...] = ()
    """The classes of its exception."""


def from_result(run: Run, said: Result) -> Ending:
    """The worker said how it went; if it had been told to end, that is the reason whatever it says."""
    well, told = said.ok and said.retcode == 0, run.attempt.kill_reason
    if told == INTERRUPTED and (well or said.reason == CANCELLED):
        told = ""  # it has done what it had to before it was ended
    outcome = told or _limit(said) or (OK if well else FAILED)
    dropped, error = bounds.cut(said.dropped, bounds.SENTENCE), bounds.failure(said.error)
    lineage = tuple(bounds.cut(name, bounds.NAME) for name in said.lineage[: bounds.MOST_ARGS])
    again = None if said.again is None else min(said.again, retrying.LONGEST)
    return Ending(
        outcome, said.retcode, said.signal, said.value, error, said.cpu, said.max_rss, dropped, again=again, lineage=lineage
    )


def _limit(said: Result) -> str:
    """The limit that the worker came to before the master did, or that the job itself saw nothing to do."""
    return said.reason if said.reason in (TIMEOUT, MEMORY, CANCELLED) else ""


def from_exit(run: Run, event: WorkerExited) -> Ending:
    """The worker ended without a word: its exit status is all there is (wait(2))."""
    if event.status is None:
        return lost("its worker is gone and nobody knows how it ended")
    number = event.status & 0x7F
    retcode = 128 + number if number else event.status >> 8
    by_itself = MEMORY if number and event.oom else KILLED if number else OK if retcode == 0 else FAILED
    return Ending(run.attempt.kill_reason or by_itself, retcode, number, None, None, event.cpu, event.max_rss)


def from_shared_exit(run: Run, event: WorkerExited, number: int, stubborn: str) -> Ending:
    """The worker ended without a word while this run was one of ``number`` at it: it has not brought its result.

    Which of them ended the worker is known only when it was killed because one, ``stubborn``, did not obey. What the process has
    used is not this run's alone, so none of it is.
    """
    ending = from_exit(run, event)._replace(cpu=0.0, max_rss=0)
    if ending.outcome == LOST or run.attempt.kill_reason:
        return ending
    why = f", because run {stubborn!r} had not ended within its grace" if stubborn else ""
    shared = f", which it shared with {number - 1} others," if number > 1 else ""
    message = f"its worker{shared} {describe(event.status)}{why}"
    if ending.outcome == OK:
        return lost(message)  # that is how the worker ended, and not how its run did
    return ending._replace(error={"type": "WorkerDied", "message": message, "traceback": ""})


def never_began(run: Run, event: WorkerExited) -> Ending:
    """One worker after another died before its code began: it is the run that does not agree with them."""
    ending = from_exit(run, event)
    message = f"{run.attempt.given_back + 1} workers died before its code began; the last one {describe(event.status)}"
    error = {"type": "WorkerDied", "message": message, "traceback": ""}
    return ending._replace(outcome=FAILED if ending.outcome == OK else ending.outcome, error=error)


def spoke_nonsense(reason: str) -> Ending:
    """Its worker was killed, because what it said could not be made sense of."""
    return Ending(FAILED, 1, error={"type": "WorkerSpokeNonsense", "message": reason, "traceback": ""})


def broken(reason: str) -> Ending:
    """The master has met a fault of its own while it dealt with the run."""
    return Ending(FAILED, 1, error={"type": "InternalError", "message": reason, "traceback": ""}, final=True)


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


def not_followed(key: str, how: str) -> Ending:
    """A run that it was to come after has ended otherwise than well."""
    message = f"run {key!r}, after which it was to begin, ended as {how}"
    error = {"type": PREDECESSOR, "message": message, "traceback": ""}
    return Ending(CANCELLED, CANCELLED_RETCODE, error=error, final=True)


def lost(why: str) -> Ending:
    """Nobody knows."""
    return Ending(LOST, LOST_RETCODE, error={"type": "Lost", "message": why, "traceback": ""})


def caller_gone() -> Ending:
    """A call without a key that waited, or that had ended, when the master died: its caller has seen its connection end."""
    return lost("the master died, and with it the connection of the caller, who alone could ask for this run")


def application_gone(name: str) -> Ending:
    """The configuration no longer has what it was to run in."""
    return lost(GONE.format(name))


def unknown_kind(name: str) -> Ending:
    """A newer version, which served before this one, took an order for a kind of work that this one does not know."""
    return lost(unknown(name))


def apply(attempt: Attempt, ending: Ending) -> None:
    """Write the ending into the attempt."""
    attempt.outcome, attempt.retcode, attempt.signal = ending.outcome, ending.retcode, ending.signal
    if not attempt.answered_at:
        attempt.result, attempt.result_dropped = ending.result, ending.dropped
    attempt.error = ending.error
    attempt.cpu, attempt.max_rss = ending.cpu, ending.max_rss


def try_again_after(run: Run, ending: Ending) -> float | None:
    """Seconds until the next attempt, or None when this was the last."""
    last, order = run.attempt, run.order
    if ending.final or last.answered_at or ending.outcome in (OK, CANCELLED) or run.state == "waiting":
        return None
    if last.number > (order.retries or (0 if ending.again is None else ASKED_MOST)):
        return None
    if ending.again is not None and ending.again >= 0:
        return ending.again
    worth_it = ending.again is not None or retrying.worth_it(
        order.retry.get("on", ()), ending.outcome, ending.retcode, ending.lineage
    )
    return retrying.wait(order.retry, run.key, last.number) if worth_it else None


def classic(run: Run) -> dict[str, Any]:
    """The answer to ``check`` in the classic dialect."""
    if run.state != "ended":
        return {"error_text": "Still running"}
    reply: dict[str, Any] = {"retcode": run.attempt.retcode}
    if run.attempt.signal:
        reply["signal"] = run.attempt.signal
    if run.attempt.outcome in REASONS:
        reply["reason"] = run.attempt.outcome
    return reply
