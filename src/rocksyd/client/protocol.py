"""The client's side of one connection, without I/O: calls to bytes, bytes to replies and notifications.

What must live here: the shape of JSON-RPC requests and replies, the opening ``auth`` line, which error a code stands for.
What this file must not know: sockets, clocks, retries; so the blocking and the asyncio client share it.

Source: JSON-RPC 2.0 specification; one object a line, replies in any order.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from rocksyd.errors import InUse, JobFailed, MessageError, NotAllowed, NotFound, NotNow, RequestError, RocksydError, TooBusy

METHOD_NOT_FOUND = -32601
_ERRORS: dict[int, type[RequestError]] = {-32001: NotFound, -32002: InUse, -32003: NotAllowed, -32004: TooBusy, -32005: NotNow}


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
    """Numbers calls, cuts what comes back into lines, and reads them. One object a connection."""

    __slots__ = ("_buffer", "_opening", "_searched", "_token")

    def __init__(self, token: str | None = None) -> None:
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
        """
        try:
            text = json.dumps(
                {"jsonrpc": "2.0", "id": number, "method": method, "params": params},
                separators=(",", ":"),
                allow_nan=False,
                default=plain,
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"the parameters of {method} cannot be written as JSON: {error}") from error
        return text.encode() + b"\n"

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
            if event is not None:
                events.append(event)

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
                raise MessageError(f"the daemon could not read what it was sent: {error}")
            return Reply(number, error=error)
        if not isinstance(number, int) or "result" not in message:
            raise MessageError(f"not an answer of a rocksyd daemon: {line[:80]!r}: is this the address of something else?")
        return Reply(number, result=message["result"])

    def _classic(self, text: str) -> None:
        """The answer to ``auth`` is in the classic dialect; any other in it complains of the line, not of one call."""
        if self._opening:
            self._opening = False
            if text == "OK":
                return
            raise NotAllowed(
                -32003, f"the daemon refuses the token ({text}): set $ROCKSYD_TOKEN to what its token_file holds, or pass token="
            )
        raise MessageError(f"the daemon could not read what it was sent: {text}")


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
    if code == METHOD_NOT_FOUND:
        message += ": the daemon is of another version than this client; restart it after an upgrade"
    number = code if isinstance(code, int) else -32603
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
    if params is not None:
        given["params"] = params
    return {"target": target_name(target), "key": str(given.pop("key", None) or new_key()), **given}


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
    """JSON for what a job's annotated parameter is made of again: dates, times, decimals, UUIDs, paths, enumerations.

    Raises:
        TypeError: it is none of these.
    """
    import datetime  # noqa: PLC0415  (a command has only strings and numbers)
    import decimal  # noqa: PLC0415
    import enum  # noqa: PLC0415
    import pathlib  # noqa: PLC0415
    import uuid  # noqa: PLC0415

    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID | pathlib.PurePath):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value.value, str) else value.name
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def is_done_already(method: str, error: RocksydError) -> bool:
    """Whether an error for a *repeated* call only shows that the first one was carried out and its reply lost."""
    return (method, type(error)) in _DONE_ALREADY


_DONE_ALREADY = {("free", NotFound), ("terminate", NotNow), ("retry", NotNow)}
