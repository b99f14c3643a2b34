"""Every method of the JSON-RPC dialect as data: what it takes, what it gives, who may.

What must live here: the one description that the server checks requests against and that the manual's schema is made from
(``python -m rocksyd.master.openrpc``).
What this file must not know: what a method does (``rpc``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rocksyd.core import reasons, schema
from rocksyd.core.schema import Schema
from rocksyd.errors import RequestError

INVALID_PARAMS = -32602
EVENTS = ("run.started", "run.progress", "run.ended", "restarted")

_TEXT: Schema = {"type": "string"}
_NAME: Schema = {"type": "string", "minLength": 1}
_NUMBER: Schema = {"type": "number"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_FLAG: Schema = {"type": "boolean"}
_OBJECT: Schema = {"type": "object"}
_STRINGS: Schema = {"type": "object", "additionalProperties": _TEXT}
_LIST: Schema = {"type": "array", "items": _TEXT}
_KEY: Schema = {"type": "string", "minLength": 1, "maxLength": 128}
_DURATION: Schema = {"type": ["number", "string"], "format": "duration", "examples": [10, "250ms", "10s", "5m", "1h"]}


def _or_null(one: Schema) -> Schema:
    return {"anyOf": [one, {"type": "null"}]}


def _object(members: dict[str, Schema], *optional: str) -> Schema:
    return {"type": "object", "properties": members, "required": [name for name in members if name not in optional]}


ERROR: Schema = {
    "type": "object",
    "properties": {"type": _TEXT, "message": _TEXT, "traceback": _TEXT},
    "required": ["type", "message", "traceback"],
}
RECORD: Schema = {
    "title": "record",
    "description": "A run: what was ordered and what became of it. Times are Unix seconds.",
    **_object(
        {
            "key": _KEY,
            "app": _TEXT,
            "target": _TEXT,
            "params": {},
            "state": {"enum": ["waiting", "running", "ended"]},
            "outcome": {"enum": ["ok", "failed", "killed", "timeout", "memory", "lost", "cancelled", None]},
            "retcode": {"type": ["integer", "null"]},
            "signal": {"type": ["integer", "null"]},
            "reason": {"enum": ["timeout", "memory", "lost", "cancelled", None]},
            "result": {},
            "result_dropped": {"type": ["string", "null"]},
            "error": _or_null(ERROR),
            "progress": _or_null(
                _object({"done": {"type": ["number", "null"]}, "total": {"type": ["number", "null"]}, "note": _TEXT})
            ),
            "attempt": {"type": "integer", "minimum": 1},
            "generation": _COUNT,
            "pid": {"type": ["integer", "null"]},
            "priority": {"type": "integer"},
            "labels": _STRINGS,
            "submitted_at": _NUMBER,
            "started_at": {"type": ["number", "null"]},
            "answered_at": {"type": ["number", "null"]},
            "ended_at": {"type": ["number", "null"]},
            "cpu": _NUMBER,
            "max_rss": _COUNT,
            "log": {"type": ["string", "null"]},
        }
    ),
}
_GENERATION: Schema = _object({"generation": _COUNT})
_CHUNK: Schema = _object({"text": _TEXT, "offset": _COUNT, "ended": _FLAG, "truncated": _FLAG})


class Parameter(NamedTuple):
    """One parameter of a method. One that is not required may be null, which is the same as left out."""

    name: str
    schema: Schema
    text: str
    required: bool = False


class Method(NamedTuple):
    """One method."""

    text: str
    parameters: tuple[Parameter, ...]
    result: Schema
    trusted: bool = False
    """Only for the daemon's own user, and root."""
    errors: tuple[int, ...] = ()
    """Codes of its own, beside those that every request can meet."""


class Notification(NamedTuple):
    """What the daemon says unasked, to whoever subscribed or follows."""

    text: str
    params: Schema


_THE_KEY = Parameter("key", _KEY, "the run's key", required=True)
_RUN = (
    Parameter("target", _NAME, "a job's name, or module:qualified.name", required=True),
    Parameter("params", {"type": ["array", "object"]}, "by position, or by name"),
    Parameter("key", _KEY, "the run's key; an order repeated under its key is the same run"),
    Parameter("app", _TEXT, "the application, where several have such a target"),
    Parameter("priority", {"type": "integer"}, "among those that wait the highest goes first"),
    Parameter("timeout", _DURATION, "how long it may run"),
    Parameter("start_within", _DURATION, "ended as timed out if it has not begun by then"),
    Parameter("delay", _DURATION, "begin only after this time"),
    Parameter("retries", {"type": "integer"}, "how often a failed run is tried again"),
    Parameter("env", _STRINGS, "variables added to its environment"),
    Parameter("labels", _STRINGS, "anything to find it by"),
    Parameter(
        "concurrency_key", _KEY, "runs of the target with the same one are limited to max_running_per_key at the same time"
    ),
    Parameter("each", _FLAG, "params is an array of such: the target is called for each, the result is the array of results"),
)
_POSITION = Parameter("position", _COUNT, "go on where this notification or reply was: what was missed since comes first")

