"""What an application imports: ``job`` declares one, ``current`` is the run that is going on, hooks surround forks and jobs.

What must live here: the declaration (kept on the function itself, which stays callable as it was) and the run's view of itself.
What this file must not know: processes, channels, the master. And it must import next to nothing: every application pays for it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar, overload

from rocksyd.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Callable

Target = TypeVar("Target")

MARK = "__rocksyd_job__"
"""Attribute of a declared job: its settings, checked, durations in seconds."""
PROGRESS_INTERVAL = 0.1
"""Seconds between two PROGRESS messages of one run at least; what is said in between is kept and replaced by what comes later."""


# --- declaring --------------------------------------------------------------------------------------------------------
@overload
def job(target: Target, /) -> Target: ...
@overload
def job(**settings: Any) -> Callable[[Target], Target]: ...
def job(target: Any = None, /, **settings: Any) -> Any:
    """Declare a function (``def`` or ``async def``) or a class with a ``run`` method as a job; it stays what it was.

    Use it bare (``@job``) or with settings (``@job(timeout="10m", max_running=1)``). The settings, all optional:

    name: the short name that callers use; the function's own name if left out.
    timeout: seconds or ``"10m"``; how long a run may take, 0 for no limit.
    grace: seconds or ``"10s"`` between TERM and KILL.
    start_within: seconds or ``"1h"``; a run that has not begun by then is not worth beginning, 0 for no limit.
    slow_after: seconds or ``"30s"``; the stacks of a run that takes longer are written down, 0 for never.
    max_running: runs of this job at the same time, 0 for no limit.
    max_running_per_key: runs of this job with the same ``concurrency_key`` at the same time; 1 if left out.
    retries: how often a failed run is tried again.
    priority: among those that wait the highest goes first.
    pool: which of the application's ``pools`` it runs in, its own one if left out.

    What ``rocksyd.toml`` says of the same target wins.

    Raises:
        JobError: a setting is unknown or wrong; the message names the job and the setting.
    """
    if target is None:
        return lambda declared: _declare(declared, settings)
    if isinstance(target, str):
        raise JobError(f"@job({target!r}) is not understood: write @job or @job(name={target!r})")
    return _declare(target, settings)


def _declare(target: Any, settings: dict[str, Any]) -> Any:
    name = getattr(target, "__qualname__", None) or repr(target)
    if not callable(target):
        raise JobError(f"@job on {name}: only a function or a class with a run method can be a job")
    if isinstance(target, type) and not callable(getattr(target, "run", None)):
        raise JobError(f"@job on class {name}: it has no run method; write `def run(self, params)`")
    checked = {key: _checked(name, key, value) for key, value in settings.items()}
    try:
        setattr(target, MARK, checked)
    except (AttributeError, TypeError) as error:
        raise JobError(f"@job on {name}: a {type(target).__name__} cannot be marked; wrap it in a function") from error
    return target


def _checked(name: str, key: str, value: Any) -> Any:
    check = _CHECKS.get(key)
    if check is None:
        raise JobError(f"@job on {name}: there is no setting {key!r} (there are: {', '.join(sorted(_CHECKS))})")
    try:
        return check(value)
    except ValueError as error:
        raise JobError(f"@job on {name}: {key}={value!r} is wrong: {error}") from error


def _duration(value: Any) -> float:
    from rocksyd.units import parse_duration  # noqa: PLC0415  (only declarations with durations need it)

    return parse_duration(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("expected a whole number of zero or more")
    return value


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("expected a whole number")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value or ":" in value or not value.isprintable() or " " in value:
        raise ValueError("expected a name without spaces and colons")
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": _name,
    "timeout": _duration,
    "grace": _duration,
    "start_within": _duration,
    "slow_after": _duration,
    "max_running": _count,
    "max_running_per_key": _count,
    "retries": _count,
    "priority": _number,
    "pool": _name,
}


def settings_of(target: Any) -> dict[str, Any] | None:
    """The settings that ``job`` was given for ``target``, or None when it is no declared job.

    A class inherits its base's attributes, but not its being a job: each is declared for itself.
    """
    try:
        found = target.__dict__.get(MARK) if isinstance(target, type) else getattr(target, MARK, None)
    except Exception:  # noqa: BLE001  (a proxy of what is not there yet, such as flask.current_app, raises whatever it likes)
        return None
    return found if isinstance(found, dict) else None


# --- the run going on -------------------------------------------------------------------------------------------------
class Current:
    """The run that this process is at. Get it by ``current()``."""

    __slots__ = ("_answer", "_pending", "_said_at", "_say", "_stopping", "_watching", "answered", "attempt", "deadline", "key")

    def __init__(
        self,
        key: str,
        attempt: int = 1,
        deadline: float = 0.0,
        say: Callable[..., None] | None = None,
        answer: Callable[[Any], None] | None = None,
        *,
        told: bool = False,
    ) -> None:
        self.key = key
        """The run's key."""
        self.attempt = attempt
        """1, and one more for each retry."""
        self.deadline = deadline
        """CLOCK_MONOTONIC seconds (``time.monotonic()``) at which the run is timed out; 0 for never."""
        self.answered = False
        """Whether ``finish`` has been called."""
        self._say = say
        self._answer = answer
        self._said_at = float("-inf")
        self._pending: tuple[float | None, float | None, str] | None = None
        self._stopping = False
        self._watching = told  # then the worker says when it is to stop, and no signal does

    def progress(self, done: float | None = None, total: float | None = None, note: str = "") -> None:
        """Tell how far the run is. Call it as often as you like: it never blocks, and at most one message in 0.1 s goes out.

        What is said in between is kept; the latest goes out with the next call after that time, or with the result.
        """
        self._pending = (done, total, note)
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
        """Send the latest progress now, if it has not gone out yet."""
        if self._pending is not None and self._say is not None:
            said, self._pending = self._pending, None
            self._say(*said)

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
