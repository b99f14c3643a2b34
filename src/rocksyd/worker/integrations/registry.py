"""Libraries that are looked after by themselves: what each needs before a fork, after it, and between two jobs.

What must live here: which there are, and that only those that are loaded are asked. What this file must not know: what they do.

Nothing is imported for it: a library that the application has not loaded is none of our business. One that a job loads later
has nothing to close or to reseed, but what it leaves open between two jobs is seen to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from rocksyd.worker import output
from rocksyd.worker.integrations import django, logs, numpy, sqlalchemy

_KNOWN: tuple[ModuleType, ...] = (django, sqlalchemy, logs, numpy)
_BETWEEN_JOBS: tuple[Any, ...] = (django,)

_after_fork: tuple[Callable[[], None], ...] = ()
"""Chosen before the fork, so that a worker has nothing to look up."""


def steps_before_fork() -> Iterator[tuple[str, Callable[[], None]]]:
    """(library, what is to be done) for each that is loaded; ``prepare`` comes after them."""
    for known in _loaded():
        if hasattr(known, "before_fork"):
            yield known.LIBRARY, known.before_fork


def prepare() -> None:
    """Once everything is loaded: choose what ``after_fork`` calls."""
    global _after_fork
    _after_fork = tuple(known.after_fork for known in _loaded() if hasattr(known, "after_fork"))


def after_fork() -> None:
    """In a worker, right after its fork."""
    for step in _after_fork:
        step()


def between_jobs() -> None:
    """In a worker that will have another job. Nothing is raised: the next job sees for itself."""
    for known in _BETWEEN_JOBS:
        if known.LIBRARY not in sys.modules:
            continue
        try:
            known.between_jobs()
        except Exception as error:  # noqa: BLE001  (a database that cannot be told goodbye)
            output.note(f"what {known.LIBRARY} has open could not be tidied between two jobs: {error!r}")


def take_back() -> None:
    """In the zygote, at its end."""
    for known in _loaded():
        if hasattr(known, "take_back"):
            known.take_back()


def _loaded() -> Iterator[Any]:
    return (known for known in _KNOWN if known.LIBRARY in sys.modules)
