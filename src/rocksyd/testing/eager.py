"""Eager mode: a client whose runs happen at once, in this process. For tests of jobs, and of code that orders runs.

    with Eager(jobs=["shop.jobs"]) as client:
        run = client.run("daily_report", day="2026-01-31")
        assert run.record["outcome"] == "ok"

``Eager`` is a ``rocksyd.Client`` that asks nobody; inside of ``with client.everywhere():`` every ``Client`` and ``AsyncClient``
asks it, also those that the code under test makes for itself.

What must live here: the protocol's methods, answered without a daemon.
What this file must not know: how a job is run (``inprocess``).
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from threading import Lock
from typing import Any

from rocksyd import codes, ticks
from rocksyd import config as configuration
from rocksyd.client import Client, endpoint
from rocksyd.client.calls import Call
from rocksyd.client.protocol import ClientProtocol, Notification, Reply, error_of
from rocksyd.config import AppConfig, Config, PoolConfig
from rocksyd.core import events as ev
from rocksyd.core import reasons
from rocksyd.core.engine import not_found
from rocksyd.errors import ConfigError, RequestError
from rocksyd.journal.search import Filter
from rocksyd.master.desk.methods import EVENTS, METHODS, arguments
from rocksyd.master.desk.waiters import Subscriber
from rocksyd.model import ENDED, OK, Run
from rocksyd.options import ORDERED
from rocksyd.testing.clock import Clock
from rocksyd.testing.inprocess import EagerError, InProcess
from rocksyd.units import format_duration, parse_duration

_UNABLE = "an eager client has no daemon to {}: use a real one (the fixture rocksyd_daemon)"


class Eager(Client):
    """A client whose runs are carried out by this process before ``run`` returns (or when they are due and waited for).

    Parameters are converted and checked, outcomes, retries, limits on numbers, keys and records are as the daemon has them,
    because the same code decides; ``current()`` works. Different from a daemon's: there is one process, so a job that changes
    its globals changes the test's, a crash is the test's own, memory limits and signals do nothing, a timeout is noticed when
    the job has returned or (with a FakeClock) sleeps, ``preload`` is not called, settings of user, umask and such do not hold.

    Args:
        jobs: modules whose jobs may be run, as in ``rocksyd.toml``.
        allow: further targets, as there.
        config: a ``rocksyd.toml`` to take applications from, instead of ``jobs`` and ``allow``; with none of the three it is
            the nearest one of the working folder or above.
        clock: what time it is: a FakeClock, or the real one.
        echo: whether what jobs print is shown, too.

    Raises:
        ConfigError: there is no configuration, or it is wrong.
        JobError: a module of ``jobs`` is not there; and whatever importing it raises.
    """

    def __init__(
        self,
        jobs: Sequence[str] = (),
        *,
        allow: Sequence[str] = (),
        config: str | os.PathLike[str] | None = None,
        clock: Clock | None = None,
        echo: bool = True,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rocksyd-eager-")
        self.clock = clock or Clock()
        try:
            self.inside = InProcess(_settings(jobs, allow, config, self._folder.name), self.clock, echo=echo)
        except BaseException:
            self._folder.cleanup()
            raise
        self.place = endpoint.Place(endpoint.Address("unix", path=os.path.join(self._folder.name, "eager")))
        self.timeout = self.patience = 30.0
        self._eager = _Asker(self.inside)
        self._asker = self._eager  # type: ignore[assignment]

    def __enter__(self) -> Eager:
        return self

    def close(self) -> None:
        """Remove the outputs. The client cannot be used after this."""
        self.inside.close()
        self._folder.cleanup()

    @property
    def raised(self) -> dict[str, BaseException]:
        """What the last attempt of a run has raised, by key: the exception itself, with its traceback."""
        return self.inside.raised

    @contextmanager
    def everywhere(self) -> Iterator[Eager]:
        """Let every ``Client`` and ``AsyncClient`` of this process ask this one, whenever it was made."""
        from rocksyd.client import aio_asking, aio_requests, asking, requests  # noqa: PLC0415  (asyncio only where it is wanted)

        asker, place = self._eager, self.place
        fakes: list[tuple[Any, str, Any]] = [
            (asking.Asker, "ask", lambda _self, *given, **named: asker.ask(*given, **named)),
            (asking.Asker, "listen", lambda _self, *given: asker.listen(*given)),
            (aio_asking.AsyncAsker, "ask", lambda _self, calls, *_, **__: _asked(asker, calls)),
            (aio_asking.AsyncAsker, "listen", lambda _self, *given: _Listener(asker.listen(*given))),
            (requests, "find", lambda _address=None: place),
            (aio_requests, "find", lambda _address=None: place),
        ]
        kept = [(home, name, home.__dict__[name]) for home, name, _ in fakes]
        for home, name, fake in fakes:
            setattr(home, name, fake)
        try:
            yield self
        finally:
            for home, name, real in kept:
                setattr(home, name, real)


def _settings(jobs: Sequence[str], allow: Sequence[str], path: str | os.PathLike[str] | None, state_dir: str) -> Config:
    if jobs or allow:
        app = AppConfig(name="app", path=os.getcwd(), jobs=tuple(jobs), allow=tuple(allow), pool=PoolConfig())
        return Config(path="", folder=os.getcwd(), listen=(), state_dir=state_dir, apps={"app": app})
    found = os.fspath(path) if path is not None else endpoint.find_config()
    if not found:
        raise ConfigError(f'no rocksyd.toml in {os.getcwd()} or above: give Eager jobs=["module"], or config="path"')
    return replace(configuration.load(found), state_dir=state_dir)


PATIENCE = 60.0
"""Seconds of real time for which one thread waits until another's run has ended."""
_level: ContextVar[Lock] = ContextVar("rocksyd_eager_level")
"""Held while a call is answered. What a job calls has a lock of its own, also from threads that have its context."""


