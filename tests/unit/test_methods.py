"""The table of methods: the server has each, the manual's schema is made from it, requests are held against it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rocksyd import codes, config
from rocksyd.errors import RequestError
from rocksyd.master.desk import openrpc
from rocksyd.master.desk.methods import METHODS, arguments
from tests.unit.served import served

DOCUMENT = Path(__file__).parents[2] / "docs" / "schema" / "openrpc.json"


def test_the_schema_in_the_manual_is_the_one_that_the_server_uses() -> None:
    """When this fails: python -m rocksyd.master.desk.openrpc > docs/schema/openrpc.json."""
    assert json.loads(DOCUMENT.read_text()) == json.loads(json.dumps(openrpc.document()))


def test_every_method_is_served_and_every_one_that_is_served_is_described(tmp_path: Path) -> None:
    with served(config.parse('[apps.app]\npath = "."\njobs = ["jobs"]\n', str(tmp_path / "rocksyd.toml"))) as server:
        assert server.rpc.methods.keys() == METHODS.keys()


@pytest.mark.parametrize("key", [5, 1.5, True, [], "", "k" * 129])
def test_what_is_no_key_is_refused_by_every_method_that_takes_one(key: Any) -> None:
    keyed = [name for name, method in METHODS.items() if any(parameter.name == "key" for parameter in method.parameters)]
    assert len(keyed) >= 10
    for name in keyed:
        with pytest.raises(RequestError) as caught:
            arguments(name, METHODS[name], {"target": "t", "key": key} if name in ("run", "call") else {"key": key})
        assert caught.value.code == codes.INVALID_PARAMS
        assert str(caught.value).startswith("key must be a string of 1 to 128 characters, got ")


def test_every_code_is_described_and_stands_for_its_error() -> None:
    numbers = {value for name, value in vars(codes).items() if name.isupper() and isinstance(value, int)}
    assert set(codes.MEANINGS) == numbers
    assert {code for method in METHODS.values() for code in method.errors} <= numbers
    document = openrpc.document()
    assert document["components"]["errors"].keys() == {str(number) for number in numbers}


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("status", ["k"], {"key": "k"}),
        ("wait", {"key": "k", "timeout": None}, {"key": "k"}),
        ("run", ["t", [1], None, "app"], {"target": "t", "params": [1], "app": "app"}),
        ("stats", [], {}),
    ],
)
def test_parameters_are_taken_by_name_or_by_position_and_null_is_left_out(name: str, given: Any, taken: Any) -> None:
    assert arguments(name, METHODS[name], given) == taken


@pytest.mark.parametrize(
    ("name", "given", "parameter", "text"),
    [
        ("status", {}, "key", "status needs the parameter 'key'"),
        ("status", {"key": None}, "key", "key must be a string of 1 to 128 characters, got null"),
        ("status", [], "key", "status needs the parameter 'key'"),
        ("status", ["k", 1], None, "status takes at most 1 parameters"),
        ("status", {"key": "k", "kee": 1}, "kee", "status has no parameter 'kee'"),
        ("list", {"limit": 0}, "limit", "limit must be a whole number from 1 to 1000, got 0"),
        ("list", {"limit": True}, "limit", "limit must be a whole number from 1 to 1000, got true"),
        ("run", {"target": "t", "params": "x"}, "params", 'params must be an array or an object, got "x"'),
        ("run", {"target": "t", "env": {"a": 1}}, "env", "env.a must be a string, got 1"),
        ("run", {"target": ""}, "target", 'target must be a string of at least 1 characters, got ""'),
        ("subscribe", {"events": ["x"]}, "events", 'events[0] must be one of "run.started"'),
        ("logs", {"key": "k", "offset": -1}, "offset", "offset must be a whole number from 0 to 9223372036854775807, got -1"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(name: str, given: Any, parameter: str | None, text: str) -> None:
    with pytest.raises(RequestError) as caught:
        arguments(name, METHODS[name], given)
    assert caught.value.code == -32602
    assert str(caught.value).startswith(text)
    data: Any = caught.value.data
    assert data["parameter"] == parameter
    assert data["advice"]
