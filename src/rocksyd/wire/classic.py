"""The classic dialect: ``command [JSON object]``, compatible with the published Phprocksyd daemon.

What must live here: the commands' names, what their arguments must look like, and the exact texts of their refusals.
What this file must not know: which runs there are, which classes exist.

What a ``hash`` is: an integer, or a string of decimal digits; the number counts, so ``7``, ``"7"`` and ``"007"`` are the same
run, whose key is ``"7"``. A negative integer is a number too (PHP's ``crc32`` gave them). ``"-1"``, ``1.0``, ``1e3``, ``true``
and what needs more than 64 bits are none: the original took such a one for some other run's number.

Source: ``Phprocksyd.php`` (``processJSONRequests``, ``command`` and the ``request...`` methods) for names and texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rocksyd import jsontext
from rocksyd.model import Free, Submit, Terminate
from rocksyd.options import ORDERED
from rocksyd.wire import encode
from rocksyd.wire.requests import Answer, Auth, Bye, Check, DaemonOrder, Json, Request

match_check = re.compile(rb'check \{"hash": ?(0|[1-9][0-9]{0,17})\}').fullmatch
"""Recognises the commonest request without reading it as JSON; group 1 is the key."""

_INTEGERS = range(-(2**63), 2**64)
_MAX_DIGITS = 128  # with leading zeros; int() of a megabyte of digits is work that nobody ordered

_Object = dict[str, Any]


def parse(text: str) -> Request:
    """The request in a line, or the ``Answer`` that refuses it."""
    command, _, argument = text.rstrip(" \t\r\v\f").partition(" ")
    build = _COMMANDS.get(command)
    if build is None:
        # The argument as it was sent, not as it would be written again: the caller is to recognise it.
        return _error(f"UNKNOWN REQUEST 'request_{command}': {argument or '{}'}")
    try:
        value = jsontext.loads(argument) if argument else {}
    except jsontext.NotJson:
        return _error("Invalid JSON")
    if not isinstance(value, dict):
        return _error("Invalid JSON")
    return build(value)


def key_of(value: Json) -> str | None:
    """The key that a ``hash`` names; None when it is not a number (see the head of this file)."""
    if type(value) is str:  # not isinstance, as below: True is an int
        digits = len(value) <= _MAX_DIGITS and value.isascii() and value.isdigit()
        value = int(value) if digits else None
    return str(value) if type(value) is int and value in _INTEGERS else None


def _error(text: str) -> Answer:
    return Answer(encode.classic_error(text))


def _of_run(request: Callable[[str], Request]) -> Callable[[_Object], Request]:
    """A request that says nothing but which run it is about."""

    def build(argument: _Object) -> Request:
        key = key_of(argument.get("hash"))
        return _error("Hash is not numeric") if key is None else request(key)

    return build


def _run(argument: _Object) -> Request:
    key = key_of(argument.get("hash"))
    if key is None:
        return _error("hash is not numeric")
    target = argument.get("class")
    if not isinstance(target, str) or not target:
        return _error("Class not found")
    app = argument.get("app")
    if app is not None and not isinstance(app, str):
        return _error("app is not a string")
    options = {name: argument[name] for name in ORDERED if name in argument}  # any other unknown member is ignored
    return Submit(key, target, argument.get("params", []), app, options)


def _auth(argument: _Object) -> Request:
    token = argument.get("token")
    return Auth(token) if isinstance(token, str) else _error("token is not a string")


def _order(name: str) -> Callable[[_Object], Request]:
    return lambda _: DaemonOrder(name)


_COMMANDS: dict[str, Callable[[_Object], Request]] = {
    "check": _of_run(Check),
    "terminate": _of_run(Terminate),
    "free": _of_run(Free),
    "run": _run,
    "auth": _auth,
    "bye": lambda _: Bye(),
    **{name: _order(name) for name in ("restart", "reload", "stop", "drain")},
}
