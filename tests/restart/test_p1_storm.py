"""P1 and P7 in a storm: fifty clients that are as difficult as clients can be, and twenty restarts (a hundred, if thorough)."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from tests.restart.stage import manifest, many, records
from tests.restart.storm import Storm

JOBS = """
import os, sys
from rocksyd import job

@job
def ends(key, status):
    with open("ran", "a") as file:
        file.write(key + "\\n")
    sys.exit(status)

@job
def add(a, b):
    with open("ran", "a") as file:
        file.write(f"{a}\\n")
    return a + b
"""
POOL = 'pm = "ondemand"\nmax_workers = 4\nidle_timeout = "50ms"\nmax_jobs = 20\ngrace = "30s"'


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("restarts", "rounds"), [(12, 1), pytest.param(10, many(2, 10), marks=pytest.mark.slow)], ids=["12", "many"]
)
def test_p1_p7_fifty_difficult_clients_over_many_restarts(tmp_path: Path, restarts: int, rounds: int) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        storm = Storm(daemon.connect, clients=50, seed=rounds)
        try:
            for _ in range(rounds):
                storm.blow(restarts)
                storm.calm()
                talk = daemon.talk()
                for key, status in storm.expected.items():
                    assert talk.rpc("wait", key=key)["retcode"] == status, key
                daemon.wait_shelved(51)
                manifest(daemon, talk, connections=51, old_zygotes=0, workers=0)
                talk.close()
            with daemon.client() as client:
                stats = client.request("stats")
        finally:
            storm.close()
        assert (stats["restart_count"], stats["crashes"], stats["dropped_connections"]) == (restarts * rounds, 0, 0)
        assert sorted((tmp_path / "app" / "ran").read_text().split(), key=int) == sorted(storm.expected, key=int)
        assert len(storm.expected) > 5 * restarts * rounds
        assert all(one["ok"] for one in records(daemon.talk()))
