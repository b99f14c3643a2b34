"""Every method of the JSON-RPC dialect as data: what it takes, what it gives, who may.

What must live here: the one description that the server checks requests against and that the manual's schema is made from
(``python -m rocksyd.master.desk.openrpc``).
What this file must not know: what a method does (``rpc``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rocksyd.codes import IN_USE, INVALID_PARAMS, JOB_FAILED, NOT_ALLOWED, NOT_FOUND, NOT_NOW, TOO_BUSY
from rocksyd.core import editing, flags, reasons, schema
from rocksyd.core.schema import Schema
from rocksyd.errors import RequestError
from rocksyd.model import OUTCOMES
from rocksyd.options import BY_NAME, ORDER, said_in

EVENTS = ("run.started", "run.progress", "run.ended", "restarted")
HEALTH = "health"
"""News that only who asks for it by name gets."""

_TEXT: Schema = {"type": "string"}
_NAME: Schema = {"type": "string", "minLength": 1}
_NUMBER: Schema = {"type": "number"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_PLACE: Schema = {**_COUNT, "maximum": 2**63 - 1}
_FLAG: Schema = {"type": "boolean"}
_OBJECT: Schema = {"type": "object"}
_STRINGS: Schema = {"type": "object", "additionalProperties": _TEXT}
_LIST: Schema = {"type": "array", "items": _TEXT}
_SIGNAL: Schema = {"type": ["string", "integer"], "minimum": 0, "maximum": 64}
_KEY: Schema = {"type": "string", "minLength": 1, "maxLength": 128}
_MOMENT: Schema = {
    "type": ["number", "string"],
    "minimum": 0,
    "maximum": 2**53,
    "description": "Unix seconds, or how long ago as a duration",
    "examples": [1769904000, "1h"],
}
_DURATION: Schema = {"type": ["number", "string"], "format": "duration", "examples": [10, "250ms", "10s", "5m", "1h"]}


def _or_null(one: Schema) -> Schema:
    return {"anyOf": [one, {"type": "null"}]}


def _object(members: dict[str, Schema], *optional: str) -> Schema:
    return {"type": "object", "properties": members, "required": [name for name in members if name not in optional]}


def _with(one: Schema, text: str) -> Schema:
    return {**one, "description": text}


def _numbers(members: dict[str, tuple[Schema, str]], title: str) -> Schema:
    return {"title": title, **_object({name: _with(*one) for name, one in members.items()})}


ERROR: Schema = {
    "type": "object",
    "properties": {"type": _TEXT, "message": _TEXT, "traceback": _TEXT},
    "required": ["type", "message", "traceback"],
}
ATTEMPT: Schema = {
    "title": "attempt",
    "description": "An attempt before the one that the record's own fields tell of; the oldest comes first.",
    **_object(
        {
            "attempt": {"type": "integer", "minimum": 1},
            "outcome": _TEXT,
            "retcode": {"type": ["integer", "null"]},
            "signal": {"type": ["integer", "null"]},
            "error": _or_null(ERROR),
            "generation": _COUNT,
            "worker": _COUNT,
            "pid": {"type": ["integer", "null"]},
            "started_at": {"type": ["number", "null"]},
            "ended_at": {"type": ["number", "null"]},
            "cpu": _NUMBER,
            "max_rss": _COUNT,
            "log_from": _with(_COUNT, "where its output begins in the run's, in bytes; 0 if left out"),
        },
        "log_from",
    ),
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
            "outcome": {"enum": [*OUTCOMES, None]},
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
            "attempts": {"type": "array", "items": ATTEMPT},
            "generation": _COUNT,
            "revision": _with({"type": ["string", "null"]}, "of the code, where it is known"),
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
            "debug": _with(_FLAG, "whether what it logs is in its output from DEBUG on; left out where not"),
            "tick": _with(_OBJECT, "which tick of a schedule it is: `script`, `time`, `n`"),
            "after": _with({"type": "array", "items": _KEY}, "keys of the runs that it begins after"),
            "waits_for": _with(
                _or_null(_object({"code": {"enum": list(reasons.CODES)}, "text": _TEXT})),
                "In what `list` and `status` answer: what keeps a run that waits, the reason of `why` that decides.",
            ),
            "usual": _with(
                _object({"seconds": _NUMBER, "long": _NUMBER, "memory": _COUNT}),
                "Of a run that runs, where enough is known: what it will probably take, beyond which time it takes longer than "
                "usual, and the bytes of memory.",
            ),
            "left": _with(_NUMBER, "Of a run that runs: for how many seconds it will probably go on."),
            "timed_out": _with(_FLAG, "In what `wait` answers: whether the run has not ended in time."),
        },
        "attempts",
        "revision",
        "debug",
        "tick",
        "after",
        "waits_for",
        "usual",
        "left",
        "timed_out",
    ),
}
_GENERATION: Schema = _object({"generation": _COUNT})
_REACHED: Schema = {
    **_object({"generation": _COUNT, "kept": _with(_OBJECT, "services that go on in the code before, and why; absent for none")}),
    "required": ["generation"],
}
_TIMES: Schema = {
    "type": "array",
    "items": {"type": "array", "prefixItems": [_COUNT, _NUMBER]},
    "description": "pairs: what ends at this byte, or before, was seen at this time (Unix seconds)",
}
_BEGIN: Schema = {**_COUNT, "description": "where the text begins, if what there was from `offset` to there was not kept"}
_CHUNK: Schema = _object(
    {"text": _TEXT, "offset": _COUNT, "ended": _FLAG, "truncated": _FLAG, "begin": _BEGIN, "times": _TIMES}, "begin", "times"
)
RESTART: Schema = _numbers(
    {
        "at": (_NUMBER, "when it was ordered, Unix seconds"),
        "kind": ({"enum": ["restart", "reload", "crash"]}, "what it was"),
        "ok": (_FLAG, "whether it has come about; if not, nothing has changed"),
        "ordered_by": (_TEXT, "who ordered it"),
        "from": (_COUNT, "the generation before"),
        "to": (_COUNT, "the generation after"),
        "from_rev": (_TEXT, "revision of the code before, where it is known"),
        "to_rev": (_TEXT, "revision of the code after"),
        "took_ms": (_NUMBER, "from the order to the end"),
        "waited_ms": (_NUMBER, "how long nobody was answered"),
        "connections": (_COUNT, "connections that it carried"),
        "jobs": (_COUNT, "workers that it carried"),
        "bytes": (_COUNT, "of the snapshot"),
        "reason": (_TEXT, "why it was refused, or who ordered it"),
    },
    "restart",
)
RESTART["required"] = ["at", "kind", "ok"]


_KIND: Schema = {"enum": list(flags.KINDS)}
FLAG: Schema = _numbers(
    {
        "flag": (_KIND, "what holds"),
        "target": (_TEXT, "for the runs of this target"),
        "script": (_TEXT, "or of this script"),
        "until": (_NUMBER, "when it ends, Unix seconds"),
        "by": (_TEXT, "who has set it"),
    },
    "flag",
)
FLAG["required"] = ["flag", "until", "by"]
_RUNS = "runs since the service was started"
STATS: Schema = _numbers(
    {
        "pid": (_COUNT, "process id of the service"),
        "master_pid": (_COUNT, "process id of the master that answers"),
        "version": (_TEXT, "of rocksyd"),
        "generation": (_COUNT, "of the newest code that serves"),
        "rev": (_TEXT, "revision of that code, where it is known; of several applications `NAME=REVISION`, with commas between"),
        "uptime": (_COUNT, "seconds since the service was started"),
        "time": (_COUNT, "Unix seconds"),
        "curr_connections": (_COUNT, "connections there are"),
        "total_connections": (_COUNT, "connections since the service was started"),
        "max_connections": (_COUNT, "connections there may be"),
        "dropped_connections": (_COUNT, "connections that were dropped because their client did not read, or show the token"),
        "requests": (_COUNT, "requests since the service was started"),
        "requests_per_second": (_NUMBER, "over the last whole second"),
        "requests_per_second_10": (_NUMBER, "over the last ten"),
        "requests_per_second_60": (_NUMBER, "over the last sixty"),
        "total_memory": (_COUNT, "resident bytes of all processes of the daemon; what they share counts for each"),
        "data_memory": (_COUNT, "resident bytes of the loaded applications"),
        "gauges": (_OBJECT, "what jobs have said with `rocksyd.gauge(name, value)`: the last value by application and name"),
        "journal_commits": (_COUNT, "transactions of the journal since the service was started"),
        "journal_rows": (_COUNT, "records of runs written into the journal, or erased, since the service was started"),
        "runs_waiting": (_COUNT, "runs that could begin, and wait for a worker"),
        "runs_running": (_COUNT, "workers that have a run"),
        "runs_submitted": (_COUNT, f"{_RUNS}: accepted"),
        "runs_refused": (_COUNT, f"{_RUNS}: refused"),
        "runs_retried": (_COUNT, f"{_RUNS}: attempts after the first"),
        "forks_failed": (_COUNT, "workers that could not be forked, or died before their first job"),
        "runs_slow": (_COUNT, f"{_RUNS}: longer than `slow_after`"),
        "runs_short_of_memory": (_COUNT, f"{_RUNS}: had to wait because the machine had too little memory (`keep_free`)"),
        **{f"runs_ended_{word}": (_COUNT, f"{_RUNS}: ended as {word}") for word in OUTCOMES},
        "workers": (_COUNT, "workers there are"),
        "restarts": ({"type": "array", "items": _OBJECT}, "the audit of the last 20 restarts and crashes, the latest first"),
        "restart_count": (_COUNT, "restarts and reloads since the service was started"),
        "crashes": (_COUNT, "masters that died"),
        "draining": ({"enum": [0, 1]}, "1 while no more runs are taken"),
        "web_workers": (_COUNT, "workers of web pools"),
        "web_connections": (_COUNT, "connections that these have"),
        "web_in_flight": (_COUNT, "requests that they answer now"),
        "web_waiting": (_COUNT, "connections that wait to be accepted"),
        "web_requests": (_COUNT, "requests that were answered"),
        "web_refused": (_COUNT, "requests and connections refused, because too many waited"),
        "web_timeouts": (_COUNT, "requests whose response had not begun in time"),
        "web_slow": (_COUNT, "requests that took longer than slow_after"),
        **{f"web_status_{code}": (_COUNT, f"responses with {code}") for code in ("1xx", "2xx", "3xx", "4xx", "5xx")},
        "services": (_COUNT, "resident services"),
        "service_workers": (_COUNT, "workers of these, with those that come and go in a hand-over"),
        "service_connections": (_COUNT, "connections that these have"),
        "service_unsent": (_COUNT, "bytes that they owe to peers that do not read"),
        "service_messages": (_COUNT, "messages that they have handled"),
    },
    "stats",
)
_SECONDS: Schema = {"type": ["number", "null"]}
PROCESS: Schema = _numbers(
    {
        "worker": (_COUNT, "number of the worker; of a web worker: in its generation"),
        "pid": ({"type": ["integer", "null"]}, "its process id; null while it is forked"),
        "generation": (_COUNT, "of the code that it runs"),
        "stage": (
            _TEXT,
            "what it is at: starting, idle, reading, running, finishing; a web worker: starting, ready, accepting, leaving",
        ),
        "seconds": (_SECONDS, "for how long it has been at that"),
        "age": (_SECONDS, "seconds since it was forked"),
        "key": ({"type": ["string", "null"]}, "of the run that it has, or had last"),
        "target": ({"type": ["string", "null"]}, "of the run that it has"),
        "running": (_COUNT, "runs that it has"),
        "jobs": (_COUNT, "runs that it has done"),
        "cpu": (_NUMBER, "seconds of CPU that it has used"),
        "job_cpu": (_SECONDS, "seconds of CPU that its run has used; null where that is not known"),
        "rss": (_COUNT, "bytes of resident memory"),
        "max_rss": (_COUNT, "bytes of resident memory at the end of its last run, at most"),
    },
    "process",
)
PROCESS["properties"]["title"] = _with(_TEXT, "of a web worker: its generation, and its number in that")
_HISTOGRAM_OF_WEB: Schema = _object(
    {"bounds": {"type": "array", "items": _NUMBER}, "counts": {"type": "array", "items": _COUNT}, "sum": _NUMBER}
)
POOL: Schema = _numbers(
    {
        "pool": (_TEXT, "pool id: `app` or `app/name`"),
        "app": (_TEXT, "its application"),
        "pm": ({"enum": ["static", "dynamic", "ondemand"]}, "what decides how many workers there are"),
        "generation": (_COUNT, "of the code that new workers have"),
        "ready": (_FLAG, "whether workers can be forked"),
        "workers": (_COUNT, "workers there are"),
        "idle": (_COUNT, "workers that wait for a run"),
        "busy": (_COUNT, "workers that have a run"),
        "starting": (_COUNT, "workers that are being forked"),
        "leaving": (_COUNT, "workers that leave"),
        "max_workers": (_COUNT, "workers there may be"),
        "concurrency": (_COUNT, "runs that one worker may have"),
        "peak_busy": (_COUNT, "the most workers that had a run at the same time"),
        "waiting": (_COUNT, "runs that wait for this pool"),
        "max_queue": (_COUNT, "runs that may wait"),
        "served": (_COUNT, "runs that its workers have done"),
        "memory": (_COUNT, "bytes of its workers, as far as they are measured"),
        "max_workers_reached": (_COUNT, "how often a run had to wait because of max_workers"),
        "peak_waiting": (_COUNT, "the most runs that waited"),
        "recycled": (_COUNT, "workers that were replaced because of max_jobs or max_age"),
        "replacing": (_COUNT, "workers that are being replaced"),
        "parked": (_FLAG, "whether nothing is forked any more, because workers die at their start"),
        "failures": (_COUNT, "workers in a row that could not be forked or died before their first job"),
        "trouble": ({"type": ["string", "null"]}, "why"),
        "processes": ({"type": "array", "items": PROCESS}, "its workers"),
    },
    "pool",
)
_OF_WEB: dict[str, tuple[Schema, str]] = {
    "kind": ({"enum": ["web"]}, "`web`; its runs above are requests, and what waits are connections"),
    "listen": ({"type": "array", "items": _TEXT}, "where it can be reached"),
    "in_flight": (_COUNT, "requests that are being answered"),
    "connections": (_COUNT, "connections that its workers have"),
    "websockets": (_COUNT, "those of them that are WebSockets"),
    "requests_per_second": (_NUMBER, "over the last ten seconds"),
    "latency": (
        {"type": "object", "additionalProperties": _NUMBER},
        "seconds within which requests were answered: p50, p90, p99",
    ),
    "status": ({"type": "object", "additionalProperties": _COUNT}, "responses, by the class of their status: 1xx to 5xx"),
    "accepted": (_COUNT, "connections that were accepted"),
    "adopted": (_COUNT, "kept connections that a worker has taken over from another"),
    "given": (_COUNT, "kept connections that a worker has given to another"),
    "refused": (_COUNT, "requests and connections refused with 503, because too many waited"),
    "timeouts": (_COUNT, "requests whose response had not begun within `timeout`"),
    "slow": (_COUNT, "requests that took longer than `slow_after`"),
    "bad": (_COUNT, "requests refused because they were no HTTP, or too large"),
    "bytes_sent": (_COUNT, "bytes of the bodies of responses"),
    "seconds": (_NUMBER, "that all requests have taken together"),
    "durations": (_HISTOGRAM_OF_WEB, "how many requests took how long: up to each of `bounds`, and longer"),
    "uptime": (_COUNT, "seconds since the service was started"),
}
POOL["properties"] |= {name: _with(schema, f"of a web pool: {text}") for name, (schema, text) in _OF_WEB.items()}


SERVICE: Schema = _numbers(
    {
        "service": (_TEXT, "`app/name`"),
        "app": (_TEXT, "its application"),
        "name": (_TEXT, "its name in that"),
        "listen": (_LIST, "where it can be reached"),
        "pid": ({"type": ["integer", "null"]}, "process id of the worker that serves; null while none does"),
        "state": (
            {"enum": ["serving", "handing over", "starting", "leaving", "parked", "none"]},
            "`serving`; `handing over` while new code takes over; `starting` and `leaving` while no worker serves yet, or any "
            "more; `parked` when none is forked because they die at their start; `none`",
        ),
        "generation": (_COUNT, "of the code that serves"),
        "connections": (_COUNT, "connections that it has"),
        "max_connections": (_COUNT, "connections that it may have"),
        "messages": (_COUNT, "messages that it has handled"),
        "messages_per_second": (_NUMBER, "over the last five to ten seconds"),
        "unsent": (_COUNT, "bytes that it owes to peers that do not read"),
        "gauges": (_OBJECT, "what its application has said with `rocksyd.gauge(name, value)`, the last value by name"),
        "checkpoint_bytes": ({"type": ["integer", "null"]}, "size of the state that is kept in case its process dies"),
        "checkpoint_at": (_SECONDS, "when that was written, Unix seconds"),
        "taken_over_at": (_SECONDS, "when its worker was handed everything by the one before, Unix seconds"),
        "silence": (_SECONDS, "seconds for which no message was handled then"),
        "kept": ({"type": ["string", "null"]}, "why it goes on in the code before, although newer code is loaded"),
        "trouble": ({"type": ["string", "null"]}, "why its worker could not be forked or has died"),
        "age": (_SECONDS, "seconds since its worker was forked"),
        "cpu": (_NUMBER, "seconds of CPU that its worker has used"),
        "rss": (_COUNT, "bytes of resident memory of its worker"),
    },
    "service",
)

_HISTOGRAM: Schema = _object({"counts": {"type": "array", "items": _COUNT}, "sum": _NUMBER})
DURATIONS: Schema = _numbers(
    {
        "pool": (_TEXT, "pool id"),
        "app": (_TEXT, "its application"),
        "target": (_TEXT, "the target as it was ordered; `(other)` for those that came when 200 were counted"),
        "queue": (_HISTOGRAM, "from the order, or the end of its delay, until it was given to a worker"),
        "launch": (_HISTOGRAM, "from there until its code began"),
        "run": (_HISTOGRAM, "from there to its end"),
    },
    "durations",
)


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
    acts: bool = False
    """Whether it orders or changes anything."""

    @property
    def scope(self) -> str:
        """What somebody who comes by the gateway must be allowed: ``read``, ``run`` or ``admin``."""
        return "admin" if self.trusted else "run" if self.acts else "read"


class Notification(NamedTuple):
    """What the daemon says unasked, to whoever subscribed or follows."""

    text: str
    params: Schema


_RECORDED = _with(_NUMBER, "when what the latest row of `restarts` tells of was ordered, in Unix seconds; 0: there is none")
_WARNINGS: Schema = {
    "type": "array",
    "items": _object({"kind": _TEXT, "text": _TEXT, "advice": _TEXT}),
    "description": "what will keep the daemon from doing its work if nobody does anything: `disk`, `queue:shop`, `machine`",
}
_THE_KEY = Parameter("key", _KEY, "the run's key", required=True)
_RUN = (
    Parameter("target", _NAME, "a job's name, or module:qualified.name", required=True),
    Parameter(
        "params",
        {"type": ["array", "object"]},
        "an array (by position) or an object (by name); for a class, the one argument of its `run`",
    ),
    Parameter(
        "key", _KEY, "the run's key: the same with the same target and params again is the same run; left out, one is made"
    ),
    Parameter("app", _TEXT, "the application, where several have such a target"),
    *(Parameter(option.name, option.form.schema, option.text) for option in said_in(ORDER)),
)
_POSITION = Parameter("position", _PLACE, "go on where this notification or reply was: what was missed since comes first")

_WHOSE = (
    Parameter("target", _NAME, "of this target, as it is ordered"),
    Parameter("script", _NAME, "or of this script"),
)

METHODS: dict[str, Method] = {
    "run": Method(
        "Order a run; it is journalled when this is answered.",
        _RUN,
        RECORD,
        errors=(NOT_FOUND, IN_USE, NOT_ALLOWED, TOO_BUSY),
        acts=True,
    ),
    "call": Method(
        "Order a run and wait for its end.",
        _RUN,
        _object({"result": {}, "key": _KEY, "result_dropped": _TEXT}, "result_dropped"),
        errors=(JOB_FAILED, NOT_FOUND, IN_USE, NOT_ALLOWED, TOO_BUSY),
        acts=True,
    ),
    "status": Method("The run's record as it is now.", (_THE_KEY,), RECORD, errors=(NOT_FOUND,)),
    "list": Method(
        "Records of runs: those that wait and run, then those that have ended; latest first. With `since` or `until` those "
        "that ended last come first of the latter.",
        (
            Parameter("app", _TEXT, "only of this application"),
            Parameter("target", _TEXT, "only of this target"),
            Parameter("state", {"enum": ["waiting", "running", "ended"]}, "only in this state"),
            Parameter("outcome", _TEXT, "only ended like this"),
            Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 1000}, "how many at most; 100 if left out"),
            Parameter("after", _KEY, "only those that come behind this one: the next page"),
            Parameter("failed", _FLAG, "only those that ended in any other way than `ok`"),
            Parameter("labels", _STRINGS, "only those with all of these labels"),
            Parameter("since", _MOMENT, "only those that ended, began or, while they wait, were ordered then or later"),
            Parameter("until", _MOMENT, "the same: then or earlier"),
        ),
        {"type": "array", "items": RECORD},
        errors=(NOT_FOUND, NOT_NOW),
    ),
    "wait": Method(
        "The record when the run has ended; with `timed_out` when it has not in time.",
        (_THE_KEY, Parameter("timeout", _DURATION, "how long to wait; for ever if left out")),
        RECORD,
        errors=(NOT_FOUND,),
    ),
    "terminate": Method(
        "TERM to the run's processes, KILL after its grace; or deliver one signal.",
        (_THE_KEY, Parameter("signal", _SIGNAL, "a signal's name or number; TERM if left out")),
        RECORD,
        errors=(NOT_FOUND, NOT_NOW),
        acts=True,
    ),
    "free": Method("The record and the output may be forgotten.", (_THE_KEY,), RECORD, errors=(NOT_FOUND, NOT_NOW), acts=True),
    "retry": Method("Run an ended run again under its key.", (_THE_KEY,), RECORD, errors=(NOT_FOUND, NOT_NOW), acts=True),
    "edit": Method(
        "Change a run that waits: its params, its priority, its timeout, when it may begin; all of it or nothing.",
        (
            _THE_KEY,
            Parameter("params", {"type": ["array", "object"]}, "other params, all of them"),
            *(Parameter(name, BY_NAME[name].form.schema, BY_NAME[name].text) for name in editing.OPTIONS),
        ),
        RECORD,
        errors=(NOT_FOUND, NOT_NOW, TOO_BUSY),
        acts=True,
    ),
    "logs": Method(
        "A piece of the run's output; with `follow` the rest comes as notifications.",
        (
            _THE_KEY,
            Parameter("offset", _PLACE, "where to begin, in bytes"),
            Parameter("follow", _FLAG, "send what is written from now on, until the run has ended"),
            Parameter("times", _FLAG, "also when which part of the output was seen"),
            Parameter("attempt", {"type": "integer", "minimum": 1, "maximum": 1 << 31}, "only what this attempt has written"),
        ),
        _CHUNK,
        errors=(NOT_FOUND,),
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
        errors=(NOT_FOUND,),
    ),
    "stack": Method(
        "What the threads of a running job are at; it is written to the run's output as well.",
        (_THE_KEY,),
        _object({"key": _KEY, "pid": _COUNT, "text": _TEXT}),
        errors=(NOT_FOUND, NOT_NOW),
    ),
    "left_behind": Method(
        "Processes that runs have left behind, and that live on.",
        (),
        {
            "type": "array",
            "items": _numbers(
                {
                    "pid": (_COUNT, "process id"),
                    "name": (_TEXT, "what the process is called"),
                    "key": ({"type": ["string", "null"]}, "of the run into whose output it prints; null if it prints elsewhere"),
                    "age": (_NUMBER, "seconds since it was started"),
                },
                "left behind",
            ),
        },
    ),
    "subscribe": Method(
        "Be told what happens, as notifications, as long as the connection lasts (a restart does not end it).",
        (
            Parameter("app", _TEXT, "only runs of this application"),
            Parameter("target", _TEXT, "only runs of this target"),
            Parameter("keys", _LIST, "only these runs"),
            Parameter("labels", _STRINGS, "only runs with these labels"),
            Parameter("events", {"type": "array", "items": {"enum": [*EVENTS, HEALTH]}}, "only these"),
            Parameter("failed", _FLAG, "only runs that ended in any other way than `ok`"),
            Parameter("scripts", _FLAG, "only runs that belong to a script's schedule"),
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
                    "doc": _with(_TEXT, "what its author has written of it; left out where that is nothing"),
                },
                "doc",
            ),
        },
        errors=(NOT_FOUND,),
    ),
    "restarts": Method(
        "The audit of restarts, reloads and crashes, the latest first.",
        (Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 1000}, "how many at most; 20 if left out"),),
        {"type": "array", "items": RESTART},
    ),
    "stats": Method("Numbers, and the audit of the last restarts.", (), STATS),
    "costs": Method(
        "What was learned of each target, and of each script, from its runs: times in seconds, `memory` in bytes, `ok` the share "
        "that ended well, `long` the time beyond which a run takes longer than usual.",
        (),
        {
            "type": "array",
            "items": _object(
                {
                    "app": _TEXT,
                    "target": _or_null(_TEXT),
                    "script": _or_null(_TEXT),
                    "runs": _COUNT,
                    "ok": _SECONDS,
                    "cpu": _NUMBER,
                    "memory": _COUNT,
                    "p50": _NUMBER,
                    "p95": _NUMBER,
                    "p99": _NUMBER,
                    "long": _SECONDS,
                }
            ),
        },
    ),
    "durations": Method(
        "How long attempts at runs waited (`queue`), took to begin (`launch`) and ran (`run`), in seconds, by pool and target: "
        "counted from the first time that anybody asks. `counts` has one number for each of `bounds`, of what took at most that "
        "long and more than the one before, and one for what took longer.",
        (),
        _object({"bounds": {"type": "array", "items": _NUMBER}, "rows": {"type": "array", "items": DURATIONS}}),
    ),
    "pools": Method("Sizes and numbers of every pool.", (), {"type": "array", "items": POOL}),
    "services": Method("Each resident service, as it is now.", (), {"type": "array", "items": SERVICE}),
    "health": Method(
        "Whether the daemon can do its work, and if not, why.",
        (),
        _object(
            {
                "ok": _FLAG,
                "problems": _LIST,
                "advice": _LIST,
                "kinds": _with(_LIST, "what each of the problems is of, such as `pool:shop`, `companion:metrics`, `journal`"),
                "warnings": _WARNINGS,
                "set_aside": {**_COUNT, "description": "rows of the journal that could not be read"},
                "faults": {"type": "object", "additionalProperties": _COUNT},
                "generation": _COUNT,
                "listen": _LIST,
                "exec": _LIST,
                "companions": {"type": "array", "items": _OBJECT},
                "zygotes": _OBJECT,
                "version": _TEXT,
            }
        ),
    ),
    "flag": Method(
        "Have something hold for a while for the runs of a target or a script that begin meanwhile; it ends by itself.",
        (
            Parameter("flag", _KIND, "`debug`: what they log is in their output from DEBUG on", required=True),
            *_WHOSE,
            Parameter("for", _DURATION, "for how long; an hour if left out, a week at most"),
        ),
        FLAG,
        errors=(NOT_FOUND, NOT_ALLOWED, TOO_BUSY, NOT_NOW),
        acts=True,
    ),
    "unflag": Method(
        "Let it hold no longer.",
        (Parameter("flag", _KIND, "which", required=True), *_WHOSE),
        _object({"removed": _with(_FLAG, "whether it held")}),
        acts=True,
    ),
    "flags": Method("What holds for a while.", (), {"type": "array", "items": FLAG}),
    "restart": Method(
        "Load everything anew and hand over; answered when the new code serves.",
        (),
        _REACHED,
        trusted=True,
        errors=(NOT_NOW,),
    ),
    "reload": Method("Load configuration and applications anew.", (), _REACHED, trusted=True, errors=(NOT_NOW,)),
    "stop": Method("Stop in order.", (), _GENERATION, trusted=True),
    "drain": Method("Take no more runs; answered when nothing runs or waits.", (), _GENERATION, trusted=True),
    "auth": Method(
        "Show the token; what a tcp client says first.",
        (Parameter("token", _TEXT, "what the daemon's token_file holds", required=True),),
        _object({"authorised": {"enum": [True]}}),
        errors=(NOT_ALLOWED,),
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
    "health": Notification(
        "What keeps the daemon from doing its work has changed; comes once at the beginning, only to who asks for it by name.",
        _object(
            {
                "ok": _FLAG,
                "problems": _LIST,
                "advice": _LIST,
                "kinds": _LIST,
                "warnings": _WARNINGS,
                "recorded": _RECORDED,
            }
        ),
    ),
    "logs": Notification(
        "A piece of the output that is followed; `id` is the request's.",
        _object({"id": {}, "key": _KEY, "text": _TEXT, "offset": _COUNT, "ended": _FLAG}),
    ),
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
        INVALID_PARAMS,
        message,
        data={"parameter": parameter or None, "advice": f"parameters: {', '.join(names) or 'none'}"},
    )
