"""Preloaded in the zygote: brings one case to the state that is to be forked, and is the job that uses it afterwards."""

from __future__ import annotations

import importlib
import os
import time
from typing import Any

from case import Case

from rocksyd.jobs import after_fork, before_fork

GROUPS = ("web", "stores", "arrays", "plain", "loops")
_made: Any = None
_case: Any = None


def cases() -> dict[str, type[Case]]:
    """Every case by its name."""
    found = {}
    for group in GROUPS:
        for value in vars(importlib.import_module(group)).values():
            if isinstance(value, type) and issubclass(value, Case) and value is not Case:
                found[value.name or value.distribution] = value
    return found


def imported() -> None:
    """Only the library is loaded."""
    global _case
    _case = cases()[os.environ["FORK_CASE"]]()
    importlib.import_module(_case.module)


def created() -> None:
    """And its object is made."""
    global _made
    imported()
    _made = _case.create()


def used() -> None:
    """And it has been used."""
    created()
    for number in range(3):
        _case.use(_made, f"parent-{number}")


def hooked() -> None:
    """As ``used``, with the hooks."""
    if cases()[os.environ["FORK_CASE"]].late:
        imported()
    else:
        used()

    @before_fork
    def before() -> None:
        if _made is not None:
            _case.before_fork(_made)

    @after_fork
    def after() -> None:
        global _made
        _made = _case.after_fork(_made)


def use(begin: float) -> Any:
    """The job: everybody begins at the same moment (CLOCK_MONOTONIC), so that what is shared is used at once."""
    global _made
    if _made is None:
        _made = _case.create()
    time.sleep(max(0.0, begin - time.monotonic()))
    values = [_case.use(_made, f"{os.getpid()}-{number}") for number in range(_case.rounds)]
    return values if _case.distinct else None
