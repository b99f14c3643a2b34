"""The machine a measurement is made on, and whether it is quiet enough for one.

What must live here: /proc, /sys. What this file must not know: what is measured.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

BUSY_SHARE = 0.10
"""Share of all processors' time that others may use for the machine to count as quiet."""


def describe() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "processors": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "huge_pages": _read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC",
    }


def busy_share(seconds: float = 1.0) -> float:
    """Share of the processors' time that is used while this process sleeps."""
    before = _times()
    time.sleep(seconds)
    after = _times()
    total = sum(after) - sum(before)
    idle = after[3] + after[4] - before[3] - before[4]
    return 1 - idle / total if total else 0.0


def wait_until_quiet(patience: float) -> float:
    """Wait until nobody else uses the machine, at most ``patience`` seconds; the share that others use then."""
    until = time.monotonic() + patience
    while (share := busy_share()) > BUSY_SHARE and time.monotonic() < until:
        pass
    return share


def _times() -> list[int]:
    return [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]


def _processor() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def memory(pid: int) -> dict[str, int]:
    """Bytes of a process: ``rss``, ``pss`` (its part of what it shares), ``private`` (its own: USS), ``huge``."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    return {
        "rss": found["Rss"],
        "pss": found["Pss"],
        "private": found["Private_Clean"] + found["Private_Dirty"] + found.get("Private_Hugetlb", 0),
        "huge": found.get("AnonHugePages", 0),
    }


def switches(pid: int) -> int:
    """How often a process has gone to sleep: what wakes up has to."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    raise ValueError(f"/proc/{pid}/status says nothing of switches")
