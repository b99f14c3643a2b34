"""Scheduler, master and keeper are killed at any moment, and two schedulers are there at once: each tick has one run."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from rocksyd.testing.daemon import TIMEOUT, until
from tests.companions.stage import companion, gone
from tests.restart.stage import many
from tests.schedule.stage import daemon, ran, scheduler, wait_ran
from tests.schedule.test_scheduler import EVERY, accounted
from tests.schedule.test_steps import accounts, gated, without_a_hole


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_killed_at_any_moment_each_tick_has_one_run(tmp_path: Path) -> None:
    """200 times when it is to be thorough. The moments are random, not awaited: nothing is judged by them."""
    choose = random.Random(os.urandom(8))
    with daemon(tmp_path, EVERY + 'misfire = "all"\noverlap = "allow"\n') as served:
        for number in range(many(6, 200)):
            wait_ran(served, len(ran(served)) + 1)
            time.sleep(choose.random())
            victim = ("scheduler", "master", "keeper")[number % 3]
            pids = {"keeper": lambda: served.pid, "master": lambda: served.master_pid, "scheduler": lambda: scheduler(served)}
            until(lambda: served.children("rocksyd: scheduler"), "a scheduler to be there")
            pid = pids[victim]()
            os.kill(pid, signal.SIGKILL)
            if victim == "keeper":
                served.wait(-9)
                served.start()
            else:
                gone(pid)
        wait_ran(served, len(ran(served)) + 2)
        talk = served.talk()
        until(lambda: companion(talk, "scheduler")["state"] == "ready", "the scheduler to be ready")
        talk.rpc("schedule.pause", name="beat")
        begun = Counter(ran(served))
        assert set(begun.values()) == {1}, "none is run twice"
        until(lambda: begun.keys() <= set(accounted(talk, "beat")), "all that was run to be written down, without a hole")
        for key in set(accounted(talk, "beat")) - begun.keys():  # with its service ended before its code began
            assert talk.rpc("wait", key=key)["outcome"] == "lost" or key in ran(served)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_two_schedulers_at_once_run_each_tick_once(tmp_path: Path) -> None:
    """For ten minutes when it is to be thorough."""
    with gated(tmp_path, "one", "two", misfire="skip", script="beat") as served:
        wait_ran(served, many(4, 600), timeout=many(1, 50) * TIMEOUT)  # one is due a second, and is skipped where that is late
        for name in ("one", "two"):
            without_a_hole(accounts(tmp_path / name))
        assert set(Counter(ran(served)).values()) == {1}
        keys = [{key for *_, key in accounts(tmp_path / name) if key} for name in ("one", "two")]
        assert keys[0] & keys[1], "both have ordered the same ticks"
