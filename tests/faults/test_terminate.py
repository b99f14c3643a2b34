"""P2: ending a run ends all of its processes, and is reported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon, until
from tests.faults.crowd import IMPATIENT, JOBS, POOL, ended, found, open_gate, traced

FAMILY = (
    JOBS
    + """
@job
def family(deaf=False):
    "A process, its child and its grandchild."
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.fork()
    with open("family", "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(60)

@job
def survivor():
    "The leader dies of TERM, its child does not hear it."
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open("family", "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(60)
        os._exit(0)
    trace()
    time.sleep(60)

@job
def polite():
    trace()
    while not current().stopping:
        time.sleep(0.01)
    return "stopped in order"
"""
)
IN_TIME = POOL.replace('"30s"', '"5s"')
"""For what has to be done within the grace in a test that also waits until it is over."""
ORDERS = ["terminate", "timeout"]
REASONS = {"terminate": "cancelled", "timeout": "timeout"}
"""What a run is said to have ended for."""


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def family(daemon: Daemon) -> list[str]:
    return list(traced(daemon, "family"))


def begin(daemon: Daemon, order: str, target: str, *params: Any, members: int = 0) -> None:
    """Run ``target`` as run 1 and order it to end, once ``members`` of its processes stand in the file."""
    timeout = 3.0 if order == "timeout" else None
    with daemon.client() as client:
        client.run(target, *params, key="1", timeout=timeout)
        until(lambda: len(family(daemon)) >= members and (members or traced(daemon)["1"]), "the processes of the run")
        if order == "terminate":
            client.terminate("1")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("deaf", [False, True])
def test_p2_an_order_to_end_reaches_children_and_grandchildren(tmp_path: Path, order: str, deaf: bool) -> None:
    with Daemon(tmp_path, FAMILY, parts={"pool": IMPATIENT if deaf else POOL}) as daemon:
        begin(daemon, order, "family", deaf, members=3)
        number = 9 if deaf else 15
        expected = {"outcome": REASONS[order], "reason": REASONS[order], "retcode": 128 + number, "signal": number}
        assert found(ended(daemon, "1"), expected) == expected
        until(lambda: not any(alive(pid) for pid in family(daemon)), "the whole family to end")


@pytest.mark.parametrize("order", ORDERS)
def test_p2_a_child_that_outlives_its_leader_is_killed_after_the_grace(tmp_path: Path, order: str) -> None:
    with Daemon(tmp_path, FAMILY, parts={"pool": IN_TIME}) as daemon:
        begin(daemon, order, "survivor", members=1)
        expected = {"outcome": REASONS[order], "retcode": 143, "signal": 15}
        assert found(ended(daemon, "1"), expected) == expected
        until(lambda: not any(alive(pid) for pid in family(daemon)), "the child to end")


@pytest.mark.parametrize("order", ORDERS)
def test_a_job_that_stops_in_order_says_so_and_the_reason_stands(tmp_path: Path, order: str) -> None:
    with Daemon(tmp_path, FAMILY, parts={"pool": POOL}) as daemon:
        begin(daemon, order, "polite")
        expected = {"outcome": REASONS[order], "retcode": 0, "signal": None, "result": "stopped in order"}
        assert found(ended(daemon, "1"), expected) == expected


def test_a_waiting_run_is_cancelled_at_once_and_a_running_one_cannot_be_freed(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": 'pm = "ondemand"\nmax_workers = 1'}) as daemon:
        talk = daemon.talk()
        for key in (1, 2):
            assert talk.ask(f'run {{"hash":{key},"class":"held","params":[]}}') == {"error_text": "OK"}
        until(lambda: traced(daemon)["1"], "the first run to begin")
        assert talk.ask('free {"hash":1}') == {"error_text": "Still running"}
        assert talk.ask('free {"hash":2}') == {"error_text": "Still running"}
        assert talk.ask('terminate {"hash":2}') == {"error_text": "OK"}
        assert talk.ask('check {"hash":2}') == {"retcode": 143, "reason": "cancelled"}
        assert talk.ask('terminate {"hash":2}') == {"error_text": "Script already not running"}
        assert talk.ask('free {"hash":2}') == {"error_text": "OK"}
        assert talk.ask('check {"hash":2}') == {"error_text": "Hash not found"}
        open_gate(daemon)
        assert ended(daemon, "1")["retcode"] == 0
        assert talk.ask('terminate {"hash":1}') == {"error_text": "Script already not running"}
        assert traced(daemon) == {"1": 1}


def test_a_second_order_to_end_does_not_shorten_or_lengthen_the_grace(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": IN_TIME}) as daemon:
        talk = daemon.talk()
        assert talk.ask('run {"hash":1,"class":"deaf","params":[]}') == {"error_text": "OK"}
        until(lambda: traced(daemon)["1"], "the run to begin")
        for _ in range(3):
            assert talk.ask('terminate {"hash":1}') == {"error_text": "OK"}
        assert talk.ask('check {"hash":1}') == {"error_text": "Still running"}
        assert found(ended(daemon, "1"), {"retcode": 0, "signal": 0}) == {"retcode": 137, "signal": 9}


def test_a_daemon_that_stops_ends_what_runs_and_keeps_what_waits(tmp_path: Path) -> None:
    with Daemon(tmp_path, FAMILY, parts={"pool": 'pm = "ondemand"\nmax_workers = 1\ngrace = "1s"'}) as daemon:
        talk = daemon.talk()
        assert talk.ask('run {"hash":1,"class":"survivor","params":[]}') == {"error_text": "OK"}
        assert talk.ask('run {"hash":2,"class":"good","params":[]}') == {"error_text": "OK"}
        until(lambda: family(daemon) and traced(daemon)["1"], "the processes of the run")
        daemon.stop()
        assert not any(alive(pid) for pid in family(daemon))
        assert not os.path.exists(f"/proc/{daemon.pid}")
        daemon.start()
        assert found(ended(daemon, "1"), {"outcome": "", "signal": 0}) == {"outcome": "cancelled", "signal": 15}
        assert ended(daemon, "2")["result"] == "2"
