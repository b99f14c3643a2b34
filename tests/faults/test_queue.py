"""Order, limits and retries of what waits; floods."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from rocksyd.errors import TooBusy
from rocksyd.testing import Conversation, Daemon, until
from tests.faults.crowd import JOBS, ended, found, kill_master, open_gate, traced
from tests.files import lines

QUEUE = (
    JOBS
    + """
@job
def note(text):
    with open("order", "a") as file:
        file.write(f"{text}\\n")

@job
def shaky(times):
    "Fails in its first attempts."
    trace()
    if current().attempt <= times:
        raise RuntimeError(f"attempt {current().attempt}")
    return current().attempt

@job(max_running=2)
def few():
    trace()
    with open("few", "a") as file:
        file.write("+\\n")
    hold()
    with open("few", "a") as file:
        file.write("-\\n")
"""
)
ONE = 'pm = "ondemand"\nmax_workers = 1\ngrace = "30s"'


def order(daemon: Daemon) -> list[str]:
    return lines(daemon.app / "order")


@pytest.mark.parametrize("crash", [False, True], ids=["", "over_a_crash"])
def test_the_highest_priority_goes_first_then_the_order_of_arrival(tmp_path: Path, crash: bool) -> None:
    with Daemon(tmp_path, QUEUE, parts={"pool": ONE}) as daemon, daemon.client() as client:
        client.run("held", key="first")
        until(lambda: traced(daemon)["first"], "the only worker to be busy")
        for text, priority in [("c", 0), ("e", -1), ("a", 7), ("d", 0), ("b", 7)]:
            client.run("note", text, key=text, priority=priority)
        if crash:
            kill_master(daemon)
        open_gate(daemon)
        ended(daemon, "e")
        assert order(daemon) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("crash", [False, True], ids=["", "over_a_crash"])
def test_a_job_with_max_running_holds_up_only_itself(tmp_path: Path, crash: bool) -> None:
    pool = 'pm = "ondemand"\nmax_workers = 6'
    with Daemon(tmp_path, QUEUE, parts={"pool": pool}) as daemon, daemon.client() as client:
        keys = [f"few{number}" for number in range(5)]
        for key in keys:
            client.run("few", key=key)
        until(lambda: traced(daemon).total() == 2, "two of them to begin")
        if crash:
            kill_master(daemon)
        client.run("good", key="other")
        ended(daemon, "other")
        assert sorted(client.status(key)["state"] for key in keys) == ["running"] * 2 + ["waiting"] * 3
        open_gate(daemon)
        for key in keys:
            assert ended(daemon, key)["outcome"] == "ok"
        running = most = 0
        for sign in lines(daemon.app / "few"):
            running += 1 if sign == "+" else -1
            most = max(most, running)
        assert most == 2
        assert traced(daemon) == dict.fromkeys([*keys, "other"], 1)


@pytest.mark.parametrize("crash", [False, True], ids=["", "over_a_crash"])
def test_a_run_that_fails_is_tried_again_as_often_as_it_may(tmp_path: Path, crash: bool) -> None:
    with Daemon(tmp_path, QUEUE, parts={"pool": ONE}) as daemon, daemon.client() as client:
        client.run("shaky", 1, key="recovers", retries=1)
        client.run("shaky", 9, key="fails", retries=1)
        until(lambda: traced(daemon).total() >= 2, "the first attempts")
        if crash:
            kill_master(daemon)
        assert found(ended(daemon, "recovers"), {"attempt": 0, "result": 0}) == {"attempt": 2, "result": 2}
        assert found(ended(daemon, "fails"), {"attempt": 0, "retcode": 0}) == {"attempt": 2, "retcode": 1}
        assert ended(daemon, "fails")["error"]["message"] == "attempt 2"
        assert traced(daemon) == {"recovers": 2, "fails": 2}


@pytest.mark.parametrize("crash", [False, True], ids=["", "over_a_crash"])
def test_a_run_waits_for_its_delay_and_not_longer_than_start_within(tmp_path: Path, crash: bool) -> None:
    with Daemon(tmp_path, QUEUE, parts={"pool": ONE}) as daemon, daemon.client() as client:
        client.run("held", key="first")
        until(lambda: traced(daemon)["first"], "the only worker to be busy")
        client.run("good", key="late", start_within=0.5)
        client.run("note", "delayed", key="delayed", delay=2.0)
        client.run("note", "prompt", key="prompt")
        if crash:
            kill_master(daemon)
        expected = {"outcome": "timeout", "retcode": 124}
        assert found(ended(daemon, "late"), expected) == expected
        open_gate(daemon)
        record = ended(daemon, "delayed")
        assert record["started_at"] >= record["submitted_at"] + 2.0
        ended(daemon, "prompt")
        assert sorted(order(daemon)) == ["delayed", "prompt"]
        assert traced(daemon) == {"first": 1}


def test_what_does_not_fit_into_the_queue_is_told_too_busy_and_fits_later(tmp_path: Path) -> None:
    with Daemon(tmp_path, QUEUE, parts={"pool": ONE + "\nmax_queue = 2"}) as daemon, daemon.client() as client:
        talk = daemon.talk()
        client.run("held", key="1")
        until(lambda: traced(daemon)["1"], "the only worker to be busy")
        for key in ("2", "3"):
            client.run("good", key=key)
        assert talk.ask('run {"hash":4,"class":"good","params":[]}') == {"error_text": "Too busy"}
        with pytest.raises(TooBusy, match="max_queue = 2"):
            client.run("good", key="5")
        client.run("good", key="3")  # a repeated order is none
        open_gate(daemon)
        ended(daemon, "3")
        assert talk.ask('run {"hash":4,"class":"good","params":[]}') == {"error_text": "OK"}
        assert ended(daemon, "4")["retcode"] == 0


def flood(talk: Conversation, count: int) -> list[str]:
    """Order ``count`` runs in one go; the answers' texts in order."""
    lines = [f'run {{"hash":{key},"class":"good","params":[]}}' for key in range(1, count + 1)]
    talk.send(*lines)
    return [json.loads(talk.line())["error_text"] for _ in lines]


