"""What the original does at a restart: the same where nothing was lost, better where something was."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until
from tests.originals.stage import JOBS, NOT_FOUND, OK, RUNNING, crowd, ended

CHECK = 'check {"hash":77}'
RESTARTED = {"error_text": "Restarted successfully"}
RUN = 'run {"hash":1,"class":"Exits","params":[7]}'

# probe -> requests in one write, replies
PIPELINED: dict[str, tuple[list[str], list[dict[str, Any]]]] = {
    "check, check, restart, check, check": (
        [CHECK, CHECK, "restart", CHECK, CHECK],
        [NOT_FOUND, NOT_FOUND, RESTARTED, NOT_FOUND, NOT_FOUND],
    ),
    "restart and run": (["restart", RUN], [RESTARTED, OK]),
    "run and restart": ([RUN, "restart"], [OK, RESTARTED]),
    "restart and restart": (["restart", "restart", CHECK], [RESTARTED, RESTARTED, NOT_FOUND]),
}  # fmt: skip


@pytest.mark.parametrize("probe", PIPELINED)
def test_p1_everything_in_the_same_write_as_restart_is_answered(tmp_path: Path, probe: str) -> None:
    requests, replies = PIPELINED[probe]
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        talk.send(*requests)
        assert [json.loads(talk.line()) for _ in requests] == replies
        if RUN in requests:
            assert ended(talk, 1) == {"retcode": 7}


@pytest.mark.parametrize("who", ["the same connection", "another connection"])
def test_p1_half_a_request_before_the_restart_and_the_rest_after_is_answered(tmp_path: Path, who: str) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        if who == "the same connection":
            talk.socket.sendall(b"restart\nche")
            assert json.loads(talk.line()) == RESTARTED
        else:
            talk.socket.sendall(b"che")
            assert daemon.restart() == RESTARTED
        talk.socket.sendall(CHECK[3:].encode() + b"\n")
        assert json.loads(talk.line()) == NOT_FOUND


def test_p1_5000_unread_answers_of_a_slow_reader_all_arrive(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        slow = daemon.talk()
        slow.send(*[f'what {{"n":{number}}}' for number in range(5000)])
        assert [daemon.restart() for _ in range(3)] == [RESTARTED] * 3
        for number in range(5000):
            assert slow.line() == b'{"error_text":"UNKNOWN REQUEST \'request_what\': {\\"n\\":%d}"}' % number


def test_p1_20_connections_in_the_backlog_during_the_restart_are_served(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk, master = daemon.talk(), daemon.master_pid
        os.kill(master, signal.SIGSTOP)  # so that nobody accepts
        talk.send("restart")
        with crowd(daemon, 20) as waiting:
            for connection in waiting:
                connection.sendall(CHECK.encode() + b"\n")
            os.kill(master, signal.SIGCONT)
            assert json.loads(talk.line()) == RESTARTED
            assert [json.loads(connection.recv(1000)) for connection in waiting] == [NOT_FOUND] * 20


def test_p2_pid_jobs_and_exit_statuses_over_ten_restarts(tmp_path: Path) -> None:
    gates = [tmp_path / f"gate{number}" for number in range(10)]
    with Daemon(tmp_path, JOBS, parts={"pool": 'pm = "ondemand"\nmax_workers = 16'}) as daemon:
        talk, pid = daemon.talk(), daemon.pid
        talk.ask('run {"hash":100,"class":"Exits","params":[7]}')
        assert ended(talk, 100) == {"retcode": 7}
        for number, gate in enumerate(gates):
            assert talk.ask(f'run {{"hash":{number},"class":"Waits","params":["{gate}"]}}') == OK
        descriptors = []
        for number, gate in enumerate(gates):
            assert talk.ask("restart") == RESTARTED
            assert talk.ask(f'check {{"hash":{number}}}') == RUNNING
            gate.touch()
            assert ended(talk, number) == {"retcode": 0}
            until(lambda: len(daemon.children("rocksyd: zygote")) <= 2, "zygotes with nothing left to do are gone")
            if number < 2:
                descriptors.append(len(daemon.descriptors(daemon.master_pid)))
            else:
                until(lambda: len(daemon.descriptors(daemon.master_pid)) <= descriptors[1], "no more descriptors than before")
        assert talk.ask('check {"hash":100}') == {"retcode": 7}
        stats = talk.rpc("stats")
        assert (stats["pid"], stats["generation"], stats["restart_count"]) == (pid, 11, 10)


def test_p3_a_new_version_that_is_broken_or_missing_changes_nothing_and_the_next_start_works(tmp_path: Path) -> None:
    broken = {
        "a syntax error": ("no python", "SyntaxError"),
        "it throws": ("1 / 0", "ZeroDivisionError"),
        "it is missing": (None, "jobs"),
    }
    with Daemon(tmp_path, JOBS) as daemon:
        talk, jobs = daemon.talk(), daemon.app / "jobs.py"
        talk.ask('run {"hash":1,"class":"Sleeps"}')
        for probe, (text, reason) in broken.items():
            jobs.unlink()
            if text is not None:
                jobs.write_text(text)
            reply = talk.ask("restart")["error_text"]
            assert reply.startswith("Restart failed: "), probe
            assert reason in reply, probe
            assert talk.ask('check {"hash":1}') == RUNNING, probe
            assert talk.rpc("call", target="echo", params=[probe])["result"] == [probe]
        jobs.write_text(JOBS)
        assert talk.ask('terminate {"hash":1}') == OK
        daemon.stop()
        daemon.start()
        assert daemon.talk().ask("restart") == RESTARTED


def test_new_code_answers_at_once_after_the_restart(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        assert talk.rpc("call", target="echo", params=[1])["result"] == [1]
        (daemon.app / "jobs.py").write_text(JOBS.replace("return params", 'return "new"'))
        assert talk.ask("restart") == RESTARTED
        assert talk.rpc("call", target="echo", params=[1])["result"] == "new"


def test_a_connection_that_ends_during_a_restart_is_over_afterwards(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        talk.socket.sendall(b"restart\n")
        talk.socket.shutdown(socket.SHUT_WR)
        assert json.loads(talk.line()) == RESTARTED
        assert talk.line() == b""