METHODS: dict[str, Method] = {
    "run": Method("Order a run; it is journalled when this is answered.", _RUN, RECORD, errors=(-32001, -32002, -32003, -32004)),
    "call": Method(
        "Order a run and wait for its end.",
        _RUN,
        _object({"result": {}, "key": _KEY, "result_dropped": _TEXT}, "result_dropped"),
        errors=(-32000, -32001, -32002, -32003, -32004),
    ),
    "status": Method("The run's record as it is now.", (_THE_KEY,), RECORD, errors=(-32001,)),
    "list": Method(
        "Records of runs: those that wait and run, then those that have ended; latest first.",
        (
            Parameter("app", _TEXT, "only of this application"),
            Parameter("target", _TEXT, "only of this target"),
            Parameter("state", {"enum": ["waiting", "running", "ended"]}, "only in this state"),
            Parameter("outcome", _TEXT, "only ended like this"),
            Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 1000}, "how many at most; 100 if left out"),
            Parameter("after", _KEY, "only those that were ordered before this one: the next page"),
        ),
        {"type": "array", "items": RECORD},
        errors=(-32001,),
    ),
    "wait": Method(
        "The record when the run has ended; with `timed_out` when it has not in time.",
        (_THE_KEY, Parameter("timeout", _DURATION, "how long to wait; for ever if left out")),
        RECORD,
        errors=(-32001,),
    ),
    "terminate": Method(
        "TERM to the run's processes, KILL after its grace; or deliver one signal.",
        (_THE_KEY, Parameter("signal", {"type": ["string", "integer"]}, "a signal's name or number; TERM if left out")),
        RECORD,
        errors=(-32001, -32005),
    ),
    "free": Method("The record and the output may be forgotten.", (_THE_KEY,), RECORD, errors=(-32001, -32005)),
    "retry": Method("Run an ended run again under its key.", (_THE_KEY,), RECORD, errors=(-32001, -32005)),
    "logs": Method(
        "A piece of the run's output; with `follow` the rest comes as notifications.",
        (
            _THE_KEY,
            Parameter("offset", _COUNT, "where to begin, in bytes"),
            Parameter("follow", _FLAG, "send what is written from now on, until the run has ended"),
        ),
        _CHUNK,
        errors=(-32001,),
    ),
    "why": Method(
        "Why the run waits, goes on, or ended as it did; the first reason is the one that decides.",
        (_THE_KEY,),
        _object(
            {
                "key": _KEY,
                "target": _TEXT,
                "state": {"enum": ["waiting", "running", "ended"]},
                "outcome": {"type": ["string", "null"]},
                "reasons": {
                    "type": "array",
                    "minItems": 1,
                    "items": _object({"code": {"enum": list(reasons.CODES)}, "text": _TEXT, "advice": _TEXT}),
                },
                "ahead": {"type": ["integer", "null"]},
            }
        ),
        errors=(-32001,),
    ),
    "stack": Method(
        "What the threads of a running job are at; it is written to the run's output as well.",
        (_THE_KEY,),
        _object({"key": _KEY, "pid": _COUNT, "text": _TEXT}),
        errors=(-32001, -32005),
    ),
    "subscribe": Method(
        "Be told what happens, as notifications, as long as the connection lasts (a restart does not end it).",
        (
            Parameter("app", _TEXT, "only runs of this application"),
            Parameter("target", _TEXT, "only runs of this target"),
            Parameter("keys", _LIST, "only these runs"),
            Parameter("labels", _STRINGS, "only runs with these labels"),
            Parameter("events", {"type": "array", "items": {"enum": list(EVENTS)}}, "only these"),
            _POSITION,
        ),
        _object({"subscribed": _LIST, "position": _COUNT, "generation": _COUNT}),
    ),
    "targets": Method(
        "What may be run, with the signatures that parameters are checked against.",
        (Parameter("app", _TEXT, "only of this application"),),
        {
            "type": "array",
            "items": _object(
                {
                    "app": _TEXT,
                    "name": _TEXT,
                    "target": _TEXT,
                    "kind": {"enum": ["function", "class", "pattern", None]},
                    "settings": _OBJECT,
                    "signature": _or_null(_OBJECT),
                }
            ),
        },
        errors=(-32001,),
    ),
    "stats": Method("Numbers, and the audit of the last restarts.", (), _OBJECT),
    "pools": Method("Sizes and numbers of every pool.", (), {"type": "array", "items": _OBJECT}),
    "health": Method(
        "Whether the daemon can do its work, and if not, why.",
        (),
        _object(
            {
                "ok": _FLAG,
                "problems": _LIST,
                "generation": _COUNT,
                "listen": _LIST,
                "exec": _LIST,
                "zygotes": _OBJECT,
                "version": _TEXT,
            }
        ),
    ),
    "restart": Method(
        "Load everything anew and hand over; answered when the new code serves.", (), _GENERATION, trusted=True, errors=(-32005,)
    ),
    "reload": Method("Load configuration and applications anew.", (), _GENERATION, trusted=True, errors=(-32005,)),
    "stop": Method("Stop in order.", (), _GENERATION, trusted=True),
    "drain": Method("Take no more runs; answered when nothing runs or waits.", (), _GENERATION, trusted=True),
    "auth": Method(
        "Show the token; what a tcp client says first.",
        (Parameter("token", _TEXT, "what the daemon's token_file holds", required=True),),
        _object({"authorised": {"enum": [True]}}),
        errors=(-32003,),
    ),
    "rpc.discover": Method("This description, as an OpenRPC document.", (), _OBJECT),
}