def resident(pid: int) -> int:
    """Bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) * 1024


def test_p2_of_five_thousand_runs_at_once_each_is_accepted_and_runs_or_is_told_too_busy(tmp_path: Path) -> None:
    pool = 'pm = "static"\nmax_workers = 4\nmax_jobs = 0\nmax_queue = 1000'
    parts = {"pool": pool, "top": '[journal]\nsync = "normal"'}
    with Daemon(tmp_path, QUEUE, parts=parts) as daemon, daemon.client() as client:
        before = resident(daemon.master_pid)
        answers = flood(daemon.talk(), 5000)
        assert set(answers) <= {"OK", "Too busy"}
        accepted = {str(key) for key, answer in enumerate(answers, 1) if answer == "OK"}
        assert len(accepted) >= 1000
        until(lambda: client.stats()["runs_waiting"] + client.stats()["runs_running"] == 0, "all of them to end")
        assert traced(daemon) == dict.fromkeys(accepted, 1)
        assert client.stats()["runs_ended_ok"] == len(accepted)
        assert resident(daemon.master_pid) - before < 40 << 20


def test_a_flood_on_one_connection_does_not_hold_up_another(tmp_path: Path) -> None:
    pool = 'pm = "static"\nmax_workers = 1\nmax_jobs = 0\nmax_queue = 10000'
    parts = {"pool": pool, "top": '[journal]\nsync = "normal"'}
    with Daemon(tmp_path, QUEUE, parts=parts) as daemon:
        flooding, other = daemon.talk(), daemon.talk()
        master = daemon.master_pid
        os.kill(master, signal.SIGSTOP)  # so that all of it is there before the first line of it is read
        lines = [f'run {{"hash":{key},"class":"good","params":[]}}' for key in range(5000)]
        flooding.socket.settimeout(0.1)
        try:
            flooding.send(*lines)
        except TimeoutError:
            pass  # what the kernel holds is enough
        other.send('check {"hash":2000}')
        os.kill(master, signal.SIGCONT)
        assert other.line() == b'{"error_text":"Hash not found"}'  # that run has not been reached
