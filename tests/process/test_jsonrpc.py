"""JSON-RPC with the daemon itself: every method as its schema says, nobody waits for another, typed parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rocksyd.core import schema
from rocksyd.master.desk.methods import METHODS, NOTIFICATIONS
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation
from tests.restart.stage import gate

JOBS = """
import datetime, enum, functools
from rocksyd import current, job

class Colour(enum.Enum):
    RED = "red"

@job
def add(a: int, b: int = 2) -> int:
    return a + b

@job
def typed(day: datetime.date, *names: str, shard: int = 0, colour: Colour = Colour.RED, **others: float):
    return [day.isoformat(), list(names), shard, colour.name, others]

@job
def gate(path):
    print("entered", flush=True)
    current().progress(1, 2, "at the gate")
    with open(path) as file:
        return file.read()

@job
def broken():
    raise KeyError("lamp")

class Original:
    def run(self, params):
        return params
"""


def line(method: str, identity: Any, **params: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})


def said(talk: Conversation) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(talk.line())
    return message


def methods(messages: list[dict[str, Any]]) -> set[str]:
    """Of those notifications that say the last of their kind: output that goes on is not it."""
    return {message["method"] for message in messages if "method" in message and message["params"].get("ended") is not False}


def test_every_method_answers_what_its_schema_says(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, gate(tmp_path) as held:
        talk = daemon.talk()
        seen = set()

        def ask(method: str, **params: Any) -> Any:
            result = talk.rpc(method, **params)
            assert schema.problem(result, METHODS[method].result, method) == ""
            seen.add(method)
            return result

        ask("run", target="add", params=[1], key="a", labels={"x": "y"}, priority=3, timeout="10s", retries=0, env={"A": "b"})
        assert ask("call", target="add", params={"a": 1, "b": 5}, key="c") == {"result": 6, "key": "c"}
        assert ask("call", target="add", params=[[1], {"a": 2}, [3, 4]], each=True)["result"] == [3, 4, 7]
        assert ask("wait", key="a", timeout=60)["result"] == 3
        assert ask("status", key="a")["labels"] == {"x": "y"}
        assert ask("logs", key="a") == {"text": "", "offset": 0, "ended": True, "truncated": False}
        assert [run["key"] for run in ask("list", target="add", state="ended", outcome="ok")][-1] == "a"
        ask("retry", key="a")
        ask("wait", key="a")
        ask("free", key="a")
        ask("run", target="add", params=[1], key="later", delay="1h")
        assert ask("edit", key="later", params=[2], delay="2h")["params"] == [2]
        assert ask("terminate", key="later")["outcome"] == "cancelled"
        assert ask("why", key="later")
        ask("run", target="gate", params=[str(held.path)], key="held")
        held.wait_entered()
        assert "in gate" in ask("stack", key="held")["text"]
        held.open()
        ask("wait", key="held")
        ask("flag", flag="debug", target="add", **{"for": "5m"})
        assert [row["target"] for row in ask("flags")] == ["add"]
        assert ask("call", target="add", params=[1], key="loud") == {"result": 3, "key": "loud"}
        assert ask("status", key="loud")["debug"] is True
        assert ask("unflag", flag="debug", target="add") == {"removed": True}
        ask("subscribe", keys=["none"], events=["run.ended"], labels={"a": "b"}, position=0)
        for method in (
            "left_behind",
            "targets",
            "stats",
            "durations",
            "costs",
            "pools",
            "services",
            "health",
            "rpc.discover",
            "reload",
            "restart",
        ):
            ask(method)
        assert [one["kind"] for one in ask("restarts")] == ["restart", "reload"]
        ask("drain")
        assert ask("auth", token="whatever, there is none") == {"authorised": True}
        ask("stop")
        assert seen == METHODS.keys()
        daemon.wait()


def test_two_requests_that_wait_do_not_delay_a_third(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        talk.rpc("run", target="add", params=[1], key="never", delay="1h")
        talk.send(line("wait", "first", key="never"), line("wait", "second", key="never"), line("status", "third", key="never"))
        assert said(talk)["id"] == "third"
        talk.send('check {"hash":1}', line("call", "fourth", target="add", params=[1]), line("terminate", "fifth", key="never"))
        assert said(talk) == {"error_text": "Hash not found"}
        rest = {message["id"]: message["result"] for message in [said(talk) for _ in range(4)]}
        assert rest["first"] == rest["second"]
        assert rest["first"]["outcome"] == "cancelled"
        assert rest["fourth"]["result"] == 3


def test_a_batch_is_answered_as_one_when_its_last_request_is(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        calls = [
            {"jsonrpc": "2.0", "id": 1, "method": "run", "params": {"target": "add", "params": [1], "key": "a", "delay": "1h"}},
            {"jsonrpc": "2.0", "id": 2, "method": "wait", "params": {"key": "a"}},
            {"jsonrpc": "2.0", "method": "run", "params": {"target": "add", "params": [5], "key": "silent"}},
            {"jsonrpc": "2.0", "method": "no such method"},
            {"jsonrpc": "2.0", "id": 3, "method": "status", "params": ["none"]},
            5,
            {"jsonrpc": "2.0", "id": 4, "method": "call", "params": ["add", [2]]},
        ]
        talk.send(json.dumps(calls), line("status", "alone", key="a"))
        assert said(talk)["id"] == "alone"
        assert talk.rpc("wait", key="silent")["result"] == 7
        talk.send(line("terminate", "end", key="a"))
        messages = [json.loads(talk.line()), json.loads(talk.line())]
        (batch,) = [message for message in messages if isinstance(message, list)]
        answers = {answer["id"]: answer for answer in batch}
        assert answers.keys() == {1, 2, 3, 4, None}
        assert answers[2]["result"]["outcome"] == "cancelled"
        assert answers[3]["error"]["code"] == -32001
        assert answers[4]["result"]["result"] == 4
        assert answers[None]["error"]["code"] == -32600


def test_notifications_are_what_their_schema_says_also_over_a_restart(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, gate(tmp_path) as held:
        talk, news = daemon.talk(), daemon.talk()
        assert news.rpc("subscribe", target="gate")["subscribed"] == ["run.started", "run.progress", "run.ended", "restarted"]
        news.send(line("subscribe", "health", events=["health"]))
        talk.rpc("run", target="gate", params=[str(held.path)], key="g")
        talk.rpc("run", target="add", params=[1], key="not asked for")
        news.send(line("logs", "out", key="g", follow=True))
        heard = [said(news)]
        while "run.progress" not in methods(heard) or "id" not in {name for message in heard for name in message}:
            heard.append(said(news))
        assert talk.rpc("restart")["generation"] == 2
        held.open()
        while not {"run.ended", "logs"} <= methods(heard):
            heard.append(said(news))
        assert methods(heard) == NOTIFICATIONS.keys()
        for message in heard:
            if "method" in message:
                assert schema.problem(message["params"], NOTIFICATIONS[message["method"]].params, message["method"]) == ""
                assert message["params"].get("key", "g") == "g"


@pytest.mark.parametrize(
    ("target", "params", "parameter", "text"),
    [
        ("add", ["1"], "a", "jobs:add: parameter 'a' must be a whole number, got \"1\""),
        ("add", {"b": 1}, "a", "jobs:add: parameter 'a' is missing"),
        ("add", {"a": 1, "c": 1}, "c", "jobs:add: there is no parameter 'c'"),
        ("add", [1, 2, 3], None, "jobs:add: 3 parameters by position, and it takes at most 2"),
        ("typed", ["2026-02-30"], "day", "jobs:typed: parameter 'day' must be a date such as 2026-01-31, got \"2026-02-30\""),
        ("typed", ["2026-01-31", "a", 5], "names", "jobs:typed: parameter 'names' must be a string, got 5"),
        ("typed", {"day": "2026-01-31", "colour": "green"}, "colour", "jobs:typed: parameter 'colour' must be one of"),
        ("typed", {"day": "2026-01-31", "extra": "x"}, "extra", "jobs:typed: parameter 'extra' must be a number"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_and_named(
    target: str, params: Any, parameter: str | None, text: str, tmp_path: Path
) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        for method in ("run", "call"):
            talk.send(line(method, 1, target=target, params=params, key="k"))
            error = said(talk)["error"]
            assert error["code"] == -32602
            assert error["message"].startswith(text)
            assert error["data"]["parameter"] == parameter
            assert error["data"]["advice"].startswith("parameters: ")
        talk.send(line("status", 2, key="k"))
        assert said(talk)["error"]["code"] == -32001, "nothing was ordered"


def test_parameters_that_fit_are_taken_and_a_new_version_has_its_own_signature(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        given = {"day": "2026-01-31", "shard": 1, "colour": "red", "extra": 1.5}
        expected = ["2026-01-31", [], 1, "RED", {"extra": 1.5}]
        assert talk.rpc("call", target="typed", params=given)["result"] == expected
        assert talk.rpc("call", target="jobs:typed", params=["2026-01-31", "a"])["result"] == ["2026-01-31", ["a"], 0, "RED", {}]
        assert talk.rpc("call", target="Original", params={"any": ["thing"]})["result"] == {"any": ["thing"]}
        (daemon.app / "jobs.py").write_text(
            JOBS.replace("def add(a: int,", "def add(a: str,").replace("b: int = 2", "b: str = 'z'")
        )
        talk.rpc("restart")
        assert talk.rpc("call", target="add", params=["1"])["result"] == "1z"
        with pytest.raises(AssertionError, match="parameter 'a' must be a string, got 1"):
            talk.rpc("call", target="add", params=[1])


def test_the_classic_dialect_leaves_wrong_parameters_to_python(tmp_path: Path) -> None:
    """Controllers of the original send strings for numbers, and know no answer to `run` but those they know."""
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        assert talk.ask('run {"hash":1,"class":"add","params":["1","2"]}') == {"error_text": "OK"}
        assert talk.rpc("wait", key="1")["result"] == "12"
        assert talk.ask('run {"hash":2,"class":"add","params":[1,2,3]}') == {"error_text": "OK"}
        assert talk.rpc("wait", key="2")["error"]["type"] == "TypeError"
        assert talk.ask('check {"hash":2}') == {"retcode": 1}


def test_an_exception_is_told_with_what_it_can_be_made_from_again(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        talk.send(line("call", 1, target="broken", key="b"))
        data = said(talk)["error"]["data"]
        assert data.pop("traceback").endswith("KeyError: 'lamp'\n")
        of_the_run = {"key": "b", "outcome": "failed", "retcode": 1, "signal": None}
        assert data == {"type": "KeyError", "message": "'lamp'", "args": ["lamp"], **of_the_run}


def test_a_drain_with_nothing_left_is_answered_though_nothing_else_happens(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": 'pm = "ondemand"'}) as daemon:
        talk = daemon.talk()
        for _ in range(3):
            assert talk.rpc("drain")["generation"] == 1