_NEWS: Schema = {
    **RECORD,
    "properties": {**RECORD["properties"], "position": _COUNT},
    "required": [*RECORD["required"], "position"],
}
NOTIFICATIONS: dict[str, Notification] = {
    "run.started": Notification("The run has been given to a worker.", _NEWS),
    "run.progress": Notification("The run has said how far it is.", _NEWS),
    "run.ended": Notification("The run has ended.", _NEWS),
    "restarted": Notification(
        "A restart or reload has come about.",
        {"type": "object", "properties": {"generation": _COUNT, "position": _COUNT}, "required": ["generation", "position"]},
    ),
    "logs": Notification(
        "A piece of the output that is followed; `id` is the request's.",
        _object({"id": {}, "key": _KEY, "text": _TEXT, "offset": _COUNT, "ended": _FLAG}),
    ),
}

ERRORS: dict[int, str] = {
    -32700: "Parse error: not JSON",
    -32600: "Invalid Request",
    -32601: "Method not found",
    -32602: "Invalid params: the message names the parameter",
    -32603: "Internal error: the journal cannot be read",
    -32000: "the job failed: `data` has type, message, traceback, key, outcome, retcode, signal",
    -32001: "not found: no such run, target or application",
    -32002: "in use: the key belongs to a run of something else",
    -32003: "not allowed",
    -32004: "too busy: too many runs wait",
    -32005: "not now: restarting failed, draining, not ended yet, ended already",
}


def arguments(name: str, method: Method, given: dict[str, Any] | list[Any]) -> dict[str, Any]:
    """The parameters of a request by name, whichever way they were given; those that are null are left out.

    Raises RequestError, which names the parameter.
    """
    names = _NAMES[name]
    if isinstance(given, list):
        if len(given) > len(names):
            raise _wrong(f"{name} takes at most {len(names)} parameters", names)
        given = dict(zip(names, given, strict=False))
    for one in given:
        if one not in names:
            raise _wrong(f"{name} has no parameter {one!r}", names, one)
    found = {}
    for parameter in method.parameters:
        value = given.get(parameter.name)
        if value is None and not (parameter.required and parameter.name in given):
            if parameter.required:
                raise _wrong(f"{name} needs the parameter {parameter.name!r}", names, parameter.name)
            continue
        trouble = schema.problem(value, parameter.schema, parameter.name)
        if trouble:
            raise RequestError(INVALID_PARAMS, trouble, data={"parameter": parameter.name, "advice": parameter.text})
        found[parameter.name] = value
    return found


_NAMES = {name: [parameter.name for parameter in method.parameters] for name, method in METHODS.items()}


def _wrong(message: str, names: list[str], parameter: str = "") -> RequestError:
    return RequestError(
        INVALID_PARAMS, message, data={"parameter": parameter or None, "advice": f"parameters: {', '.join(names) or 'none'}"}
    )
