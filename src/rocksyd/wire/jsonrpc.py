"""JSON-RPC 2.0: requests, notifications and batches, one line each.

What must live here: what makes a request valid, and the errors of what is none.
What this file must not know: which methods there are and what their parameters mean.

Source: the JSON-RPC 2.0 specification, https://www.jsonrpc.org/specification; its examples are in ``tests/corpus``.
"""

from __future__ import annotations

from rocksyd import codes, jsontext
from rocksyd.wire import encode
from rocksyd.wire.requests import Answer, Batch, Call, Json, RpcId

MAX_BATCH = 1000
"""Requests in one batch. A line's worth of ``[1,1,1...]`` would otherwise be answered with sixty times its length."""


def parse(text: str) -> Call | Batch | Answer | None:
    """The request in a line; None for notifications that cannot be served (nobody is told, the specification says)."""
    try:
        value = jsontext.loads(text)
    except jsontext.NotJson as error:
        return Answer(encode.rpc_error(None, codes.PARSE_ERROR, "Parse error", str(error)))
    if not isinstance(value, list):
        return _request(value)
    if not value:
        return _invalid(None, "a batch holds at least one request")
    if len(value) > MAX_BATCH:
        return _invalid(None, f"a batch holds at most {MAX_BATCH} requests, this one {len(value)}: send it in parts")
    calls = tuple(call for call in map(_request, value) if call is not None)
    return Batch(calls) if calls else None


def _request(value: Json) -> Call | Answer | None:
    """One element: a call, the error it is answered with, or None for a notification that cannot be served."""
    if not isinstance(value, dict):
        return _invalid(None, "a request is an object")
    notify = "id" not in value
    request_id = value.get("id")
    if not _is_id(request_id):
        return _invalid(None, "id is a string, a number or null")
    method, params = value.get("method"), value.get("params", {})
    if value.get("jsonrpc") != "2.0":
        return _invalid(request_id, 'jsonrpc must be "2.0"')
    if not isinstance(method, str):
        return _invalid(request_id, "method must be a string")
    if not isinstance(params, list | dict):
        return _invalid(request_id, "params must be an array or an object")
    return Call(request_id, method, params, notify)


def _is_id(value: Json) -> bool:
    return value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))


def _invalid(request_id: RpcId, reason: str) -> Answer:
    return Answer(encode.rpc_error(request_id, codes.INVALID_REQUEST, "Invalid Request", reason))
