"""What watching costs: metrics read each second and three who follow the news, beside a daemon that nobody watches, in turns."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator

from bench.calls import CALL, POOL
from bench.figures import Report, Rounds
from bench.peers.serve import waits
from bench.programs import Rocksyd, free_port
from bench.rate import Burst

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


@contextlib.contextmanager
def watched(daemon: Rocksyd, port: int) -> Iterator[None]:
    """Somebody follows, and reads the metrics each second."""
    command = [sys.executable, "-c", FOLLOW, str(daemon.port)]
    followers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(FOLLOWERS)]
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(1.0):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
                page.read()

    reader = threading.Thread(target=scrape)
    try:
        for follower in followers:
            assert follower.stdout is not None
            follower.stdout.readline()
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


def measure(quick: bool) -> Report:
    report = Report("watching", f"What watching costs: metrics each second, {FOLLOWERS} followers of the news")
    rounds, few, many = (3, 100, 500) if quick else (15, 500, 3000)
    for kind, pool in POOLS.items():
        port = free_port()
        waited, took = Rounds(), Rounds()
        top = f'[metrics]\nlisten = ["http://127.0.0.1:{port}"]\n'
        with Rocksyd(pool, top=top) as daemon:
            talk, burst = daemon.talk().socket, Burst(daemon)
            for number in range(-1, rounds):
                for name, there in (("nobody", contextlib.nullcontext()), ("watched", watched(daemon, port))):
                    with there:
                        one_by_one = waits(lambda talk=talk, daemon=daemon: daemon.call(talk, CALL), few)
                        together = burst.ask("rate", many) / many
                    if number >= 0:
                        waited.add(name, one_by_one)
                        took.add(name, [together])
                    time.sleep(0.1)
        for what, found in ((f"{kind}: a call", waited), (f"{kind}: many under way, each", took)):
            report.add(f"{what}, watched : not watched", found.ratio("watched", "nobody"), at_most=1.05)
    return report
