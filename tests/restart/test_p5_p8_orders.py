"""P5: Every order to restart is answered, also when orders overlap. P8: No signal is lost in the window."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import copy_package, edited, until
from tests.restart.stage import JOBS, gate, order, records, window


@pytest.mark.parametrize("kind", ["restart", "reload"])
def test_p5_orders_of_ten_clients_at_once_become_two(tmp_path: Path, kind: str) -> None:
    with Daemon(tmp_path, JOBS) as daemon, gate(tmp_path) as held:
        clients = [daemon.talk() for _ in range(10)]
        for talk in clients:
            talk.ask("hello")
        with edited(daemon.app / "jobs.py", f"open({str(held.path)!r}).read()\n{JOBS}"):
            clients[0].send(kind)
            held.wait_entered()
            for number, talk in enumerate(clients[1:], 1):
                talk.send(order(kind, number) if number % 2 else kind)
            clients[2].send('behind {"n":2}')
            daemon.talk().rpc("health")
            held.open()
            assert b"successfully" in clients[0].line()
            held.open()
            for number, talk in enumerate(clients[1:], 1):
                reply = json.loads(talk.line())
                if number % 2:
                    assert (reply["id"], reply["result"]) == (number, {"generation": 3})
                else:
                    assert reply == {"error_text": f"{kind.capitalize()}ed successfully"}
            assert b"request_behind" in clients[2].line()
        audit = records(clients[0])
        assert [(one["kind"], one["ok"], one["to"]) for one in audit] == [(kind, True, 3), (kind, True, 2)]


def test_p5_orders_from_everywhere_at_once_are_all_answered_by_few_restarts(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        clients = [daemon.talk() for _ in range(10)]
        for number, talk in enumerate(clients):
            talk.send(*([order("restart", 1), order("restart", 2)] if number % 2 else ["restart"]))
        os.kill(daemon.pid, signal.SIGUSR2)
        os.kill(daemon.pid, signal.SIGHUP)
        for number, talk in enumerate(clients):
            if number % 2:
                replies = [json.loads(talk.line()) for _ in range(2)]
                assert {reply["id"] for reply in replies} == {1, 2}
                assert all("generation" in reply["result"] for reply in replies)
            else:
                assert json.loads(talk.line()) == {"error_text": "Restarted successfully"}
        until(lambda: not _restarting(daemon), "the last restart")
        assert 2 <= len(records(clients[0])) <= 4  # two may come one by one before the rest is coalesced


def _restarting(daemon: Daemon) -> bool:
    return len(daemon.children("rocksyd: master")) > 1


def test_p5_a_reload_and_a_restart_that_overlap_are_both_answered(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, gate(tmp_path) as held:
        first, second, third = daemon.talk(), daemon.talk(), daemon.talk()
        with edited(daemon.app / "jobs.py", f"open({str(held.path)!r}).read()\n{JOBS}"):
            first.send("reload")
            held.wait_entered()
            second.send("reload")
            second.socket.settimeout(30)
            assert third.rpc("health")["ok"]
            third.send("restart")
            assert daemon.talk().rpc("health")["ok"]
            held.open()
            assert json.loads(first.line()) == {"error_text": "Reloaded successfully"}
            held.open()
            # The two that waited have become one restart, which reloads as well.
            assert b"successfully" in second.line()
            assert json.loads(third.line()) == {"error_text": "Restarted successfully"}
        assert [one["kind"] for one in records(first)] == ["restart", "reload"]


def test_p5_whoever_ordered_and_left_holds_nobody_up(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, gate(tmp_path) as held:
        gone, stays = daemon.talk(), daemon.talk()
        with edited(daemon.app / "jobs.py", f"open({str(held.path)!r}).read()\n{JOBS}"):
            gone.send("restart")
            held.wait_entered()
            gone.close()
            held.open()
            until(lambda: stays.rpc("stats")["generation"] == 2, "the restart that nobody waits for")
        assert stays.ask("restart") == {"error_text": "Restarted successfully"}


@pytest.mark.parametrize("at", ["_listen", "_take_over"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR2])
def test_p8_a_signal_inside_the_window_is_obeyed(tmp_path: Path, at: str, number: int) -> None:
    package = copy_package(tmp_path)
    with Daemon(tmp_path, JOBS, package=package) as daemon:
        talk = daemon.talk()
        assert talk.ask('run {"hash":1,"class":"add","params":[1,2]}') == {"error_text": "OK"}
        talk.rpc("wait", key="1")
        with window(package, tmp_path, at) as held:
            talk.send("restart")
            held.wait_entered()
            os.kill(daemon.pid, number)
            if number in (signal.SIGHUP, signal.SIGUSR2):
                held.open()
                assert json.loads(talk.line()) == {"error_text": "Restarted successfully"}
                held.open()
                until(lambda: len(records(talk)) == 2, "the restart that the signal ordered")
                return
            if at == "_take_over":
                held.open()
            daemon.wait(0)
            assert talk.line() in {b"", b'{"error_text":"Restarted successfully"}'}


def test_p8_signals_at_random_moments_of_restarts_are_not_lost(tmp_path: Path) -> None:
    chance = random.Random(8)
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        for _ in range(10):
            generation = talk.rpc("stats")["generation"]
            talk.send("restart")
            for _ in range(chance.randrange(30_000)):  # a moment that only the seed and the machine know
                os.stat(tmp_path)
            os.kill(daemon.pid, chance.choice([signal.SIGUSR2, signal.SIGHUP]))
            assert json.loads(talk.line()) == {"error_text": "Restarted successfully"}
            until(lambda: talk.rpc("stats")["generation"] == generation + 2, "the second restart")  # noqa: B023
        assert sum(one["ordered_by"].startswith("SIG") for one in records(talk)) == 10
        talk.send("restart")
        os.kill(daemon.pid, signal.SIGTERM)
        daemon.wait(0)
