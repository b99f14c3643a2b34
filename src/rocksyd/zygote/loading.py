"""From LOAD to a process that is ready to be forked, or to the reason why it never will be.

What must live here: the order of loading, and what each failure is called. What this file must not know: the channel.
"""

from __future__ import annotations

import gc
import itertools
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
from rocksyd.kinds import SERVICE, WEB
from rocksyd.worker import deadline, inherited, output, results, stacks, tracing
from rocksyd.worker.context import Context
from rocksyd.worker.identity import Identity, become
from rocksyd.worker.integrations import registry
from rocksyd.worker.target import import_module, load
from rocksyd.zygote import contexts, groups, hugepages, lazy, privileges, safety, smoke
from rocksyd.zygote.discovery import Offer
from rocksyd.zygote.revision import GIT
from rocksyd.zygote.revision import revision as read_revision

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
    announced: list[lazy.Made]
    """Imports that were made because no worker is to make them."""


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
        before = _enter(order)
        revision, unclear = read_revision(str(order.settings.get("revision", GIT)), before.folder)
        inherited.watch()
        if order.settings.get("huge_pages", True):
            hugepages.gather()
        # Collections during the imports would only write to objects that are here to stay.
        gc.disable()
        watch = safety.Watch()
    offer, made = Offer(), list[lazy.Made]()
    try:
        _run_steps(itertools.chain(_steps(order, offer), lazy.steps(made)), watch, observer, pid)
        observer.loaded()
        problems, leftover = watch.problems(), watch.children_left()
    finally:
        watch.close()
    if problems and order.settings.get("unsafe", "refuse") != "warn":
        raise LoadFailed("; ".join(map(str, problems)) + ". " + safety.CURE)
    with failing("the application", pid):
        context = _settle(order, offer, before, observer)
        if order.settings.get("smoke"):
            _smoke(str(order.settings["smoke"]), context)
        ready = _ready(
            order,
            offer,
            began,
            [
                *offer.warnings,
                *filter(None, [unclear]),
                *map(str, problems),
                *leftover,
                *(str(one) for one in made if one.failure),
                *groups.in_vain(before.groups, order.settings.get("pools") or {}),
            ],
        )
        pools = contexts.of_pools(context, order.settings.get("pools") or {})
    ready = ready._replace(revision=revision)
    return Loaded(ready, context, pools, left=problems, groups=before.groups, announced=made)


# --- before the imports ---------------------------------------------------------------------------------------------------
class _Before(NamedTuple):
    """What is known before anything of the application is imported."""

    groups: groups.Groups
    limits: tuple[tuple[int, tuple[int, int]], ...]
    folder: str
    """The application's, without symbolic links."""
    variables: frozenset[str]
    """Names of the environment variables there are."""


def _enter(order: messages.Load) -> _Before:
    if "t" in sys.abiflags:
        raise LoadFailed(
            f"{sys.executable} is a free-threaded Python ({sys.version.split()[0]}), which rocksyd does not fork: "
            f"set python of [apps.{order.app}] to one with the interpreter lock"
        )
    limits = privileges.limits(order.settings.get("rlimits") or {})
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
    # A deploy may switch a symbolic link on the way to this code at any moment. What is imported late is of this release, too.
    sys.path[:] = [os.getcwd(), *(os.path.realpath(entry) if entry else entry for entry in sys.path)]
    sys.argv[:] = ["rocksyd"]
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:
        os.close(null)
    output.prepare()
    return _Before(own, limits, sys.path[0], frozenset(os.environ))


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
    yield from lazy.steps([])


def _steps(order: messages.Load, offer: Offer) -> Iterator[tuple[str, Callable[[], object]]]:
    if order.settings.get("otel"):
        yield "otel", lambda: tracing.prepare(order.app)
    for entry in order.preload:
        yield f"preload entry {entry!r}", lambda entry=entry: _preload(entry)  # type: ignore[misc]
    for entry in order.jobs:
        yield f"jobs module {entry!r}", lambda entry=entry: offer.add_module(entry)  # type: ignore[misc]
    wanted = list(order.settings.get("services") or ())
    if wanted or offer.services:
        yield "services", lambda: _load_services(offer, wanted)
    if order.settings.get("web"):
        target = str(order.settings["web"])
        yield f"web application {target!r}", lambda: _load_web(target)
    for entry in order.allow:
        yield f"allow pattern {entry!r}", lambda entry=entry: offer.add_pattern(entry)  # type: ignore[misc]


def _load_services(offer: Offer, wanted: list[str]) -> None:
    """What is served of what the code declares, and what serves it, so that no worker has to load that."""
    offer.serve_services(wanted)
    if wanted:
        import_module(SERVICE.worker)


def _load_web(target: str) -> None:
    """The application that answers requests, and what serves it, which the application's environment has to have."""
    try:
        life = import_module(WEB.worker)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("uvicorn", "httptools"):
            raise
        raise JobError(
            f"{error.name} is not there, by which it is served: pip install 'rocksyd[web]', or uvicorn and httptools, in the "
            f"application's environment ({sys.prefix})"
        ) from None
    life.prepare(target)


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
        raise LoadFailed(f"{self._step} {_cause(error, self._what)}", results.traceback_of(error)) from error


def _end_stray(error: BaseException | None) -> NoReturn:
    """A child that the application forked while it was loaded must not become a second zygote."""
    if error is not None and not isinstance(error, SystemExit):
        output.write(results.traceback_of(error))
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
    described = results.described(error)
    return f"{what}: {described['type']}: {described['message']}"


# --- after the imports ----------------------------------------------------------------------------------------------------
def _settle(order: messages.Load, offer: Offer, before: _Before, observer: Observer) -> Context:
    if any(plan.is_async for plan in offer.plans.values()):
        import asyncio  # noqa: F401, PLC0415  (so that no worker has to)
    os.chdir(before.folder)
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
        cwd=before.folder,
        env=dict(os.environ),
        set_by_loading={name: value for name, value in os.environ.items() if name not in before.variables},
        umask=umask,
        plans=offer.plans,
        oom_score_adj=int(score) if score is not None else None,
        limits=(privileges.raise_open_files(), *before.limits),
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
        services=offer.services,
        allowed=tuple(offer.allowed),
        open_patterns=tuple(offer.open_patterns),
        seconds=round(time.monotonic() - began, 6),
        memory=memory.resident,
        huge=memory.huge,
        warnings=tuple(found),
    )
