"""From LOAD to a process that is ready to be forked, or to the reason why it never will be.

What must live here: the order of loading, and what each failure is called. What this file must not know: the channel.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

from rocksyd import messages
from rocksyd.errors import JobError, RocksydError
from rocksyd.jobs import before_fork_hooks
from rocksyd.worker import deadline, inherited, output, stacks, values
from rocksyd.worker.context import Context
from rocksyd.worker.identity import Identity, become
from rocksyd.worker.integrations import registry
from rocksyd.worker.target import import_module, load
from rocksyd.zygote import groups, hugepages, pools, privileges, safety, smoke
from rocksyd.zygote.discovery import Offer

NOTICED = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that mean something to the service's own process, and nothing to a zygote that gets them, too."""


class LoadFailed(Exception):
    """The application cannot be loaded: ``reason`` in a sentence, ``traceback`` as Python prints it ("" for none)."""

    def __init__(self, reason: str, traceback: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.traceback = traceback


class Loaded(NamedTuple):
    """An application that can be forked."""

    ready: messages.Ready
    context: Context
    pools: dict[str, Context]
    """By pool id; a pool that is not in it has ``context``."""
    groups: groups.Groups
    """Control groups of workers."""
    left: list[safety.Left]
    """Threads and sockets, where ``unsafe`` lets them pass."""


class Observer:
    """Told how loading goes. A zygote has none; ``rocksyd doctor`` measures at these moments."""

    def begins(self, step: str) -> None:
        """The next step; what there is at the end belongs to the last one."""

    def loaded(self) -> None:
        """Every step is done, nothing is frozen yet."""

    def frozen(self) -> None:
        """As it will be forked, but not yet in huge pages."""


def load_application(order: messages.Load, observer: Observer | None = None) -> Loaded:
    """Import what ``order`` names and make this process fit for forking.

    Raises:
        LoadFailed: it cannot be; nothing else is raised.
    """
    began = time.monotonic()
    pid = os.getpid()
    observer = observer or Observer()
    with failing("the application's settings", pid):
        limits = privileges.limits(order.settings.get("rlimits") or {})
        own = _enter(order)
        if order.settings.get("huge_pages", True):
            hugepages.gather()
        # Collections during the imports would only write to objects that are here to stay.
        gc.disable()
        watch = safety.Watch()
    offer = Offer()
    try:
        _run_steps(_steps(order, offer), watch, observer, pid)
        observer.loaded()
        problems, leftover = watch.problems(), watch.children_left()
    finally:
        watch.close()
    if problems and order.settings.get("unsafe", "refuse") != "warn":
        raise LoadFailed("; ".join(map(str, problems)) + ". " + safety.CURE)
    with failing("the application", pid):
        context = _settle(order, offer, limits, observer)
        if order.settings.get("smoke"):
            _smoke(str(order.settings["smoke"]), context)
        ready = _ready(
            order,
            offer,
            began,
            [*offer.warnings, *map(str, problems), *leftover, *groups.in_vain(own, order.settings.get("pools") or {})],
        )
        contexts = pools.contexts(context, order.settings.get("pools") or {})
    return Loaded(ready, context, contexts, left=problems, groups=own)


# --- before the imports ---------------------------------------------------------------------------------------------------
def _enter(order: messages.Load) -> groups.Groups:
    for number in NOTICED:
        signal.signal(number, ignore)
    whom = privileges.identity(str(order.settings.get("user") or ""), str(order.settings.get("group") or ""))
    own = _groups(order, whom)
    if whom is not None:
        become(whom)
        os.environ.update(whom.env)
    os.environ.update(order.env)
    if order.settings.get("umask") is not None:
        os.umask(int(order.settings["umask"]))
    try:
        os.chdir(order.path)
    except OSError as error:
        raise LoadFailed(f"the application's folder {order.path} cannot be entered: {error.strerror}") from error
    sys.path.insert(0, order.path)
    sys.argv[:] = ["rocksyd"]
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:
        os.close(null)
    output.prepare()
    return own


def _groups(order: messages.Load, whom: Identity | None) -> groups.Groups:
    """Control groups for the workers, while this process may still make them. Without them they are limited less, and run."""
    root = str(order.settings.get("cgroup") or "")
    if not root:
        return groups.Groups()
    try:
        return groups.prepare(root, f"{order.app}@{order.generation}", (whom.uid, whom.gid) if whom is not None else None)
    except OSError as error:
        output.note(f"application {order.app}: its workers have no control groups: {error}")
        return groups.Groups()


def ignore(_number: int, _frame: object) -> None:
    """A handler that does nothing. Unlike SIG_IGN it is not inherited by the programs that the application starts."""


# --- the imports ----------------------------------------------------------------------------------------------------------
def _run_steps(steps: Iterator[tuple[str, Callable[[], object]]], watch: safety.Watch, observer: Observer, pid: int) -> None:
    for step, act in steps:
        observer.begins(step)
        with failing(step, pid):
            act()
        watch.mark(step)
    for step, act in before_fork_steps():
        observer.begins(step)
        with failing(step, pid, "failed"):
            act()
        watch.mark(step)


def before_fork_steps() -> Iterator[tuple[str, Callable[[], object]]]:
    """(name, what is to be done) so that workers do not share what they must not: the application's hooks, then libraries."""
    for hook in before_fork_hooks:
        yield f"before_fork hook {getattr(hook, '__module__', '?')}:{getattr(hook, '__qualname__', hook)}", hook
    for library, close in registry.steps_before_fork():
        yield f"making {library} fit for forks", close


def _steps(order: messages.Load, offer: Offer) -> Iterator[tuple[str, Callable[[], object]]]:
    for entry in order.preload:
        yield f"preload entry {entry!r}", lambda entry=entry: _preload(entry)  # type: ignore[misc]
    for entry in order.jobs:
        yield f"jobs module {entry!r}", lambda entry=entry: offer.add_module(entry)  # type: ignore[misc]
    for entry in order.allow:
        yield f"allow pattern {entry!r}", lambda entry=entry: offer.add_pattern(entry)  # type: ignore[misc]


def _preload(entry: str) -> None:
    if ":" not in entry:
        import_module(entry)
        return
    found = load(entry)
    if not callable(found):
        raise JobError(f"{entry!r} names a {type(found).__name__}, which cannot be called; a module alone has no colon")
    found()


class failing:  # noqa: N801  (reads as a statement)
    """Turns whatever a step raises into LoadFailed, and ends a process that the step has forked and let come back."""

    def __init__(self, step: str, pid: int, what: str = "cannot be loaded") -> None:
        self._step = step
        self._pid = pid
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if os.getpid() != self._pid:
            _end_stray(error)
        if error is None or isinstance(error, LoadFailed):
            return
        raise LoadFailed(f"{self._step} {_cause(error, self._what)}", values.traceback_of(error)) from error


def _end_stray(error: BaseException | None) -> NoReturn:
    """A child that the application forked while it was loaded must not become a second zygote."""
    if error is not None and not isinstance(error, SystemExit):
        output.write(values.traceback_of(error))
    output.flush()
    status = error.code if isinstance(error, SystemExit) else 0 if error is None else 1
    os._exit(status & 0xFF if isinstance(status, int) else 0 if status is None else 1)


def _cause(error: BaseException, what: str) -> str:
    if isinstance(error, SystemExit):
        return f"called sys.exit({error.code!r}): what is loaded must return"
    if isinstance(error, SyntaxError):
        return f"{what}: {type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    if isinstance(error, RocksydError):
        return f"{what}: {error}"
    described = values.described(error)
    return f"{what}: {described['type']}: {described['message']}"


# --- after the imports ----------------------------------------------------------------------------------------------------
def _settle(order: messages.Load, offer: Offer, limits: tuple[tuple[int, tuple[int, int]], ...], observer: Observer) -> Context:
    if any(plan.is_async for plan in offer.plans.values()):
        import asyncio  # noqa: F401, PLC0415  (so that no worker has to)
    os.chdir(order.path)
    umask = os.umask(0o022)
    os.umask(umask)
    score = order.settings.get("oom_score_adj")
    # Python 3.12 warns of forks beside threads; an application that makes warnings errors would turn that into a lost worker.
    warnings.filterwarnings("ignore", message=r".*use of fork\(\) may lead to deadlocks", category=DeprecationWarning)
    output.flush()
    inherited.prepare()
    registry.prepare()
    if order.settings.get("signals"):
        deadline.prepare()
        stacks.prepare()
    # No gc.collect() before: the holes it leaves among the frozen objects are what children would write into and copy.
    gc.freeze()
    observer.frozen()
    if order.settings.get("huge_pages", True):
        hugepages.collapse()
    return Context(
        app=order.app,
        cwd=order.path,
        env=dict(os.environ),
        umask=umask,
        plans=offer.plans,
        oom_score_adj=int(score) if score is not None else None,
        limits=(privileges.raise_open_files(), *limits),
    )


def _smoke(entry: str, context: Context) -> None:
    failure = smoke.failure_of(entry, context)
    if failure is not None:
        raise LoadFailed(f"the smoke check {entry!r} {failure.reason}", failure.traceback)


def _ready(order: messages.Load, offer: Offer, began: float, found: list[str]) -> messages.Ready:
    memory = hugepages.memory()
    return messages.Ready(
        app=order.app,
        generation=order.generation,
        pid=os.getpid(),
        jobs=offer.jobs,
        allowed=tuple(offer.allowed),
        open_patterns=tuple(offer.open_patterns),
        seconds=round(time.monotonic() - began, 6),
        memory=memory.resident,
        huge=memory.huge,
        warnings=tuple(found),
    )
