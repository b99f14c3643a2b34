"""The run: what a caller ordered, the attempts at it, and the record that is shown.

What must live here: the plain data that engine, journal and protocol share.
What this file must not know: how any of it changes (``rocksyd.core``), where it is kept (``rocksyd.journal``).

A run is an order, which is frozen, the attempt that it is at, those before it, and what the engine keeps of it. Journal and
protocol know it as one flat object, because that is what every version so far reads and writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

WAITING, RUNNING, ENDED = "waiting", "running", "ended"

OK, FAILED, KILLED, TIMEOUT, MEMORY, LOST, CANCELLED = "ok", "failed", "killed", "timeout", "memory", "lost", "cancelled"
INTERRUPTED = "interrupted"
"""Why a worker was ordered to end whose run is to be run again: no outcome, because the run does not end."""
OUTCOMES = (OK, FAILED, KILLED, TIMEOUT, MEMORY, LOST, CANCELLED)

REASONS = frozenset({TIMEOUT, MEMORY, LOST, CANCELLED})
"""Outcomes that are also a ``reason`` in the record: somebody or some limit decided, not the job."""

LOST_RETCODE = 255
"""Exit status shown for a run whose own is not known to anybody."""
EARLIER_MOST = 10
"""Earlier attempts that are kept of a run, the latest."""
ERROR_MOST = 1000
"""Characters that are kept of an earlier attempt's message (its beginning) and of its traceback (its end)."""


class Now(NamedTuple):
    """One moment on both clocks, in seconds."""

    mono: float
    """CLOCK_MONOTONIC: for deadlines; the same for every process until the next boot."""
    wall: float
    """Unix time: for records, shown to people."""
    free: int = -1
    """Bytes of memory that the machine has left; -1 where nobody has looked, because nothing depends on it."""


# --- what callers say of runs, in every dialect -----------------------------------------------------------------------
class Past(NamedTuple):
    """A tick of a schedule, and what the journal has of it."""

    tick: dict[str, Any]
    known: bool = False
    """Whether it was accepted before, whatever has become of its run."""
    floor: str = ""
    """The latest time of the script's ticks that the journal has; "" for none."""
    forgotten: str = ""
    """The time before which the journal remembers none of them any longer; "" where it remembers all."""


class Submit(NamedTuple):
    """A caller orders a run: what was said, unchecked."""

    key: str
    target: str
    """A short name, or ``module:qualified.name``."""
    params: Any = None
    app: str | None = None
    """The application meant; None lets the daemon decide."""
    options: dict[str, Any] = {}
    """What was said of the options of a run (``options.ORDERED``)."""
    typed: bool = False
    """Whether the parameters are held against the job's signature (JSON-RPC); if not, Python does it when the job is called."""
    kind: str = ""
    """``script`` for what ``rocksyd exec`` orders: ``target`` is then what is shown, and ``app`` has been chosen."""
    unnamed: bool = False
    """Whether the caller waits for the result and gave no key that it could ask again by."""
    past: Past | None = None
    """The tick that it is for; None for a run that belongs to no schedule."""
    ended: dict[str, str] = {}
    """Of the runs that it is to come after, those that have ended: how, by key."""


class Terminate(NamedTuple):
    """A caller wants a run ended; with another signal than TERM, wants that one delivered to its processes and no more."""

    key: str
    signal: int = 15


class Free(NamedTuple):
    """A caller does not need the record any more."""

    key: str


class Retry(NamedTuple):
    """A caller wants an ended run to run again under its key."""

    key: str


class Edit(NamedTuple):
    """A caller wants something else of a run that waits: what was said, unchecked."""

    key: str
    changes: dict[str, Any]
    """``params``, and options of a run (``core.editing.OPTIONS``), by name."""


# --- the run ----------------------------------------------------------------------------------------------------------
class Elsewhere(NamedTuple):
    """What is too large to be kept in memory, and how it is read."""

    read: Callable[[], Any]


