"""Each list and filter on a journal of a million runs, and how long another client's ``check`` waits meanwhile.

The journal is made as ``bench.journal`` makes it, in the daemon's own state folder, before the daemon is started (a million rows:
one to two minutes). Every question is asked ROUNDS times over a connection of its own; beside it, from another process, a client
says ``check`` without a pause, and the longest that it waited is the figure.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.figures import Report
from bench.journal import fill
from rocksyd.testing import Daemon

RUNS, QUICK_RUNS = 1_000_000, 20_000
ROUNDS, QUICK_ROUNDS = 7, 2
ANSWERED, WAITED = 100.0, 20.0
"""Milliseconds: what a question may take, and what a ``check`` may wait meanwhile."""
CHECK = """
import json, socket, sys, time
talk = socket.socket(socket.AF_UNIX)
talk.connect(sys.argv[1])
for line in sys.stdin:
    until, longest, count = time.perf_counter() + float(line), 0.0, 0
    while (began := time.perf_counter()) < until or not count:
        talk.sendall(b'check {"hash":1}\\n')
        talk.recv(4096)
        longest = max(longest, time.perf_counter() - began)
        count += 1
    print(json.dumps([longest * 1e3, count]), flush=True)
"""
CONFIG = """\
listen = ["unix://d.sock"]
state_dir = "var"
[journal]
keep = "365d"
keep_runs = 10000000
[apps.app]
path = "app"
jobs = ["jobs"]
"""


def questions(now: float) -> dict[str, tuple[str, dict[str, Any]]]:
    """What is asked: words for the table, method, parameters."""
    hour, week = now - 3600.0, now - 7 * 86_400.0
    lists: dict[str, dict[str, Any]] = {
        "list": {},
        "list, 1000 of them": {"limit": 1000},
        "list --app": {"app": "app1"},
        "list --target": {"target": "shop.jobs:job_1"},
        "list --target that nobody ran": {"target": "nobody"},
        "list --outcome failed": {"outcome": "failed"},
        "list --failed": {"failed": True},
        "list --failed --target": {"failed": True, "target": "shop.jobs:job_3"},
        "list --since 1h": {"since": hour},
        "list --failed --since 7d": {"failed": True, "since": week},
        "list --until": {"target": "shop.jobs:job_1", "until": week},
        "list --label": {"labels": {"tenant": "7"}},
        "list, the next page": {"after": "k1000"},
    }
    others: dict[str, tuple[str, dict[str, Any]]] = {
        "status": ("status", {"key": "k1000"}),
        "why": ("why", {"key": "k1000"}),
        "stats": ("stats", {}),
        "pools": ("pools", {}),
        "restarts": ("restarts", {}),
    }
    return {name: ("list", params) for name, params in lists.items()} | others


class Checker:
    """Another client, in a process of its own."""

    def __init__(self, path: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHECK, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, seconds: float) -> None:
        """Ask for so long."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()

    def end(self) -> float:
        """The longest wait of that time, in milliseconds."""
        assert self.process.stdout is not None
        return float(json.loads(self.process.stdout.readline())[0])

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def measure(quick: bool) -> Report:
    runs, rounds = (QUICK_RUNS, QUICK_ROUNDS) if quick else (RUNS, ROUNDS)
    report = Report("history", f"Questions on a journal of {runs:,} runs, and another client's `check` meanwhile")
    base = Path(tempfile.mkdtemp(prefix="rocksyd-bench-"))
    try:
        (base / "var" / "output").mkdir(parents=True)
        fill(str(base / "var" / "journal.sqlite"), runs)
        with Daemon(base, config=CONFIG) as daemon:
            checker = Checker(str(base / "d.sock"))
            try:
                _ask_all(report, daemon, checker, rounds)
            finally:
                checker.close()
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return report


def _ask_all(report: Report, daemon: Daemon, checker: Checker, rounds: int) -> None:
    with daemon.talk() as talk:
        alone = 0.0
        for _ in range(rounds):
            checker.begin(0.2)
            alone = max(alone, checker.end())
        report.add("the longest wait of a `check`, while nobody asks", alone, "ms")
        for name, (method, params) in questions(time.time()).items():
            took, waited = [], []
            for _ in range(rounds):
                checker.begin(0.15)
                time.sleep(0.02)
                began = time.perf_counter()
                talk.rpc(method, **params)
                took.append((time.perf_counter() - began) * 1e3)
                waited.append(checker.end())
            report.add(f"{name}, p50 of {rounds}", sorted(took)[rounds // 2], "ms", at_most=ANSWERED)
            report.add("… a `check` meanwhile, at most", max(waited), "ms", at_most=WAITED)
