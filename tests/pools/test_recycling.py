"""Recycling with real processes: after so many jobs or such a time a worker is replaced, one at a time, and nobody notices."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from tests.pools.stage import JOBS, begun, kill_master, open_gate, pool


def test_a_worker_serves_max_jobs_and_no_job_fails_or_is_lost_when_it_is_replaced(tmp_path: Path) -> None:
    settings = 'pm = "static"\nmax_workers = 1\ngrace = "30s"\nmax_jobs = 5\nmax_jobs_jitter = 0'
    with Daemon(tmp_path, JOBS, parts={"pool": settings}) as daemon, daemon.client() as client:
        served = Counter(client.call("good") for _ in range(60))
        assert min(list(served.values())[:-1]) >= 5, "but for the one that serves now"
        until(lambda: pool(daemon)["recycled"] in (len(served), len(served) - 1), "each but the last to have been replaced")
        until(lambda: pool(daemon)["workers"] == 1, "the replaced ones to be gone")


def test_a_busy_worker_that_is_too_old_is_replaced_first_and_leaves_after_its_job(tmp_path: Path) -> None:
    settings = 'pm = "static"\nmax_workers = 1\nmax_jobs = 0\nmax_age = "100ms"\nmax_age_jitter = 0\ngrace = "30s"'
    with Daemon(tmp_path, JOBS, parts={"pool": settings}) as daemon, daemon.client() as client:
        run = client.run("held", key="a")
        begun(daemon, "a")
        until(lambda: (pool(daemon)["idle"], pool(daemon)["busy"]) == (1, 1), "the replacement to be ready beside the old one")
        second = client.run("good", key="b")
        assert second.status()["state"] == "waiting", "never more jobs at a time than max_workers"
        open_gate(daemon.app)
        assert run.result() != second.result()


@pytest.mark.parametrize("crash", [False, True], ids=["restart", "sigkill_of_the_master"])
def test_who_is_being_replaced_is_known_after_a(tmp_path: Path, crash: bool) -> None:
    settings = 'pm = "static"\nmax_workers = 1\nmax_jobs = 2\nmax_jobs_jitter = 0\ngrace = "30s"'
    with Daemon(tmp_path, JOBS, parts={"pool": settings}) as daemon, daemon.client() as client:
        first = client.call("good")
        run = client.run("held", key="held")
        begun(daemon, "held")
        if crash:
            kill_master(daemon)
        else:
            daemon.restart()
        open_gate(daemon.app)
        assert run.result() == first
        assert client.call("good") != first or client.call("good") != first
        until(lambda: [row["pid"] for row in pool(daemon)["processes"]].count(first) == 0, "the replaced worker to be gone")


def test_without_limits_a_worker_is_for_ever(tmp_path: Path) -> None:
    with (
        Daemon(tmp_path, JOBS, parts={"pool": 'pm = "static"\nmax_workers = 1\nmax_jobs = 0'}) as daemon,
        daemon.client() as client,
    ):
        assert len({client.call("good") for _ in range(50)}) == 1