class Order(NamedTuple):
    """What a caller asked for, with the settings that hold for it. Durations are seconds.

    Nothing in it ever changes: a run that is edited has another one.
    """

    app: str = ""
    name: str = ""
    """The target as the caller wrote it."""
    target: str = ""
    """The target as ``module:qualified.name``."""
    params: Any = None
    """What the caller said, or ``Elsewhere``: ``Run.params`` is the former in either case."""
    each: bool = False
    """Whether ``params`` is an array of parameters, and the target is called for each of them."""
    kind: str = ""
    """The kind of work, by its name (``rocksyd.kinds``)."""
    submitted_at: float = 0.0
    """Unix seconds."""
    log: str = ""
    """The file of its output, of all attempts; "" where its kind has none."""
    priority: int = 0
    timeout: float = 0.0
    grace: float = 10.0
    retries: int = 0
    retry: dict[str, Any] = {}
    """What of its policy of retries is not the usual (``retrying.DEFAULT``)."""
    slow_after: float = 0.0
    """Seconds after which it counts as slow; 0 for never."""
    max_running: int = 0
    concurrency_key: str = ""
    """Runs of the target with the same one are limited to ``max_running_per_key`` at the same time; "" for none."""
    max_running_per_key: int = 0
    env: dict[str, str] = {}
    labels: dict[str, str] = {}
    leftover: str = "kill"
    """What becomes of processes that it leaves in its group at its normal end: ``kill`` or ``keep``."""
    tick: dict[str, Any] | None = None
    """Which tick of a schedule it is (``rocksyd.ticks``)."""
    after: tuple[str, ...] = ()
    """Keys of the runs that have to end before it begins."""
    after_outcome: str = "ok"
    """``ok``: they have to end well; ``any``."""
    after_results: bool = False
    """Whether what they returned comes before its params."""
    start_within: float = 0.0
    """Seconds that it may wait once they have ended; 0 for a run that waits for none (``Run.start_by`` has that)."""
    results: str = "strict"
    """``lenient``: what JSON has no form for is said as null or as text; else it is dropped, or its run fails."""
    unnamed: bool = False
    """Whether it is a call without a key: only the caller who waits can ask for it."""
    traceparent: str = ""
    """The span of whoever ordered it (W3C's trace context); "" for none."""
    eta: float = 0.0
    """Unix seconds before which it does not begin; 0 for none."""
    on_stop: str = "cancel"
    """What becomes of it when the daemon stops while it runs: ``cancel``, or ``requeue``, it waits for the next start."""
    rate: tuple[float, ...] = ()
    """How many runs of the target may begin, and in how many seconds; () for no limit."""
    rate_per_key: tuple[float, ...] = ()
    """The same for those with its ``concurrency_key``."""
    needs_memory: int = 0
    """Bytes that it will probably need beyond what is shared, as long as nobody has learned it; 0 where nobody says."""


_NOTHING = Order()


