"""A daemon's decisions with this process as all of its workers.

What must live here: the engine's effects carried out here and now, and the moments at which time passes.
What this file must not know: how callers ask (``eager``).

The rules of outcomes, retries, limits and records are not made again: they are the engine's own (``core``), and a job is called
as a worker calls it (``worker.target``, ``worker.convert``, ``worker.outcome``).
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from rocksyd import messages as m
from rocksyd.config import Config
from rocksyd.core import events as ev
from rocksyd.core.engine import Engine, not_found
from rocksyd.errors import JobTimeout, RocksydError
from rocksyd.jobs import Current
from rocksyd.model import ENDED, RUNNING, TIMEOUT, Run
from rocksyd.options import REQUEST_ID
from rocksyd.testing.clock import Clock, FakeClock
from rocksyd.testing.isolation import isolated, redirected
from rocksyd.units import format_duration
from rocksyd.worker import hooks, output, results
from rocksyd.worker.outcome import Early, Manner, Outcome, observed
from rocksyd.worker.results import Said
from rocksyd.worker.target import Plan, plan_for
from rocksyd.zygote.discovery import Offer

_TERM, _KILL = 15, 9


class EagerError(RocksydError, AssertionError):
    """The test waits for something that cannot happen here. The message says why, and what to do."""


class Killed(BaseException):
    """Raised in a job, out of ``time.sleep`` of a fake clock, where a worker would have been ended by a signal."""


class Post:
    """A worker: the run this process is at, or nothing."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.current: Current | None = None
        self.signal = 0
        """What it was ordered to end by; 0 for nothing."""
        self.hooked = False
        """Whether the hooks before the job were begun."""
        self.late = False
        """Whether its time is up."""
        self.told = False
        """Whether the job has been told of that by ``JobTimeout``."""


