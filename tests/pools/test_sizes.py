"""Sizes with real processes: the three policies side by side, and a full pool that is asked how it is."""

from __future__ import annotations

from pathlib import Path

from rocksyd.testing import Daemon, until
from tests.pools.stage import JOBS, begun, open_gate, pool

THREE = """pm = "static"
max_workers = 2
max_jobs = 0
grace = "30s"

[apps.app.pools.dynamic]
pm = "dynamic"
max_workers = 6
min_spare = 1
max_spare = 2
max_jobs = 0

[apps.app.pools.ondemand]
pm = "ondemand"
max_workers = 3
idle_timeout = "50ms"
max_jobs = 0
"""
TARGETS = (
    JOBS
    + """
@job(pool="dynamic")
def dynamic():
    return hold()

@job(pool="ondemand")
def ondemand():
    return hold()
"""
)


def sizes(daemon: Daemon) -> list[tuple[int, int]]:
    """Busy and idle workers of the three pools."""
    return [(row["busy"], row["idle"]) for row in (pool(daemon, name) for name in ("app", "app/dynamic", "app/ondemand"))]


def test_pools_of_all_three_kinds_side_by_side_follow_the_load_up_and_down(tmp_path: Path) -> None:
    with Daemon(tmp_path, TARGETS, parts={"pool": THREE}) as daemon, daemon.client() as client:
        until(lambda: sizes(daemon) == [(0, 2), (0, 1), (0, 0)], "each pool to be as it is when nothing runs")
        for name in ("held", "dynamic", "ondemand"):
            for number in range(2):
                client.run(name, key=f"{name}-{number}")
        begun(daemon, *(f"{name}-{number}" for name in ("held", "dynamic", "ondemand") for number in range(2)))
        until(lambda: sizes(daemon) == [(2, 0), (2, 1), (2, 0)], "each pool to have grown as it may")
        open_gate(daemon.app)
        until(lambda: sizes(daemon) == [(0, 2), (0, 2), (0, 0)], "each pool to have shrunk")


def test_a_full_pool_is_asked_how_it_is_and_answers_at_once(tmp_path: Path) -> None:
    with (
        Daemon(tmp_path, JOBS, parts={"pool": 'pm = "static"\nmax_workers = 1\ngrace = "30s"'}) as daemon,
        daemon.client() as client,
    ):
        client.run("held", key="a")
        client.run("held", key="b")
        begun(daemon, "a")
        talk = daemon.talk()
        assert talk.rpc("health")["ok"]
        (row,) = talk.rpc("pools")
        assert (row["busy"], row["idle"], row["waiting"], row["max_workers_reached"]) == (1, 0, 1, 1)
        open_gate(daemon.app)
