"""P2, P11: the master is killed while it is at work."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from tests.faults.crowd import EXPECTED, JOBS, POOL, Stubborn, crowd, ended, kill_master, lenient_package, matches, traced


@pytest.mark.parametrize("seed", [1, 2])
def test_p2_p11_no_job_is_lost_or_run_twice_when_the_master_is_killed_under_load(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    kinds = [*EXPECTED, "return", "return"]
    stop = threading.Event()
    orders: dict[int, str] = {}
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}, package=lenient_package(tmp_path)) as daemon:
        quiet = [daemon.talk() for _ in range(5)]
        daemon.wait_shelved(5)

        def submit_and_wait(number: int) -> None:
            client = Stubborn(daemon)
            key = (number + 1) * 100_000
            while not stop.is_set():
                key += 1
                orders[key] = kinds[key % len(kinds)]
                assert client.run(key, "end", orders[key]) == {"error_text": "OK"}
                assert matches(client.wait(key), EXPECTED[orders[key]]), (key, orders[key], client.wait(key))
            client.close()

        with crowd(10, submit_and_wait):
            try:
                for _ in range(15):
                    time.sleep(dice.uniform(0.0, 0.15))  # a random moment is what is wanted here
                    kill_master(daemon)
            finally:
                stop.set()
        assert traced(daemon) == dict.fromkeys(map(str, orders), 1)
        assert len(orders) > 15
        for talk in quiet:
            assert talk.ask('check {"hash":1}') == {"error_text": "Hash not found"}
