"""How long the gateway's pages take with a million runs and a thousand scripts: the first to ask, when nothing is remembered."""

from __future__ import annotations

import http.client
import shutil
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from bench import journal
from bench.figures import Report, p50, percentile
from rocksyd.model import Run
from rocksyd.testing import Daemon

RUNS, SCRIPTS, ROUNDS = 1_000_000, 1_000, 7
AT_MOST = 200.0
"""Milliseconds."""
FORGOTTEN = 6.0
"""Seconds after which the gateway asks anew for everything but what never changes."""
JOBS = """
from rocksyd import job

def made(number):
    def run(number: int, text: str = "x") -> int:
        "One of very many."
        return number
    run.__name__ = run.__qualname__ = f"job_{number}"
    return job(run)

globals().update({f"job_{number}": made(number) for number in range(200)})
"""
TOP = """
[gateway]
listen = ["http://127.0.0.1:0"]
[journal]
keep = "365d"
keep_runs = 100000000
[history]
"""
SCRIPT = """
[scripts.s{number}]
target = "job_{target}"
params = [{number}]
cron = "{minute} {hour} * * *"
tags = ["group{group}"]
"""
PAGES = {
    "Now": "/",
    "Run": "/run/k{middle}",
    "Targets": "/targets",
    "Target, run most often": "/target/app/job_1",
    "Target, run seldom": "/target/app/job_190",
    "Schedules": "/schedules",
    "Schedules by tag": "/schedules?text=group7",
    "Schedule": "/schedule/s{script}",
    "Restarts": "/restarts",
    "Errors, 24 hours": "/errors",
    "Errors, 30 days": "/errors?since=30d",
    "Search": "/search",
    "Search: target": "/search?target=job_3",
    "Search: failed": "/search?outcome=failed*",
    "Search: target, failed": "/search?target=job_3&outcome=failed*",
    "Search: label": "/search?label=tenant%3D7",
    "Search: a label nobody has": "/search?label=tenant%3Dnobody",
    "Search: until a month ago": "/search?until=30d",
    "API": "/api",
}


def measure(quick: bool) -> Report:
    runs, scripts, rounds = (20_000, 50, 2) if quick else (RUNS, SCRIPTS, ROUNDS)
    report = Report("pages", f"Pages of the gateway, {runs:,} runs and {scripts:,} scripts: milliseconds for the first to ask")
    folder = Path(tempfile.mkdtemp(prefix="rocksyd-pages-"))
    try:
        lines = [
            SCRIPT.format(number=one, target=one % 200, minute=one % 60, hour=one % 24, group=one % 20) for one in range(scripts)
        ]
        daemon = Daemon(folder, JOBS, parts={"top": TOP + "".join(lines)})
        (folder / "var").mkdir()
        journal.fill(str(folder / "var" / "journal.sqlite"), runs, _of_the_application)
        with daemon as serving:
            (row,) = [row for row in serving.talk().rpc("health")["companions"] if row["name"] == "gateway"]
            where = urlsplit(row["listen"][0])
            assert where.hostname
            took: dict[str, list[float]] = {name: [] for name in PAGES}
            for _ in range(rounds + 1):
                time.sleep(FORGOTTEN)
                for name, path in PAGES.items():
                    full = path.replace("{middle}", str(runs // 2)).replace("{script}", str(scripts // 2))
                    took[name].append(_asked(where.hostname, where.port or 0, full))
            for name, (_, *found) in took.items():  # without the first, for which templates and files are read
                report.add(f"{name}, median", p50(found), "ms", at_most=AT_MOST)
                report.add(f"{name}, the slowest of {rounds}", percentile(found, 1.0), "ms")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _asked(host: str, port: int, path: str) -> float:
    """Milliseconds that a page takes."""
    link = http.client.HTTPConnection(host, port, timeout=120)
    began = time.perf_counter()
    link.request("GET", path, headers={"Accept": "text/html"})
    reply = link.getresponse()
    text = reply.read()
    took = time.perf_counter() - began
    link.close()
    if reply.status != http.client.OK:
        raise RuntimeError(f"{path}: {reply.status} {text[:500]!r}")
    return 1000 * took


def _of_the_application(run: Run) -> None:
    """A run that was filled in, as one of the application that is served here."""
    name = run.order.name.rpartition(":")[2]
    run.order = run.order._replace(app="app", name=name, target=f"jobs:{name}")
    run.pool = "app"
