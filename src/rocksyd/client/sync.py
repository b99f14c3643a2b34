"""The client for ordinary (blocking) code.

    with Client() as client:
        run = client.run("shop.reports:daily", day="2026-01-31")
        record = run.wait()

A restart or a crash of the daemon in the middle of a call is not noticed, except that the answer takes longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, NoReturn

from rocksyd.client.address import Place, find
from rocksyd.client.control import Control
from rocksyd.client.conversation import ENDED, Call, Line, follow_calls, record_of, told_calls
from rocksyd.client.news import News
from rocksyd.client.protocol import Notification, Reply, chunk_of, order, result_of
from rocksyd.client.records import records_of, returned, timed_out
from rocksyd.client.runs import Record, Run
from rocksyd.client.subscription import Subscription
from rocksyd.errors import NoDaemon, TimedOut

_MARGIN = 1.0
"""Seconds that the answer "not ended in time" may take beyond the time waited for."""


class Client(Control):
    """Calls to one daemon. Threads may share it (each call uses a connection of its own), and so may forks.

    Args:
        address: ``unix://PATH`` or ``tcp://HOST:PORT``; by default ``$ROCKSYD_ADDRESS``, else what the ``rocksyd.toml`` of the
            working folder or above says.
        token: what its ``token_file`` holds; by default ``$ROCKSYD_TOKEN``, else the ``token_file`` of that ``rocksyd.toml``.
            Only for tcp.
        timeout: seconds within which the daemon must answer whatever it can answer at once.
        patience: seconds for which a connection that was lost is tried again.

    Raises:
        AddressError: the address cannot be understood.
        ConfigError: ``rocksyd.toml`` is needed and cannot be read.
        NoDaemon: nothing names a daemon. (That nobody answers is noticed by the first call.)
    """

    def __init__(
        self, address: str | None = None, token: str | None = None, *, timeout: float = 30.0, patience: float = 30.0
    ) -> None:
        place = find(address)
        if token is not None:
            place = Place(place.address, token, place.config)
        self.place = place
        self.timeout = timeout
        self._line = Line(place, timeout, patience)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept for the next call. The client can still be used; it connects again."""
        self._line.close()

    # --- asking -------------------------------------------------------------------------------------------------------
    def request(self, method: str, params: dict[str, Any] | None = None, *, wait: bool = False) -> Any:
        """Call any method of the protocol and return its result; ``wait``: it may take as long as it likes.

        Raises:
            RequestError: NotFound, InUse, NotAllowed, TooBusy, NotNow, or another error the daemon answers with.
            NoDaemon: nobody answers (in time).
        """
        deadline = None if wait else time.monotonic() + self.timeout
        try:
            (reply,) = self._line.ask([Call(method, params or {})], deadline)
        except TimeoutError:
            self._no_answer(method)
        return result_of(reply)

    def _no_answer(self, method: str) -> NoReturn:
        raise NoDaemon(
            f"the daemon at {self.place.address} has not answered {method!r} for {self.timeout:g} s: "
            "it is stuck or overloaded; see its log, or wait longer with timeout="
        ) from None

    def requests(self, calls: Sequence[tuple[str, dict[str, Any]]]) -> list[Any]:
        """Call several methods at once and return their results in order. Raises what ``request`` raises, for the first error."""
        results: list[Any] = [None] * len(calls)
        try:
            for reply in self._line.ask([Call(*call) for call in calls], time.monotonic() + self.timeout):
                results[reply.id] = result_of(reply)
        except TimeoutError:
            self._no_answer(calls[0][0])
        return results

    # --- runs ---------------------------------------------------------------------------------------------------------
    def run(  # noqa: PLR0913  (the options of the method `run`, all of them by name)
        self,
        target: object,
        *args: Any,
        key: str | None = None,
        app: str | None = None,
        priority: int | None = None,
        timeout: float | str | None = None,
        start_within: float | str | None = None,
        delay: float | str | None = None,
        retries: int | None = None,
        env: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
        concurrency_key: str | None = None,
        params: Any = None,
        **kwargs: Any,
    ) -> Run:
        """Order a run; it is in the daemon's journal when this returns.

        Args:
            target: ``module:name``, a job's short name, or the function or class itself.
            args, kwargs: its arguments, positional or by name (not both), as JSON can carry them.
            key: the run's name; an order that is repeated with the same key, target and arguments gives the same run.
            app: the application, when several have such a target.
            priority: higher goes first.
            timeout, start_within, delay: seconds, or a duration such as ``"10m"``.
            retries: how often it is tried again after a failure.
            env, labels: further environment variables; anything to find the run by.
            concurrency_key: of runs of the target with the same one only ``max_running_per_key`` (1) run at the same time.
            params: the arguments as a whole, for names that clash with one of the above.

        Raises:
            InUse: the key belongs to a run of something else.
            NotFound, NotAllowed: the target.
            TooBusy: too many runs wait already.
            TypeError: the arguments are not JSON.
        """
        options = {
            "key": key, "app": app, "priority": priority, "timeout": timeout, "start_within": start_within, "delay": delay,
            "retries": retries, "env": env, "labels": labels, "concurrency_key": concurrency_key,
            "params": params,
        }  # fmt: skip
        ordered = order(target, args, kwargs, options)
        return Run(self, ordered["key"], self.request("run", ordered))

    def call(self, target: object, *args: Any, key: str | None = None, params: Any = None, **kwargs: Any) -> Any:
        """Order a run, wait until it has ended, return what it returned. For further options: ``run(...).result()``.

        Raises:
            JobFailed: it ended otherwise than well; with its type, message and traceback.
            What ``run`` raises.
        """
        ordered = order(target, args, kwargs, {"key": key, "params": params})
        result = self.request("call", ordered, wait=True)
        return returned(result)

    def map(self, target: object, *iterables: Iterable[Any], ahead: int = 1000, **options: Any) -> Iterator[Any]:
        """As the built-in ``map``, every call a run: what they return, in order.

        Args:
            target, iterables: what is called, and where its positional arguments come from.
            ahead: at most so many runs are ordered and not ended.
            options: ``app``, ``timeout`` ... of ``run``, the same for all.

        Raises JobFailed at the first that ends otherwise than well (the others go on), and what ``run`` raises but TooBusy.
        """
        calls = (Call("call", order(target, args, {}, dict(options))) for args in zip(*iterables, strict=False))
        early: dict[int, Reply] = {}
        turn = 0
        for reply in self._line.ask(calls, ahead=max(1, ahead)):
            early[reply.id] = reply
            while turn in early:
                result = result_of(early.pop(turn))
                turn += 1
                yield returned(result)

    def as_completed(self, runs: Iterable[Run], timeout: float | None = None) -> Iterator[Run]:
        """The runs, each when it has ended, however it ended. Raises TimedOut after ``timeout`` seconds, NotFound."""
        by_key: dict[str, list[Run]] = {}
        for run in runs:
            by_key.setdefault(run.key, []).append(run)
        for record in self.wait(*by_key, timeout=timeout):
            for run in by_key[record["key"]]:
                run.record = record
                yield run

    def get(self, key: object) -> Run:
        """The run with this key. Raises NotFound."""
        record = self.status(key)
        return Run(self, str(record.get("key", key)), record)

    def status(self, key: object) -> Record:
        """The record of a run. Raises NotFound."""
        record: Record = self.request("status", {"key": str(key)})
        return record

    def runs(self, **filters: Any) -> list[Record]:
        """The records of all runs that fit: ``app``, ``state``, ``limit``, ``after`` ..."""
        return records_of(self.request("list", {name: value for name, value in filters.items() if value is not None}))

    def wait(self, *keys: object, timeout: float | None = None) -> Iterator[Record]:
        """The records of these runs, each when it has ended.

        Raises:
            NotFound: one of the keys is not known.
            TimedOut: ``timeout`` seconds have passed and some have not ended.
        """
        until = None if timeout is None else time.monotonic() + timeout
        late = TimedOut(f"not ended within {timeout} s: it goes on; wait for it again, or terminate it")
        calls = [Call("wait", {"key": str(key)}, until) for key in keys]
        try:
            for reply in self._line.ask(calls, None if until is None else until + _MARGIN):
                record = result_of(reply)
                if timed_out(record):
                    raise late
                yield record
        except TimedOut:
            raise
        except TimeoutError:
            raise late from None

    def terminate(self, key: object, signal: int | None = None) -> None:
        """End a run: TERM (or ``signal``) to its process group, KILL after the grace. Raises NotFound, NotNow."""
        self.request("terminate", {"key": str(key)} if signal is None else {"key": str(key), "signal": signal})

    def stack(self, key: object) -> str:
        """Where each thread of a running job is, as text. Raises NotFound, NotNow (it does not run, or cannot say)."""
        return str(self.request("stack", {"key": str(key)}, wait=True)["text"])

    def free(self, key: object) -> None:
        """Let the daemon forget an ended run and its output. Raises NotFound, NotNow (it has not ended)."""
        self.request("free", {"key": str(key)})

    def retry(self, key: object) -> Run:
        """Run an ended run again under its key. Raises NotFound, NotNow (it has not ended)."""
        record = self.request("retry", {"key": str(key)})
        return Run(self, str(key), record if isinstance(record, dict) else {})

    def logs(
        self, key: object, *, follow: bool = False, offset: int = 0, told: Callable[[Record], object] | None = None
    ) -> Iterator[str]:
        """The output of a run from byte ``offset`` on, in pieces; ``follow``: until it has ended. Raises NotFound.

        While it follows, ``told`` is called with the record whenever the run starts or says how far it is.
        """
        position = offset
        if follow:
            for text, behind in self._follow(str(key), offset, told):
                position = behind
                yield text
        while True:
            chunk = self.request("logs", {"key": str(key), "offset": position})
            if not chunk.get("text") or chunk["offset"] <= position:
                return
            position = chunk["offset"]
            yield chunk["text"]

    def _follow(self, key: str, position: int, told: Callable[[Record], object] | None) -> Iterator[tuple[str, int]]:
        """Pieces of output, each with the position behind it, until the run has ended."""
        more = told_calls(key) if told else {}
        try:
            for event in self._line.listen(lambda: {**follow_calls(key, position), **more}):  # noqa: B023  (where it is then)
                record = record_of(event)
                if record is not None:
                    if told is not None and record:
                        told(record)
                    continue
                if isinstance(event, Reply) and event.id == ENDED:
                    if event.error is None:
                        return
                    continue
                chunk = chunk_of(event, key)
                if chunk.get("offset", 0) > position:
                    position = chunk["offset"]
                    yield chunk.get("text", ""), position
                if chunk.get("ended"):
                    return
        except TimeoutError:
            self._no_answer("logs")

    def watch(self, key: object, progress: Callable[[dict[str, Any]], object], timeout: float | None = None) -> Record:
        """Wait for the end of a run; ``progress`` is called with ``done``, ``total``, ``note`` whenever the job tells them.

        Raises NotFound; TimedOut after ``timeout`` seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        name = str(key)
        calls = {
            0: Call("subscribe", {"keys": [name], "events": ["run.progress"]}),
            1: Call("wait", {"key": name}, until),
            2: Call("status", {"key": name}),
        }
        last: Any = None
        try:
            for event in self._line.listen(lambda: calls, None if until is None else until + _MARGIN):
                found = event.params if isinstance(event, Notification) else result_of(event)
                ended = isinstance(event, Reply) and event.id == 1
                if ended and timed_out(found):
                    break
                told = found.get("progress")
                if told and told != last:
                    last = told
                    progress(told)
                if ended:
                    return dict(found)
        except TimedOut:
            raise
        except TimeoutError:
            if until is None or time.monotonic() < until:
                self._no_answer("subscribe")
        raise TimedOut(f"not ended within {timeout} s: it goes on; wait for it again, or terminate it")

    def subscribe(
        self,
        *,
        app: str | None = None,
        target: str | None = None,
        keys: Sequence[str] | None = None,
        labels: dict[str, str] | None = None,
        events: Sequence[str] | None = None,
        position: int | None = None,
    ) -> Subscription:
        """Hear what happens from now on (or from ``position`` of an earlier subscription on): an iterator of events.

        It goes on over restarts and crashes of the daemon and loses nothing but progress; close it, or use it as a context.
        """
        filters = {"app": app, "target": target, "keys": keys and list(keys), "labels": labels, "events": events and list(events)}
        return Subscription(self._line, self._no_answer, News(filters, position))
