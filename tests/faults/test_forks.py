"""Forks that fail, and workers that die before they have done anything."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from rocksyd.testing import Daemon, until
from tests.faults.crowd import JOBS, ended, kill_master, traced

BROKEN_HOOK = (
    JOBS
    + """
from rocksyd.jobs import after_fork

@after_fork
def hook():
    trace_hook()

def trace_hook():
    with open("forks", "a") as file:
        file.write("fork\\n")
    if os.path.exists("broken"):
        raise RuntimeError("this hook is broken")
"""
)


def test_workers_that_die_before_their_first_job_are_not_forked_in_a_frenzy(tmp_path: Path) -> None:
    with Daemon(tmp_path, BROKEN_HOOK, parts={"pool": 'pm = "static"\nmax_workers = 1'}) as daemon:
        until(lambda: traced(daemon, "forks")["fork"] == 1, "the first worker")
        (daemon.app / "broken").touch()
        until(lambda: len(daemon.children("rocksyd: worker")) == 1, "its title")
        (spare,) = daemon.children("rocksyd: worker")
        os.kill(spare, signal.SIGKILL)
        until(lambda: traced(daemon, "forks")["fork"] >= 4, "three more tries")
        assert traced(daemon, "forks")["fork"] < 20
        (daemon.app / "broken").unlink()
        talk = daemon.talk()
        assert talk.ask('run {"hash":1,"class":"good","params":[]}') == {"error_text": "OK"}
        assert ended(daemon, "1")["result"] == "1"


REFUSED = (
    JOBS
    + """
really_fork = os.fork

def fork():
    "What the kernel does when there are too many processes; a limit does not bind root, who may run this test."
    if os.path.exists("refuse"):
        with open("refused", "a") as file:
            file.write("fork\\n")
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return really_fork()

os.fork = fork
"""
)


def test_while_no_worker_can_be_forked_runs_wait_and_the_cause_is_logged(tmp_path: Path) -> None:
    with Daemon(tmp_path, REFUSED, parts={"pool": 'pm = "ondemand"\nmax_workers = 3'}) as daemon, daemon.client() as client:
        (daemon.app / "refuse").touch()
        for key in ("1", "2", "3"):
            client.run("good", key=key)
        until(lambda: traced(daemon, "refused")["fork"] >= 4, "more tries")
        assert traced(daemon, "refused")["fork"] < 20
        assert [client.status(key)["state"] for key in ("1", "2", "3")] == ["waiting"] * 3
        assert "cannot fork a worker (fork: Resource temporarily unavailable)" in daemon.log()
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        kill_master(daemon)
        (daemon.app / "refuse").unlink()
        for key in ("1", "2", "3"):
            assert ended(daemon, key)["result"] == key
        assert traced(daemon) == {"1": 1, "2": 1, "3": 1}


def test_a_spare_that_is_killed_as_it_is_given_a_job_did_not_run_it(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": 'pm = "static"\nmax_workers = 1'}) as daemon, daemon.client() as client:
        for key in map(str, range(5)):
            until(lambda: len(daemon.children("rocksyd: worker app (spare)")) == 1, "a spare")
            (spare,) = daemon.children("rocksyd: worker app (spare)")
            os.kill(spare, signal.SIGSTOP)
            client.run("good", key=key)
            until(lambda key=key: client.status(key)["state"] == "running", "the run to be given to the spare")
            os.kill(spare, signal.SIGKILL)
            record = ended(daemon, key)
            assert (record["outcome"], record["result"], record["attempt"]) == ("ok", key, 1)
        assert traced(daemon) == dict.fromkeys(map(str, range(5)), 1)
