"""P12: every number of every method and option, at the edges of what numbers are: each is answered, and the daemon lives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rocksyd.master.desk import methods
from rocksyd.options import OPTIONS
from rocksyd.testing import Daemon
from tests.faults.bystander import Bystander

JOBS = """
from rocksyd import job

@job
def echo(*args):
    return list(args)
"""
EDGES = [
    "0", "-0.0", "-1", "1.5", "1e308", "-1e308", "1e-320", "1e999", "-1e999", "NaN", "Infinity", '"nan"', '"inf"', '"-inf"',
    '"1e308"',
    *(f"{sign}{2**power + more}" for power in (31, 32, 53, 63, 64) for more in (-1, 0) for sign in ("", "-")),
    *(str(float(2**power)) for power in (31, 53, 63, 64)),
    "9" * 400, "-" + "9" * 400, "9" * 5000, '"' + "9" * 400 + '"', '"9d"', "true", "null", "[]", "{}",
]  # fmt: skip
ENDS = {"stop", "restart", "reload", "drain"}


def takes_number(schema: dict[str, Any]) -> bool:
    kinds = schema.get("type", [])
    return bool({"number", "integer"} & set([kinds] if isinstance(kinds, str) else kinds))


NUMBERS = [
    (name, parameter.name)
    for name, method in methods.METHODS.items()
    for parameter in method.parameters
    if name not in ENDS and takes_number(parameter.schema)
]


def test_there_are_numbers_to_look_at_and_each_has_its_bounds() -> None:
    found = {parameter for _, parameter in NUMBERS}
    assert {"position", "offset", "limit", "signal", "timeout", "delay", "priority", "retries", "start_within"} <= found
    for name, parameter in NUMBERS:
        schema = next(one.schema for one in methods.METHODS[name].parameters if one.name == parameter)
        bounded = "minimum" in schema and "maximum" in schema
        assert bounded or schema.get("format") in ("duration", "size"), f"{parameter} of {name} has no bounds"


@pytest.mark.parametrize("dialect", ["object", "array", "batch", "classic"])
def test_p12_every_number_of_every_method_is_answered(tmp_path: Path, dialect: str) -> None:
    with Daemon(tmp_path, JOBS) as daemon, Bystander(daemon) as bystander:
        talk = daemon.talk()
        talk.ask('run {"hash":1,"class":"echo","params":[]}')
        talk.rpc("wait", key="1")
        lines = classic_lines() if dialect == "classic" else rpc_lines(dialect)
        for line in lines:
            talk.send(line)
            reply = said(talk, dialect)
            if dialect == "classic":
                assert reply["error_text"], line[:200]
            elif "result" not in reply:
                assert reply["error"]["code"] in (-32602, -32700, -32005, -32001, -32000), (line[:200], reply)
        bystander.was_served()


def said(talk: Any, dialect: str) -> dict[str, Any]:
    """The reply to what was asked last: what a subscription sends meanwhile is passed over."""
    while True:
        reply: Any = json.loads(talk.line())
        if dialect == "batch" and isinstance(reply, list):
            return dict(reply[0])
        if "method" not in reply:
            return dict(reply)


def rpc_lines(dialect: str) -> list[str]:
    lines = []
    for number, (name, parameter) in enumerate(NUMBERS):
        names = [one.name for one in methods.METHODS[name].parameters]
        for count, edge in enumerate(EDGES):
            if name in ("run", "call"):
                values = {"target": '"echo"', "params": "[]", "key": f'"k{number}.{count}"'}
            else:
                values = {one: '"1"' for one in names if one == "key"}
            values[parameter] = edge
            if name == "call" and parameter in ("delay", "eta") and edge not in ("0", "-1", "1.5"):
                continue  # it would be waited for; `run` takes the same option
            if dialect == "array":
                last = max(index for index, one in enumerate(names) if one in values)
                params = "[" + ",".join(values.get(one, "null") for one in names[: last + 1]) + "]"
            else:
                params = "{" + ",".join(f'"{one}":{value}' for one, value in values.items()) + "}"
            line = f'{{"jsonrpc":"2.0","id":1,"method":"{name}","params":{params}}}'
            lines.append(f"[{line}]" if dialect == "batch" else line)
    return lines


def classic_lines() -> list[str]:
    options = [option.name for option in OPTIONS if takes_number(option.form.schema)]
    lines = [
        f'run {{"hash":{1000 * (number + 1) + count},"class":"echo","{option}":{edge}}}'
        for number, option in enumerate(options)
        for count, edge in enumerate(EDGES)
    ]
    return lines + [f'{verb} {{"hash":{edge}}}' for verb in ("check", "free", "terminate") for edge in EDGES if edge != "1"]
