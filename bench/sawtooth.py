"""The sawtooth: 32 workers under an even load, each replaced after so many jobs, and when the new ones are forked.

    python -m bench.sawtooth [--seconds 16] [--write docs/pools-sawtooth.svg]

What began together reaches its limit together. The same pool is driven with that left as it is (no jitter, all replaced at once,
as php-fpm's ``pm.max_requests`` does) and as rocksyd does where nothing is said (20 % jitter, one at a time, the replacement
first).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import NamedTuple

from bench.figures import p50, percentile
from bench.plots import bars
from bench.programs import Rocksyd

WORKERS, MAX_JOBS = 32, 16
UNDER_WAY = 32
JOB = 0.25
"""Seconds a job takes, asleep: so that all workers get on equally fast."""
BUCKET = 0.25
"""Seconds a bar stands for."""
POOL = f'pm = "static"\nmax_workers = {WORKERS}\nmax_jobs = {MAX_JOBS}\nspawn_rate = {WORKERS}\n'
POOLS = {
    "no jitter, all at once (as php-fpm)": POOL + f"max_jobs_jitter = 0\nrecycle = {WORKERS}",
    "20 % jitter, all that are due at once": POOL + f"recycle = {WORKERS}",
    "20 % jitter, one at a time (what rocksyd does)": POOL,
}


class Driven(NamedTuple):
    """What was seen of one pool."""

    births: list[float]
    """Seconds since the beginning at which a new process answered for the first time; those of the start left out."""
    waits: list[float]
    """Milliseconds of each call."""

    @property
    def most(self) -> int:
        """The most new processes in one BUCKET."""
        return max(histogram(self.births, 1e9), default=0)


def drive(pool: str, seconds: float) -> Driven:
    """Keep as many calls under way as there are workers."""
    known: set[int] = set()
    births, waits = [], []
    sent: dict[int, float] = {}
    with Rocksyd(pool, ballast=0) as daemon:
        talk = daemon.talk()

        def call(number: int) -> None:
            sent[number] = time.monotonic()
            talk.send(
                json.dumps({"jsonrpc": "2.0", "id": number, "method": "call", "params": {"target": "who", "params": [JOB]}})
            )

        begin = time.monotonic()
        for number in range(UNDER_WAY):
            call(number)
        number = UNDER_WAY
        while (now := time.monotonic()) < begin + seconds:
            reply = json.loads(talk.line())
            waits.append((now - sent.pop(reply["id"])) * 1000)
            pid = reply["result"]["result"]
            if pid not in known:
                known.add(pid)
                if len(known) > WORKERS:
                    births.append(now - begin)
            call(number)
            number += 1
    return Driven(births, waits)


def histogram(moments: list[float], seconds: float) -> list[int]:
    """How many fall into each BUCKET."""
    counts = [0] * (int(min(seconds, max(moments, default=0.0)) / BUCKET) + 1)
    for moment in moments:
        counts[int(moment / BUCKET)] += 1
    return counts


def main() -> None:
    """Drive the pools, print what was seen, write the picture."""
    parser = argparse.ArgumentParser(prog="python -m bench.sawtooth", description=__doc__)
    parser.add_argument("--seconds", type=float, default=16.0, help="for each pool (16)")
    parser.add_argument("--write", type=Path, help="the picture's file")
    options = parser.parse_args()
    panels = {}
    print(f"{WORKERS} workers, max_jobs = {MAX_JOBS}, {UNDER_WAY} calls under way")
    for name, pool in POOLS.items():
        seen = drive(pool, options.seconds)
        panels[name] = histogram(seen.births, options.seconds)
        rate, slowest = len(seen.waits) / options.seconds, percentile(seen.waits, 0.999)
        print(f"{name:<48} {len(seen.births):>4} replaced, at most {seen.most:>2} in {BUCKET:g} s; ", end="")
        print(f"{rate:,.0f} calls/s, p50 {p50(seen.waits):.1f} ms, p99.9 {slowest:.1f} ms", flush=True)
    if options.write:
        title = f"New processes in each {BUCKET:g} s: {WORKERS} workers, max_jobs = {MAX_JOBS}, even load"
        options.write.write_text(bars(title, "s", panels, BUCKET, options.seconds))


if __name__ == "__main__":
    main()
