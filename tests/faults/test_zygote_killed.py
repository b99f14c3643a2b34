"""P2: a zygote or a worker is killed, alone or together with the master."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from rocksyd.testing.daemon import command_line, edited
from tests.faults.crowd import (
    EXPECTED,
    IMPATIENT,
    JOBS,
    POOL,
    ended,
    found,
    kill_master,
    matches,
    open_gate,
    the_master,
    traced,
    zygotes,
)

ONE = 'pm = "ondemand"\nmax_workers = 2'


def zygote_of(daemon: Daemon) -> int:
    (zygote,) = zygotes(daemon)
    return zygote


def new_zygote(daemon: Daemon, old: int) -> None:
    until(lambda: [pid for pid in zygotes(daemon) if pid != old and "loading" not in command_line(pid)], "another zygote")


@pytest.mark.parametrize("with_master", [False, True], ids=["alone", "with_the_master"])
@pytest.mark.parametrize("how", ["return", "raise", "_exit", "kill"])
def test_p2_running_jobs_survive_their_zygote_and_waiting_ones_run_in_a_new_one(
    tmp_path: Path, how: str, with_master: bool
) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": ONE}) as daemon:
        talk = daemon.talk()
        for key in (1, 2):
            assert talk.ask(f'run {{"hash":{key},"class":"end","params":["{how}",true]}}') == {"error_text": "OK"}
        assert talk.ask('run {"hash":3,"class":"good","params":[]}') == {"error_text": "OK"}
        until(lambda: traced(daemon) == {"1": 1, "2": 1}, "two runs to begin")
        zygote = zygote_of(daemon)
        if with_master:
            os.kill(the_master(daemon), signal.SIGKILL)
        os.kill(zygote, signal.SIGKILL)
        new_zygote(daemon, zygote)
        open_gate(daemon)
        expected = EXPECTED[how]
        if with_master and how in ("return", "raise", "exit"):
            # Nobody held the other end of its channel any more: what it returned or raised is gone, its exit status is not.
            expected = {"retcode": expected["retcode"]}
        for key in ("1", "2"):
            assert matches(record := ended(daemon, key), expected), record
        assert ended(daemon, "3")["result"] == "3"
        assert traced(daemon) == {"1": 1, "2": 1, "3": 1}


def test_p2_zygote_and_master_are_killed_and_the_master_again_while_the_orphans_are_on_the_shelf(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk = daemon.talk()
        assert talk.ask('run {"hash":1,"class":"held","params":[]}') == {"error_text": "OK"}
        until(lambda: traced(daemon)["1"], "the run to begin")
        zygote = zygote_of(daemon)
        os.kill(zygote, signal.SIGKILL)
        new_zygote(daemon, zygote)
        talk.rpc("stats")  # the master has dealt with the end of the zygote
        kill_master(daemon)
        assert ended_after_gate(daemon, "1")["result"] == "1"
        assert traced(daemon) == {"1": 1}


def ended_after_gate(daemon: Daemon, key: str) -> dict[str, object]:
    with daemon.talk() as talk:
        assert talk.ask(f'check {{"hash":{key}}}') == {"error_text": "Still running"}
    open_gate(daemon)
    return ended(daemon, key)


def test_p2_an_orphan_can_be_terminated(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": IMPATIENT}) as daemon:
        talk = daemon.talk()
        assert talk.ask('run {"hash":1,"class":"deaf","params":[]}') == {"error_text": "OK"}
        until(lambda: traced(daemon)["1"], "the run to begin")
        zygote = zygote_of(daemon)
        os.kill(zygote, signal.SIGKILL)
        new_zygote(daemon, zygote)
        assert talk.ask('terminate {"hash":1}') == {"error_text": "OK"}
        record = ended(daemon, "1")
        assert (record["outcome"], record["retcode"], record["signal"]) == ("cancelled", 137, 9)


def test_a_spare_that_is_killed_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    pool = 'pm = "static"\nmax_workers = 2'
    with Daemon(tmp_path, JOBS, parts={"pool": pool}) as daemon:
        talk = daemon.talk()
        for key in range(1, 6):
            until(lambda: len(daemon.children("rocksyd: worker app (spare)")) == 2, "two spares")
            for spare in daemon.children("rocksyd: worker app (spare)"):
                os.kill(spare, signal.SIGKILL)
            assert talk.ask(f'run {{"hash":{key},"class":"good","params":[]}}') == {"error_text": "OK"}
            record = ended(daemon, str(key))
            assert (record["outcome"], record["retcode"], record["result"]) == ("ok", 0, str(key))
        assert traced(daemon) == {str(key): 1 for key in range(1, 6)}


def test_a_zygote_that_is_killed_again_and_again_is_loaded_again_and_the_run_that_waits_runs(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": ONE}) as daemon:
        talk = daemon.talk()
        zygote = zygote_of(daemon)
        for _ in range(2):
            os.kill(zygote, signal.SIGKILL)
            new_zygote(daemon, zygote)
            zygote = zygote_of(daemon)
        assert talk.ask('run {"hash":1,"class":"good","params":[]}') == {"error_text": "OK"}
        assert ended(daemon, "1")["result"] == "1"


def test_an_application_that_cannot_be_loaded_again_says_why_and_serves_when_it_can(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": ONE}) as daemon:
        talk = daemon.talk()
        with edited(daemon.app / "jobs.py", "raise ValueError('not today')\n"):
            os.kill(zygote_of(daemon), signal.SIGKILL)
            until(lambda: "ValueError: not today" in str(talk.rpc("health")["problems"]), "the reason")
            assert not talk.rpc("health")["ok"]
        until(lambda: talk.rpc("health")["ok"], "the application")
        assert talk.ask('run {"hash":1,"class":"good","params":[]}') == {"error_text": "OK"}
        assert ended(daemon, "1")["result"] == "1"


FORGETFUL = (
    JOBS
    + """
really_wait = os.wait4

def wait4(pid, options):
    "Be killed with an exit in hand that nobody has been told of."
    found = really_wait(pid, options)
    if os.path.exists("forget"):
        os.kill(os.getpid(), signal.SIGKILL)
    return found

os.wait4 = wait4
"""
)


def test_p2_an_exit_that_the_zygote_took_with_it_is_reported_as_lost(tmp_path: Path) -> None:
    with Daemon(tmp_path, FORGETFUL, parts={"pool": ONE}) as daemon, daemon.client() as client:
        client.run("end", "_exit", True, key="1")
        until(lambda: traced(daemon)["1"], "the run to begin")
        (daemon.app / "forget").touch()
        open_gate(daemon)
        assert found(ended(daemon, "1"), {"outcome": "", "retcode": 0}) == {"outcome": "lost", "retcode": 255}
        (daemon.app / "forget").unlink()
        client.run("good", key="2")
        assert ended(daemon, "2")["result"] == "2"
        assert client.pools()[0]["workers"] <= 2
