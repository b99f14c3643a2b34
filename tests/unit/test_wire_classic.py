from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.options import ORDERED
from rocksyd.wire import Answer, Auth, Bye, Check, DaemonOrder, Free, Json, Request, Submit, Terminate, classic
from tests.unit.wire_drive import only, requests_of

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)


def _error_text(request: Request) -> str:
    assert isinstance(request, Answer)
    assert not request.close
    reply = json.loads(request.data)
    assert list(reply) == ["error_text"]
    text = reply["error_text"]
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('check {"hash":1}', Check("1")),
        ('check  {"hash":1}', Check("1")),
        ('check {"hash":"1"}', Check("1")),
        ('check {"hash":"007"} ', Check("7")),
        ('check {"hash":0}', Check("0")),
        ('check {"hash":-0}', Check("0")),
        ('check {"hash":-1}', Check("-1")),
        ('check {"hash":18446744073709551615}', Check("18446744073709551615")),
        ('check {"hash":"x","hash":2}', Check("2")),
        ('terminate {"hash":1,"more":[]}', Terminate("1")),
        ('free {"hash":1}', Free("1")),
        ("restart", DaemonOrder("restart")),
        ("restart {}", DaemonOrder("restart")),
        ("reload", DaemonOrder("reload")),
        ("stop", DaemonOrder("stop")),
        ("drain", DaemonOrder("drain")),
        ("bye", Bye()),
        ('auth {"token":"secret"}', Auth("secret")),
        ('run {"hash":1,"class":"TestClass1","params":[1,2,3]}', Submit("1", "TestClass1", [1, 2, 3])),
        ('run {"hash":1,"class":"TestClass1"}', Submit("1", "TestClass1", [])),
        ('run {"hash":1,"class":"TestClass1","params":{"a":1}}', Submit("1", "TestClass1", {"a": 1})),
        (
            'run {"hash":1,"class":"A","app":"shop","timeout":"5s","priority":3,"retries":1,"foo":1,"start_within":9}',
            Submit("1", "A", [], "shop", {"timeout": "5s", "priority": 3, "retries": 1, "start_within": 9}),
        ),
    ],
)
def test_what_is_understood(line: str, expected: Request) -> None:
    request = only(line.encode())
    assert type(request) is type(expected)
    assert request == expected


@pytest.mark.parametrize(
    "given_hash",
    [
        "1.5", "1.0", "1e3", "1e30",
        "-1.0", "true", "false", "null", "[1]", "{}", '""', '"abc"', '"-1"', '"+1"', '" 1"', '"1 "', '"1e3"', '"1.0"',
        '"0x10"', '"\\u0661"', '"\u0661"', '"\u00b2"', "18446744073709551616", "-9223372036854775809",
        '"18446744073709551616"', "9" * 400, f'"{"9" * 5000}"',
    ],
)  # fmt: skip
def test_what_is_no_hash(given_hash: str) -> None:
    for command in ("check", "free", "terminate"):
        assert _error_text(only(f'{command} {{"hash":{given_hash}}}'.encode())) == "Hash is not numeric"
    assert _error_text(only(f'run {{"hash":{given_hash},"class":"A"}}'.encode())) == "hash is not numeric"


@pytest.mark.parametrize("argument", ["", " ", " {}", ' {"Hash":1}'])
def test_hash_left_out(argument: str) -> None:
    assert _error_text(only(f"check{argument}".encode())) == "Hash is not numeric"
    assert _error_text(only(f"run{argument}".encode())) == "hash is not numeric"


@pytest.mark.parametrize(
    "argument",
    [
        '"abc"', "null", "5", "[]", "{bad", '{"hash":1}}', "NaN", '{"hash":NaN}', '{"hash":1,"a":[1e999]}', "{'hash':1}",
        '{"hash":007}', '{"hash":1,}', '{"hash":1}\x00', '{"hash":1,"a":"\x00"}', '{"hash":1,"a":"\\ud800"}',
        '\ufeff{"hash":1}', "9" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_json_object(argument: str) -> None:
    for command in ("check", "run", "free", "terminate", "restart", "stop", "bye", "auth"):
        assert _error_text(only(f"{command} {argument}".encode())) == "Invalid JSON"


@pytest.mark.parametrize(
    "bomb", ["[" * 100_000, '{"a":' * 100_000, '{"hash":1,"params":' + "[" * 600 + "]" * 600 + "}", "[{" * 5000]
)
def test_nesting_bombs_are_not_json(bomb: str) -> None:
    assert _error_text(only(f"run {bomb}".encode())) == "Invalid JSON"


def test_nesting_is_allowed_as_deep_as_php_allows() -> None:
    deep = "[" * 511 + "]" * 511
    assert isinstance(only(f'run {{"hash":1,"class":"A","params":{deep}}}'.encode()), Submit)
    assert _error_text(only(f'run {{"hash":1,"class":"A","params":[{deep}]}}'.encode())) == "Invalid JSON"
    wide = "[" + "[]," * 5000 + "[]]"
    assert isinstance(only(f'run {{"hash":1,"class":"A","params":{wide}}}'.encode()), Submit)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("foo", "UNKNOWN REQUEST 'request_foo': {}"),
        ("foo ", "UNKNOWN REQUEST 'request_foo': {}"),
        ('foo {"a": 1}', "UNKNOWN REQUEST 'request_foo': {\"a\": 1}"),
        ("foo bar baz", "UNKNOWN REQUEST 'request_foo': bar baz"),
        ("CHECK {}", "UNKNOWN REQUEST 'request_CHECK': {}"),
        (' check {"hash":1}', "UNKNOWN REQUEST 'request_': check {\"hash\":1}"),
        ("che\x00ck", "UNKNOWN REQUEST 'request_che\x00ck': {}"),
        ("stats {}", "UNKNOWN REQUEST 'request_stats': {}"),
    ],
)
def test_unknown_commands_are_told_with_their_argument(line: str, text: str) -> None:
    assert _error_text(only(line.encode())) == text


@pytest.mark.parametrize("target", ["", ',"class":null', ',"class":5', ',"class":["A"]', ',"class":""', ',"class":{}'])
def test_run_without_a_class(target: str) -> None:
    assert _error_text(only(f'run {{"hash":1{target}}}'.encode())) == "Class not found"


def test_other_members_of_the_wrong_type() -> None:
    assert _error_text(only(b'run {"hash":1,"class":"A","app":5}')) == "app is not a string"
    assert _error_text(only(b'auth {"token":5}')) == "token is not a string"
    assert _error_text(only(b"auth")) == "token is not a string"


@given(params=_json, options=st.dictionaries(st.sampled_from([*ORDERED, "other"]), _json))
def test_run_carries_what_was_sent(params: Json, options: dict[str, Json]) -> None:
    line = "run " + json.dumps({**options, "hash": 5, "class": "A", "params": params}, ensure_ascii=False)
    options.pop("other", None)
    assert only(line.encode()) == Submit("5", "A", params, None, options)


@given(st.integers(-(2**63), 2**64 - 1))
def test_every_number_has_one_key(number: int) -> None:
    assert classic.key_of(number) == str(number)
    if number >= 0:
        assert classic.key_of(f"000{number}") == str(number)


def test_blank_lines_are_ignored() -> None:
    assert requests_of([b"\n\r\n  \r\n\t\nrestart\n\n"]) == [("DaemonOrder", DaemonOrder("restart"))]
