"""A companion that dies or talks nonsense is started again; master, runs and clients do not notice."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, until
from tests.companions.stage import Gate, companion, daemon, ended, error, gone, wait_ready
from tests.restart.stage import gate, order


def test_one_that_is_killed_is_started_again_at_once_and_nothing_else_is_disturbed(tmp_path: Path) -> None:
    with daemon(tmp_path) as served, gate(tmp_path) as held:
        talk, waiting = served.talk(), served.talk()
        talk.rpc("run", target="gate", key="old", params=[str(held.path)])
        held.wait_entered()
        waiting.send(order("wait", key="old"))
        master, pid = served.master_pid, companion(talk)["pid"]
        for restarts in (1, 2):
            os.kill(pid, signal.SIGKILL)
            pid = wait_ready(talk, other_than=pid)
            assert companion(talk)["restarts"] == restarts
            assert talk.rpc("bell.ring")["pid"] == pid
        assert served.master_pid == master
        held.open("undisturbed")
        assert json.loads(waiting.line())["result"]["result"][1] == "undisturbed"


def test_while_it_is_away_requests_are_refused_with_the_reason_and_health_names_it(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        (tmp_path / "cannot").touch()
        os.kill(companion(talk)["pid"], signal.SIGKILL)
        until(lambda: companion(talk)["restarts"] >= 2, "two vain starts")
        why = "companion bell is failed: the bell is broken: mend it"  # and starting, when it is tried again
        until(lambda: error(talk, "bell.ring")["message"] == f"the {why}", "the reason in the refusal")
        assert error(talk, "bell.ring")["code"] == -32005
        until(lambda: (health := talk.rpc("health"))["problems"] == [why] and not health["ok"], "the reason in health")
        assert talk.rpc("call", target="add", params=[1, 2])["result"] == 3
        (tmp_path / "cannot").unlink()
        wait_ready(talk)
        assert talk.rpc("health")["ok"]


def test_a_request_that_it_has_when_it_is_killed_is_answered(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk, asking = served.talk(), served.talk()
        held = Gate(tmp_path / "asked")
        asking.send(order("bell.gate", 7, path=str(held.path)))
        held.wait_entered()
        os.kill(companion(talk)["pid"], signal.SIGKILL)
        reply = json.loads(asking.line())
        assert (reply["id"], reply["error"]["code"]) == (7, -32005)
        assert reply["error"]["message"].startswith("the companion bell has ended without an answer: its process was killed by")
        held.close()
        wait_ready(talk)
        assert asking.rpc("bell.ring")["pid"] == companion(talk)["pid"]


DEEP = '["Reply",{"number":1,"result":' + "[" * 20_000 + "]" * 20_000 + "}]"
NONSENSE = {
    "unknown number": ['["Reply",{"number":12345,"result":1}]'],
    "not yet asked": ['["Reply",{"number":2,"result":1}]'],
    "not a message": ["what?"],
    "not JSON": ['["Reply",{"number":1,"result":'],
    "deep": [DEEP],
    "of another type": ['["Reply",{"number":{"a":1},"result":1}]'],
    "a number as parts": ['["Reply",{"number":[1],"result":1}]'],
    "error without code": ['["Reply",{"number":1,"error":{"message":"no"}}]'],
    "error is none": ['["Reply",{"number":1,"error":5}]'],
    "not a number": ['["Reply",{"number":1,"result":NaN}]'],
    "methods of others": ['["Attending",{"methods":{"stats":{}}}]'],
    "of the keeper's": ['["Adopted",{"generation":9}]'],
    "of a zygote": ['["Forked",{"worker":1}]'],
    "empty fields": ['["Reply",[]]'],
}


@pytest.mark.parametrize("what", NONSENSE)
def test_p12_nonsense_ends_the_companion_and_nobody_else(tmp_path: Path, what: str) -> None:
    with daemon(tmp_path) as served:
        _ends_only_itself(served, "bell.say", texts=NONSENSE[what])


def test_p12_an_answer_that_is_too_large_ends_the_companion_and_nobody_else(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        assert len(served.talk().rpc("bell.large", bytes=3 << 20)) == 3 << 20
        _ends_only_itself(served, "bell.large", bytes=5 << 20)


def test_p12_an_answer_given_twice_is_given_once_and_ends_the_companion(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        pid = companion(talk)["pid"]
        assert talk.rpc("bell.twice", number=1) == "twice"
        wait_ready(talk, other_than=pid)
        assert talk.rpc("bell.ring")["pid"] != pid


def _ends_only_itself(served: Daemon, method: str, **params: object) -> None:
    talk, asking = served.talk(), served.talk()
    pid, master = companion(talk)["pid"], served.master_pid
    answer = error(asking, method, **params)
    assert answer["code"] == -32005, answer
    assert wait_ready(talk, other_than=pid) != pid
    assert companion(talk)["restarts"] == 1
    assert served.master_pid == master
    assert asking.rpc("bell.ring")["pid"] == companion(talk)["pid"]
    assert "companion bell is ended: " in served.log()
    assert talk.rpc("health")["faults"] == {}, "that is no fault of rocksyd"


def test_only_a_process_over_its_own_channel_can_add_methods(tmp_path: Path) -> None:
    """To clients the words of companions are nothing: neither over JSON-RPC nor as a message."""
    with daemon(tmp_path) as served:
        talk = served.talk()
        assert error(talk, "Attending", methods={"bell.ring": {}})["code"] == -32601
        assert "error" in talk.ask('["Attending",{"methods":{"cat.meow":{}}}]')[0]  # type: ignore[index]  (a batch of nonsense)
        assert error(talk, "cat.meow")["code"] == -32601


def test_it_is_told_to_leave_when_the_daemon_stops_and_answers_what_it_has(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        asking, talk = served.talk(), served.talk()
        pid = companion(talk)["pid"]
        held = Gate(tmp_path / "asked")
        asking.send(order("bell.gate", 7, path=str(held.path)))
        held.wait_entered()
        served.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
        until(lambda: companion(talk)["state"] == "absent", "the order to leave")
        assert error(talk, "bell.ring")["message"] == "the companion bell is absent: the daemon is stopping"
        held.open("last")
        assert json.loads(asking.line())["result"] == {"pid": pid, "said": "last"}
        served.wait()
        gone(pid)


def test_one_that_does_not_leave_gets_term_and_is_killed(tmp_path: Path) -> None:
    with daemon(tmp_path, 'grace = "50ms"') as served:
        talk = served.talk()
        pid = companion(talk)["pid"]
        (tmp_path / "stays").touch()
        served.stop()
        assert (tmp_path / "asked").exists()
        gone(pid)
        assert f"companion bell (pid {pid}) does not leave: killed" in served.log()


def test_when_the_keeper_is_killed_companions_leave(tmp_path: Path) -> None:
    served = daemon(tmp_path)
    try:
        served.start()
        pid = companion(served.talk())["pid"]
        os.kill(served.pid, signal.SIGKILL)
        served.wait(None)
        ended(pid)
    finally:
        served.close()


def flood(talk: Conversation, number: int, path: str) -> None:
    talk.send(*(order("bell.gate", n, path=path) for n in range(number)))


def test_requests_under_way_are_bounded(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        held = Gate(tmp_path / "asked")
        flood(talk, 1001, str(held.path))
        refused = json.loads(talk.line())
        assert (refused["id"], refused["error"]["code"]) == (1000, -32004)
        large = served.talk()
        refused = error(large, "bell.ring", text="x" * 100)
        assert refused["code"] == -32004
        os.kill(companion(served.talk())["pid"], signal.SIGKILL)
        assert sorted(json.loads(talk.line())["id"] for _ in range(1000)) == list(range(1000))
        wait_ready(served.talk())
        assert talk.rpc("bell.ring")
