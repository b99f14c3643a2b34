"""How a run ended: what a job returned, raised or exited with, as the fields of RESULT.

What must live here: the meaning of each way to end. What this file must not know: the channel.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from rocksyd import bounds, messages
from rocksyd.errors import Cancel, JobError, JobTimeout, Retry
from rocksyd.worker import output, results
from rocksyd.worker.deadline import TERMINATED, without_handler

AGAIN = 75
"""Exit status of a job that asks to be tried again: EX_TEMPFAIL of sysexits.h."""


class Outcome(NamedTuple):
    """The end of a run."""

    retcode: int = 0
    value: Any = None
    """Plain data."""
    error: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    """Lines for the job's output."""
    signal: int = 0
    reason: str = ""
    """The limit that ended it: ``timeout``, ``memory``."""
    dropped: str = ""
    """Why there is no value although the job returned one."""
    again: float | None = None
    """The job asked to be tried again: in how many seconds, -1 for as usual."""
    lineage: tuple[str, ...] = ()
    """The classes of its exception, where somebody asks for them."""

    @property
    def ok(self) -> bool:
        """Whether the run counts as a success."""
        return self.retcode == 0


class Manner(NamedTuple):
    """How the result of a run is said."""

    limit: int = bounds.RESULT
    """Bytes of JSON that it may have."""
    lenient: bool = False
    """Whether what JSON has no form for is said as null or as text."""
    of: str = "the job"
    """Whose result it is, for a sentence."""
    lineage: bool = False
    """Whether the classes of its exception are named."""

    def say(self, value: Any) -> results.Said:
        """Plain data for ``value``. Raises JobError for what JSON does not know."""
        return results.plain(value, self.limit, lenient=self.lenient, of=self.of)


def manner_of(job: messages.Job) -> Manner:
    """What was ordered."""
    return Manner(job.result_limit, job.results == "lenient", f"job {job.target}", job.lineage)


class Early:
    """The value that a job has answered with before its end: it is the result, whatever comes after it."""

    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self._said: results.Said | None = None

    def take(self, value: Any) -> results.Said:
        """Plain data for ``value``. Raises JobError for what JSON does not know."""
        self._said = self._manner.say(value)
        return self._said

    def into(self, outcome: Outcome) -> Outcome:
        """The outcome with that value, if there was one."""
        said = self._said
        if said is None:
            return outcome
        return outcome._replace(value=said.value, notes=(*said.notes, *outcome.notes), dropped=said.dropped)


def observed(call: Callable[[], Any], manner: Manner) -> Outcome:
    """Call, and say how it ended. An uncaught exception is printed as Python would. Never raises."""
    try:
        value = call()
    except SystemExit as exit_:
        return _exited(exit_.code)
    except JobTimeout as error:
        return _failed(without_handler(error))._replace(retcode=128 + TERMINATED, signal=TERMINATED, reason="timeout")
    except Retry as error:
        return _asks_again(error)
    except Cancel as error:
        error_, note = results.described(error), f"cancelled by the job itself{_because(error)}"
        return Outcome(retcode=128 + TERMINATED, error={**error_, "traceback": ""}, notes=(note,), reason="cancelled")
    except BaseException as error:  # noqa: BLE001  (KeyboardInterrupt and the like end the run, not the worker)
        return _failed(error)._replace(lineage=results.lineage(error) if manner.lineage else ())
    try:
        said = manner.say(value)
    except JobError as error:
        return _failed(error)
    return Outcome(value=said.value, notes=tuple(said.notes), dropped=said.dropped)


def _asks_again(error: Retry) -> Outcome:
    """``raise Retry``: a failure of which no traceback has to be read."""
    from rocksyd.units import format_duration, parse_duration  # noqa: PLC0415  (few jobs ask)

    try:
        after = -1.0 if error.after is None else parse_duration(error.after)
    except ValueError as wrong:
        return _failed(JobError(f"Retry(after={error.after!r}) is wrong: {wrong}"))
    when = "" if after < 0 else f" in {format_duration(after)}"
    note = f"the job asks to be tried again{when}{_because(error)}"
    return Outcome(retcode=AGAIN, error={**results.described(error), "traceback": ""}, notes=(note,), again=after)


def _because(error: Exception) -> str:
    said = str(error)
    return f": {said}" if said else ""


def _exited(code: object) -> Outcome:
    """``sys.exit(code)``: None is 0, a number is itself as an exit status is, anything else is printed and is 1."""
    if code is None:
        return Outcome()
    if isinstance(code, int):
        return Outcome(retcode=code & 0xFF)
    message = results.plain(code if isinstance(code, str) else str(code), sys.maxsize).value
    output.write(f"{message}\n")
    error = {"type": "SystemExit", "message": bounds.cut(message, bounds.MESSAGE), "traceback": ""}
    return Outcome(retcode=1, error=error)


def _failed(error: BaseException) -> Outcome:
    described = results.described(error)
    hook = sys.excepthook
    if hook is sys.__excepthook__:
        output.write(described["traceback"])
    else:
        # An application that has set its own (error collectors do) wants to see it; it prints what it wants printed.
        try:
            hook(type(error), error, error.__traceback__)
        except BaseException as of_hook:  # noqa: BLE001  (anybody's code)
            output.write(described["traceback"])
            output.write("Error in sys.excepthook:\n" + results.traceback_of(of_hook))
    return Outcome(retcode=1, error=described)
