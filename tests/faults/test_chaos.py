"""P2, P11: whoever is killed, in whatever order, while clients work: every run ends once, is told once, and runs at most once."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from tests.faults.crowd import JOBS, Stubborn, crowd, kill_master, lenient_package, the_master, traced, zygotes

POOL = 'pm = "dynamic"\nmax_workers = 8\nmin_spare = 2\nmax_spare = 4\nmax_jobs = {max_jobs}\ngrace = "30s"'


def kill_zygote(daemon: Daemon) -> None:
    for pid in zygotes(daemon):
        os.kill(pid, signal.SIGKILL)


def kill_both(daemon: Daemon) -> None:
    for pid in (the_master(daemon), *zygotes(daemon)):
        os.kill(pid, signal.SIGKILL)


def kill_spares(daemon: Daemon) -> None:
    for pid in daemon.children("rocksyd: worker app (spare)"):
        os.kill(pid, signal.SIGKILL)


def restart(daemon: Daemon) -> None:
    """Order it and look no further: what comes next may come in the middle of it."""
    with daemon.talk() as talk:
        talk.send("restart")


EVENTS = [kill_master, kill_master, kill_zygote, kill_both, kill_spares, restart, restart]


@pytest.mark.parametrize(("seed", "max_jobs"), [(1, 1), (2, 3), (3, 0)])
def test_p2_p11_every_run_ends_once_whoever_is_killed(tmp_path: Path, seed: int, max_jobs: int) -> None:
    dice = random.Random(seed)
    stop = threading.Event()
    told: dict[str, str] = {}
    parts = {"pool": POOL.format(max_jobs=max_jobs)}
    with Daemon(tmp_path, JOBS, parts=parts, package=lenient_package(tmp_path)) as daemon:

        def submit_and_wait(number: int) -> None:
            key = number * 100_000
            with closing(Stubborn(daemon)) as client:
                while not stop.is_set():
                    key += 1
                    assert client.run(key, "good", 0.02) == {"error_text": "OK"}
                    told[str(key)] = client.wait(key)["outcome"]

        with crowd(8, submit_and_wait):
            try:
                for _ in range(12):
                    time.sleep(dice.uniform(0.0, 0.2))  # a random moment is what is wanted here
                    dice.choice(EVENTS)(daemon)
            finally:
                stop.set()
        ran = traced(daemon)
        assert set(ran.values()) <= {1}
        assert set(told.values()) <= {"ok", "killed", "lost"}
        assert {key for key, outcome in told.items() if outcome == "ok"} <= ran.keys()
        assert ran.keys() <= told.keys()
        talk = daemon.talk()
        until(lambda: talk.rpc("health")["problems"] == [], "the daemon to be well")
        until(lambda: len(zygotes(daemon)) == 1, "one zygote to be left")
        until(lambda: talk.rpc("pools")[0]["busy"] == 0, "no worker to be busy")
        assert talk.ask('run {"hash":1,"class":"good","params":[]}') in ({"error_text": "OK"}, {"error_text": "Hash is in use"})
