"""What watching costs, beside a daemon that nobody watches, in turns: metrics read each second and three who follow the news, or
twenty open dashboards.

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
DASHBOARDS = 20
LOOK = """
import http.client, sys, threading
port, page = int(sys.argv[1]), sys.argv[3]
ready = threading.Barrier(int(sys.argv[2]) + 1)
def dashboard():
    live = http.client.HTTPConnection("127.0.0.1", port)
    live.request("GET", "/changes")
    events = live.getresponse()
    look = http.client.HTTPConnection("127.0.0.1", port)
    ready.wait()
    while line := events.readline():
        if line.startswith(b"event: changed"):
            look.request("GET", page)
            look.getresponse().read()
for _ in range(int(sys.argv[2])):
    threading.Thread(target=dashboard, daemon=True).start()
ready.wait()
print("follows", flush=True)
sys.stdin.read()
"""
"""A program with so many open dashboards: each gets the page anew when it hears that something has changed, as a browser does."""
POOLS = {"kept workers": POOL, "a process each": 'pm = "static"\nmax_workers = 2\nmax_jobs = 1'}
PATIENCE = 10.0
"""Seconds in which the metrics have to be there."""


def three_followers(daemon: Rocksyd, _: int) -> list[list[str]]:
    """Commands of those who follow the news."""
    return [[sys.executable, "-c", FOLLOW, str(daemon.port)]] * FOLLOWERS


def open_dashboards(_: Rocksyd, port: int) -> list[list[str]]:
    """The command of who has the dashboards open."""
    return [[sys.executable, "-c", LOOK, str(port), str(DASHBOARDS), "/"]]


Who = Callable[[Rocksyd, int], list[list[str]]]


@contextlib.contextmanager
def watched(daemon: Rocksyd, port: int, who: Who) -> Iterator[None]:
    """They watch, and the metrics are read each second. Raises RuntimeError where they could not be read."""
    followers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for command in who(daemon, port)
    ]
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
            for stream in (follower.stdin, follower.stdout):
                if stream is not None:
                    stream.close()
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
    return _compared(report, quick, "metrics", three_followers, 1.05)


def dashboards(quick: bool) -> Report:
    """The same with pages that are open."""
    report = Report("dashboards", f"What watching costs: metrics each second, {DASHBOARDS} open dashboards")
    return _compared(report, quick, "gateway", open_dashboards, 1.10)


def _compared(report: Report, quick: bool, companion: str, who: Who, at_most: float) -> Report:
    rounds, seconds = (3, 0.5) if quick else (15, 1.5)
    for kind, pool in POOLS.items():
        port = free_port()
        waited, took = Rounds(), Rounds()
        with Rocksyd(pool, top=f'[{companion}]\nlisten = ["http://127.0.0.1:{port}"]\n') as daemon:
            talk, burst = daemon.talk().socket, Burst(daemon)
            burst.ask("rate", OUTSTANDING)
            for _ in range(rounds):
                for name in ("nobody", "watched"):
                    with watched(daemon, port, who) if name == "watched" else contextlib.nullcontext():
                        waited.add(name, one_by_one(lambda talk=talk, daemon=daemon: daemon.call(talk, CALL), seconds))
                        took.add(name, [together(burst, seconds)])
                    time.sleep(0.1)
        for what, found in ((f"{kind}: a call", waited), (f"{kind}: many under way, each", took)):
            report.add(f"{what}, watched : not watched", found.ratio("watched", "nobody"), at_most=at_most)
    return report
