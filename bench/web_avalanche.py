"""Avalanche: what clients of a web pool see while its backend is ten times slower, with a short queue and with a long one."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

from bench.avalanche import RATE, SERVICE, SLOWER, WORKERS, Answer, Phases, _curve, _set
from bench.figures import Report, p50, percentile
from bench.web import Web

POOL = 'pm = "static"\nmax_workers = 1\nmax_queue = {}'
QUEUES = {"a queue of 16": 16, "a queue of 4,000": 4000}
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"


async def _ask(port: int, at: float, answers: list[Answer]) -> None:
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(REQUEST)
        head = await reader.read(-1)
    finally:
        writer.close()
    status = head.split(b" ")[1] if head else b""
    if status not in (b"200", b"503"):
        raise RuntimeError(f"neither served nor refused: {head!r}")
    answers.append(Answer(at, time.monotonic() - began, status == b"200"))


async def _experiment(port: int, backend: Path, phases: Phases) -> list[Answer]:
    """Send requests at a steady rate, whatever comes back."""
    answers: list[Answer] = []
    began = time.monotonic()
    asked, slow = [], False
    while (now := time.monotonic() - began) < phases.end:
        if slow is not (phases.slow <= now < phases.well):
            slow = not slow
            _set(backend, SERVICE * (SLOWER if slow else 1))
        while len(asked) / RATE <= now:
            asked.append(asyncio.create_task(_ask(port, now, answers)))
        await asyncio.sleep(0.002)
    await asyncio.gather(*asked)
    return answers


def measure(quick: bool) -> Report:
    report = Report(
        "web_avalanche", "A backend that is ten times slower for a while, behind a web pool at 60 % of what it can serve"
    )
    phases = Phases(1.0, 3.0, 6.0) if quick else Phases(4.0, 10.0, 20.0)
    report.curves["time to the answer"] = {}
    with tempfile.TemporaryDirectory(prefix="rocksyd-bench-") as folder:
        backend = Path(folder) / "backend"
        os.environ["BENCH_BACKEND"] = str(backend)
        for name, most in QUEUES.items():
            _set(backend, SERVICE)
            with Web("wsgi", "bench_backend:wsgi", web=f"threads = {WORKERS}", pool=POOL.format(most)) as daemon:
                answers = asyncio.run(_experiment(daemon.port, backend, phases))
            report.curves["time to the answer"][name] = _curve(answers)
            served = [one.took for one in answers if one.served]
            refused = [one.took for one in answers if not one.served]
            report.add(f"{name}: longest time to an answer", max(served), "s", at_most=3.0 if most < 100 else None)
            report.add(f"{name}: refused", 100 * len(refused) / len(answers), "%")
            if refused:
                note = f"p90 {1000 * percentile(refused, 0.9):.0f} ms"
                report.add(f"{name}: told so within, p50", 1000 * p50(refused), "ms", note=note)
    return report
