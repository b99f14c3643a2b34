"""As whom and with what the workers of each pool run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon
from tests.pools.stage import OTHER, enterable

JOBS = """
import os, pwd, resource
from rocksyd import job

def described():
    print("output of", os.getuid(), flush=True)
    umask = os.umask(0)
    os.umask(umask)
    with open("/proc/self/oom_score_adj") as file:
        score = int(file.read())
    return {
        "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(), "umask": umask, "oom": score,
        "nice": os.getpriority(os.PRIO_PROCESS, 0), "cpus": sorted(os.sched_getaffinity(0)),
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE), "core": resource.getrlimit(resource.RLIMIT_CORE),
        "home": os.environ.get("HOME"), "mode": os.environ.get("MODE"),
    }

@job
def usual():
    return described()

@job(pool="other")
def special():
    return described()
"""
POOL = 'pm = "static"\nmax_workers = 1\nmax_jobs = {jobs}\ngrace = "30s"\n'


def configured(jobs: int, more: str = "") -> dict[str, str]:
    cpu = min(os.sched_getaffinity(0))
    usual = POOL.format(jobs=jobs)
    return {"pool": f"{usual}\n[apps.app.pools.other]\n{usual}{OTHER.format(cpu=cpu)}{more}\n"}


@pytest.mark.parametrize("jobs", [1, 0], ids=["fresh_processes", "workers_that_stay"])
def test_each_pool_has_surroundings_of_its_own_and_keeps_them_from_job_to_job(tmp_path: Path, jobs: int) -> None:
    with Daemon(tmp_path, JOBS, parts=configured(jobs)) as daemon, daemon.client() as client:
        before = client.call("usual")
        for _ in range(2):
            found: dict[str, Any] = client.call("special")
            assert {name: found[name] for name in ("umask", "cpus", "nofile", "core", "oom", "mode")} == {
                "umask": 0o077,
                "cpus": [min(os.sched_getaffinity(0))],
                "nofile": [64, 64],
                "core": [0, 0],
                "oom": 700,
                "mode": "other",
            }
            assert found["nice"] == before["nice"] + 3
            assert found["uid"] == before["uid"]
        assert client.call("usual") == before
        assert before["mode"] is None


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
@pytest.mark.parametrize("whose", ["pool", "application"])
def test_the_workers_of_a_pool_are_another_users_and_their_output_is_kept(tmp_path: Path, whose: str) -> None:
    user = 'user = "nobody"\n'
    parts = {"app": user if whose == "application" else "", **configured(0, user if whose == "pool" else "")}
    with enterable(JOBS, **parts) as (_, config), Daemon(tmp_path, config=config) as daemon, daemon.client() as client:
        run = client.run("special", key="special")
        found = run.result()
        assert (found["uid"], found["gid"], found["home"]) == (65534, 65534, "/nonexistent")
        assert 0 not in found["groups"]
        assert "".join(run.logs()) == "output of 65534\n"
        assert client.call("usual")["uid"] == (0 if whose == "pool" else 65534)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ('user = "no-such-user"', "pool app/other: user = 'no-such-user': there is no such user on this system"),
        ("cpu_affinity = [8191]", "pool app/other: cpu_affinity: this process may not run on CPU 8191"),
    ],
)
def test_p3_surroundings_that_cannot_be_had_refuse_the_new_configuration_and_name_the_pool(
    tmp_path: Path, setting: str, reason: str
) -> None:
    with Daemon(tmp_path, JOBS, parts=configured(1)) as daemon, daemon.client() as client:
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace("cpu_affinity", "# cpu_affinity") + f"\n{setting}\n")
        assert reason in daemon.restart()["error_text"]
        assert client.call("special")["umask"] == 0o077
