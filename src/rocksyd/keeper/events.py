"""What can happen to the choreography. Values only."""

from __future__ import annotations

from rocksyd.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Said(Value):
    """A master said ``message``."""

    master: int
    message: Any


class Died(Value):
    """A master was reaped and its channel read to the end. ``how`` ends a sentence: ``was killed by SIGKILL``."""

    master: int
    how: str


class Hung(Value):
    """A master closed its channel but has not been reaped."""

    master: int


class Hindered(Value):
    """The attempt that is under way cannot come about; ``reason`` is a sentence for whoever ordered it."""

    reason: str


class Signal(Value):
    """The service's PID got this signal."""

    number: int


class Begin(Value):
    """The keeper has booted and nothing runs yet."""


class Expired(Value):
    """The choreography's ``deadline`` may have passed."""
