"""Requests and replies as the messages of rocksyd.proto.

What must live here: which method a request asks for, and which bytes its reply is. What this file must not know: connections.
"""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from rocksyd import codes
from rocksyd.companions.gateway.binary import schema, values
from rocksyd.companions.gateway.rest import error_of
from rocksyd.companions.gateway.web import Refused

LONGEST = 16 << 20
"""Bytes of a message, at most."""
LENGTH = 4
"""Bytes of a message's length, which stands in front of it."""


@cache
def messages() -> dict[str, Any]:
    """The classes of the messages, by name."""
    return schema.classes(schema.read((files(__package__) / "rocksyd.proto").read_text(encoding="utf-8")))


def read(body: bytes) -> Any:
    """The request that these bytes are. Raises Refused."""
    try:
        return messages()["Request"].FromString(body)
    except Exception as error:  # noqa: BLE001 - DecodeError, whose package only an address with protobuf:// needs
        raise Refused(HTTPStatus.BAD_REQUEST, f"not a Request of rocksyd.proto: {error}", codes.PARSE_ERROR) from None


def asked(request: Any) -> tuple[str, dict[str, Any]]:
    """Which method is asked for, with which parameters. Raises Refused."""
    method = request.WhichOneof("method")
    if method is None:
        raise Refused(HTTPStatus.BAD_REQUEST, "the request asks for nothing: set one field of method", codes.INVALID_REQUEST)
    try:
        if method == "other":
            return request.other.method, {name: values.value(one) for name, one in request.other.params.items()}
        return method, values.members(getattr(request, method))
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, str(error), codes.INVALID_PARAMS) from None


def replied(number: int, method: str, result: Any, *, leaving: bool) -> bytes:
    """The reply that says ``result``, with its length in front. Raises Refused when it is too long."""
    reply = messages()["Reply"](id=number, leaving=leaving)
    values.set_message(getattr(reply, method), result)
    body = reply.SerializeToString()
    if len(body) > LONGEST:
        text = f"the answer has {len(body)} bytes, and {LONGEST} are the most: ask for less"
        raise Refused(HTTPStatus.BAD_REQUEST, text, codes.INVALID_REQUEST)
    return _framed(body)


def refused(number: int, why: Refused, *, leaving: bool) -> bytes:
    """The reply that says why not, with its length in front."""
    reply = messages()["Reply"](id=number, leaving=leaving)
    values.fill(reply.error, error_of(why))
    return _framed(reply.SerializeToString())


def _framed(body: bytes) -> bytes:
    return len(body).to_bytes(LENGTH, "big") + body
