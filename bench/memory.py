"""Memory: what the whole tree of a daemon with idle workers takes, and how that drifts as the workers are used."""

from __future__ import annotations

from pathlib import Path

from bench.calls import POOL
from bench.figures import Report
from bench.programs import Rocksyd
from bench.rate import Burst
from rocksyd.testing.daemon import descendants

WORKERS = 4


def pss(pid: int) -> float:
    """Megabytes of a process, what it shares counted in parts (proc(5), smaps_rollup)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _tree(daemon: Rocksyd) -> float:
    return sum(pss(pid) for pid in [daemon.pid, *descendants(daemon.pid)])


def measure(quick: bool) -> Report:
    report = Report(
        "memory", "Memory of the whole tree, the example shop loaded, four idle workers that are used again and again"
    )
    jobs = 2_000 if quick else 10_000
    with Rocksyd(POOL.replace("max_workers = 2", f"max_workers = {WORKERS}")) as daemon:
        burst = Burst(daemon)
        burst.ask("rate", WORKERS)
        before = _tree(daemon)
        burst.ask("rate", jobs)
        after = _tree(daemon)
        master = pss(daemon.master_pid)
    report.add("PSS, hardly used", before, "MB", at_most=180.0)
    report.add(f"… after {jobs:,} calls", after, "MB")
    report.add("… of that the master", master, "MB")
    return report
