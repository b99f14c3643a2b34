from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.wire import Json, RpcId, encode

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
_ids = st.none() | st.integers() | st.text()


def _one_line(reply: bytes) -> Json:
    assert reply.endswith(b"\n")
    assert reply.count(b"\n") == 1
    assert reply.isascii()
    return json.loads(reply)


@given(st.dictionaries(st.text(), _json))
def test_classic_replies_can_be_read(reply: dict[str, Json]) -> None:
    assert _one_line(encode.classic_reply(reply)) == reply


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("OK", b'{"error_text":"OK"}\n'),
        ("a/b", b'{"error_text":"a\\/b"}\n'),
        ('é "\\\n\x00', b'{"error_text":"\\u00e9 \\"\\\\\\n\\u0000"}\n'),
        ("\U0001f600", b'{"error_text":"\\ud83d\\ude00"}\n'),
    ],
)
def test_classic_is_as_php_writes_it(text: str, reply: bytes) -> None:
    assert encode.classic_error(text) == reply


def test_classic_return_codes() -> None:
    assert encode.classic_reply({"retcode": 137, "signal": 9}) == b'{"retcode":137,"signal":9}\n'


@given(_ids, _json)
def test_results(request_id: RpcId, value: Json) -> None:
    assert _one_line(encode.rpc_result(request_id, value)) == {"jsonrpc": "2.0", "result": value, "id": request_id}


@given(_ids, st.integers(), st.text(), _json)
def test_errors(request_id: RpcId, code: int, message: str, data: Json) -> None:
    error = {"code": code, "message": message} | ({} if data is None else {"data": data})
    assert _one_line(encode.rpc_error(request_id, code, message, data)) == {"jsonrpc": "2.0", "error": error, "id": request_id}


@given(st.text(), _json)
def test_notifications(method: str, params: Json) -> None:
    assert _one_line(encode.rpc_notification(method, params)) == {"jsonrpc": "2.0", "method": method, "params": params}


@given(st.lists(st.tuples(_ids, _json), min_size=1, max_size=4))
def test_batches(results: list[tuple[RpcId, Json]]) -> None:
    replies = [encode.rpc_result(request_id, value) for request_id, value in results]
    assert _one_line(encode.rpc_batch(replies)) == [json.loads(reply) for reply in replies]


def test_a_batch_of_notifications_is_not_answered() -> None:
    assert encode.rpc_batch([]) == b""


def test_what_json_has_no_word_for_is_null() -> None:
    value = {"a": [math.nan, 1.5], "b": (math.inf, -math.inf), "c": {"d": math.nan}}
    assert json.loads(encode.rpc_result(1, value))["result"] == {"a": [None, 1.5], "b": [None, None], "c": {"d": None}}


def test_stats_and_version() -> None:
    assert (
        encode.stats([("pid", 7), ("uptime", 1.5), ("text", "a b")])
        == b"STAT pid 7\r\nSTAT uptime 1.5\r\nSTAT text a b\r\nEND\r\n"
    )
    assert encode.stats([]) == b"END\r\n"
    assert encode.version("0.1.0") == b"VERSION 0.1.0\r\n"


@given(st.lists(st.tuples(st.text(), st.text() | st.integers()), max_size=3), st.text())
def test_no_value_can_pretend_to_be_another_line(pairs: list[tuple[str, object]], text: str) -> None:
    assert encode.stats(pairs).count(b"\n") == encode.stats(pairs).count(b"\r") == len(pairs) + 1
    for reply in (encode.version(text), encode.memcached_error(text)):
        assert reply.count(b"\n") == reply.count(b"\r") == 1
