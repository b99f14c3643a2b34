"""What watching costs: metrics read each second and three who follow the news, beside a daemon that nobody watches, in turns.

Each turn lasts as long as it is told, and not until so much has been done: it ends on a busy machine, too.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator

from bench.calls import CALL, POOL
from bench.figures import Report, Rounds
from bench.programs import Rocksyd, free_port
from bench.rate import OUTSTANDING, Burst

FOLLOWERS = 3
FOLLOW = """
import socket, sys
talk = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
talk.sendall(b'{"jsonrpc":"2.0","id":1,"method":"subscribe"}\\n')
talk.recv(65536)
print("follows", flush=True)
while talk.recv(1 << 20):
    pass
"""
"""A program that follows the news of all runs."""
POOLS = {"kept workers": POOL, "a process each": 'pm = "static"\nmax_workers = 2\nmax_jobs = 1'}
PATIENCE = 10.0
"""Seconds in which the metrics have to be there."""


@contextlib.contextmanager
def watched(daemon: Rocksyd, port: int) -> Iterator[None]:
    """Somebody follows, and reads the metrics each second. Raises RuntimeError where they could not be read."""
    command = [sys.executable, "-c", FOLLOW, str(daemon.port)]
    followers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(FOLLOWERS)]
    over = threading.Event()
    failed: list[OSError] = []

    def scrape() -> None:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as page:
                    page.read()
            except OSError as error:
                failed.append(error)
            if over.wait(1.0):
                return

    reader = threading.Thread(target=scrape)
    try:
        for follower in followers:
            assert follower.stdout is not None
            if not follower.stdout.readline():
                raise RuntimeError("a follower of the news ended before it could follow")
        reader.start()
        yield
    finally:
        over.set()
        if reader.ident is not None:
            reader.join()
        for follower in followers:
            follower.terminate()
            follower.wait()
            if follower.stdout is not None:
                follower.stdout.close()
    if failed:
        raise RuntimeError(f"the metrics could not be read while it was measured: {failed[0]}")


def one_by_one(call: Callable[[], object], seconds: float) -> list[float]:
    """Milliseconds that each call takes, one after another, for so long."""
    samples, until = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        call()
        samples.append((time.perf_counter() - began) * 1e3)
    return samples


def together(burst: Burst, seconds: float) -> float:
    """Seconds a call, with many under way, for so long."""
    took, count = 0.0, 0
    while took < seconds:
        took += burst.ask("rate", 2 * OUTSTANDING)
        count += 2 * OUTSTANDING
    return took / count


def measure(quick: bool) -> Report:
    report = Report("watching", f"What watching costs: metrics each second, {FOLLOWERS} followers of the news")
    rounds, seconds = (3, 0.5) if quick else (15, 1.5)
    for kind, pool in POOLS.items():
        port = free_port()
        waited, took = Rounds(), Rounds()
        with Rocksyd(pool, top=f'[metrics]\nlisten = ["http://127.0.0.1:{port}"]\n') as daemon:
            talk, burst = daemon.talk().socket, Burst(daemon)
            burst.ask("rate", OUTSTANDING)
            for _ in range(rounds):
                for name in ("nobody", "watched"):
                    with watched(daemon, port) if name == "watched" else contextlib.nullcontext():
                        waited.add(name, one_by_one(lambda talk=talk, daemon=daemon: daemon.call(talk, CALL), seconds))
                        took.add(name, [together(burst, seconds)])
                    time.sleep(0.1)
        for what, found in ((f"{kind}: a call", waited), (f"{kind}: many under way, each", took)):
            report.add(f"{what}, watched : not watched", found.ratio("watched", "nobody"), at_most=1.05)
    return report
