"""The client's side of one connection, without I/O: calls to bytes, bytes to replies and notifications.

What must live here: the shape of JSON-RPC requests and replies, the opening ``auth`` line, which error a code stands for.
What this file must not know: sockets, clocks, retries; so the blocking and the asyncio client share it.

Source: JSON-RPC 2.0 specification; one object a line, replies in any order.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from rocksyd import codes, ticks
from rocksyd.client.tracing import traceparent
from rocksyd.errors import InUse, JobFailed, MessageError, NotAllowed, NotFound, NotNow, RequestError, RocksydError, TooBusy
from rocksyd.jobs import request_id
from rocksyd.options import REQUEST_ID
from rocksyd.shapes import MAX_DEPTH, deeper_than

_ERRORS: dict[int, type[RequestError]] = {
    codes.NOT_FOUND: NotFound, codes.IN_USE: InUse, codes.NOT_ALLOWED: NotAllowed, codes.TOO_BUSY: TooBusy,
    codes.NOT_NOW: NotNow,
}  # fmt: skip

_SHORT = 1024
"""Bytes of a line that every daemon takes: the least that ``max_line`` can be set to."""
_TOO_LONG = re.compile(r"a line is longer than (\d+) bytes")
"""What a daemon answers, without the number of a call, to a line that it has not read to its end."""
_SHOWN = 20
"""Characters that an error shows on each side of one that cannot be sent."""


class Reply(NamedTuple):
    """The answer to the call with this number: ``result``, or ``error`` to be raised."""

    id: int
    result: Any = None
    error: RocksydError | None = None


class Notification(NamedTuple):
    """Said without having been asked just now: ``logs``, ``run.ended`` ..."""

    method: str
    params: dict[str, Any]


def result_of(reply: Reply) -> Any:
    """The result, or the error raised."""
    if reply.error is not None:
        raise reply.error
    return reply.result


def chunk_of(event: Reply | Notification, key: str) -> dict[str, Any]:
    """The piece of a run's output in what was said; ``{}`` when it is about something else."""
    if isinstance(event, Reply):
        chunk = result_of(event)
        return chunk if isinstance(chunk, dict) else {}
    return event.params if event.method == "logs" and event.params.get("key") == key else {}


