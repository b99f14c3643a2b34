"""Avalanche: what callers see while a pool's backend is ten times slower, with a fixed queue and with an adaptive one."""

from __future__ import annotations

import contextlib
import json
import select
import time
from pathlib import Path
from typing import NamedTuple

from bench.figures import Report, p50, percentile
from bench.programs import Rocksyd

WORKERS, SERVICE, SLOWER = 4, 0.02, 10
RATE = 0.6 * WORKERS / SERVICE
"""Calls a second: 60 % of what the workers manage."""
POOL = f'pm = "static"\nmax_workers = {WORKERS}\nmax_jobs = 0\nmax_queue = 100000'
POOLS = {"fixed queue": POOL, "adaptive": f'{POOL}\nadmission = "adaptive"'}
TOO_BUSY = -32004


class Answer(NamedTuple):
    """One call: when it was sent, how long its answer took, whether it was served."""

    at: float
    took: float
    served: bool


class Phases(NamedTuple):
    """Seconds from the beginning: the backend is slow from ``slow`` to ``well``, and the last call is sent at ``end``."""

    slow: float
    well: float
    end: float


def _experiment(daemon: Rocksyd, phases: Phases) -> list[Answer]:
    """Send calls at a steady rate, whatever comes back."""
    backend = daemon.base / "backend"
    _set(backend, SERVICE)
    talk = daemon.talk().socket
    talk.setblocking(False)
    params = {"target": "backend", "params": [str(backend)]}
    sent: list[float] = []
    answers: list[Answer] = []
    began, rest, slow = time.monotonic(), b"", False
    while len(answers) < len(sent) or not sent or sent[-1] < phases.end:
        now = time.monotonic() - began
        if slow is not (phases.slow <= now < phases.well):
            slow = not slow
            _set(backend, SERVICE * (SLOWER if slow else 1))
        while len(sent) / RATE <= min(now, phases.end):
            line = json.dumps({"jsonrpc": "2.0", "id": len(sent), "method": "call", "params": params}).encode() + b"\n"
            sent.append(now)
            talk.send(line)
        if not select.select([talk], [], [], 0.002)[0]:
            continue
        *lines, rest = (rest + talk.recv(1 << 20)).split(b"\n")
        now = time.monotonic() - began
        for line in lines:
            reply = json.loads(line)
            if "error" in reply and reply["error"]["code"] != TOO_BUSY:
                raise RuntimeError(line.decode())
            answers.append(Answer(sent[reply["id"]], now - sent[reply["id"]], "result" in reply))
    return answers


def _set(backend: Path, seconds: float) -> None:
    temporary = backend.with_suffix(".new")
    temporary.write_text(str(seconds))
    temporary.rename(backend)


def measure(quick: bool) -> Report:
    report = Report("avalanche", "A backend that is ten times slower for a while, at 60 % of the load that the pool can serve")
    phases = Phases(1.0, 3.0, 6.0) if quick else Phases(4.0, 10.0, 20.0)
    report.curves["time to the answer"] = {}
    for name, pool in POOLS.items():
        with contextlib.ExitStack() as stack:
            answers = _experiment(stack.enter_context(Rocksyd(pool, ballast=0)), phases)
        report.curves["time to the answer"][name] = _curve(answers)
        _report(report, name, answers, phases)
    return report


def _curve(answers: list[Answer]) -> list[tuple[float, float]]:
    """The median time of the served calls of each half second."""
    curve = []
    for half in sorted({int(2 * answer.at) for answer in answers}):
        took = [answer.took for answer in answers if answer.served and int(2 * answer.at) == half]
        if took:
            curve.append((half / 2 + 0.5, p50(took)))
    return curve


def _report(report: Report, name: str, answers: list[Answer], phases: Phases) -> None:
    served = [answer.took for answer in answers if answer.served]
    refused = [answer.took for answer in answers if not answer.served]
    afterwards = [answer.took for answer in answers if answer.served and answer.at > phases.well + 1.0]
    limit = 1.5 if name == "adaptive" else None
    report.add(f"{name}: longest time to an answer", max(served), "s", at_most=limit)
    report.add(f"{name}: a second after the backend is well, p50", p50(afterwards), "s", at_most=0.1 if limit else None)
    report.add(f"{name}: refused", 100 * len(refused) / len(answers), "%")
    if refused:
        report.add(
            f"{name}: told so within, p50", 1000 * p50(refused), "ms", note=f"p90 {1000 * percentile(refused, 0.9):.0f} ms"
        )
