"""An orderly stop ends, whoever does not listen or dies meanwhile."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from tests.faults.crowd import JOBS, ended, the_master, traced, zygotes
from tests.restart.test_p3_system import fill, root, small_disk

PATIENT = 'pm = "dynamic"\nmax_workers = 4\nmin_spare = 1\nmax_spare = 2\ngrace = "60s"'
STOPPING = (
    JOBS
    + '''
@job
def lasting():
    """Does not hear TERM, and ends when the gate is opened."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    trace()
    hold()
    return "done"

@job
def long(size):
    return "x" * size
'''
)


def test_p2_a_master_that_is_killed_while_it_stops_the_service_is_followed_by_one_that_goes_on_with_that(tmp_path: Path) -> None:
    with Daemon(tmp_path, STOPPING, parts={"pool": PATIENT}) as daemon:
        talk = daemon.talk()
        assert talk.ask('run {"hash":1,"class":"lasting","params":[]}') == {"error_text": "OK"}
        until(lambda: traced(daemon)["1"], "the run to begin")
        assert talk.ask("stop") == {"error_text": "OK"}
        daemon.wait_notified("STOPPING=1")
        victim = the_master(daemon)
        os.kill(victim, signal.SIGKILL)
        until(lambda: "goes on" in daemon.log(), "the next master to go on with the stop")
        assert the_master(daemon) != victim
        with socket.socket(socket.AF_UNIX) as late, pytest.raises((FileNotFoundError, ConnectionRefusedError)):
            late.connect(daemon.address.removeprefix("unix://"))
        (daemon.app / "gate").touch()
        daemon.wait(0)
        daemon.start()
        record = ended(daemon, "1")
        assert (record["outcome"], record["retcode"], record["attempt"]) == ("cancelled", 0, 1)
        assert traced(daemon) == {"1": 1}


def test_clients_that_do_not_read_hold_up_the_end_of_the_service_no_longer_together_than_one_of_them(tmp_path: Path) -> None:
    """Fifty that are owed more than a socket holds: one second each would be longer than the test waits for the end."""
    with Daemon(tmp_path, STOPPING, parts={"pool": PATIENT}) as daemon:
        assert daemon.talk().rpc("run", target="long", params=[1_000_000], key="1")
        talks = [daemon.talk() for _ in range(50)]
        for talk in talks:
            talk.send('{"jsonrpc":"2.0","id":1,"method":"wait","params":{"key":"1"}}')
        for talk in talks:
            assert talk.socket.recv(1) == b"{"
        daemon.stop()


@root
def test_a_full_disk_does_not_hinder_the_end_of_the_service(tmp_path: Path) -> None:
    with small_disk(tmp_path / "var") as disk, Daemon(tmp_path, STOPPING) as daemon:
        assert daemon.talk().rpc("health")["ok"]
        filler = fill(disk)
        daemon.stop()
        assert "Traceback" not in daemon.log()
        filler.unlink()
        daemon.start()
        assert daemon.talk().rpc("health")["ok"]


def test_p2_an_orphaned_job_that_exits_with_the_status_of_a_worker_that_had_none_is_not_run_again(tmp_path: Path) -> None:
    jobs = JOBS + "\n@job\ndef leaves():\n    trace()\n    hold()\n    os._exit(83)\n"
    with Daemon(tmp_path, jobs, parts={"pool": PATIENT}) as daemon:
        assert daemon.talk().ask('run {"hash":1,"class":"leaves","params":[]}') == {"error_text": "OK"}
        until(lambda: traced(daemon)["1"], "the run to begin")
        (zygote,) = zygotes(daemon)
        os.kill(daemon.pid, signal.SIGSTOP)  # so that both are dead before anybody can save the channel of the job's worker
        try:
            for pid in (the_master(daemon), zygote):
                os.kill(pid, signal.SIGKILL)
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        until(lambda: "taking over" in daemon.log(), "another master")
        (daemon.app / "gate").touch()
        record = ended(daemon, "1")
        assert (record["outcome"], record["retcode"], record["attempt"]) == ("failed", 83, 1)
        assert traced(daemon) == {"1": 1}
