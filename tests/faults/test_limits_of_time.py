"""A run whose time is up is told so in its own code, once; one that does not end then is killed after its grace."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from rocksyd import messages
from rocksyd.posix import signals
from rocksyd.testing import Daemon, until
from tests.faults.crowd import ended, found, kill_master
from tests.process.zygotes import Zygote

JOBS = """
import asyncio, ctypes, os, signal, subprocess, time
from rocksyd import JobTimeout, current, job

def touch(name, text=""):
    with open(name, "a") as file:
        file.write(f"{text or os.getpid()}\\n")

def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)

@job
def tidies(seconds=60.0):
    try:
        time.sleep(seconds)
    except JobTimeout as error:
        touch("told", str(error))
        return "tidied up"

@job
def lets_it_through():
    try:
        touch("there")
        time.sleep(60)
    finally:
        touch("tidied")

@job
async def waits():
    try:
        await asyncio.sleep(60)
    finally:
        touch("tidied")

@job
def knows():
    return current().deadline - time.monotonic()

@job
def stuck_in_c():
    "Locks a mutex twice: no signal ends this wait, and the interpreter is not asked."
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    touch("there")
    libc.pthread_mutex_lock(mutex)

@job
def has_an_alarm():
    rung = []
    signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        time.sleep(60)
    except JobTimeout:
        before = len(rung)
        while len(rung) < before + 3:
            time.sleep(0.01)
        return "both"

@job
def answers_term():
    heard = []
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    while not heard:
        time.sleep(0.01)
    return heard

@job
def has_a_child():
    child = subprocess.Popen(["sleep", "60"])
    touch("child", str(child.pid))
    try:
        time.sleep(60)
    except JobTimeout:
        return child.poll()

@job
def tidies_for_long():
    told = 0
    while True:
        try:
            if not told:
                time.sleep(60)
            wait_for("gate")
            return told
        except JobTimeout:
            told += 1
            touch("told")

@job
def has_a_thread():
    import threading
    threading.Thread(target=time.sleep, args=(60,)).start()
    time.sleep(60)
