"""`rocksyd check KEY` in the least time: connect, ask, print; anything unusual is left to the ordinary way.

Not imported here, because each costs more than the question itself: argparse, json, socket, typing. The interpreter's own JSON
scanner (``_json``, what ``json`` is made of) reads the reply; without it ``json`` does.
"""

import time

from rocksyd import codes
from rocksyd.cli.output import Unwritable, cannot_write, clean, reader_left, say, write
from rocksyd.cli.phrases import FAILED, describe
from rocksyd.client.daemon_socket import ConnectionLost, DaemonSocket
from rocksyd.client.endpoint import find
from rocksyd.errors import RocksydError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ANSWER_TIMEOUT = 30.0
"""Seconds. A daemon that hands over answers later than usual."""
_MAX_REPLY = 1 << 26


def fast_check(arguments: "list[str]") -> "int | None":
    """The exit status, or None when nothing has been printed and the ordinary way has to be gone."""
    parsed = _parse(arguments)
    if parsed is None:
        return None
    key, address = parsed
    try:
        reply = _ask(key, address)
    except (RocksydError, OSError, ValueError, StopIteration):
        return None
    result, error = reply.get("result"), reply.get("error")
    try:
        if isinstance(result, dict):
            write(describe(result, time.time()) + "\n")
            return 0
    except BrokenPipeError:
        return reader_left()
    except Unwritable as failure:
        return cannot_write(failure)
    if isinstance(error, dict) and error.get("code") == codes.NOT_FOUND:
        say(not_found(key))
        return FAILED
    return None


def not_found(key: str) -> str:
    """What is said of a key that the daemon does not know."""
    return f"no run {clean(key)!r} here: it was never ordered, or has been freed; `rocksyd ps -a` lists what there is"


def _parse(arguments: "list[str]") -> "tuple[str, str | None] | None":
    """The key and the address; None for anything but these."""
    if len(arguments) == 1 and arguments[0][:1] not in ("-", ""):
        return arguments[0], None
    if len(arguments) == 3 and arguments[0] == "--address" and arguments[2][:1] not in ("-", ""):
        return arguments[2], arguments[1]
    if len(arguments) == 3 and arguments[1] == "--address" and arguments[0][:1] not in ("-", ""):
        return arguments[0], arguments[2]
    return None


def _ask(key: str, address: "str | None") -> "dict[str, Any]":
    place = find(address)
    request = f'{{"jsonrpc":"2.0","id":1,"method":"status","params":{{"key":{_quoted(key)}}}}}\n'
    lines = 1
    if place.token is not None:
        request = f'auth {{"token":{_quoted(place.token)}}}\n{request}'
        lines = 2
    socket = DaemonSocket(place.address)
    try:
        socket.send(request.encode(), ANSWER_TIMEOUT)
        data = b""
        while data.count(b"\n") < lines:
            if len(data) > _MAX_REPLY:
                raise ConnectionLost("more than a record")
            data += socket.receive(ANSWER_TIMEOUT)
    finally:
        socket.close()
    for line in data.decode().split("\n")[:lines]:
        reply = _decoded(line)
        if isinstance(reply, dict) and reply.get("id") == 1:
            return reply
    raise ConnectionLost("not answered")


def _quoted(text: str) -> str:
    try:
        from _json import encode_basestring_ascii
    except ImportError:
        from json import dumps as encode_basestring_ascii
    return encode_basestring_ascii(text)


class _Scanning:
    """What ``_json.make_scanner`` wants to know; the settings of ``json.loads``."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: "dict[str, str]" = {}


def _decoded(line: str) -> "Any":
    try:
        from _json import make_scanner

        value, _ = make_scanner(_Scanning)(line, 0)  # type: ignore[arg-type]
    except (ImportError, AttributeError, TypeError):
        import json

        value = json.loads(line)
    return value
