"""Replies as bytes, for the three dialects.

What must live here: every byte the daemon says to a client on its protocol's lines.
What this file must not know: why something is said.

All JSON is ASCII (other characters as ``\\uXXXX``), so that no text a job hands us can fail to be sent or break a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from math import isfinite

from rocksyd.wire.requests import Json, RpcId

# JSON-RPC 2.0, section 5.1; those below -32000 are rocksyd's own (docs: the protocol's section 3).
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
NOT_FOUND = -32001
IN_USE = -32002
NOT_ALLOWED = -32003
TOO_BUSY = -32004
NOT_NOW = -32005

_strict = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _dumps(value: Json) -> str:
    """Compact JSON. NaN and the infinities, which JSON has no word for, become null, as in JavaScript."""
    try:
        return _strict(value)
    except ValueError:
        return _strict(_without_nan(value))


def _without_nan(value: Json) -> Json:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {name: _without_nan(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(member) for member in value]
    return value


# --- classic ----------------------------------------------------------------------------------------------------------
def classic_reply(reply: dict[str, Json]) -> bytes:
    """A reply as PHP's ``json_encode`` writes it: compact, ASCII, ``/`` as ``\\/``; one line."""
    return _dumps(reply).replace("/", "\\/").encode() + b"\n"


def classic_error(text: str) -> bytes:
    """``{"error_text": text}``, which is also how the classic dialect says that all is well (``OK``)."""
    return classic_reply({"error_text": text})


# --- JSON-RPC ---------------------------------------------------------------------------------------------------------
def rpc_result(request_id: RpcId, value: Json) -> bytes:
    """The successful response to ``request_id``, one line."""
    return _line({"jsonrpc": "2.0", "result": value, "id": request_id})


def rpc_error(request_id: RpcId, code: int, message: str, data: Json = None) -> bytes:
    """The error response to ``request_id`` (None when the request could not be read), one line.

    ``data`` says what to do about it; None leaves it out.
    """
    error: dict[str, Json] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return _line({"jsonrpc": "2.0", "error": error, "id": request_id})


def rpc_notification(method: str, params: Json) -> bytes:
    """A notification from the daemon, one line."""
    return _line({"jsonrpc": "2.0", "method": method, "params": params})


def rpc_batch(replies: Sequence[bytes]) -> bytes:
    """Encoded responses as the one array that answers a batch; nothing at all for none (JSON-RPC 2.0, section 6)."""
    if not replies:
        return b""
    return b"[" + b",".join(reply.removesuffix(b"\n") for reply in replies) + b"]\n"


def _line(value: Json) -> bytes:
    return _dumps(value).encode() + b"\n"


# --- memcached --------------------------------------------------------------------------------------------------------
def stats(pairs: Iterable[tuple[str, object]]) -> bytes:
    """``STAT name value`` lines and ``END``. A name must be one word; control characters become spaces."""
    return b"".join(b"STAT %s %s\r\n" % (_word(name), _word(value)) for name, value in pairs) + b"END\r\n"


def version(text: str) -> bytes:
    """The reply to ``version``."""
    return b"VERSION " + _word(text) + b"\r\n"


def memcached_error(text: str) -> bytes:
    """The client's fault, in memcached's words."""
    return b"CLIENT_ERROR " + _word(text) + b"\r\n"


def _word(value: object) -> bytes:
    """One line's text, so that no value can pretend to be another line of the reply."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    return text.encode(errors="backslashreplace")
