"""What an application imports: ``job`` declares one, ``current`` is the run that is going on, hooks surround forks and jobs.

What must live here: the declaration (kept on the function itself, which stays callable as it was) and the run's view of itself.
What this file must not know: processes, channels, the master. And it must import next to nothing: every application pays for it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar, overload

from rocksyd import options, ticks
from rocksyd.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

Target = TypeVar("Target")

MARK = "__rocksyd_job__"
"""Attribute of a declared job: its settings, checked, durations in seconds."""
SCRIPT_MARK = "__rocksyd_script__"
"""Attribute of a declared job that is a script: what was said of its schedule, and ``at``, the file and line of that."""
PROGRESS_INTERVAL = 0.1
"""Seconds between two PROGRESS messages of one run at least; what is said in between is kept and replaced by what comes later."""


# --- declaring --------------------------------------------------------------------------------------------------------
@overload
def job(target: Target, /) -> Target: ...
@overload
def job(**settings: Any) -> Callable[[Target], Target]: ...
def job(target: Any = None, /, **settings: Any) -> Any:
    """Declare a function (``def`` or ``async def``) or a class with a ``run`` method as a job; it stays what it was.

    Use it bare (``@job``) or with settings (``@job(timeout="10m", max_running=1)``): ``name``, ``timeout``, ``retries``, ``pool``
    and more, all optional. The Python reference of the manual lists them with their defaults; a wrong one is told when the module
    is imported.

    ``cron="0 3 * * *"`` or ``every="5m"`` make it a script of the job's name: it is run at these times, as ``[scripts.NAME]`` in
    ``rocksyd.toml`` would have it. With them go timezone, misfire, overlap and the other settings of that table that no job has
    itself. What is wrong with them refuses the start or restart that brings the code.

    What ``rocksyd.toml`` says of the same target, or of a script of the same name, wins.

    Raises:
        JobError: a setting is unknown or wrong; the message names the job and the setting.
    """
    if target is None:
        script: dict[str, Any] = {name: settings.pop(name) for name in options.SCHEDULE if name in settings}
        if script:
            script["at"] = _place()
        return lambda declared: _declare(declared, settings, script)
    if isinstance(target, str):
        raise JobError(f"@job({target!r}) is not understood: write @job or @job(name={target!r})")
    return _declare(target, settings, {})


def _place() -> str:
    """The file and line of whoever declares a job."""
    import sys  # noqa: PLC0415  (only who declares a schedule is asked where)

    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _declare(target: Any, settings: dict[str, Any], script: dict[str, Any]) -> Any:
    name = getattr(target, "__qualname__", None) or repr(target)
    if not callable(target):
        raise JobError(f"@job on {name}: only a function or a class with a run method can be a job")
    if isinstance(target, type) and not callable(getattr(target, "run", None)):
        raise JobError(f"@job on class {name}: it has no run method; write `def run(self, params)`")
    if _makes_generators(target):
        raise JobError(f"@job on {name}: it {GENERATOR}")
    checked = {key: _checked(name, key, value) for key, value in settings.items()}
    try:
        setattr(target, MARK, checked)
        if script:
            setattr(target, SCRIPT_MARK, script)
    except (AttributeError, TypeError) as error:
        raise JobError(f"@job on {name}: a {type(target).__name__} cannot be marked; wrap it in a function") from error
    return target


GENERATOR = "is a generator (there is a `yield` in it), and nothing would run its body: return a list, or call it from the job"


def _makes_generators(target: Any) -> bool:
    function: Any = getattr(target, "run", None) if isinstance(target, type) else target
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    return bool(flags & (0x20 | 0x200))  # CO_GENERATOR, CO_ASYNC_GENERATOR: ``inspect`` would cost every application its import


def _checked(name: str, key: str, value: Any) -> Any:
    option = options.BY_NAME.get(key)
    if option is None or not option.scope & options.JOB:
        known = ", ".join(sorted(one.name for one in options.said_in(options.JOB)))
        schedule = ", ".join(options.SCHEDULE)
        raise JobError(f"@job on {name}: there is no setting {key!r} (there are: {known}); for a schedule there are: {schedule}")
    try:
        return option.form.convert(value)
    except ValueError as error:
        raise JobError(f"@job on {name}: {key}={value!r} is wrong: {error}") from error


def settings_of(target: Any) -> dict[str, Any] | None:
    """The settings that ``job`` was given for ``target``, or None when it is no declared job.

    A class inherits its base's attributes, but not its being a job: each is declared for itself.
    """
    try:
        found = target.__dict__.get(MARK) if isinstance(target, type) else getattr(target, MARK, None)
    except Exception:  # noqa: BLE001  (a proxy of what is not there yet, such as flask.current_app, raises whatever it likes)
        return None
    return found if isinstance(found, dict) else None


def script_of(target: Any) -> dict[str, Any] | None:
    """What ``job`` was told of the schedule of ``target``, or None where it was told none. As ``settings_of``, not inherited."""
    if settings_of(target) is None:
        return None
    found = target.__dict__.get(SCRIPT_MARK) if isinstance(target, type) else getattr(target, SCRIPT_MARK, None)
    return found if isinstance(found, dict) else None


# --- the run going on -------------------------------------------------------------------------------------------------
MOST_NAME, MOST_VALUE = 64, 1e300
"""Characters of a gauge's name, and its value at most."""
_OF_NAMES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class Current:
    """The run that this process is at. Get it by ``current()``."""

    __slots__ = (
        "_answer",
        "_gauges",
        "_pending",
        "_records",
        "_said_at",
        "_say",
        "_stopping",
        "_tick",
        "_watching",
        "after",
        "answered",
        "attempt",
        "deadline",
        "key",
        "request_id",
        "traceparent",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913  (what the worker knows of the run, said once)
        self,
        key: str,
        attempt: int = 1,
        deadline: float = 0.0,
        say: Callable[..., None] | None = None,
        answer: Callable[[Any], None] | None = None,
        *,
        told: bool = False,
        tick: dict[str, Any] | None = None,
        after: tuple[str, ...] = (),
        records: Callable[[tuple[str, ...]], Iterator[dict[str, Any]]] | None = None,
        traceparent: str = "",
    ) -> None:
        self.key = key
        """The run's key."""
        self.request_id = ""
        """Of the request that is answered here, or while which this run was ordered; "" for none."""
        self.attempt = attempt
        """1, and one more for each retry."""
        self.deadline = deadline
        """CLOCK_MONOTONIC seconds (``time.monotonic()``) at which the run is timed out; 0 for never."""
        self.answered = False
        """Whether ``finish`` has been called."""
        self.after = tuple(after)
        """Keys of the runs that this one has come after."""
        self.traceparent = traceparent
        """The span of whoever ordered the run, as W3C's trace context writes it; "" for none."""
        self._records = records
        self._tick = tick
        self._say = say
        self._answer = answer
        self._said_at = float("-inf")
        self._pending: tuple[float | None, float | None, str] | None = None
        self._gauges: dict[str, float] = {}
        self._stopping = False
        self._watching = told  # then the worker says when it is to stop, and no signal does

    @property
    def script(self) -> str:
        """The script whose run it is; "" for a run that belongs to no schedule."""
        return self._tick["script"] if self._tick else ""

    @property
    def tick(self) -> datetime | None:
        """The nominal time of the script's run, in UTC: what was due then, however late it is. None outside of a schedule."""
        return ticks.moment(self._tick) if self._tick else None

    @property
    def job(self) -> Any:
        """Of a job of a script's list: its data, of a range its number. None for any other run."""
        return self._tick.get("job") if self._tick else None

    @property
    def index(self) -> int | None:
        """Of a job of a script's list: which it is, from 0. None for any other run."""
        return self._tick.get("n") if self._tick else None

    @property
    def total(self) -> int | None:
        """Of a job of a script's list: how many jobs there were when it was ordered. None for any other run."""
        return self._tick.get("total") if self._tick else None

    @property
    def generation(self) -> Any:
        """Of a job of a script's list, and of the hooks around them: what can be asked of the list and added to it
        (``client.Generation``). None for any other run."""
        key = ticks.generation_of(self.key, self._tick)
        return _client().Generation(key) if key else None

    def predecessors(self) -> Iterator[dict[str, Any]]:
        """The records of the runs that this one has come after, in the order of ``after``, read some at a time.

        Raises:
            NotFound: one of them was freed, or is forgotten.
            NoDaemon: the daemon is not found, or does not answer (``rocksyd.Client``).
        """
        if self._records is None:
            self._records = _client().predecessors
        return self._records(self.after)

    def results(self) -> Iterator[Any]:
        """What those runs returned, in the same order, read some at a time; None for one that did not end well.

        Raises what ``predecessors`` raises; JobError for a result that was not kept.
        """
        for record in self.predecessors():
            if record.get("result_dropped"):
                raise JobError(f"the result of run {record['key']} was not kept: {record['result_dropped']}")
            yield record["result"]

    def progress(self, done: float | None = None, total: float | None = None, note: str = "") -> None:
        """Tell how far the run is. Call it as often as you like: it never blocks, and at most one message in 0.1 s goes out.

        What is said in between is kept; the latest goes out with the next call after that time, or with the result.
        """
        self._pending = (done, total, note)
        now = time.monotonic()
        if now - self._said_at >= PROGRESS_INTERVAL:
            self._said_at = now
            self.flush()

    def gauge(self, name: Any, value: Any) -> None:
        """See ``rocksyd.gauge``."""
        if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME or not set(name) <= _OF_NAMES:
            raise JobError(f"expected a name of 1 to {MOST_NAME} of a-z A-Z 0-9 _ . - for a gauge, got {name!r}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MOST_VALUE:
            raise JobError(f"expected a number for the gauge {name}, between -{MOST_VALUE:g} and {MOST_VALUE:g}, got {value!r}")
        self._gauges[name] = value
        now = time.monotonic()
        if now - self._said_at >= PROGRESS_INTERVAL:
            self._said_at = now
            self.flush()

    def finish(self, value: Any = None) -> None:
        """Answer whoever called with ``value`` now, and go on working: php-fpm's ``fastcgi_finish_request()``.

        ``value`` is the run's result, whatever the job returns or raises afterwards; the run itself ends when the job does,
        its limits hold until then, and it is not tried again. Needed once, in the process that the run was given to.

        Raises:
            JobError: the run has been answered already, or has ended, or this process is not the run's.
        """
        if self.answered:
            raise JobError(f"run {self.key} has been answered already: finish() can be called once")
        if self._answer is None:
            raise JobError(f"run {self.key} cannot be answered any more: it has ended")
        self._answer(value)
        self.answered = True

    def flush(self) -> None:
        """Send the latest progress, and the latest gauges, now, if they have not gone out yet."""
        if (self._pending is not None or self._gauges) and self._say is not None:
            said, self._pending = self._pending or (None, None, ""), None
            gauges, self._gauges = self._gauges, {}
            self._say(*said, *([gauges] if gauges else []))

    def close(self) -> None:
        """Send what is pending; nothing more is said (threads that outlive the run are not heard)."""
        self.flush()
        self._say = self._answer = None

    @property
    def stopping(self) -> bool:
        """True once the run was asked to stop (TERM), so that it may end in an orderly way within its grace.

        The first read, which must be in the main thread, installs the handler of SIGTERM that sets this; before it, TERM
        kills the run at once, as any process. A handler of SIGTERM that the job installed itself is left alone. Note that
        ``time.sleep`` is not cut short by it: sleep in short steps.
        """
        if not self._watching:
            self._watch()
        return self._stopping

    def _watch(self) -> None:
        import signal  # noqa: PLC0415  (loaded in every worker anyway)
        import threading  # noqa: PLC0415

        if threading.current_thread() is not threading.main_thread():
            return
        self._watching = True
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def stop(self) -> None:
        """Make ``stopping`` true without a signal. For workers in which several runs are going on."""
        self._stopping = self._watching = True

    def __repr__(self) -> str:
        return f"<run {self.key} attempt {self.attempt}>"


def _client() -> Any:
    """The package ``rocksyd.client``, for the few jobs that ask the daemon something: no other pays for it (see ``rocksyd``)."""
    import importlib  # noqa: PLC0415

    return importlib.import_module("rocksyd.client")


_current: Current | None = None
# A module's global and not a contextvar: a job's threads do not inherit context, and most workers run one job at a time.
_find: Callable[[], Current | None] | None = None
# Where several are going on: whose code this is.


def current() -> Current:
    """The run that this process is at.

    Raises:
        JobError: no run is going on in this process.
    """
    run = _current if _find is None else _find()
    if run is None:
        raise JobError(
            "current() works only inside a run of rocksyd: this code runs outside of one"
            " (called directly, at import time, or in a process started by another means)"
        )
    return run


def request_id() -> str:
    """The id of the request that this code answers, or that its run comes from; "" for none."""
    run = _current if _find is None else _find()
    return run.request_id if run is not None else ""


def gauge(name: str, value: float) -> None:
    """Say a number of the application's own: ``rocksyd.gauge("users_count", 1234)``. ``stats`` shows the last one.

    It is kept by application and name, over restarts, too. Call it in a run, as often as you like: at most one message in 0.1 s
    goes out, and what was said last with the result.

    Raises:
        JobError: no run is going on in this process; the name is not 1 to 64 of ``a-z A-Z 0-9 _ . -``; the value is no number.
    """
    current().gauge(name, value)


def find_current_by(find: Callable[[], Current | None]) -> None:
    """Let ``current()`` ask ``find``. For workers in which several runs are going on."""
    global _find
    _find = find


def set_current(run: Current | None) -> None:
    """Make ``run`` the one that ``current()`` gives. For workers, and for tests of jobs."""
    global _current
    _current = run


# --- around forks and jobs --------------------------------------------------------------------------------------------
before_fork_hooks: list[Callable[[], object]] = []
after_fork_hooks: list[Callable[[], object]] = []
before_job_hooks: list[Callable[[], object]] = []
after_job_hooks: list[Callable[[], object]] = []


def before_fork(hook: Target) -> Target:
    """Call ``hook()`` once in the loaded application before the first fork: to close what workers must not share.

    It runs after everything was imported and before threads and sockets are looked for. An exception makes loading fail. With
    ``refork_after`` it is called again in a worker that others are to be forked from.
    """
    before_fork_hooks.append(hook)  # type: ignore[arg-type]
    return hook


def after_fork(hook: Target) -> Target:
    """Call ``hook()`` in each worker right after its fork, before its first job: to start threads, to open connections.

    An exception ends the worker before it runs anything. (``os.register_at_fork`` hooks run by themselves, too, but also
    in every process that a job itself forks.)
    """
    after_fork_hooks.append(hook)  # type: ignore[arg-type]
    return hook


def before_job(hook: Target) -> Target:
    """Call ``hook()`` in the worker before every job's code, in the order in which hooks were declared.

    ``current()`` is the run, standard output is the run's, folder and environment are set. An exception fails the run as one
    of the job's own would, and neither the hooks after it nor the job are called.
    """
    before_job_hooks.append(hook)  # type: ignore[arg-type]
    return hook


def after_job(hook: Target) -> Target:
    """Call ``hook()`` in the worker after every job, failed or not, the hook declared last first; its time is the run's.

    It is called when ``before_job`` hooks were begun, whatever became of them; not when the process was killed or left by
    ``os._exit``. An exception is printed into the run's output and changes nothing: the job has had its result.
    """
    after_job_hooks.append(hook)  # type: ignore[arg-type]
    return hook