@dataclass(slots=True)
class Attempt:
    """One try at an order. Times ``*_at`` are Unix seconds; the others are CLOCK_MONOTONIC seconds."""

    number: int = 1
    generation: int = 0
    worker: int = 0
    pid: int = 0
    slot: int = -1
    """Of its worker on the scoreboard; -1 for one that is not known."""
    outcome: str = ""
    retcode: int | None = None
    signal: int = 0
    result: Any = None
    result_dropped: str = ""
    """Why there is no result although the job returned one."""
    error: dict[str, Any] | None = None
    """While it waits: how the attempt before it ended."""
    progress: dict[str, Any] | None = None
    started_at: float = 0.0
    ended_at: float = 0.0
    answered_at: float = 0.0
    """When the job answered its caller and went on working (``current().finish``); 0 for one that did not."""
    cpu: float = 0.0
    max_rss: int = 0
    spool: str = ""
    """The file of its worker that a call prints into while it runs: what is in it becomes ``log``, nothing becomes no file."""
    log_from: int = 0
    """Where its output begins in the run's, in bytes."""
    started: float = 0.0
    deadline: float = 0.0
    kill_reason: str = ""
    """Why the worker was ordered to end: ``timeout``, ``cancelled``, ``memory``."""
    kill_at: float = 0.0
    """When TERM is followed by KILL."""
    slow_at: float = 0.0
    """When it will count as slow; 0 when it never will, or does already."""
    given_back: int = 0
    """How often its worker died before its code began, and it was given back."""
    interrupted: int = 0
    """How often it was ended by a stop of the daemon, or with the daemon, and waits again, or runs again, as this attempt."""
    revision: str = ""
    """Of the code; "" where nobody knows it."""
    debug: bool = False
    """Whether what it logs is in its output from DEBUG on (``core.flags``)."""

    def kept(self) -> dict[str, Any]:
        """What is kept of it, and shown, when another attempt follows."""
        error = self.error
        if error is not None:
            message, traceback = str(error.get("message", "")), str(error.get("traceback", ""))
            kind = str(error.get("type", ""))[:ERROR_MOST]
            error = {"type": kind, "message": message[:ERROR_MOST], "traceback": traceback[-ERROR_MOST:]}
        return {
            "attempt": self.number,
            "outcome": self.outcome,
            "retcode": self.retcode,
            "signal": self.signal or None,
            "error": error,
            "generation": self.generation,
            "worker": self.worker,
            "pid": self.pid or None,
            "started_at": self.started_at or None,
            "ended_at": self.ended_at or None,
            "cpu": self.cpu,
            "max_rss": self.max_rss,
            **({"log_from": self.log_from} if self.log_from else {}),
        }


