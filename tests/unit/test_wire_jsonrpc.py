from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.wire import Answer, Batch, Call, Json, Request, RpcId, jsonrpc
from tests.unit.wire_drive import only

_ids = (
    st.none()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=10)
)
_params = st.lists(st.integers(), max_size=3) | st.dictionaries(
    st.sampled_from(["a", "b"]), st.text(st.characters(codec="utf-8"))
)


def _error(request: Request) -> tuple[int, RpcId]:
    assert isinstance(request, Answer)
    assert not request.close
    reply = json.loads(request.data)
    assert set(reply) == {"jsonrpc", "error", "id"}
    assert set(reply["error"]) == {"code", "message", "data"}
    return reply["error"]["code"], reply["id"]


@given(request_id=_ids, method=st.text(st.characters(codec="utf-8")), params=_params)
def test_calls(request_id: RpcId, method: str, params: Json) -> None:
    line = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": request_id}).encode()
    assert only(line) == Call(request_id, method, params)
    assert only(b"[" + line + b"]") == Batch((Call(request_id, method, params),))


def test_notifications_and_params_left_out() -> None:
    assert only(b'{"jsonrpc":"2.0","method":"m"}') == Call(None, "m", {}, notify=True)
    assert only(b'{"jsonrpc":"2.0","method":"m","id":null}') == Call(None, "m", {})


@pytest.mark.parametrize(
    "line",
    ["{", "[", "{]", '{"a":1}x', '{"jsonrpc":"2.0","method":"m","id":NaN}', '{"jsonrpc":"2.0","method":"m","id":1e999}',
     '{"id":"\x00"}', '{"id":"\\udc00"}',
     "[" * 100_000, '{"a":' * 50_000, "[" * 600 + "]" * 600, '{"id":' + "9" * 5000 + "}"],
)  # fmt: skip
def test_parse_errors(line: str) -> None:
    assert _error(only(line.encode())) == (-32700, None)


@pytest.mark.parametrize(
    ("line", "request_id"),
    [
        ("{}", None),
        ('{"foo":"boo"}', None),
        ("[]", None),
        ('{"jsonrpc":"2.0","method":1,"params":"bar"}', None),
        ('{"jsonrpc":"2.0","method":1,"id":5}', 5),
        ('{"jsonrpc":"1.0","method":"m","id":"5"}', "5"),
        ('{"jsonrpc":2.0,"method":"m","id":"5"}', "5"),
        ('{"method":"m","id":1.5}', 1.5),
        ('{"jsonrpc":"2.0","method":"m","params":null,"id":5}', 5),
        ('{"jsonrpc":"2.0","method":"m","params":"x","id":5}', 5),
        ('{"jsonrpc":"2.0","method":"m","id":true}', None),
        ('{"jsonrpc":"2.0","method":"m","id":[1]}', None),
        ('{"jsonrpc":"2.0","method":"m","id":{}}', None),
    ],
)
def test_invalid_requests(line: str, request_id: RpcId) -> None:
    assert _error(only(line.encode())) == (-32600, request_id)


@pytest.mark.parametrize("params", ["{}", '{"key":null}', '{"key":5}', '{"key":""}', "[5]"])
@pytest.mark.parametrize("method", ["run", "restart", "what no daemon has"])
def test_what_parameters_mean_is_no_matter_of_the_wire(method: str, params: str) -> None:
    line = f'{{"jsonrpc":"2.0","method":"{method}","params":{params},"id":7}}'.encode()
    assert only(line) == Call(7, method, json.loads(params))
    assert only(line.replace(b',"id":7', b"")) == Call(None, method, json.loads(params), notify=True)


def test_a_batch_keeps_its_order() -> None:
    batch = only(b'[{"jsonrpc":"2.0","method":"a","id":1},1,{"jsonrpc":"2.0","method":"b"},{"foo":1}]')
    assert isinstance(batch, Batch)
    first, second, third, fourth = batch.calls
    assert first == Call(1, "a", {})
    assert _error(second) == (-32600, None)
    assert third == Call(None, "b", {}, notify=True)
    assert _error(fourth) == (-32600, None)


def test_a_batch_is_bounded() -> None:
    element: dict[str, Any] = {"jsonrpc": "2.0", "method": "a"}
    most = only(json.dumps([element] * jsonrpc.MAX_BATCH).encode())
    assert isinstance(most, Batch)
    assert len(most.calls) == jsonrpc.MAX_BATCH
    assert _error(only(json.dumps([element] * (jsonrpc.MAX_BATCH + 1)).encode())) == (-32600, None)