class InProcess:
    """Runs at once, in this process, what a daemon with this configuration would run.

    Args:
        config: the settings; ``state_dir`` is where outputs go.
        clock: what time it is.
        echo: whether what jobs print is shown, too, when they have ended.
    """

    def __init__(self, config: Config, clock: Clock, *, echo: bool = True) -> None:
        self.engine = Engine(config)
        self.clock = clock
        self.config = config
        self.runs: dict[str, Run] = {}
        """Every run there has been, by key."""
        self.raised: dict[str, BaseException] = {}
        """What the last attempt of a run has raised, by key."""
        self.ticks: dict[str, list[Any]] = {}
        """Ticks that were accepted, by the keys of their runs: script and time."""
        self.news: list[tuple[str, dict[str, Any], Run]] = []
        """Notifications so far: name, record, run."""
        self._echo = echo
        self._posts: dict[int, Post] = {}
        self._stack: list[Post] = []
        """The posts this process is at, the innermost last: a job may order a run, which runs inside of it."""
        self._plans: dict[str, dict[str, Plan]] = {}
        self._answers: dict[int, ev.Answer] = {}
        self._ticket = 0
        self._paths: list[str] = []
        for app in config.apps.values():
            self._load(app.name)
        if isinstance(clock, FakeClock):
            clock.watch(self.on_time)

    def _load(self, name: str) -> None:
        app = self.config.apps[name]
        if app.path not in sys.path:
            sys.path.insert(0, app.path)
            self._paths.append(app.path)
        for variable, value in app.env.items():
            os.environ.setdefault(variable, value)
        offer = Offer()
        for module in app.jobs:
            offer.add_module(module)
        for pattern in app.allow:
            offer.add_pattern(pattern)
        self._plans[name] = offer.plans
        ready = m.Ready(jobs=offer.jobs, allowed=tuple(offer.allowed), open_patterns=tuple(offer.open_patterns))
        self.step(ev.HeardZygote(name, 1, 0, ready))

    def close(self) -> None:
        """Take back what was done to this process."""
        for path in self._paths:
            if path in sys.path:
                sys.path.remove(path)
        self._paths.clear()

    # --- the engine ---------------------------------------------------------------------------------------------------
    def order(self, event: Any) -> ev.Answer:
        """Take a caller's event, and return the answer once all that follows at once has happened."""
        self.engine.ticket = ticket = self._ticket = self._ticket + 1
        self.step(event)
        return self._answers.pop(ticket)

    def past(self, key: str, tick: dict[str, Any]) -> ev.Past:
        """A tick, and what there has been of it."""
        times = [time for script, time in self.ticks.values() if script == tick["script"]]
        return ev.Past(tick, key in self.ticks, max(times, default=""))

    def ended(self, keys: Iterable[str]) -> dict[str, str]:
        """How those of these runs ended that have."""
        found = {key: self.runs[key] for key in keys if key in self.runs}
        return {key: run.attempt.outcome for key, run in found.items() if run.state == ENDED}

    def step(self, event: Any) -> None:
        """Take one event and carry out what follows."""
        effects = self.engine.step(event, self.clock.now())
        starts = [effect for effect in effects if isinstance(effect, ev.StartJob)]
        for effect in effects:
            self._perform(effect)
        for start in starts:
            self._start(start)

    def _perform(self, effect: Any) -> None:
        match effect:
            case ev.ForkWorker():
                self._posts[effect.worker] = Post()
                self.step(ev.HeardZygote(effect.app, effect.generation, 0, m.Forked(effect.worker, os.getpid())))
            case ev.DrainWorker():
                self._leave(effect.worker, 0)
            case ev.KillWorker():
                self._kill(effect)
            case ev.Answer():
                self._answers[effect.ticket] = effect
            case ev.Persist():
                self.runs[effect.run.key] = effect.run
            case ev.Erase():
                self.runs.pop(effect.run.key, None)
                self.raised.pop(effect.run.key, None)
            case ev.PersistRow("ticks"):
                self.ticks[effect.key] = effect.row
            case ev.Started():
                self.news.append(("run.started", effect.run.record(), effect.run))
            case ev.Progressed():
                self.news.append(("run.progress", effect.run.record(), effect.run))
            case ev.Ended():
                self.news.append(("run.ended", effect.run.record(), effect.run))

    def _leave(self, worker: int, status: int) -> None:
        if self._posts.pop(worker, None) is not None:
            self.step(ev.WorkerExited(worker, status))

    def _kill(self, order: ev.KillWorker) -> None:
        post = self._posts.get(order.worker)
        if post is None:
            return None
        if post.run is None:
            return self._leave(order.worker, order.number)
        if order.number == _TERM and post.current is not None and post.current._watching:
            post.current._stopping = True
        elif order.soft:
            post.late = True
        elif order.number in (_TERM, _KILL):
            post.signal = order.number
        return None

    # --- a run --------------------------------------------------------------------------------------------------------
    def _start(self, order: ev.StartJob) -> None:
        run, post = order.run, self._posts[order.worker]
        early = Early(_manner(run))
        current = Current(
            run.key, run.attempt.number, self.clock.as_seen(run.attempt.deadline) if run.attempt.deadline else 0.0,
            lambda *said: self._progress(order.worker, run, *said),
            lambda value: self._finished(order.worker, run, early.take(value)), tick=run.order.tick,
            after=run.order.after, records=self._records,
        )  # fmt: skip
        current.request_id = run.order.labels.get(REQUEST_ID, "")
        post.run, post.current = run, current
        before = _cpu()
        self._stack.append(post)
        outcome, stray = self._observed(run, current)
        self._stack.pop()
        outcome = early.into(outcome)
        current.close()
        self.on_time(0.0)  # a timeout that has passed meanwhile
        if post.late and not post.told and not post.signal:
            outcome = _too_late(run)
        post.run, post.current = None, None
        post.late = post.told = post.hooked = False
        if stray is not None and not isinstance(stray, Killed):
            post.signal = post.signal or 2
        if post.signal or isinstance(stray, Killed):
            self._leave(order.worker, post.signal or _TERM)
        else:
            cpu = max(0.0, _cpu() - before)
            result = m.Result(
                run.key, outcome.ok, outcome.retcode, outcome.value, outcome.error, cpu,
                signal=outcome.signal, reason=outcome.reason, dropped=outcome.dropped,
                again=outcome.again, lineage=outcome.lineage,
            )  # fmt: skip
            self.step(ev.Heard(order.worker, result))
            if order.last:
                self._leave(order.worker, 0)
        if stray is not None and not isinstance(stray, Killed):
            raise stray

    def _observed(self, run: Run, current: Current) -> tuple[Outcome, BaseException | None]:
        """How the job ended, and what the test itself has to be told of: Ctrl-C, ``pytest.skip``, the end by a signal."""
        stray: list[BaseException] = []

        def call() -> Any:
            try:
                return self._call(run, current)
            except Exception as error:
                self.raised[run.key] = error
                raise
            except SystemExit:
                raise
            except BaseException as error:  # noqa: BLE001  (no end of a job: raised again below, outside of it)
                stray.append(error)
                return None

        os.makedirs(os.path.dirname(run.order.log), exist_ok=True)
        self.raised.pop(run.key, None)
        with isolated(current, run.order.env), redirected(run.order.log, echo=self._echo):
            outcome = observed(call, _manner(run))
            if self._stack[-1].hooked:
                hooks.after_job()
            for note in outcome.notes:
                output.note(note)
        return outcome, stray[0] if stray else None

    def _call(self, run: Run, current: Current) -> Any:
        plan = plan_for(run.order.target, self._plans[run.order.app])
        self._stack[-1].hooked = True
        hooks.before_job()
        if run.order.each:
            return [plan.call(params) for params in run.params]
        return plan.call([*current.results(), *(run.params or ())] if run.order.after_results else run.params)

    def _records(self, keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        for key in keys:
            if key not in self.runs:
                raise not_found(key)
            yield json.loads(json.dumps(self.runs[key].record()))

    def _finished(self, worker: int, run: Run, said: Said) -> None:
        self.step(ev.Heard(worker, m.Finished(run.key, said.value, said.dropped)))

    def _progress(self, worker: int, run: Run, done: Any, total: Any, note: str, gauges: dict[str, float] | None = None) -> None:
        self.step(ev.Heard(worker, m.Progress(run.key, done, total, str(note)[:1000], gauges or {})))

    # --- time ---------------------------------------------------------------------------------------------------------
    def on_time(self, until: float) -> float:
        """Do what is due now; the next moment at which something is (a fake clock stops there), or ``until``."""
        due = self.engine.next_deadline()
        while due is not None and due <= self.clock.now().mono:
            self.step(ev.Tick())
            due = self.engine.next_deadline()
        if until and self._stack:
            self._interrupt(self._stack[-1])
        return until if due is None else min(until, due)

    def _interrupt(self, post: Post) -> None:
        """Raise in the job that lets time pass what ends it by now."""
        if post.signal:
            raise Killed
        if post.late and not post.told:
            post.told = True
            assert post.run is not None
            raise _time_up(post.run)

    def wait(self, run: Run, timeout: float | None = None) -> bool:
        """Let time pass until ``run`` has ended; False when ``timeout`` seconds were over before.

        Raises EagerError: it cannot end as long as this waits.
        """
        until = None if timeout is None else self.clock.now().mono + timeout
        while run.state != ENDED:
            self.on_time(0.0)
            if run.state == ENDED:
                break
            due = self.engine.next_deadline()
            if until is not None and (due is None or due > until):
                self.clock.go_to(until)
                self.on_time(0.0)
                return run.state == ENDED
            if due is None or run.state == RUNNING:
                raise EagerError(
                    f"run {run.key!r} ({run.order.name}) {run.state}, and nothing can happen while this waits for it: eager runs "
                    "go on one inside the other in one process; raise max_workers or max_running, or use a real daemon"
                )
            self.clock.go_to(due)
        return True


def _time_up(run: Run) -> JobTimeout:
    return JobTimeout(f"the run has reached its timeout of {format_duration(run.order.timeout)}")


def _too_late(run: Run) -> Outcome:
    """Of a job that went on beyond its timeout without a moment at which it could be told."""
    return Outcome(128 + _TERM, error=results.described(_time_up(run)), signal=_TERM, reason=TIMEOUT)


def _manner(run: Run) -> Manner:
    wants = bool(run.order.retry.get("on"))
    return Manner(lenient=run.order.results == "lenient", of=f"job {run.order.target}", lineage=wants)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