class ClientProtocol:
    """Numbers calls, cuts what comes back into lines, and reads them. One object a connection.

    ``refused``: the daemon has refused a line for its length and reads no further. The calls that were too long are answered with
    an error; all others that are unanswered are to be asked again on another connection.
    """

    __slots__ = ("_buffer", "_long", "_most", "_opening", "_searched", "_token", "refused")

    def __init__(self, token: str | None = None) -> None:
        self.refused = False
        self._most = 0
        """Bytes of a line that the daemon takes, when it has refused one."""
        self._long: dict[int, int] = {}
        """Number of an unanswered call -> bytes of its line, of those that a daemon may refuse for their length."""
        self._token = token
        self._opening = token is not None
        self._buffer = bytearray()
        self._searched = 0

    def opening(self) -> bytes:
        """What is said before the first call: ``auth`` when there is a token. It goes out together with the call."""
        return b"" if self._token is None else b"auth " + json.dumps({"token": self._token}).encode() + b"\n"

    def call(self, number: int, method: str, params: dict[str, Any]) -> bytes:
        """The line that calls ``method``; its reply will carry ``number``.

        Raises:
            TypeError: ``params`` hold something that is not JSON.
            RequestError: they hold text that is not UTF-8, or nest too deeply: a daemon could not say whose line it was.
        """
        try:
            text = json.dumps(
                {"jsonrpc": "2.0", "id": number, "method": method, "params": params},
                separators=(",", ":"),
                allow_nan=False,
                ensure_ascii=False,
                default=plain,
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"the parameters of {method} cannot be written as JSON: {error}") from error
        try:
            line = text.encode()
        except UnicodeEncodeError as error:
            piece = text[max(error.start - _SHOWN, 0) : error.end + _SHOWN]
            raise _cannot_send(
                method,
                f"hold what is not UTF-8 text, {piece!r} (the name of a file in another encoding?)",
                "send its bytes as text, such as os.fsencode(name).hex(), and turn them back in the job",
            ) from None
        if text.count("[") + text.count("{") > MAX_DEPTH and deeper_than(json.loads(text), MAX_DEPTH):
            raise _cannot_send(method, f"nest deeper than {MAX_DEPTH} levels", "send a flatter form of them")
        if len(line) > _SHORT:
            self._long[number] = len(line)
        return line + b"\n"

    def receive(self, data: bytes) -> list[Reply | Notification]:
        """Take bytes that arrived; return what is complete.

        Raises:
            MessageError: the other end does not speak this protocol, or could not read what it was sent.
            NotAllowed: the token is refused.
        """
        self._buffer += data
        events: list[Reply | Notification] = []
        while True:
            end = self._buffer.find(b"\n", self._searched)
            if end < 0:
                self._searched = len(self._buffer)
                return events
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            event = self._read(line)
            if isinstance(event, Reply) and self._long:
                self._long.pop(event.id, None)
            if event is not None:
                events.append(event)
            if self.refused:
                return events + self._answers_to_too_long()

    def _read(self, line: bytes) -> Reply | Notification | None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise MessageError(f"not an answer of a rocksyd daemon: {line[:80]!r}: is this the address of something else?")
        if "error_text" in message and "jsonrpc" not in message:
            self._classic(str(message["error_text"]))
            return None
        if "method" in message:
            params = message.get("params")
            return Notification(str(message["method"]), params if isinstance(params, dict) else {})
        number = message.get("id")
        if isinstance(message.get("error"), dict):
            error = error_of(message["error"])
            if not isinstance(number, int):
                found = _TOO_LONG.search(str(error))
                if found and any(size > int(found[1]) for size in self._long.values()):
                    self.refused, self._most = True, int(found[1])
                    return None
                raise MessageError(f"the daemon could not read what it was sent: {error}")
            return Reply(number, error=error)
        if not isinstance(number, int) or "result" not in message:
            raise MessageError(f"not an answer of a rocksyd daemon: {line[:80]!r}: is this the address of something else?")
        return Reply(number, result=message["result"])

    def _answers_to_too_long(self) -> list[Reply]:
        most = self._most
        return [
            Reply(
                number,
                error=_cannot_send(
                    "this call",
                    f"are {size} bytes as a line, and the daemon takes at most {most} (its max_line)",
                    "hand over a file's name instead, send less in one call, or raise max_line and reload",
                ),
            )
            for number, size in self._long.items()
            if size > most
        ]

    def _classic(self, text: str) -> None:
        """The answer to ``auth`` is in the classic dialect; any other in it complains of the line, not of one call."""
        if self._opening:
            self._opening = False
            if text == "OK":
                return
            text = f"the daemon refuses the token ({text}): set $ROCKSYD_TOKEN to what its token_file holds, or pass token="
            raise NotAllowed(codes.NOT_ALLOWED, text)
        raise MessageError(f"the daemon could not read what it was sent: {text}")


def _cannot_send(method: str, cause: str, cure: str) -> RequestError:
    return RequestError(codes.INVALID_PARAMS, f"the parameters of {method} {cause}: {cure}")


def error_of(error: dict[str, Any]) -> RocksydError:
    """The exception a JSON-RPC error object stands for; its text is the daemon's, with what to do about it."""
    code, data = error.get("code"), error.get("data")
    message = str(error.get("message", "")) or f"error {code}"
    if isinstance(data, dict) and isinstance(data.get("record"), dict):
        return JobFailed(message, data["record"])
    if isinstance(data, dict) and "traceback" in data:
        known = {name: data[name] for name in ("key", "outcome", "retcode", "signal") if name in data}
        return JobFailed(message, {"state": "ended", "outcome": "failed", **known, "error": data})
    advice = data if isinstance(data, str) else data.get("advice") if isinstance(data, dict) else None
    if isinstance(advice, str) and advice and advice not in message:
        message = f"{message}: {advice}"
    if code == codes.METHOD_NOT_FOUND:
        message += ": the daemon is of another version than this client; restart it after an upgrade"
    number = code if isinstance(code, int) else codes.INTERNAL_ERROR
    return _ERRORS.get(number, RequestError)(number, message, data=data)


def new_key() -> str:
    """A key that no other run has (64 random bits). Made by the caller, so that an order can be repeated safely."""
    return os.urandom(8).hex()


def target_name(target: object) -> str:
    """The name a target goes by: a string is one already, a function or class is ``module:qualified.name``."""
    if isinstance(target, str):
        return target
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if not module or not name or "<" in name:
        raise TypeError(f"{target!r} cannot be run by name: pass a function or class defined at the top of a module, or a string")
    return f"{module}:{name}"


