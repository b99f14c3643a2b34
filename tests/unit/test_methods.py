"""The table of methods: the server has each, the manual's schema is made from it, requests are held against it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rocksyd.wire.jsonrpc
from rocksyd.errors import RequestError
from rocksyd.master import openrpc
from rocksyd.master.methods import ERRORS, METHODS, arguments
from rocksyd.wire import encode

DOCUMENT = Path(__file__).parents[2] / "docs" / "schema" / "openrpc.json"


def test_the_schema_in_the_manual_is_the_one_that_the_server_uses() -> None:
    """When this fails: python -m rocksyd.master.openrpc > docs/schema/openrpc.json."""
    assert json.loads(DOCUMENT.read_text()) == json.loads(json.dumps(openrpc.document()))


def test_every_method_is_served_and_every_one_that_is_served_is_described() -> None:
    from rocksyd.master.rpc import Rpc

    rpc: Any = Rpc(None)  # type: ignore[arg-type]
    assert rpc._serve.keys() == METHODS.keys()


def test_methods_that_take_the_key_of_a_run_are_known_to_the_wire() -> None:
    keyed = {name for name, method in METHODS.items() if any(parameter.name == "key" for parameter in method.parameters)}
    assert keyed == rocksyd.wire.jsonrpc.KEYED


def test_every_code_that_is_used_is_described() -> None:
    own = {encode.NOT_FOUND, encode.IN_USE, encode.NOT_ALLOWED, encode.TOO_BUSY, encode.NOT_NOW, -32000}
    common = {encode.PARSE_ERROR, encode.INVALID_REQUEST, encode.METHOD_NOT_FOUND, encode.INVALID_PARAMS, encode.INTERNAL_ERROR}
    assert ERRORS.keys() == own | common
    assert {code for method in METHODS.values() for code in method.errors} <= ERRORS.keys()


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
        ("logs", {"key": "k", "offset": -1}, "offset", "offset must be a whole number of at least 0, got -1"),
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
