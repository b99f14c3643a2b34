"""A journal with millions of ended runs: how long a list with each filter takes, a start, and forgetting.

    python -m bench.journal --runs 5000000 --folder /var/tmp/journal

The rows are written as the daemon writes them, but in large transactions and not waited for on the disk. It is made once; asked
again, the folder's journal is measured as it is. What is measured is the journal itself, in this process: a list that a client
asks for is made of the same pieces, with others' turns between them.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from rocksyd.journal import ageing
from rocksyd.journal.search import Filter
from rocksyd.journal.store import Journal
from rocksyd.journal.tables import RUNS
from rocksyd.model import ENDED, Attempt, Order, Run

BATCH = 50_000
TARGETS, APPS, TENANTS = 200, 4, 50
SPAN = 90 * 86_400.0
"""Seconds over which the runs have ended."""


def made(number: int, count: int, chance: random.Random, now: float) -> Run:
    """One ended run: most end well, some targets are run far more often than others."""
    target = int(chance.paretovariate(1.2)) % TARGETS
    at = now - SPAN + SPAN * number / count
    outcome = "ok" if chance.random() < 0.98 else chance.choice(("failed", "killed", "timeout", "lost"))
    name = f"shop.jobs:job_{target}"
    labels = {"tenant": str(chance.randrange(TENANTS)), **({"script": f"job_{target}"} if target % 3 == 0 else {})}
    order = Order(
        app=f"app{target % APPS}", name=name, target=name, params=[number, "x" * 40], submitted_at=at - 2, labels=labels,
        log=f"/srv/var/output/2026-01-31/{number}.log",
    )  # fmt: skip
    attempt = Attempt(
        generation=7, outcome=outcome, retcode=0 if outcome == "ok" else 1, result=number, started_at=at - 1, ended_at=at, cpu=0.2
    )
    return Run(f"k{number}", order, attempt, state=ENDED, pool=order.app, sequence=number, rev=number)


def fill(path: str, count: int, change: Callable[[Run], None] = lambda run: None) -> None:
    """Make the journal, of runs that were changed so."""
    chance, now = random.Random(1), time.time()
    with closing(Journal(path, sync="normal")) as journal:
        journal.own()
        db = journal._db
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -262144")
        for begin in range(0, count, BATCH):
            db.execute("BEGIN")
            runs = [made(number, count, chance, now) for number in range(begin, min(begin + BATCH, count))]
            for run in runs:
                change(run)
            db.executemany(RUNS.put, (RUNS.row(run.key, run) for run in runs))
            db.execute("COMMIT")
            print(f"\r{min(begin + BATCH, count):,} runs", end="", flush=True)
    print()


def took(what: str, act: Callable[[], Any], most: float = 0.0) -> float:
    """Do it, and say how long it took; ``most``: the longest piece of it."""
    began = time.perf_counter()
    found = act()
    seconds = time.perf_counter() - began
    print(f"{what:58} {1000 * seconds:9.1f} ms{f'   {found}' if found is not None else ''}")
    return seconds


def listed(journal: Journal, wanted: Filter) -> str:
    """All pieces of a list and its records; how many pieces, and the longest."""
    keys: list[str] = []
    pieces, longest = 0, 0.0
    search = journal.search(wanted)
    while True:
        began = time.perf_counter()
        piece = next(search, None)
        longest = max(longest, time.perf_counter() - began)
        if piece is None:
            break
        pieces += 1
        keys += piece
    for key in keys:
        journal.get(key)
    return f"{len(keys)} records, {pieces} pieces, the longest {1000 * longest:.1f} ms"


def measure(path: str) -> None:
    """Each question, once on a cold cache of this process and once on a warm one."""
    now = time.time()
    hour, week = now - 3600.0, now - 7 * 86_400.0
    filters: dict[str, Filter] = {
        "list": Filter(),
        "list app": Filter(app="app1"),
        "list target": Filter(target="shop.jobs:job_1"),
        "list a seldom target": Filter(target="shop.jobs:job_199"),
        "list a target that nobody ran": Filter(target="nobody"),
        "list outcome=failed": Filter(outcome="failed"),
        "list failed": Filter(failed=True),
        "list failed, target": Filter(failed=True, target="shop.jobs:job_3"),
        "list since 1h": Filter(since=hour),
        "list failed, since 7d": Filter(failed=True, since=week),
        "list target, until 7d": Filter(target="shop.jobs:job_1", until=week),
        "list label tenant": Filter(labels=(("tenant", "7"),)),
        "list label script": Filter(labels=(("script", "job_3"),)),
        "list the second page": Filter(after=(1000,)),
    }
    for turn in ("cold", "warm"):
        print(f"--- {turn}")
        for name, wanted in filters.items():
            with closing(Journal(path, readonly=True)) as journal:
                took(name, lambda journal=journal, wanted=wanted: listed(journal, wanted))  # type: ignore[misc]
    print("--- a start")
    began = time.perf_counter()
    with closing(Journal(path, sync="normal")) as journal:
        took("open, and what the layout lacks", journal.own)
        took("what has not ended", lambda: f"{len(journal.live())} runs")
        took("the highest numbers", lambda: str(journal.counters()))
        print(f"{'all of it':58} {1000 * (time.perf_counter() - began):9.1f} ms")
        print("--- forgetting")
        took("a piece of 500 that are too old", lambda: f"{len(journal.forget(now - 0.999 * SPAN, 0))} runs")
        took("a look with nothing too old", lambda: f"{len(journal.forget(0.0, 0))} runs")
        took("how many there are (keep_runs)", lambda: f"{len(journal.forget(0.0, 10**9))} runs")
        took("a piece of one target", lambda: f"{len(ageing.aged(journal, 'shop.jobs:job_1', ageing.START, now, 500))} rows")


def main() -> None:
    """Make it if it is not there, and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5_000_000)
    parser.add_argument("--folder", type=Path, required=True, help="where the journal is made, or is already")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = str(options.folder / "journal.sqlite")
    if not os.path.exists(path):
        fill(path, options.runs)
    measure(path)


if __name__ == "__main__":
    main()