def order(target: object, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The parameters of the methods ``run`` and ``call``. Options that are None are left out; a key is made if none is given.

    Raises:
        TypeError: positional and keyword arguments are mixed (the daemon takes an array or an object), or one is not JSON.
    """
    params = options.pop("params", None)
    if args and kwargs and callable(target):
        args, kwargs = (), by_name(target, args, kwargs)
    if (args and kwargs) or (params is not None and (args or kwargs)):
        raise TypeError(
            "a run takes positional arguments, or keyword arguments, or params=, not several of them: name all arguments"
        )
    if args or kwargs:
        params = list(args) if args else kwargs
    given = {name: value for name, value in options.items() if value is not None}
    if "traceparent" not in given and (span := traceparent()):
        given["traceparent"] = span
    if of_request := request_id():
        given["labels"] = {REQUEST_ID: of_request, **(given.get("labels") or {})}
    if params is not None:
        given["params"] = params
    if "after" in given:
        given["after"] = keys_of(given["after"])
    return {"target": target_name(target), "key": str(given.pop("key", None) or _key_for(given.get("tick"))), **given}


def keys_of(runs: object) -> list[str]:
    """The keys of the runs that ``after`` names: a key, a run, or several."""
    several: Iterable[Any] = runs if isinstance(runs, Iterable) and not isinstance(runs, str) else (runs,)
    return [str(getattr(one, "key", one)) for one in several]


def _key_for(tick: object) -> str:
    """The key of an order that gives none. What is no tick is refused by the daemon."""
    try:
        return new_key() if tick is None else ticks.key_of(ticks.read(tick))
    except ValueError:
        return new_key()


def unmistakable(target: object, options: dict[str, Any]) -> dict[str, Any]:
    """``options``, given by name beside a job's arguments: a name in both is an error where ``target`` is the function itself.

    Raises:
        TypeError: the function has a parameter of the name, and ``params`` does not say that the option is meant.
    """
    code = getattr(getattr(target, "__wrapped__", target), "__code__", None)
    if code is not None and options.get("params") is None:
        own = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        for name, value in options.items():
            if value is not None and name in own:
                raise TypeError(
                    f"{name} is an option of a run and a parameter of {target_name(target)}: give all the job's own in "
                    f"params={{...}}, beside which {name}= is the option"
                )
    return options


def by_name(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All arguments by name, from the function's own signature: the daemon takes an array or an object.

    Raises:
        TypeError: they do not fit, or some can only be given by position.
    """
    import inspect  # noqa: PLC0415  (costs ten milliseconds, and only callers that mix need it)

    bound = inspect.signature(function).bind(*args, **kwargs)
    given = [parameter for name, parameter in bound.signature.parameters.items() if name in bound.arguments]
    if any(parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL) for parameter in given):
        raise TypeError(f"{target_name(function)} takes arguments by position only, and they cannot be sent beside named ones")
    return {**bound.kwargs, **dict(zip(bound.arguments, bound.args, strict=False))}


def plain(value: Any) -> Any:
    """JSON for what a job's annotated parameter is made of again.

    Dates, times, spans of time, decimals, UUIDs, paths, enumerations, dataclasses, and collections that are no lists.

    Raises:
        TypeError: it is none of these.
    """
    import collections  # noqa: PLC0415  (a command has only strings and numbers)
    import datetime  # noqa: PLC0415
    import decimal  # noqa: PLC0415
    import enum  # noqa: PLC0415
    import pathlib  # noqa: PLC0415
    import uuid  # noqa: PLC0415

    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal | uuid.UUID | pathlib.PurePath):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value.value, str) else value.name
    if isinstance(value, set | frozenset | collections.deque):
        return list(value)
    declared = getattr(type(value), "__dataclass_fields__", None)
    if declared is not None:
        return {name: getattr(value, name) for name, field in declared.items() if field.init and hasattr(value, name)}
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def is_done_already(method: str, error: RocksydError) -> bool:
    """Whether an error for a *repeated* call only shows that the first one was carried out and its reply lost."""
    return (method, type(error)) in _DONE_ALREADY


_DONE_ALREADY = {("free", NotFound), ("terminate", NotNow), ("retry", NotNow)}
