"""How a run ended: what a job returned, raised or exited with, as the fields of RESULT.

What must live here: the meaning of each way to end. What this file must not know: the channel.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from rocksyd.errors import JobTimeout
from rocksyd.worker import output, values
from rocksyd.worker.deadline import TERMINATED, without_handler


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

    @property
    def ok(self) -> bool:
        """Whether the run counts as a success."""
        return self.retcode == 0


class Early:
    """The value that a job has answered with before its end: it is the result, whatever comes after it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._said: values.Said | None = None

    def take(self, value: Any) -> values.Said:
        """Plain data for ``value``."""
        self._said = values.plain(value, self._limit)
        return self._said

    def into(self, outcome: Outcome) -> Outcome:
        """The outcome with that value, if there was one."""
        said = self._said
        if said is None:
            return outcome
        return outcome._replace(value=said.value, notes=(*said.notes, *outcome.notes), dropped=said.dropped)


def observed(call: Callable[[], Any], result_limit: int) -> Outcome:
    """Call, and say how it ended. An uncaught exception is printed as Python would. Never raises."""
    try:
        value = call()
    except SystemExit as exit_:
        return _exited(exit_.code)
    except JobTimeout as error:
        return _failed(without_handler(error))._replace(retcode=128 + TERMINATED, signal=TERMINATED, reason="timeout")
    except BaseException as error:  # noqa: BLE001  (KeyboardInterrupt and the like end the run, not the worker)
        return _failed(error)
    said = values.plain(value, result_limit)
    return Outcome(value=said.value, notes=tuple(said.notes), dropped=said.dropped)


def _exited(code: object) -> Outcome:
    """``sys.exit(code)``: None is 0, a number is itself as an exit status is, anything else is printed and is 1."""
    if code is None:
        return Outcome()
    if isinstance(code, int):
        return Outcome(retcode=code & 0xFF)
    message = values.plain(code if isinstance(code, str) else str(code), sys.maxsize).value
    output.write(f"{message}\n")
    return Outcome(retcode=1, error={"type": "SystemExit", "message": message, "traceback": ""})


def _failed(error: BaseException) -> Outcome:
    described = values.described(error)
    hook = sys.excepthook
    if hook is sys.__excepthook__:
        output.write(described["traceback"])
    else:
        # An application that has set its own (error collectors do) wants to see it; it prints what it wants printed.
        try:
            hook(type(error), error, error.__traceback__)
        except BaseException as of_hook:  # noqa: BLE001  (anybody's code)
            output.write(described["traceback"])
            output.write("Error in sys.excepthook:\n" + values.traceback_of(of_hook))
    return Outcome(retcode=1, error=described)