@dataclass(slots=True)
class Run:
    """One execution of an order, from the moment it is accepted: all its attempts."""

    key: str
    order: Order = _NOTHING
    attempt: Attempt = field(default_factory=Attempt)
    """The one it is at, or waits for, or ended with."""
    earlier: tuple[dict[str, Any], ...] = ()
    """The attempts before it (``Attempt.kept``), the oldest first; at most EARLIER_MOST."""
    state: str = WAITING
    pool: str = ""
    """Whose workers it waits for: the order's, as long as the configuration has that pool."""
    sequence: int = 0
    """Order of arrival."""
    not_before: float = 0.0
    """CLOCK_MONOTONIC seconds at which its delay is over; 0 for none."""
    start_by: float = 0.0
    """CLOCK_MONOTONIC seconds at which it is given up if it has not begun; 0 for never."""
    log_cut: int = 0
    """Bytes of output that were not kept because of the size limit."""
    weight: int = 0
    """Bytes of JSON that its params have; 0 where a version that did not count them has taken it."""
    behind: bool = False
    """Whether the journal does not know it yet: see ``master.behind``."""
    rev: int = 0
    """Grows with every change that the journal has to keep."""

    def next_attempt(self) -> None:
        """Begin another attempt, and keep what is to be known of this one."""
        last = self.attempt
        self.earlier = (*self.earlier, last.kept())[-EARLIER_MOST:]
        self.attempt = Attempt(last.number + 1, last.generation)

    def was_at(self, worker: int) -> bool:
        """Whether this worker was ever given the run. Where attempts are not known any longer, it may have been."""
        if worker == self.attempt.worker or len(self.earlier) < self.attempt.number - 1:
            return True
        return any(past["worker"] == worker for past in self.earlier)

    @property
    def params(self) -> Any:
        """The parameters, wherever they are. Raises JournalError where they are in the journal, and it cannot be read."""
        params = self.order.params
        return params.read() if type(params) is Elsewhere else params

    def keep_params(self, params: Any) -> None:
        """From now on they are there: ``Elsewhere``, or here again."""
        self.order = self.order._replace(params=params)

    @property
    def output(self) -> str:
        """Where its output is now."""
        spool = self.attempt.spool
        return spool if spool and self.state == RUNNING else self.order.log

    def dump(self) -> dict[str, Any]:
        """Plain data with the defaults left out: missing keys are defaulted when it is read back."""
        order = self.order if type(self.order.params) is not Elsewhere else self.order._replace(params=self.params)
        values = (*order, *_of_attempt(self.attempt), *_of_run(self))
        return {name: value for (name, default), value in zip(_ROW, values, strict=True) if value != default}

    @classmethod
    def load(cls, data: dict[str, Any]) -> Run:
        """The run that ``dump`` wrote, by this version or another: unknown keys are ignored."""
        order = Order(**{name: data[name] for name in Order._fields if name in data})
        if order.after:
            order = order._replace(after=tuple(order.after))
        attempt = Attempt(**{name: data[key] for key, name in _ATTEMPT.items() if key in data})
        own = {name: data[key] for key, name in _RUN.items() if key in data}
        own["earlier"] = tuple({**_NO_ATTEMPT, **past} for past in own.get("earlier", ()))
        return cls(order=order, attempt=attempt, **own)

    def returned(self) -> dict[str, Any]:
        """What a caller who waited for its value sees, once it has ended well."""
        last = self.attempt
        dropped = {"result_dropped": last.result_dropped} if last.result_dropped else {}
        return {"result": last.result, "key": self.key, **dropped}

    def failure(self) -> dict[str, Any]:
        """The same, once it has ended in any other way."""
        last = self.attempt
        message = f"the run {last.outcome}, retcode {last.retcode}"
        error = last.error or {"type": last.outcome, "message": message, "traceback": ""}
        return {**error, "key": self.key, "outcome": last.outcome, "retcode": last.retcode, "signal": last.signal or None}

    def record(self) -> dict[str, Any]:
        """What callers see."""
        order, last = self.order, self.attempt
        return {
            "key": self.key,
            "app": order.app,
            "target": order.name,
            "params": self.params,
            "state": self.state,
            "outcome": last.outcome or None,
            "retcode": last.retcode,
            "signal": last.signal or None,
            "reason": last.outcome if last.outcome in REASONS else None,
            "result": last.result,
            "result_dropped": last.result_dropped or None,
            "error": last.error,
            "progress": last.progress,
            "attempt": last.number,
            "attempts": self.earlier,
            "generation": last.generation,
            "revision": last.revision or None,
            "pid": last.pid or None,
            "priority": order.priority,
            "labels": order.labels,
            "submitted_at": order.submitted_at,
            "started_at": last.started_at or None,
            "answered_at": last.answered_at or None,
            "ended_at": last.ended_at or None,
            "cpu": last.cpu,
            "max_rss": last.max_rss,
            "log": order.log or None,
            **({"tick": order.tick} if order.tick else {}),
            **({"debug": True} if last.debug else {}),
            **({"eta": order.eta} if order.eta else {}),
            **({"traceparent": order.traceparent} if order.traceparent else {}),
            **({"after": list(order.after)} if order.after else {}),
        }


_NO_ATTEMPT = Attempt().kept()
_ATTEMPT = {"attempt" if item.name == "number" else item.name: item.name for item in fields(Attempt)}
"""Key in the journal's row -> attribute."""
_RUN = {"attempts" if name == "earlier" else name: name for name in Run.__dataclass_fields__ if name not in ("order", "attempt")}
_ROW = (
    *Order._field_defaults.items(),
    *zip(_ATTEMPT, (item.default for item in fields(Attempt)), strict=True),
    *zip(_RUN, (item.default for item in fields(Run) if item.name in _RUN.values()), strict=True),
)
"""Every key of the row with its default, in the order in which ``dump`` lines the values up."""
_of_attempt = attrgetter(*_ATTEMPT.values())
_of_run = attrgetter(*_RUN.values())
ROW_TYPES: dict[str, str] = {
    **{name: str(getattr(kind, "__forward_arg__", kind)) for name, kind in Order.__annotations__.items()},
    **{key: str(Attempt.__annotations__[name]) for key, name in _ATTEMPT.items()},
    **{key: str(Run.__annotations__[name]) for key, name in _RUN.items()},
}
"""Every key of the row with the annotation of its type."""
