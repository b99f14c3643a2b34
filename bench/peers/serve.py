"""How the bench talks to a peer: a line ``COMMAND NUMBER`` in, a line of JSON out."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

GAP = 0.02
"""Seconds between two launches: whoever forks ahead has done so."""
APPLICATION = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "application")


def serve(commands: dict[str, Callable[[int], Any]]) -> None:
    """Say that all is loaded, then carry out commands until nobody sends any."""
    print("ready", flush=True)
    for line in sys.stdin:
        command, number = line.split()
        print(json.dumps(commands[command](int(number))), flush=True)


def launches(launch: Callable[[], tuple[float, float, float, float]], count: int) -> dict[str, list[float]]:
    """Milliseconds to the first line, and to the end being known: ``launch`` returns four moments in ns."""
    first, known, told = [], [], []
    for _ in range(count):
        asked, began, ended, heard = launch()
        first.append((began - asked) / 1e6)
        known.append((heard - asked) / 1e6)
        told.append((heard - ended) / 1e6)
        time.sleep(GAP)
    return {"first": first, "known": known, "told": told}


def waits(call: Callable[[], Any], count: int) -> list[float]:
    """Milliseconds that each of ``count`` calls takes, one after another without a pause."""
    samples = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        samples.append((time.perf_counter() - began) * 1e3)
    return samples


def timed(work: Callable[[], Any]) -> float:
    """Seconds that ``work`` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextlib.contextmanager
def running(*argv: str, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the peer's; it and its group are ended with the block."""
    environment = {**os.environ, "PYTHONPATH": APPLICATION}
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment, start_new_session=True, **more
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