"""
POOL = 'pm = "ondemand"\nmax_workers = 2\ngrace = "{grace}"'
AS_BY_TERM = {"outcome": "timeout", "reason": "timeout", "retcode": 143, "signal": 15}
KILLED = {"outcome": "timeout", "reason": "timeout", "retcode": 137, "signal": 9}


def daemon_of(folder: Path, grace: str = "20s") -> Daemon:
    return Daemon(folder, JOBS, parts={"pool": POOL.format(grace=grace)})


def run(daemon: Daemon, target: str, *params: Any, timeout: str = "3s") -> dict[str, Any]:
    """Run it to its end, or until a time in which it has surely begun is over; the record."""
    with daemon.client() as client:
        client.run(target, *params, key="1", timeout=timeout)
        return dict(ended(daemon, "1"))


def test_a_job_that_catches_job_timeout_tidies_up_and_its_result_is_kept(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        expected = {"outcome": "timeout", "reason": "timeout", "retcode": 0, "signal": None, "result": "tidied up"}
        assert found(run(daemon, "tidies"), expected) == expected
        assert (daemon.app / "told").read_text() == "the run has reached its timeout of 3s\n"
        assert daemon.talk().ask('check {"hash":1}') == {"retcode": 0, "reason": "timeout"}


@pytest.mark.parametrize("target", ["lets_it_through", "waits"])
def test_a_job_that_lets_job_timeout_through_counts_as_ended_by_term_and_says_where_it_was(tmp_path: Path, target: str) -> None:
    with daemon_of(tmp_path) as daemon:
        record = run(daemon, target)
        assert found(record, AS_BY_TERM) == AS_BY_TERM
        assert record["error"]["type"] == "JobTimeout"
        assert target == "waits" or "in lets_it_through\n    time.sleep(60)" in record["error"]["traceback"]
        assert "deadline.py" not in record["error"]["traceback"]
        assert (daemon.app / "tidied").exists()
        assert "JobTimeout: the run has reached its timeout of 3s" in daemon.talk().rpc("logs", key="1")["text"]
        assert daemon.talk().ask('check {"hash":1}') == {"retcode": 143, "signal": 15, "reason": "timeout"}


def test_a_job_knows_its_deadline_and_one_that_is_late_from_the_start_is_told_at_its_first_line(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": 'pm = "static"\nmax_workers = 1'}) as daemon, daemon.client() as client:
        assert 3500 < client.run("knows", timeout="1h").result() <= 3600
        until(lambda: daemon.children("rocksyd: worker app (spare)"), "the next spare")
        (spare,) = daemon.children("rocksyd: worker app (spare)")
        os.kill(spare, signal.SIGSTOP)
        client.run("lets_it_through", key="late", timeout="1ms")
        until(lambda: client.status("late")["started_at"], "the run to be the worker's")
        until(lambda: client.status("late")["started_at"] < time.time() - 0.01, "its time to be up")
        os.kill(spare, signal.SIGCONT)
        record = ended(daemon, "late")
        assert found(record, AS_BY_TERM) == AS_BY_TERM
        assert not (daemon.app / "there").exists()


def test_a_job_that_is_stuck_in_c_is_killed_after_its_grace(tmp_path: Path) -> None:
    with daemon_of(tmp_path, grace="500ms") as daemon:
        assert found(run(daemon, "stuck_in_c"), KILLED) == KILLED
        assert (daemon.app / "there").exists()


def test_a_job_may_use_the_alarm_itself(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        assert run(daemon, "has_an_alarm")["result"] == "both"


def test_a_job_that_deals_with_term_itself_is_told_by_term(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        expected = {"outcome": "timeout", "retcode": 0, "result": [signal.SIGTERM]}
        assert found(run(daemon, "answers_term"), expected) == expected


def test_the_children_of_a_job_are_left_to_it_until_it_has_ended_and_then_get_term(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        record = run(daemon, "has_a_child")
        child = int((daemon.app / "child").read_text())
        assert record["result"] is None, "its child still lived when the job was told"
        until(lambda: not Path(f"/proc/{child}").exists(), "its child to end")


def test_a_thread_that_goes_on_does_not_cost_the_run_its_last_word(tmp_path: Path) -> None:
    with daemon_of(tmp_path, grace="8s") as daemon:  # three quarters of it are for the thread
        record = run(daemon, "has_a_thread")
        assert found(record, AS_BY_TERM) == AS_BY_TERM
        assert record["error"]["type"] == "JobTimeout"


def restart(daemon: Daemon) -> None:
    assert daemon.restart() == {"error_text": "Restarted successfully"}


@pytest.mark.parametrize("happens", [restart, kill_master], ids=["a_restart", "a_killed_master"])
def test_p9_a_job_is_told_once_and_in_time_whoever_serves_meanwhile(tmp_path: Path, happens: Any) -> None:
    with daemon_of(tmp_path) as daemon, daemon.client() as client:
        client.run("tidies_for_long", key="1", timeout="3s")
        until(lambda: client.status("1")["state"] == "running", "the run to begin")
        happens(daemon)
        until((daemon.app / "told").exists, "the job to be told")
        happens(daemon)
        until(lambda: client.stats()["uptime"] >= 0, "the next master to serve")
        (daemon.app / "gate").touch()
        record = ended(daemon, "1")
        assert found(record, {"outcome": "", "result": 0}) == {"outcome": "timeout", "result": 1}
        assert record["attempt"] == 1


def test_p9_the_grace_is_not_lengthened_by_a_restart(tmp_path: Path) -> None:
    with daemon_of(tmp_path, grace="700ms") as daemon, daemon.client() as client:
        client.run("stuck_in_c", key="1", timeout="3s")
        until((daemon.app / "there").exists, "the run to begin")
        restart(daemon)
        record = ended(daemon, "1")
        assert found(record, KILLED) == KILLED


@pytest.mark.parametrize("catches", [True, False])
def test_p6_a_worker_that_does_not_know_of_job_timeout_gets_term(tmp_path: Path, catches: bool) -> None:
    """As one of a version that does not install the handler, or a program that a job has become."""
    with Zygote(tmp_path, {"jobs": JOBS}, jobs=("jobs",), settings={"signals": catches}) as zygote:
        zygote.ready()
        worker = zygote.fork()
        worker.start("jobs:lets_it_through", [])
        until((tmp_path / "app" / "there").exists, "the job to begin")
        assert signals.caught(worker.pid, signals.TIME_UP) is catches
        zygote.send(messages.Kill(worker.pid, signal.SIGTERM, 10.0, soft=True))
        if catches:
            result = worker.next(messages.Result)
            assert (result.retcode, result.signal, result.reason) == (143, 15, "timeout")
            worker.send(messages.JobAck(result.key))
        status = zygote.next(messages.Exited).status
        assert status == (0 if catches else signal.SIGTERM)
        assert (tmp_path / "app" / "tidied").exists() is catches


def test_p6_an_order_of_an_older_master_is_term_for_everybody(tmp_path: Path) -> None:
    with Zygote(tmp_path, {"jobs": JOBS}, jobs=("jobs",), settings={"signals": True}) as zygote:
        zygote.ready()
        worker = zygote.fork()
        worker.start("jobs:lets_it_through", [])
        until((tmp_path / "app" / "there").exists, "the job to begin")
        zygote.send(messages.Kill(worker.pid, signal.SIGTERM, 10.0))
        assert zygote.next(messages.Exited).status == signal.SIGTERM
