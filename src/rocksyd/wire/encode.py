"""Replies as bytes, for the three dialects.

What must live here: every byte the daemon says to a client on its protocol's lines.
What this file must not know: why something is said.

All JSON is ASCII (other characters as ``\\uXXXX``), so that no text a job hands us can fail to be sent or break a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from rocksyd.wire.requests import Json, RpcId

_strict = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_without_nan = json.JSONDecoder(parse_constant=lambda _: None).decode


def _dumps(value: Json) -> str:
    """Compact JSON. NaN and the infinities, which JSON has no word for, become null, as in JavaScript."""
    try:
        return _strict(value)
    except ValueError:
        return _strict(_without_nan(json.dumps(value)))


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


def plain(value: Json) -> bytes:
    """A value that will be a part of a line."""
    return _dumps(value).encode()


def rpc_array(request_id: RpcId, members: Sequence[bytes]) -> bytes:
    """The successful response whose result is an array of encoded values (``plain``), one line."""
    return b'{"jsonrpc":"2.0","result":[' + b",".join(members) + b'],"id":' + plain(request_id) + b"}\n"


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
    """``STAT name value`` lines and ``END``. A name is one word; control characters become spaces."""
    return (
        b"".join(b"STAT %s %s\r\n" % (_word(name).replace(b" ", b"_"), _word(_number(value))) for name, value in pairs)
        + b"END\r\n"
    )


def _number(value: object) -> object:
    """A value as memcached writes it: 1 and 0, no exponent, at most six digits behind the point."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and abs(value) < _PLAIN:
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return value


_PLAIN = 1e15
"""Numbers that are written without an exponent."""


def memcached_reset() -> bytes:
    """The reply to ``stats reset``."""
    return b"RESET\r\n"


def memcached_unknown() -> bytes:
    """There is no such command, or ``stats`` knows no such word."""
    return b"ERROR\r\n"


def version(text: str) -> bytes:
    """The reply to ``version``."""
    return b"VERSION " + _word(text) + b"\r\n"


def memcached_error(text: str) -> bytes:
    """The client's fault, in memcached's words."""
    return b"CLIENT_ERROR " + _word(text) + b"\r\n"


def memcached_failed(text: str) -> bytes:
    """Ours, in memcached's words."""
    return b"SERVER_ERROR " + _word(text) + b"\r\n"


def _word(value: object) -> bytes:
    """One line's text, so that no value can pretend to be another line of the reply."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    return text.encode(errors="backslashreplace")
