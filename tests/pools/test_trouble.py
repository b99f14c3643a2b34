"""Bad days: workers that die at once, that crash the interpreter, that cannot be forked, that are killed at each stage."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from rocksyd.posix.processes import children_of
from rocksyd.testing import Daemon, until
from tests.files import wait_lines
from tests.pools.stage import JOBS, begun, enterable, kill_master, open_gate, pool

BROKEN_HOOK = (
    JOBS
    + """
from rocksyd.jobs import after_fork

@after_fork
def hook():
    if os.path.exists("broken"):
        os._exit(3)

@job(pool="other")
def elsewhere():
    return "well"
"""
)
PARKING = """pm = "ondemand"
max_workers = 2
max_jobs = 5
idle_timeout = "1h"
park_after = 3
grace = "30s"

[apps.app.pools.other]
max_jobs = 0
idle_timeout = "1h"
"""


def test_a_pool_whose_workers_die_at_their_start_is_parked_with_the_reason_until_a_reload_and_others_serve(
    tmp_path: Path,
) -> None:
    with Daemon(tmp_path, BROKEN_HOOK, parts={"pool": PARKING}) as daemon, daemon.client() as client:
        assert client.call("elsewhere") == "well"
        (daemon.app / "broken").touch()
        run = client.run("good", key="a")
        until(lambda: pool(daemon)["parked"], "the pool to be parked")
        row = pool(daemon)
        assert (row["failures"], row["waiting"], row["workers"]) == (3, 1, 0)
        assert row["trouble"].endswith("exited with status 3 before its first job")
        talk = daemon.talk()
        health = talk.rpc("health")
        assert not health["ok"]
        assert health["problems"] == [f"pool app is parked: {row['trouble']}"]
        (reason, *_) = talk.rpc("why", key="a")["reasons"]
        assert reason["code"] == "parked"
        assert "rocksyd reload" in reason["advice"]
        assert client.call("elsewhere") == "well"
        assert daemon.log().count("is parked") == 1
        kill_master(daemon)
        (daemon.app / "broken").unlink()
        daemon.talk().rpc("reload")
        assert isinstance(run.result(), int)
        assert daemon.talk().rpc("health")["ok"]


def test_workers_that_crash_the_interpreter_have_their_application_loaded_afresh_while_it_serves(tmp_path: Path) -> None:
    parts = {
        "app": 'emergency_restart = { workers = 3, within = "1m" }',
        "pool": 'pm = "static"\nmax_workers = 2\nmax_jobs = 0\ngrace = "30s"',
    }
    with Daemon(tmp_path, JOBS, parts=parts) as daemon, daemon.client() as client:
        generation = pool(daemon)["generation"]
        for name in ("SIGSEGV", "SIGBUS", "SIGKILL", "SIGSEGV"):
            record = client.run("crash", name).wait()
            assert (record["outcome"], record["signal"]) == ("killed", getattr(signal, name))
        until(lambda: pool(daemon)["generation"] > generation, "the application to be loaded afresh")
        assert "3 workers died by SIGSEGV or SIGBUS within 1m; it is loaded afresh" in daemon.log()
        assert client.call("good")
        assert daemon.talk().rpc("stats")["restart_count"] == 0
        until(lambda: len(daemon.children("rocksyd: zygote")) == 1, "the old one to be gone")


def test_an_application_that_cannot_be_loaded_afresh_goes_on_with_what_it_has(tmp_path: Path) -> None:
    parts = {"app": "emergency_restart = { workers = 1 }", "pool": 'pm = "static"\nmax_workers = 1\nmax_jobs = 0'}
    with Daemon(tmp_path, JOBS, parts=parts) as daemon, daemon.client() as client:
        (daemon.app / "jobs.py").write_text("nonsense nonsense")
        client.run("crash", "SIGSEGV").wait()
        until(lambda: "could not be loaded afresh" in daemon.log(), "the fresh one to fail")
        assert client.call("good")


STAGES = (
    JOBS
    + """
import rocksyd.jobs

@rocksyd.jobs.after_fork
def starting():
    while os.path.exists("stop_starting"):
        time.sleep(0.01)

@job
def finishing():
    import atexit
    atexit.register(lambda: hold("gate_of_exit"))
    return "said"
"""
)


def stages(daemon: Daemon) -> dict[str, int]:
    return {row["stage"]: row["pid"] for row in pool(daemon)["processes"] if row["pid"]}


@pytest.mark.parametrize("stage", ["starting", "idle", "running", "finishing"])
def test_p2_a_worker_killed_at_any_stage_is_accounted_for_and_the_pool_serves_on(tmp_path: Path, stage: str) -> None:
    settings = 'pm = "static"\nmax_workers = 1\nmax_jobs = 1\ngrace = "30s"'
    with Daemon(tmp_path, STAGES, parts={"pool": settings}) as daemon, daemon.client() as client:
        if stage == "starting":
            until(lambda: "idle" in stages(daemon), "the first worker")
            (daemon.app / "stop_starting").touch()
            client.call("good")
        elif stage in ("running", "finishing"):
            client.run("held" if stage == "running" else "finishing", key="k")
            begun(daemon, "k")
        until(lambda: stage in stages(daemon), f"a worker that is {stage}")
        os.kill(stages(daemon)[stage], signal.SIGKILL)
        if stage == "starting":
            (daemon.app / "stop_starting").unlink()
        elif stage != "idle":
            record = client.get("k").wait()
            assert (record["outcome"], record["signal"]) == ("killed", 9)
        assert client.call("good")
        until(lambda: pool(daemon)["idle"] == 1, "a worker again")


LATE = """
import os, time
while os.path.exists("stop_import"):
    time.sleep(0.01)