class _Asker:
    """What a client takes for its connections to a daemon. One thing happens at a time, whichever thread asks."""

    def __init__(self, inside: InProcess) -> None:
        self.connections = self
        self._inside = inside
        self._methods = _Methods(inside)
        self._lock = Lock()

    def ask(self, calls: Iterable[Call], deadline: float | None = None, *, ahead: int = 0) -> Generator[Reply]:
        """Answer each in turn."""
        for index, call in enumerate(calls):
            yield self.answer(index, call)

    def answer(self, index: int, call: Call) -> Reply:
        """What a daemon would answer to one call."""
        line = ClientProtocol().call(index, call.method, call.params_at(time.monotonic()))
        try:
            with self._alone():
                result = self._methods.serve(call.method, json.loads(line)["params"])
        except RequestError as error:
            said = {"code": error.code, "message": str(error), "data": error.data}
            failure = error_of(json.loads(json.dumps(said)))
            failure.__cause__ = error.__cause__
            return Reply(index, error=failure)
        return Reply(index, result=json.loads(json.dumps(result)))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = _level.get(self._lock)
        if not lock.acquire(timeout=PATIENCE):
            raise EagerError(
                f"a run has not ended for {format_duration(PATIENCE)} of real time, and another thread waits for it to order one:"
                " a job that orders runs by threads of its own (Executor) needs a real daemon"
            )
        token = _level.set(Lock())
        try:
            yield
        finally:
            _level.reset(token)
            lock.release()

    def listen(self, calls: Callable[[], dict[int, Call]], until: float | None = None) -> Generator[Reply | Notification]:
        """Answer each in turn, and tell the news of the subscriptions among them. Raises EagerError: nothing more can come."""
        told: list[tuple[Subscriber, int]] = []
        for index, call in sorted(calls().items(), key=lambda item: item[1].method != "subscribe"):
            reply = self.answer(index, call)
            if call.method == "subscribe" and reply.error is None:
                wanted: dict[str, Any] = {name: call.params.get(name) for name in ("app", "target", "keys", "events", "labels")}
                told.append((Subscriber(0, 0, **wanted), reply.result["position"]))
                yield reply
                continue
            yield from self._news(told)
            yield reply
        while True:
            count = 0
            for event in self._news(told):
                count += 1
                yield event
            if not count:
                raise EagerError("this listens for something to happen, and in eager mode nothing happens while it does")

    def _news(self, told: list[tuple[Subscriber, int]]) -> Iterator[Notification]:
        for at, (subscriber, position) in enumerate(told):
            news = self._inside.news
            told[at] = subscriber, len(news)
            for number in range(position, len(news)):
                name, record, run = news[number]
                if subscriber.wants(name, run):
                    yield Notification(name, {**record, "position": number + 1})

    def take(self) -> Any:
        """Orders to the daemon itself want a connection."""
        raise EagerError(_UNABLE.format("stop"))

    def close(self) -> None:
        """Nothing is open."""


