"""What can be said of a run, each option declared once: name, how it is written, default, text, where it may be said.

What must live here: the table, and the kinds of values in it.
What this file must not know: the ways in. ``rocksyd.toml`` (``config``), ``@job`` (``jobs``), JSON-RPC, the classic dialect, the
command line and the clients read the table; ``core.submission`` decides which of several values holds.

Every application imports it (by ``jobs``), so it imports nothing itself before a value has to be converted.
"""

from __future__ import annotations

from rocksyd import retrying, ticks
from rocksyd.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

ORDER, JOB, TARGET = 1, 2, 4
"""Where an option may be said: by the caller with the order; at ``@job``; in ``[apps.X.jobs_settings.TARGET]``."""
MAX_KEY: Final = 128
"""Characters of a run's key."""
MOST: Final = 1 << 31
REQUEST_ID: Final = "request_id"
"""The label that says while which request a run was ordered."""


class Form(Value):
    """How a value is written."""

    convert: Callable[[object], Any]
    """What was said, as it is used. Raises ValueError with "expected ..., got ..."."""
    schema: dict[str, Any]
    """JSON Schema of what may be said."""
    metavar: str
    """What the command line's help calls it."""


class Option(Value):
    """One thing that can be said of a run."""

    name: str
    form: Form
    default: Any
    """What holds where nobody says anything."""
    text: str
    scope: int
    pool: str = ""
    """The setting of the run's pool that holds instead of ``default``; "" for none."""
    word: str = ""
    """Its name on the command line, where that is another: of what is said one by one."""


def _checked(expected: str, fits: Callable[[Any], bool], schema: dict[str, Any], metavar: str) -> Form:
    def convert(value: object) -> Any:
        if fits(value):
            return value
        from rocksyd.units import shown  # noqa: PLC0415  (it compiles patterns, which most applications do not need)

        raise ValueError(f"expected {expected}, got {shown(value)}")

    return Form(convert, schema, metavar)


def _duration(value: object) -> float:
    from rocksyd.units import parse_duration  # noqa: PLC0415  (as above)

    return parse_duration(value)


def whole(low: int, high: int = MOST) -> Form:
    """A whole number from ``low`` to ``high``."""
    return _checked(
        f"a whole number from {low} to {high}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
        {"type": "integer", "minimum": low, "maximum": high},
        "N",
    )


def is_traceparent(text: str) -> bool:
    """Whether it is what W3C's trace context writes: hexadecimal, in lower case, and neither number is nothing but zeros."""
    parts = text.split("-")
    return (
        len(text) <= 128
        and [len(part) for part in parts[:4]] == [2, 32, 16, 2]
        and all(part and not part.strip("0123456789abcdef") for part in parts)
        and parts[0] != "ff"
        and (parts[0] != "00" or len(parts) == 4)
        and bool(parts[1].strip("0") and parts[2].strip("0"))
    )


def _size(value: object) -> int:
    from rocksyd.units import parse_size  # noqa: PLC0415  (as above)

    return parse_size(value)


COUNT: Final = whole(0)
SIZE: Final = Form(_size, {"type": ["integer", "string"], "minimum": 0, "format": "size", "examples": ["512M", "2G"]}, "SIZE")
DURATION: Final = Form(
    _duration, {"type": ["number", "string"], "format": "duration", "examples": [10, "250ms", "10s", "5m", "1h"]}, "D"
)
KEY: Final = _checked(
    f"a string of 1 to {MAX_KEY} characters",
    lambda value: isinstance(value, str) and 1 <= len(value) <= MAX_KEY,
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
    "KEY",
)
NAME: Final = _checked(
    "a name without spaces and colons",
    lambda value: isinstance(value, str) and value != "" and value.isprintable() and not {" ", ":"} & set(value),
    {"type": "string", "minLength": 1},
    "NAME",
)
STRINGS: Final = _checked(
    "an object whose values are strings",
    lambda value: isinstance(value, dict) and all(isinstance(word, str) for pair in value.items() for word in pair),
    {"type": "object", "additionalProperties": {"type": "string"}},
    "NAME=VALUE",
)


def _one_of(*words: str) -> Form:
    expected = " or ".join(f'"{word}"' for word in words)
    return _checked(expected, lambda value: value in words, {"enum": list(words)}, "|".join(words))


AFTER: Final = 1000
"""Keys that ``after`` may have."""


def _keys(value: object) -> tuple[str, ...]:
    """Keys of runs, each once."""
    from rocksyd.units import shown  # noqa: PLC0415  (as above)

    if not isinstance(value, list | tuple) or len(value) > AFTER:
        raise ValueError(f"expected an array of at most {AFTER} keys, got {shown(value)}")
    return tuple(dict.fromkeys(KEY.convert(one) for one in value))


