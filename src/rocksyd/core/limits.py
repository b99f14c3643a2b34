"""Limits of time and memory: what follows from one that is reached.

What must live here: the rules, as functions of runs, workers and settings. What this file must not know: clocks, /proc, signals'
numbers on the wire.
"""

from __future__ import annotations

from rocksyd.core.events import KillWorker
from rocksyd.model import SCRIPT, TIMEOUT, Run

_SIGTERM = 15


def ends_by_itself(run: Run | None, order: KillWorker) -> bool:
    """Whether the worker is told of the order by ``JobTimeout`` in its job: TERM because of a deadline.

    A script for a caller is to go as if it had been started by hand, and there TERM is what a timeout sends.
    """
    return run is not None and order.number == _SIGTERM and run.kill_reason == TIMEOUT and run.kind != SCRIPT
