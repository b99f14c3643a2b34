"""P2, P11: the master is killed while it is at work."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from tests.faults.crowd import (
    EXPECTED,
    IMPATIENT,
    JOBS,
    POOL,
    Stubborn,
    crowd,
    ended,
    kill_master,
    lenient_package,
    matches,
    open_gate,
    serving_master,
    the_master,
    traced,
    zygotes,
)
from tests.faults.held import package_with_gates

SEVERAL = POOL + "\nmax_jobs = 5"


@pytest.mark.parametrize(("seed", "pool"), [(1, POOL), (2, SEVERAL)])
def test_p2_p11_no_job_is_lost_or_run_twice_when_the_master_is_killed_under_load(tmp_path: Path, seed: int, pool: str) -> None:
    dice = random.Random(seed)
    kinds = [*EXPECTED, "return", "return"]
    stop = threading.Event()
    orders: dict[int, str] = {}
    with Daemon(tmp_path, JOBS, parts={"pool": pool}, package=lenient_package(tmp_path)) as daemon:
        quiet = [daemon.talk() for _ in range(5)]
        daemon.wait_shelved(5)

        def submit_and_wait(number: int) -> None:
            client = Stubborn(daemon)
            key = (number + 1) * 100_000
            while not stop.is_set():
                key += 1
                orders[key] = kinds[key % len(kinds)]
                assert client.run(key, "end", orders[key]) == {"error_text": "OK"}
                record = client.wait(key)
                assert matches(record, EXPECTED[orders[key]]), record
            client.close()

        with crowd(10, submit_and_wait):
            try:
                for _ in range(15):
                    time.sleep(dice.uniform(0.0, 0.15))  # a random moment is what is wanted here
                    kill_master(daemon)
            finally:
                stop.set()
        assert traced(daemon) == dict.fromkeys(map(str, orders), 1)
        assert len(orders) > 15
        for talk in quiet:
            assert talk.ask('check {"hash":1}') == {"error_text": "Hash not found"}


@pytest.mark.parametrize("restarts", [0, 1, 2])
def test_p11_jobs_run_on_and_new_ones_start_after_a_crash_right_after_a_restart(tmp_path: Path, restarts: int) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk = daemon.talk()
        assert talk.ask('run {"hash":1,"class":"held","params":[]}') == {"error_text": "OK"}
        until(lambda: traced(daemon)["1"], "the first run")
        for _ in range(restarts):
            assert talk.ask("restart") == {"error_text": "Restarted successfully"}
        daemon.wait_shelved(1)
        kill_master(daemon)
        assert talk.ask('run {"hash":2,"class":"good","params":[]}') == {"error_text": "OK"}
        assert ended(daemon, "2")["result"] == "2"
        assert talk.ask('check {"hash":1}') == {"error_text": "Still running"}
        open_gate(daemon)
        assert ended(daemon, "1")["result"] == "1"
        (pool,) = talk.rpc("pools")
        assert (pool["ready"], pool["generation"]) == (True, restarts + 1)
        until(lambda: len(zygotes(daemon)) == 1, "the old zygotes to leave")
        assert traced(daemon) == {"1": 1, "2": 1}


def test_p11_a_run_is_accepted_before_the_zygote_has_been_heard_again(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk = daemon.talk()
        daemon.wait_shelved(1)
        (zygote,) = zygotes(daemon)
        os.kill(zygote, signal.SIGSTOP)
        try:
            kill_master(daemon)
            assert talk.ask('run {"hash":1,"class":"good","params":[]}') == {"error_text": "OK"}
            assert talk.ask('run {"hash":2,"class":"nothing","params":[]}') == {"error_text": "Class not found"}
        finally:
            os.kill(zygote, signal.SIGCONT)
        assert ended(daemon, "1")["retcode"] == 0


def test_p11_workers_that_are_found_again_run_no_more_jobs_than_they_may(tmp_path: Path) -> None:
    pool = 'pm = "static"\nmax_workers = 2\nmax_jobs = 3'
    with Daemon(tmp_path, JOBS, parts={"pool": pool}, package=lenient_package(tmp_path)) as daemon:
        for key in range(1, 13):
            talk = daemon.talk()
            assert talk.ask(f'run {{"hash":{key},"class":"good","params":[]}}') == {"error_text": "OK"}
            if key % 4 == 0:
                kill_master(daemon)
            assert ended(daemon, str(key))["result"] == str(key)
        assert traced(daemon) == {str(key): 1 for key in range(1, 13)}
        until(lambda: len(daemon.children("rocksyd: worker")) == 2, "as many workers as the pool is to have")


def test_p11_a_waiting_run_starts_after_the_crash_and_a_waiting_client_is_not_left_waiting(tmp_path: Path) -> None:
    pool = 'pm = "ondemand"\nmax_workers = 1'
    with Daemon(tmp_path, JOBS, parts={"pool": pool}) as daemon:
        talk = daemon.talk()
        assert talk.ask('run {"hash":1,"class":"held","params":[]}') == {"error_text": "OK"}
        assert talk.ask('run {"hash":2,"class":"good","params":[]}') == {"error_text": "OK"}
        waiting = daemon.talk()
        waiting.send('{"jsonrpc":"2.0","id":1,"method":"wait","params":{"key":"2"}}')
        assert waiting.ask('{"jsonrpc":"2.0","id":2,"method":"status","params":{"key":"2"}}')["result"]["state"] == "waiting"
        daemon.wait_shelved(2)
        kill_master(daemon)
        assert waiting.line() == b""
        open_gate(daemon)
        assert ended(daemon, "2")["result"] == "2"
        assert talk.ask('check {"hash":2}') == {"retcode": 0}
        assert traced(daemon) == {"1": 1, "2": 1}


@pytest.mark.parametrize("order", ["terminate", "timeout"])
def test_p2_an_order_to_end_a_run_survives_the_master_that_gave_it(tmp_path: Path, order: str) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": IMPATIENT}) as daemon:
        talk = daemon.talk()
        timeout = ',"timeout":3' if order == "timeout" else ""
        talk.ask(f'{{"jsonrpc":"2.0","id":1,"method":"run","params":{{"target":"deaf","key":"1"{timeout}}}}}')
        until(lambda: traced(daemon)["1"], "the run to begin")
        if order == "terminate":
            assert talk.ask('terminate {"hash":1}') == {"error_text": "OK"}
        kill_master(daemon)
        record = ended(daemon, "1")
        assert (record["retcode"], record["signal"]) == (137, 9)
        assert record["reason"] == {"terminate": "cancelled", "timeout": "timeout"}[order]


def test_p11_a_master_that_dies_while_it_orders_a_zygote_leaves_none_that_waits_for_ever(tmp_path: Path) -> None:
    """It is killed when it is about to say what is to be loaded."""
    said = '    def tell(self, message: Any) -> None:\n        """Say something to it; nothing is said'
    package, held = package_with_gates(tmp_path, {"order": (said, 'type(message).__name__ == "Load"')})
    with Daemon(tmp_path / "d", JOBS, package=package) as daemon:
        victim = the_master(daemon)
        with held["order"].closed():
            for pid in zygotes(daemon):
                os.kill(pid, signal.SIGKILL)
            held["order"].wait_reached()
            os.kill(victim, signal.SIGKILL)
            until(lambda: the_master(daemon) != victim, "another master")
        talk = daemon.talk()
        talk.rpc("run", target="good", params=[], key="after")
        assert talk.rpc("wait", key="after")["outcome"] == "ok"


def test_p11_master_and_keeper_are_one_service_the_master_that_is_killed_twice_in_a_row_comes_back(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk = daemon.talk()
        daemon.wait_shelved(1)
        kill_master(daemon)
        until(lambda: daemon.children("rocksyd: master"), "the next master")
        for pid in daemon.children("rocksyd: master"):
            os.kill(pid, signal.SIGKILL)
        until(lambda: serving_master(daemon), "the one after it")
        assert talk.ask('run {"hash":1,"class":"good","params":[]}') == {"error_text": "OK"}
        assert ended(daemon, "1")["retcode"] == 0
        assert talk.rpc("stats")["crashes"] >= 2