TICK: Final = Form(
    ticks.read,
    {
        "type": ["object", "string"],
        "properties": {
            "script": {"type": "string"},
            "time": {"type": "string"},
            "n": {"type": "integer", "minimum": 0},
            "fill": {"type": "boolean"},
        },
        "examples": [{"script": "nightly", "time": "2026-01-31T03:00:00Z"}],
    },
    "TICK",
)
LADDER: Final = Form(
    retrying.ladder,
    {
        "type": ["array", "number", "string"],
        "format": "duration",
        "items": {"type": ["number", "string"], "format": "duration"},
        "examples": [["1s", "10s", "5m"], "30s"],
    },
    "D,D",
)
KINDS: Final = Form(
    retrying.kinds,
    {
        "type": ["array", "string", "integer"],
        "minimum": 1,
        "maximum": 255,
        "items": {"type": ["string", "integer"], "minimum": 1, "maximum": 255},
        "examples": [["OSError", "not FileNotFoundError", 75]],
    },
    "KIND,KIND",
)
MOMENT: Final = Form(
    retrying.moment,
    {
        "type": ["string", "number"],
        "format": "date-time",
        "minimum": 1,
        "maximum": retrying.LATEST,
        "examples": ["2026-01-31T03:00:00+01:00"],
    },
    "TIME",
)
RATE: Final = Form(retrying.rate, {"type": ["string", "array"], "examples": ["20/m", "5/s", "100/5m"]}, "N/D")


def _number(low: float, high: float) -> Form:
    return _checked(
        f"a number from {low:g} to {high:g}",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high,
        {"type": "number", "minimum": low, "maximum": high},
        "N",
    )


KEYS: Final = Form(
    _keys,
    {"type": "array", "items": KEY.schema, "maxItems": AFTER, "examples": [["import-1", "import-2"]]},
    "KEY",
)
TRACEPARENT: Final = _checked(
    "a traceparent such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    lambda value: isinstance(value, str) and is_traceparent(value),
    {"type": "string", "examples": ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]},
    "00-TRACE-SPAN-FLAGS",
)
FLAG: Final = _checked("true or false", lambda value: isinstance(value, bool), {"type": "boolean"}, "")