def work():
    return "done"
"""


def test_p2_a_run_whose_worker_is_killed_while_it_reads_its_job_is_given_to_another(tmp_path: Path) -> None:
    parts = {"app": 'allow = ["late.*:*"]', "pool": 'pm = "static"\nmax_workers = 1\nmax_jobs = 1\ngrace = "30s"'}
    (tmp_path / "app" / "late").mkdir(parents=True)
    (tmp_path / "app" / "late" / "slow.py").write_text(LATE)  # not loaded by the zygote: no pattern names it alone
    with Daemon(tmp_path, JOBS, parts=parts) as daemon, daemon.client() as client:
        (daemon.app / "stop_import").touch()
        client.run("late.slow:work", key="k")
        until(lambda: "reading" in stages(daemon), "a worker that reads its job")
        os.kill(stages(daemon)["reading"], signal.SIGKILL)
        (daemon.app / "stop_import").unlink()
        record = client.get("k").wait()
        assert (record["outcome"], record["result"], record["attempt"]) == ("ok", "done", 1)


REFUSED = 'pm = "ondemand"\nmax_workers = 3\nmax_jobs = 0\nidle_timeout = "1h"\ngrace = "30s"'


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="the limit is of another user's processes: only root can become that")
def test_forks_that_rlimit_nproc_refuses_are_tried_again_and_the_runs_wait(tmp_path: Path) -> None:
    """The zygote runs as a user that may have this many processes and no more (setrlimit(2): EAGAIN)."""
    with enterable(JOBS, app='user = "sync"', pool=REFUSED) as (folder, config):
        folder.chmod(0o777)
        with Daemon(tmp_path, config=config, prefix=("prlimit", "--nproc=3")) as daemon, daemon.client() as client:
            runs = [client.run("held", key=key) for key in ("a", "b", "c")]
            until(lambda: pool(daemon)["failures"] >= 2, "forks to fail")
            assert (pool(daemon)["busy"], pool(daemon)["waiting"]) == (2, 1)
            assert "Resource temporarily unavailable" in pool(daemon)["trouble"]
            assert not pool(daemon)["parked"]
            open_gate(folder)
            assert len({run.result() for run in runs}) == 2


def test_500_jobs_on_four_workers(tmp_path: Path) -> None:
    settings = 'pm = "dynamic"\nmax_workers = 4\nmin_spare = 1\nmax_spare = 2\nmax_jobs = 50\ngrace = "30s"'
    with Daemon(tmp_path, JOBS, parts={"pool": settings}) as daemon, daemon.client() as client:
        daemon.talk().send(*(f'run {{"hash":{number},"class":"good","params":[]}}' for number in range(500)))
        until(lambda: pool(daemon)["served"] == 500, "all of them")
        assert len({client.get(number).result() for number in range(500)}) >= 500 // 60
        row = pool(daemon)
        assert (row["peak_busy"], row["waiting"]) == (4, 0)
        assert row["peak_waiting"] > 4
        assert 1 <= daemon.log().count("max_workers = 4") == row["max_workers_reached"]


ODD = (
    JOBS
    + """
@job
def closes_everything():
    os.closerange(0, 1024)
    return "never said"

@job
def starts_a_daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open("daemon", "w") as file:
                file.write(f"{os.getpid()}\\n")
            hold("end_daemon")
            os._exit(0)
        os._exit(0)
    os.wait()
    return "started"
"""
)


def test_a_job_that_closes_its_descriptors_costs_its_worker_and_nobody_else(tmp_path: Path) -> None:
    settings = 'pm = "static"\nmax_workers = 2\nmax_jobs = 0\ngrace = "30s"'
    with Daemon(tmp_path, ODD, parts={"pool": settings}) as daemon, daemon.client() as client:
        assert client.run("closes_everything").wait()["state"] == "ended"
        until(lambda: pool(daemon)["idle"] == 2, "another worker in its place")
        assert client.call("good")


def test_a_daemon_that_a_job_starts_outlives_it_and_is_not_counted_as_a_worker(tmp_path: Path) -> None:
    settings = 'pm = "static"\nmax_workers = 1\nmax_jobs = 0\ngrace = "30s"'
    with Daemon(tmp_path, ODD, parts={"pool": settings}) as daemon, daemon.client() as client:
        assert client.call("starts_a_daemon") == "started"
        stray = int(wait_lines(daemon.app / "daemon")[0])
        assert (pool(daemon)["workers"], pool(daemon)["idle"]) == (1, 1)
        assert client.call("good") != stray
        open_gate(daemon.app, "end_daemon")
        until(lambda: stray not in children_of(daemon.pid), "the keeper to have reaped it")
