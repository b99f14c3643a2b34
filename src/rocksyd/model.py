"""The run: what a caller ordered, what became of it, and the record that is shown.

What must live here: the plain data that engine, journal and protocol share.
What this file must not know: how any of it changes (``rocksyd.core``), where it is kept (``rocksyd.journal``).
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from operator import attrgetter
from typing import Any, NamedTuple

WAITING, RUNNING, ENDED = "waiting", "running", "ended"

OK, FAILED, KILLED, TIMEOUT, MEMORY, LOST, CANCELLED = "ok", "failed", "killed", "timeout", "memory", "lost", "cancelled"

SCRIPT = "script"

REASONS = frozenset({TIMEOUT, MEMORY, LOST, CANCELLED})
"""Outcomes that are also a ``reason`` in the record: somebody or some limit decided, not the job."""

LOST_RETCODE = 255
"""Exit status shown for a run whose own is not known to anybody."""


class Now(NamedTuple):
    """One moment on both clocks, in seconds."""

    mono: float
    """CLOCK_MONOTONIC: for deadlines; the same for every process until the next boot."""
    wall: float
    """Unix time: for records, shown to people."""


@dataclass(slots=True)
class Run:
    """One run of one target. Times ``*_at`` are Unix seconds; the others are CLOCK_MONOTONIC seconds."""

    key: str
    app: str = ""
    pool: str = ""
    name: str = ""
    """The target as the caller wrote it."""
    target: str = ""
    """The target as ``module:qualified.name``."""
    params: Any = None
    each: bool = False
    """Whether ``params`` is an array of parameters, and the target is called for each of them."""
    kind: str = ""
    """``script``: a script for a caller that waits with its descriptors (``rocksyd exec``); "": a job."""
    state: str = WAITING
    outcome: str = ""
    retcode: int | None = None
    signal: int = 0
    result: Any = None
    result_dropped: str = ""
    """Why there is no result although the job returned one."""
    error: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None
    attempt: int = 1
    generation: int = 0
    worker: int = 0
    pid: int = 0
    slot: int = -1
    """Of its worker on the scoreboard; -1 for one that is not known."""
    submitted_at: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0
    answered_at: float = 0.0
    """When the job answered its caller and went on working (``current().finish``); 0 for one that did not."""
    cpu: float = 0.0
    max_rss: int = 0
    log: str = ""
    spool: str = ""
    """The file of its worker that a call prints into while it runs: what is in it becomes ``log``, nothing becomes no file."""
    log_cut: int = 0
    """Bytes of output that were not kept because of the size limit."""
    priority: int = 0
    sequence: int = 0
    """Order of arrival."""
    timeout: float = 0.0
    grace: float = 10.0
    retries: int = 0
    max_running: int = 0
    concurrency_key: str = ""
    """Runs of the target with the same one are limited to ``max_running_per_key`` at the same time; "" for none."""
    max_running_per_key: int = 0
    env: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    not_before: float = 0.0
    start_by: float = 0.0
    started: float = 0.0
    deadline: float = 0.0
    kill_reason: str = ""
    """Why the worker was ordered to end: ``timeout``, ``cancelled``, ``memory``."""
    kill_at: float = 0.0
    """When TERM is followed by KILL."""
    given_back: int = 0
    """How often its worker died before its code began, and it was given back."""
    unnamed: bool = False
    """Whether it is a call without a key: only the caller who waits can ask for it."""
    behind: bool = False
    """Whether the journal has not been told yet, and need not be before the answer: see ``master.behind``."""
    slow_after: float = 0.0
    """Seconds after which it counts as slow."""
    slow_at: float = 0.0
    """When it will; 0 when it never will, or does already."""
    rev: int = 0
    """Grows with every change that the journal has to keep."""

    @property
    def output(self) -> str:
        """Where its output is now."""
        return self.spool if self.spool and self.state == RUNNING else self.log

    def dump(self) -> dict[str, Any]:
        """Plain data with the defaults left out: missing keys are defaulted when it is read back."""
        return {name: value for (name, default), value in zip(_DEFAULTS, _values(self), strict=True) if value != default}

    @classmethod
    def load(cls, data: dict[str, Any]) -> Run:
        """The run that ``dump`` wrote, by this version or another: unknown keys are ignored."""
        return cls(**{name: data[name] for name, _ in _DEFAULTS if name in data})

    def returned(self) -> dict[str, Any]:
        """What a caller who waited for its value sees, once it has ended well."""
        dropped = {"result_dropped": self.result_dropped} if self.result_dropped else {}
        return {"result": self.result, "key": self.key, **dropped}

    def record(self) -> dict[str, Any]:
        """What callers see."""
        return {
            "key": self.key,
            "app": self.app,
            "target": self.name,
            "params": self.params,
            "state": self.state,
            "outcome": self.outcome or None,
            "retcode": self.retcode,
            "signal": self.signal or None,
            "reason": self.outcome if self.outcome in REASONS else None,
            "result": self.result,
            "result_dropped": self.result_dropped or None,
            "error": self.error,
            "progress": self.progress,
            "attempt": self.attempt,
            "generation": self.generation,
            "pid": self.pid or None,
            "priority": self.priority,
            "labels": self.labels,
            "submitted_at": self.submitted_at,
            "started_at": self.started_at or None,
            "answered_at": self.answered_at or None,
            "ended_at": self.ended_at or None,
            "cpu": self.cpu,
            "max_rss": self.max_rss,
            "log": self.log or None,
        }


def _default(item: Any) -> Any:
    if item.default is not MISSING:
        return item.default
    return item.default_factory() if item.default_factory is not MISSING else MISSING


_DEFAULTS = tuple((item.name, _default(item)) for item in fields(Run))
_values = attrgetter(*(name for name, _ in _DEFAULTS))