class _Methods:
    """The methods of the protocol that are about runs."""

    def __init__(self, inside: InProcess) -> None:
        self._inside = inside
        self._serve: dict[str, Callable[[dict[str, Any]], Any]] = {
            "run": self._run, "call": self._call, "status": self._status, "list": self._list, "wait": self._wait,
            "terminate": self._terminate, "free": lambda given: self._order(given, ev.Free),
            "retry": lambda given: self._order(given, ev.Retry), "logs": self._logs, "why": self._why,
            "subscribe": self._subscribe, "targets": self._targets, "stats": self._stats,
            "restarts": lambda given: [], "pools": self._pools, "services": lambda given: [],
            "health": lambda given: {"ok": True, "problems": [], "generation": 1, "listen": [], "exec": [], "zygotes": {}},
        }  # fmt: skip

    def serve(self, method: str, params: dict[str, Any]) -> Any:
        """The result. Raises RequestError as a daemon answers it, EagerError for what only a daemon can do."""
        serve = self._serve.get(method)
        if serve is None:
            raise EagerError(_UNABLE.format(method))
        self._inside.on_time(0.0)
        return serve(arguments(method, METHODS[method], params))

    def _known(self, given: dict[str, Any]) -> Run:
        run = self._inside.runs.get(given["key"])
        if run is None:
            raise not_found(given["key"])
        return run

    def _answered(self, answer: ev.Answer) -> Run:
        if answer.error is not None:
            raise answer.error
        assert answer.run is not None
        return answer.run

    def _submit(self, given: dict[str, Any]) -> ev.Answer:
        options = {name: given[name] for name in ORDERED if name in given}
        target, params = given["target"], given.get("params", [])
        tick = _tick(options["tick"]) if "tick" in options else None
        key = given.get("key") or (ticks.key_of(tick) if tick else os.urandom(8).hex())
        past = self._inside.past(key, tick) if tick else None
        ended = self._inside.ended(options.get("after", ()))
        return self._inside.order(ev.Submit(key, target, params, given.get("app"), options, typed=True, past=past, ended=ended))

    def _run(self, given: dict[str, Any]) -> Any:
        answer = self._submit(given)
        return {"key": answer.known, "known": True} if answer.known else self._answered(answer).record()

    def _call(self, given: dict[str, Any]) -> Any:
        answer = self._submit(given)
        if answer.known:
            return {"key": answer.known, "known": True}
        run = self._answered(answer)
        self._inside.wait(run)
        if run.attempt.outcome == OK:
            return run.returned()
        data = run.failure()
        raise RequestError(codes.JOB_FAILED, f"{data['type']}: {data['message']}", data=data) from self._inside.raised.get(
            run.key
        )

    def _status(self, given: dict[str, Any]) -> Any:
        return self._known(given).record()

    def _list(self, given: dict[str, Any]) -> Any:
        wanted = Filter.asked(given, self._inside.clock.now().wall)
        found = [run for run in self._inside.runs.values() if given.get("state") in (None, run.state) and wanted.fits(run)]
        found.sort(key=lambda run: (run.state == ENDED, -run.attempt.ended_at if wanted.timed else 0.0, -run.sequence))
        if "after" in given:
            last = self._known({"key": given["after"]})
            found = found[found.index(last) + 1 :] if last in found else [run for run in found if run.sequence < last.sequence]
        return [run.record() for run in found[: wanted.limit]]

    def _wait(self, given: dict[str, Any]) -> Any:
        run = self._known(given)
        timeout = _seconds(given["timeout"], "timeout") if "timeout" in given else None
        return run.record() if self._inside.wait(run, timeout) else {**run.record(), "timed_out": True}

    def _order(self, given: dict[str, Any], make: Callable[..., Any], *more: Any) -> Any:
        self._known(given)
        return self._answered(self._inside.order(make(given["key"], *more))).record()

    def _terminate(self, given: dict[str, Any]) -> Any:
        wanted = given.get("signal", "TERM")
        number = signal.Signals["SIG" + wanted.upper().removeprefix("SIG")] if isinstance(wanted, str) else wanted
        return self._order(given, ev.Terminate, int(number))

    def _logs(self, given: dict[str, Any]) -> Any:
        run = self._known(given)
        if given.get("follow"):
            self._inside.wait(run)
        try:
            with open(run.order.log, "rb") as file:
                file.seek(given.get("offset", 0))
                data = file.read()
        except OSError:
            data = b""
        offset = given.get("offset", 0) + len(data)
        return {"text": data.decode("utf-8", "replace"), "offset": offset, "ended": run.state == ENDED, "truncated": False}

    def _why(self, given: dict[str, Any]) -> Any:
        return reasons.why(self._inside.engine, self._known(given), self._inside.clock.now())

    def _subscribe(self, given: dict[str, Any]) -> Any:
        position = given.get("position", len(self._inside.news))
        return {"subscribed": given.get("events") or list(EVENTS), "position": position, "generation": 1}

    def _targets(self, given: dict[str, Any]) -> Any:
        applications = self._inside.engine.applications
        return [row for name, app in sorted(applications.items()) if given.get("app") in (None, name) for row in app.rows()]

    def _stats(self, given: dict[str, Any]) -> Any:
        return {**self._inside.engine.counters, "generation": 1, "pid": os.getpid(), "master_pid": os.getpid(), "restarts": []}

    def _pools(self, given: dict[str, Any]) -> Any:
        return [{"name": pool.name, "app": pool.app, "workers": len(pool.workers)} for pool in self._inside.engine.pools.values()]


def _seconds(value: Any, name: str) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise RequestError(codes.INVALID_PARAMS, f"{name}: {error}") from error


# --- for asyncio code -------------------------------------------------------------------------------------------------
async def _asked(asker: _Asker, calls: Iterable[Call]) -> AsyncGenerator[Reply]:
    """The answers. Jobs run in the loop's own thread pool: they may use ``asyncio.run``."""
    import asyncio  # noqa: PLC0415

    for index, call in enumerate(calls):
        yield await asyncio.to_thread(asker.answer, index, call)


class _Listener:
    """What is said to an ``AsyncClient`` that listens."""

    def __init__(self, events: Generator[Reply | Notification]) -> None:
        self._events = events

    def __aiter__(self) -> _Listener:
        return self

    async def __anext__(self) -> Reply | Notification:
        import asyncio  # noqa: PLC0415

        return await asyncio.to_thread(next, self._events)

    async def close(self) -> None:
        """Nothing is open."""


def _tick(given: Any) -> dict[str, Any]:
    try:
        return ticks.read(given)
    except ValueError as error:
        raise RequestError(codes.INVALID_PARAMS, f"tick: {error}", data={"parameter": "tick"}) from error
