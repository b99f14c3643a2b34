"""P12: values that nest deep, in every dialect and from every side: an error with a sentence, and everybody else is served."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksyd.errors import ResultDropped, RocksydError
from rocksyd.shapes import MAX_DEPTH, MAX_PARAMS
from rocksyd.testing import Daemon
from tests.faults.bystander import Bystander

JOBS = """
from rocksyd import job

@job
def echo(*args, **named):
    return list(args) or named

@job
def lists(x: list[list[list[int] | None] | int]):
    return len(x)

@job
def deep(levels):
    value = None
    for _ in range(levels):
        value = [value]
    return value
"""
DEPTHS = [MAX_PARAMS, MAX_PARAMS + 1, 490, 495, 500, MAX_DEPTH, MAX_DEPTH + 1, 600, 980, 5000, 100_000]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, JOBS) as daemon:
        yield daemon


def nested(depth: int, opening: str = "[") -> str:
    return opening * depth + "1" + {"[": "]", "{": "}"}[opening[0]] * depth


def request(method: str, params: str, number: int = 1) -> str:
    return f'{{"jsonrpc":"2.0","id":{number},"method":"{method}","params":{params}}}'


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"b":'])
def test_p12_params_of_any_depth_are_answered_in_every_dialect(daemon: Daemon, opening: str) -> None:
    levels = opening.count("[") + opening.count("{")
    shut = {"[": "]", '{"a":': "}", '[{"b":': "}]"}[opening]
    with Bystander(daemon) as bystander:
        talk = daemon.talk()
        for depth in DEPTHS:
            value = opening * (depth // levels) + "1" + shut * (depth // levels)
            lines = [
                request("call", f'{{"target":"echo","params":{value}}}'),
                request("call", f'{{"target":"echo","params":{{"x":{value}}}}}'),
                request("call", f'{{"target":"lists","params":{{"x":{value}}}}}'),
                request("run", f'{{"target":"lists","params":[{value}]}}'),
                request("run", f'{{"target":"echo","params":[],"env":{value}}}'),
                request("run", f'{{"target":"echo","params":[],"timeout":{value}}}'),
                request("status", f'{{"key":{value}}}'),
                request("unheard_of", value),
                request("list", value),
                "[" + request("call", f'{{"target":"echo","params":{value}}}') + "]",
            ]
            for line in lines:
                talk.send(line)
                reply = json.loads(talk.line())
                reply = reply[0] if isinstance(reply, list) else reply
                if "result" not in reply:
                    assert reply["error"]["code"] in (-32700, -32602, -32601, -32000), (line[:100], reply)
                    assert reply["error"]["message"]
            run = f'{{"hash":{depth},"class":"echo","params":{value}}}'
            for argument in (run, f'{{"hash":1,"env":{value},"class":"echo"}}', value):
                talk.send(f"run {argument}")
                assert json.loads(talk.line())["error_text"]
        bystander.was_served()


def test_p12_what_is_said_of_depth_names_the_limit(daemon: Daemon) -> None:
    talk = daemon.talk()
    deep = talk.ask(request("call", f'{{"target":"echo","params":{{"x":{nested(495)}}}}}'))
    assert deep["error"]["code"] == -32602
    assert deep["error"]["message"] == f"params nest deeper than {MAX_PARAMS} levels"
    deeper = talk.ask(request("call", f'{{"target":"echo","params":{{"x":{nested(600)}}}}}'))
    assert deeper["error"]["code"] == -32700
    assert deeper["error"]["data"] == f"nests deeper than {MAX_DEPTH} levels"
    assert talk.ask(f'run {{"hash":1,"class":"echo","params":{nested(495)}}}') == {"error_text": "Invalid params"}
    assert talk.ask(request("call", f'{{"target":"echo","params":[{nested(MAX_PARAMS - 1)}]}}'))["result"]["key"]


def test_p12_what_a_job_returns_is_whole_or_said_to_be_dropped_however_it_nests(daemon: Daemon) -> None:
    with Bystander(daemon) as bystander, daemon.client() as client:
        for levels in (10, MAX_PARAMS):
            result: Any = client.call("deep", levels)
            for _ in range(levels):
                (result,) = result
        for levels in (MAX_PARAMS + 1, 500, 900):
            with pytest.raises(ResultDropped, match=f"nested deeper than {MAX_PARAMS} levels"):
                client.call("deep", levels)
        bystander.was_served()


@pytest.mark.parametrize("depth", [495, 600, 970, 5000])
def test_p12_the_command_line_and_the_client_say_what_is_wrong_and_the_daemon_lives(daemon: Daemon, depth: int) -> None:
    with Bystander(daemon) as bystander:
        for words in (["--params", f'{{"x":{nested(depth)}}}'], [f"x={nested(depth)}"]):
            command = [sys.executable, "-m", "rocksyd.cli", "run", "--address", daemon.address, "--wait", "echo", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            assert "Traceback" not in done.stderr
            if words[0] == "--params":
                assert done.returncode == 2
                assert "nest" in done.stderr
        value: Any = 1
        for _ in range(depth):
            value = [value]
        with daemon.client() as client, pytest.raises((RocksydError, TypeError), match=r"nest|JSON|read"):
            client.call("echo", value)
        bystander.was_served()