OPTIONS: Final = (
    Option(
        "priority", whole(-MOST), 0,
        "among the runs that wait the highest goes first, equal ones in the order they came; -1000 to 1000 is usual",
        ORDER | JOB | TARGET,
    ),
    Option(
        "timeout", DURATION, 0.0,
        "a run that takes longer gets `JobTimeout`, and KILL after its `grace` (outcome `timeout`); `0`: no limit",
        ORDER | JOB | TARGET, pool="timeout",
    ),
    Option(
        "start_within", DURATION, 0.0,
        "a run that has not begun by then is given up (outcome `timeout`); `0`: no limit",
        ORDER | JOB | TARGET, pool="queue_timeout",
    ),
    Option("delay", DURATION, 0.0, "begin only after this time", ORDER),
    Option(
        "retries", COUNT, 0,
        "how often a failed run is tried again: after 1 s, 2 s, 4 s ... at most 5 minutes, or what `retry_after` says",
        ORDER | JOB | TARGET,
    ),
    Option("env", STRINGS, {}, "environment variables of the run, added to the application's", ORDER),
    Option("labels", STRINGS, {}, "anything to find the run by", ORDER, word="label"),
    Option(
        "concurrency_key", KEY, "",
        "of the target's runs with the same one only `max_running_per_key` run at the same time",
        ORDER,
    ),
    Option(
        "each", FLAG, False,
        "`params` is an array of such: the target is called for each in one process, and the result is the array of results",
        ORDER,
    ),
    Option(
        "tick", TICK, None,
        "which tick of a schedule it is: `script`, `time` (UTC), `n` of a job of a list. Each is run once: asked again, the "
        "daemon answers the record, or `known` where that is gone; one older than the script's latest is refused, unless `fill` "
        "is true",
        ORDER,
    ),
    Option(
        "retry_after", LADDER, retrying.DEFAULT["after"],
        'how long a failed run waits before it is tried again: a time, or a ladder `["1s", "10s", "5m"]`, a step an attempt',
        ORDER | JOB | TARGET,
    ),
    Option(
        "retry_factor", _number(1, 1000), retrying.DEFAULT["factor"],
        "by what the last step of `retry_after` is multiplied for each attempt behind its end; `1`: it stays",
        ORDER | JOB | TARGET,
    ),
    Option(
        "retry_most", DURATION, retrying.DEFAULT["most"],
        "the longest wait that `retry_factor` leads to (the steps of `retry_after` are as they are written)",
        ORDER | JOB | TARGET,
    ),
    Option(
        "retry_jitter", _number(0, 10), retrying.DEFAULT["jitter"],
        "up to what part of itself a wait is longer, so that not all come again together: `0.2` is up to a fifth",
        ORDER | JOB | TARGET,
    ),
    Option(
        "retry_on", KINDS, retrying.DEFAULT["on"],
        'which failures are worth it: names of exceptions (and what is derived from them), exit statuses, `killed`, `timeout`, '
        '`memory`, `lost`; with `not` before one that is not: `["OSError", "not FileNotFoundError", 75]`; `[]`: all',
        ORDER | JOB | TARGET,
    ),
    Option("eta", MOMENT, 0.0, "begin only at this time, by the wall clock: RFC 3339 with an offset, or Unix seconds", ORDER),
    Option(
        "on_stop", _one_of("cancel", "requeue"), "cancel",
        'what becomes of the run when the daemon stops while it runs: `"cancel"`, or `"requeue"`: it is ended, and is run again '
        "after the next start, as the same attempt",
        ORDER | JOB | TARGET,
    ),
    Option(
        "after", KEYS, (),
        "begin only after the runs with these keys have ended; if one of them does not end well, the run is cancelled",
        ORDER,
    ),
    Option(
        "after_outcome", _one_of("ok", "any"), "ok",
        '`"any"`: begin however the runs of `after` have ended',
        ORDER,
    ),
    Option(
        "after_results", FLAG, False,
        "what the runs of `after` returned comes before the job's other arguments by position, in the order of the keys",
        ORDER,
    ),
    Option(
        "traceparent", TRACEPARENT, "",
        "the span that the run belongs to, as W3C's trace context writes it; it is in the record, and with `otel` the run's own "
        "span is below it",
        ORDER,
    ),
    Option(
        "needs_memory", SIZE, 0,
        "what it will probably need of the machine's memory beyond what its application shares, as long as that was not learned "
        "(`keep_free`)",
        ORDER | JOB | TARGET,
    ),
    Option("grace", DURATION, 10.0, "from TERM, or `JobTimeout`, to KILL", JOB | TARGET, pool="grace"),
    Option(
        "slow_after", DURATION, 0.0,
        "the stacks of a run that takes longer are written to its output and to `slow.log`, once; `0`: never",
        JOB | TARGET, pool="slow_after",
    ),
    Option(
        "leftover", _one_of("kill", "keep"), "kill",
        'processes that a run has started, and that are in its process group when its own process ends: `"kill"` ends them, by '
        'TERM and, after its `grace`, KILL; `"keep"` lets them live',
        JOB | TARGET, pool="leftover",
    ),
    Option(
        "results", _one_of("strict", "lenient"), "strict",
        'a result that JSON has no form for: `"strict"` fails the run if there is a type in it that JSON does not know, and '
        'drops it for NaN, infinity and what is too deep (`result_dropped` says so); `"lenient"` has null or a `repr` instead',
        JOB | TARGET, pool="results",
    ),
    Option("max_running", COUNT, 0, "runs of this target at the same time; `0`: no limit", JOB | TARGET),
    Option(
        "max_running_per_key", whole(1), 1,
        "runs of this target with the same `concurrency_key` (an option of `run` and `call`) at the same time",
        JOB | TARGET,
    ),
    Option(
        "rate", RATE, [],
        'how often runs of this target begin: `"20/m"` is at most 20 in any minute, `"100/5m"` 100 in any five; others wait',
        JOB | TARGET,
    ),
    Option(
        "rate_per_key", RATE, [],
        "the same for runs of this target with the same `concurrency_key`",
        JOB | TARGET,
    ),
    Option("pool", NAME, "", "which of the application's `pools` it runs in; its own `pool` if left out", JOB | TARGET),
    Option("name", NAME, "", "the short name that callers use; the function's own name if left out", JOB),
)  # fmt: skip
"""All of them. Those of an order come first, in the order in which JSON-RPC takes them by position: append, never insert."""

SCHEDULE: Final = (
    "cron", "every", "timezone", "exclude", "jitter", "misfire", "misfire_within", "misfire_limit", "overlap",
    "instances", "jobs", "finish", "depends_on", "late_after", "long_after", "at_least", "notify", "owner", "tags",
)  # fmt: skip
"""Settings of a script that ``@job`` takes, too: they make the job a script, as a table ``[scripts.NAME]`` would."""

BY_NAME: Final = {option.name: option for option in OPTIONS}


def said_in(scope: int) -> tuple[Option, ...]:
    """The options that may be said there."""
    return tuple(option for option in OPTIONS if option.scope & scope)


ORDERED: Final = tuple(option.name for option in said_in(ORDER))
"""Names of the options that a caller may give with an order."""
