"""What the original does with runs at the edges: it takes every failure for a success, and lets processes go astray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, descendants, until
from tests.originals.stage import JOBS, NOT_FOUND, OK, RUNNING, ended, gone, state

ENDINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "a run that does nothing": ('"class":"Nothing"', {"retcode": 0}),
    "a class that throws": ('"class":"Throws"', {"retcode": 1}),
    "a job that exits 3": ('"class":"Exits","params":[3]', {"retcode": 3}),
    "a job that exits 255": ('"class":"Exits","params":[255]', {"retcode": 255}),
    "a job out of memory": ('"class":"Exhausts"', {"retcode": 1}),
    "a job killed by SIGKILL": ('"class":"Dies","params":[9]', {"retcode": 137, "signal": 9}),
    "a job killed by SIGSEGV": ('"class":"Dies","params":[11]', {"retcode": 139, "signal": 11}),
    "a job killed by SIGTERM that nobody of ours sent": ('"class":"Dies","params":[15]', {"retcode": 143, "signal": 15}),
    "a job past its time": ('"class":"Sleeps","timeout":0.2', {"reason": "timeout"}),
    "params that are an object": ('"class":"Nothing","params":{"a":1}', {"retcode": 0}),
    "params that are a number": ('"class":"Nothing","params":5', {"retcode": 0}),
    "params left out": ('"class":"Nothing"', {"retcode": 0}),
    "a job that throws because of its params": ('"class":"Exits"', {"retcode": 1}),
    "hash as a string of digits": ('"class":"Exits","params":[4]', {"retcode": 4}),
}


def contains(reply: dict[str, Any], members: dict[str, Any]) -> bool:
    return members.items() <= reply.items()


def output(talk: Conversation, key: int) -> list[str]:
    """The lines that a run has printed, when there is at least one."""
    until(lambda: "\n" in talk.rpc("logs", key=str(key))["text"], f"output of {key}")
    lines: list[str] = talk.rpc("logs", key=str(key))["text"].splitlines()
    return lines


def test_every_way_to_end_is_told_apart_from_success(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        for number, (members, _) in enumerate(ENDINGS.values()):
            assert talk.ask(f'run {{"hash":"{number}",{members}}}') == OK
        got = {probe: ended(talk, number) for number, probe in enumerate(ENDINGS)}
        assert {probe: reply for probe, reply in got.items() if not contains(reply, ENDINGS[probe][1])} == {}
        assert {probe: reply for probe, reply in got.items() if "error_text" in reply} == {}


def test_a_duplicate_hash_neither_replaces_the_first_run_nor_answers_for_it(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        first = f'run {{"hash":1,"class":"Waits","params":["{gate}"]}}'
        assert talk.ask(first) == OK
        assert talk.ask('run {"hash":1,"class":"Exits","params":[3]}') == {"error_text": "Hash is in use"}
        assert talk.ask(first) == OK  # the same again is safe
        assert talk.ask('check {"hash":1}') == RUNNING
        assert talk.rpc("stats")["runs_submitted"] == 1
        gate.touch()
        assert ended(talk, 1) == {"retcode": 0}
        assert talk.ask(first) == OK
        assert talk.ask('check {"hash":1}') == {"retcode": 0}


def test_a_hash_is_one_number_however_it_is_written_and_no_other(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        assert talk.ask('run {"hash":7,"class":"Exits","params":[7]}') == OK
        assert ended(talk, 7) == {"retcode": 7}
        for same in ("7", '"7"', '"007"'):
            assert talk.ask(f'check {{"hash":{same}}}') == {"retcode": 7}, same
        for other in ("7.5", "7.0", '"7.0"', '"7e0"', "-7", "70", "true"):
            assert "retcode" not in talk.ask(f'check {{"hash":{other}}}'), other


def test_terminate_free_and_check_after_the_end_and_after_free(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        talk.ask('run {"hash":1,"class":"Nothing"}')
        assert ended(talk, 1) == {"retcode": 0}
        assert talk.ask('terminate {"hash":1}') == {"error_text": "Script already not running"}
        assert talk.ask('free {"hash":1}') == OK
        for command in ("check", "free", "terminate"):
            assert talk.ask(f'{command} {{"hash":1}}') == NOT_FOUND


def test_free_of_a_run_that_runs_is_refused_and_the_run_stays_known(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        talk.ask('run {"hash":1,"class":"Sleeps"}')
        assert talk.ask('free {"hash":1}') == RUNNING
        assert talk.ask('terminate {"hash":1}') == OK
        assert contains(ended(talk, 1), {"reason": "cancelled"})
        assert talk.ask('free {"hash":1}') == OK


@pytest.mark.parametrize("target", ["Deaf", "Parent"], ids=["a job that ignores SIGTERM", "a job which has a child"])
def test_terminate_ends_all_of_a_run(tmp_path: Path, target: str) -> None:
    grace = "300ms" if target == "Deaf" else "30s"  # the one is over before the job ends, the other is not
    pool = f'pm = "ondemand"\nmax_workers = 2\ngrace = "{grace}"'
    with Daemon(tmp_path, JOBS, parts={"pool": pool}) as daemon:
        talk = daemon.talk()
        talk.ask(f'run {{"hash":1,"class":"{target}"}}')
        printed = output(talk, 1)[0]
        leader = talk.rpc("status", key="1")["pid"]
        child = int(printed) if target == "Parent" else leader
        assert not gone(child)
        assert talk.ask('terminate {"hash":1}') == OK
        reply = ended(talk, 1)
        assert contains(reply, {"reason": "cancelled"})
        assert reply["retcode"] == (137 if target == "Deaf" else 143)
        until(lambda: gone(leader) and gone(child), "the run's processes have ended")


def test_another_signal_is_only_delivered(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        talk.ask('run {"hash":1,"class":"Notes"}')
        assert output(talk, 1) == ["ready"]
        for name in ("USR1", "SIGUSR1", 10):
            assert talk.rpc("terminate", key="1", signal=name)["state"] == "running"
        until(lambda: "heard 10" in talk.rpc("logs", key="1")["text"], "the job has heard of it")
        assert talk.ask('check {"hash":1}') == RUNNING
        talk.rpc("terminate", key="1", signal="KILL")
        assert ended(talk, 1) == {"retcode": 137, "signal": 9}


@pytest.mark.parametrize("number", ['"WINTER"', "0", "65", "true", "[]", '""'])
def test_p12_what_is_no_signal_is_refused(tmp_path: Path, number: str) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        talk.ask('run {"hash":1,"class":"Sleeps"}')
        reply = talk.ask(f'{{"jsonrpc":"2.0","id":1,"method":"terminate","params":{{"key":"1","signal":{number}}}}}')
        assert reply["error"]["code"] == -32602
        assert "signal" in f"{reply['error']['message']} {reply['error'].get('data')}"
        assert talk.ask('check {"hash":1}') == RUNNING


def test_a_run_that_waits_cannot_be_sent_a_signal_but_can_be_cancelled(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        talk.rpc("run", target="Nothing", key="1", delay="1h")
        reply = talk.ask('{"jsonrpc":"2.0","id":1,"method":"terminate","params":{"key":"1","signal":"USR1"}}')
        assert reply["error"]["code"] == -32005
        assert "has not started" in reply["error"]["message"]
        assert talk.ask('terminate {"hash":1}') == OK
        assert contains(ended(talk, 1), {"reason": "cancelled"})


def test_no_zombie_is_left_while_nobody_asks_for_anything(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        with daemon.talk() as talk:
            for number in range(5):
                talk.ask(f'run {{"hash":{number},"class":"Exits","params":[{number}]}}')
            for number in range(5):
                ended(talk, number)
        # Spares are idle workers; whoever has ended is reaped without any client's help.
        until(lambda: "Z" not in {state(pid) for pid in descendants(daemon.pid)}, "no zombies")


def test_result_output_time_and_memory_of_a_run_are_kept(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        talk.rpc("run", target="echo", params=[1, "two"], key="1")
        record = talk.rpc("wait", key="1")
        assert record["result"] == [1, "two"]
        assert output(talk, 1) == ["said 1 two"]
        assert record["ended_at"] >= record["started_at"] >= record["submitted_at"]
        assert record["max_rss"] > 0
        assert "said 1 two" not in daemon.log()


def test_p7_a_job_has_its_standard_descriptors_and_none_of_the_clients(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        connections = [daemon.talk() for _ in range(5)]
        clients = set(daemon.descriptors(daemon.master_pid).values())
        found = connections[0].rpc("call", target="descriptors")["result"]
        sockets = {name for name in found if name.startswith("socket:")}
        assert len(sockets) == 1  # to the master; nobody else's
        assert not sockets & clients
