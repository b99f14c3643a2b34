"""Memory of a pool's tree over many jobs: workers forked from the zygote as it was loaded, and from one that jobs have warmed up.

The sum of the proportional set sizes (PSS) of zygote, template and workers: what these processes take together, each shared page
counted once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from bench import machine
from bench.figures import Report
from bench.programs import PRELOAD, Rocksyd
from rocksyd.testing.daemon import command_line, descendants

JOBS, QUICK_JOBS = 10_000, 1_200
WORKERS = 4
POOL = f'pm = "static"\nmax_workers = {WORKERS}\nmax_jobs = 0\nrefork_after = {{after}}'
AFTER = 100
MB = 1 << 20
APPLICATIONS = {
    "all of the shop preloaded": PRELOAD,
    "Django preloaded, the rest by the first job": '["django:setup"]',
}


def measure(quick: bool) -> Report:
    jobs = QUICK_JOBS if quick else JOBS
    report = Report("refork", f"Memory of {WORKERS} workers, their zygote and their template over {jobs:,} jobs (PSS)")
    for application, preload in APPLICATIONS.items():
        for after in (0, AFTER):
            with Rocksyd(POOL.format(after=after), preload=preload) as daemon:
                drift = list(_drift(daemon, jobs))
                verdict = next((line for line in daemon.log().splitlines() if "from a warm one" in line), "")
            first, last = drift[0][1], drift[-1][1]
            how = f"refork_after = {after}" if after else "no refork"
            told = f"after {drift[1][0]} jobs {drift[1][1]:.0f} MB, at the start {first:.0f}"
            said = verdict.partition("from a warm one ")[2]
            report.add(f"{application}: {how}", last, "MB", note=f"{told}; {said}" if said else told)
            report.curves.setdefault(application, {})[how] = drift
    return report


def _drift(daemon: Rocksyd, jobs: int) -> Iterator[tuple[int, float]]:
    """(jobs done, MB) now and then, more often at the beginning."""
    yield 0, _memory(daemon)
    done, step = 0, 50
    while done < jobs:
        count = min(step, jobs - done)
        _run(daemon, count)
        done += count
        step = max(step, done // 2)
        yield done, _memory(daemon)


def _run(daemon: Rocksyd, count: int) -> None:
    """So many jobs, as many at a time as there are workers."""
    order = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "call", "params": {"target": "visit"}})
    with daemon.talk() as talk:
        talk.send(*[order] * min(count, WORKERS))
        for number in range(count):
            answer = json.loads(talk.line())
            if "error" in answer:
                raise RuntimeError(f"a job failed: {answer['error']}\n{daemon.log()}")
            if number + WORKERS < count:
                talk.send(order)


def _memory(daemon: Rocksyd) -> float:
    titles = ("rocksyd: zygote", "rocksyd: worker")
    return sum(machine.memory(pid)["pss"] for pid in descendants(daemon.pid) if command_line(pid).startswith(titles)) / MB
