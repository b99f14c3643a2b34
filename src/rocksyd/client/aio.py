"""The client for asyncio code.

    async with AsyncClient() as client:
        run = await client.run("shop.reports:daily", day="2026-01-31")
        record = await run.wait()

A restart or a crash of the daemon in the middle of a call is not noticed, except that the answer takes longer.

What must live here: what one can ask of runs.
What this file must not know: how the daemon is asked (``aio_asking``).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rocksyd.client.aio_asking import AsyncSubscription
from rocksyd.client.aio_connections import AsyncRecords  # asyncio only
from rocksyd.client.aio_control import AsyncControl
from rocksyd.client.calls import ENDED, Call, follow_calls, record_of, seconds, told_calls
from rocksyd.client.news import News
from rocksyd.client.plans import Plan, orders
from rocksyd.client.protocol import Notification, Reply, chunk_of, order, result_of, unmistakable
from rocksyd.client.records import failure, records_of, returned, timed_out
from rocksyd.errors import RequestError, TimedOut
from rocksyd.units import format_duration

if TYPE_CHECKING:
    from datetime import datetime

Record = dict[str, Any]
"""What the daemon shows of a run: ``key``, ``state``, ``outcome``, ``retcode`` ..."""
Progress = Callable[[dict[str, Any]], object]

_MARGIN = 1.0
"""Seconds that the answer "not ended in time" may take beyond the time waited for."""


class AsyncClient(AsyncControl):
    """Calls to one daemon. Tasks may share it.

    Args:
        address: ``unix://PATH`` or ``tcp://HOST:PORT``; by default ``$ROCKSYD_ADDRESS``, else what the ``rocksyd.toml`` of the
            working folder or above says.
        token: what its ``token_file`` holds; by default ``$ROCKSYD_TOKEN``, else the ``token_file`` of that ``rocksyd.toml``.
            Only for tcp.
        timeout: seconds, or a duration such as ``"1m"``, within which the daemon must answer whatever it can answer at once.
        patience: for how long, written in the same way, a connection that was lost is tried again.

    Raises:
        AddressError: the address cannot be understood.
        ConfigError: ``rocksyd.toml`` is needed and cannot be read.
        NoDaemon: nothing names a daemon. (That nobody answers is noticed by the first call.)
    """

    async def run(  # noqa: PLR0913  (the options of the method `run`, all of them by name)
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
        each: bool | None = None,
        tick: dict[str, Any] | None = None,
        retry_after: float | str | Sequence[float | str] | None = None,
        retry_factor: float | None = None,
        retry_most: float | str | None = None,
        retry_jitter: float | None = None,
        retry_on: Sequence[str | int] | None = None,
        eta: datetime | float | str | None = None,
        on_stop: str | None = None,
        after: Iterable[AsyncRun | str] | AsyncRun | str | None = None,
        after_outcome: str | None = None,
        after_results: bool | None = None,
        traceparent: str | None = None,
        needs_memory: int | str | None = None,
        params: Any = None,
        **kwargs: Any,
    ) -> AsyncRun:
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
            each: ``params`` is an array of parameters; the target is called for each of them, the result is the array of results.
            tick: which tick of a schedule it is, ``{"script": "nightly", "time": "2026-01-31T03:00:00Z"}``: each is run once.
            retry_after, retry_factor, retry_most, retry_jitter: the wait before it is tried again: ``["1s", "10s", "5m"]``, what
                the last of it is multiplied by, up to what time, and by up to what part of it a wait is longer.
            retry_on: which failures are worth it: ``["OSError", "not FileNotFoundError", 75]``.
            eta: begin only at this time: a datetime with a zone, RFC 3339 with an offset, or Unix seconds.
            on_stop: ``"requeue"`` runs it again, as the same attempt, when the daemon was stopped while it ran.
            after: runs, or their keys: it begins when they have ended, and is cancelled if one of them does not end well.
            after_outcome: ``"any"``: it begins however they have ended.
            after_results: what they returned comes before ``args``, one argument a run. (``current().results()`` reads the same.)
            traceparent: the span it belongs to (W3C trace context); left out, the one that OpenTelemetry is in here.
            needs_memory: bytes, or a size such as ``"2G"``, that it will probably need, as long as that was not learned.
            params: the arguments as a whole: an array, or an object. A name above always means the option, here and in ``call``
                and ``map``; a parameter of the job that has such a name is given in here.

        Raises:
            InUse: the key belongs to a run of something else.
            NotFound, NotAllowed: the target.
            TooBusy: too many runs wait already.
            RequestError: the arguments do not fit the job, are longer than the daemon's ``max_line``, or are not UTF-8.
            TypeError: the arguments are not JSON; or a name is an option and a parameter of the function ``target``.
        """
        options = {
            "key": key, "app": app, "priority": priority, "timeout": timeout, "start_within": start_within, "delay": delay,
            "retries": retries, "env": env, "labels": labels, "concurrency_key": concurrency_key,
            "each": each, "tick": tick, "retry_after": retry_after, "retry_factor": retry_factor, "retry_most": retry_most,
            "retry_jitter": retry_jitter, "retry_on": retry_on, "eta": eta, "on_stop": on_stop, "after": after,
            "after_outcome": after_outcome, "after_results": after_results, "traceparent": traceparent,
            "needs_memory": needs_memory, "params": params,
        }  # fmt: skip
        ordered = order(target, args, kwargs, unmistakable(target, options))
        return AsyncRun(self, ordered["key"], await self.request("run", ordered))

    async def call(  # noqa: PLR0913  (as `run`)
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
        each: bool | None = None,
        tick: dict[str, Any] | None = None,
        retry_after: float | str | Sequence[float | str] | None = None,
        retry_factor: float | None = None,
        retry_most: float | str | None = None,
        retry_jitter: float | None = None,
        retry_on: Sequence[str | int] | None = None,
        eta: datetime | float | str | None = None,
        on_stop: str | None = None,
        after: Iterable[AsyncRun | str] | AsyncRun | str | None = None,
        after_outcome: str | None = None,
        after_results: bool | None = None,
        traceparent: str | None = None,
        needs_memory: int | str | None = None,
        params: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Order a run, wait until it has ended, return what it returned. Arguments and errors are those of ``run``.

        Raises:
            JobFailed: it ended otherwise than well; with its type, message and traceback.
        """
        options = {
            "key": key, "app": app, "priority": priority, "timeout": timeout, "start_within": start_within, "delay": delay,
            "retries": retries, "env": env, "labels": labels, "concurrency_key": concurrency_key,
            "each": each, "tick": tick, "retry_after": retry_after, "retry_factor": retry_factor, "retry_most": retry_most,
            "retry_jitter": retry_jitter, "retry_on": retry_on, "eta": eta, "on_stop": on_stop, "after": after,
            "after_outcome": after_outcome, "after_results": after_results, "traceparent": traceparent,
            "needs_memory": needs_memory, "params": params,
        }  # fmt: skip
        ordered = order(target, args, kwargs, unmistakable(target, options))
        return returned(await self.request("call", ordered, wait=True))

    async def submit(self, plan: Plan, key: str | None = None) -> list[AsyncRun]:
        """Order what a ``chain`` or a ``group`` says; the runs, in the order in which their steps were written.

        ``key`` with a number behind it names those that have no key of their own. All of it is ordered or, where the daemon
        refuses one, nothing goes on. Raises what ``run`` raises.
        """
        ordered = orders(plan, key)
        answers = await self.answers([("run", one) for one in ordered])
        refused = next((answer for answer in answers if isinstance(answer, RequestError)), None)
        if refused is not None:
            accepted = [one["key"] for one, answer in zip(ordered, answers, strict=True) if not isinstance(answer, RequestError)]
            await self.answers([("terminate", {"key": one}) for one in reversed(accepted)])
            raise refused
        return [AsyncRun(self, one["key"], record) for one, record in zip(ordered, answers, strict=True)]

    async def map(self, target: object, *iterables: Iterable[Any], ahead: int = 1000, **options: Any) -> AsyncIterator[Any]:
        """As the built-in ``map``, every call a run: what they return, in order.

        Args:
            target, iterables: what is called, and where its positional arguments come from.
            ahead: at most so many runs are ordered and not ended.
            options: ``app``, ``timeout`` ... of ``run``, the same for all.

        Raises JobFailed at the first that ends otherwise than well (the others go on), and what ``run`` raises but TooBusy.
        """
        unmistakable(target, options)
        calls = (Call("call", order(target, args, {}, dict(options))) for args in zip(*iterables, strict=False))
        replies = self._asker.ask(calls, ahead=max(1, ahead))
        early: dict[int, Reply] = {}
        turn = 0
        try:
            async for reply in replies:
                early[reply.id] = reply
                while turn in early:
                    result = result_of(early.pop(turn))
                    turn += 1
                    yield returned(result)
        finally:
            await replies.aclose()

    async def as_completed(self, runs: Iterable[AsyncRun], timeout: float | str | None = None) -> AsyncIterator[AsyncRun]:
        """The runs, each when it has ended, however it ended. Raises TimedOut after ``timeout`` seconds, NotFound."""
        by_key: dict[str, list[AsyncRun]] = {}
        for run in runs:
            by_key.setdefault(run.key, []).append(run)
        records = self._ended(tuple(by_key), timeout)
        try:
            async for record in records:
                for run in by_key[record["key"]]:
                    run.record = record
                    yield run
        finally:
            await records.aclose()

    async def get(self, key: object) -> AsyncRun:
        """The run with this key. Raises NotFound."""
        record = await self.status(key)
        return AsyncRun(self, str(record.get("key", key)), record)

    async def status(self, key: object) -> Record:
        """The record of a run. Raises NotFound."""
        return dict(await self.request("status", {"key": str(key)}))

    async def runs(self, **filters: Any) -> list[Record]:
        """The records of all runs that fit: ``app``, ``state``, ``limit``, ``after`` ..."""
        return records_of(await self.request("list", {name: value for name, value in filters.items() if value is not None}))

    def wait(self, *keys: object, timeout: float | str | None = None) -> AsyncRecords:
        """The records of these runs, each when it has ended.

        Raises:
            NotFound: one of the keys is not known.
            TimedOut: ``timeout`` (seconds, or a duration such as ``"10m"``) has passed and some have not ended.
        """
        return AsyncRecords(self._ended(keys, timeout))

    async def _ended(self, keys: tuple[object, ...], within: float | str | None) -> AsyncGenerator[Record]:
        timeout = seconds(within)
        until = None if timeout is None else time.monotonic() + timeout
        replies = self._asker.ask(
            [Call("wait", {"key": str(key)}, until) for key in keys], None if until is None else until + _MARGIN
        )
        try:
            async for reply in replies:
                record = result_of(reply)
                if timed_out(record):
                    raise _late(timeout)
                yield record
        except TimedOut:
            raise
        except TimeoutError:
            raise _late(timeout) from None
        finally:
            await replies.aclose()

    async def watch(self, key: object, progress: Progress, timeout: float | str | None = None) -> Record:
        """Wait for the end of a run; ``progress`` is called with ``done``, ``total``, ``note`` whenever the job tells them.

        Raises NotFound; TimedOut after ``timeout`` seconds.
        """
        timeout = seconds(timeout)
        until = None if timeout is None else time.monotonic() + timeout
        name = str(key)
        calls = {
            0: Call("subscribe", {"keys": [name], "events": ["run.progress"]}),
            1: Call("wait", {"key": name}, until),
            2: Call("status", {"key": name}),
        }
        last: Any = None
        said = self._asker.listen(lambda: calls, None if until is None else until + _MARGIN)
        try:
            async for event in said:
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
        except TimeoutError:
            pass  # the answer has taken longer than the margin
        finally:
            await said.close()
        raise _late(timeout)

    async def terminate(self, key: object, signal: int | None = None) -> None:
        """End a run: TERM (or ``signal``) to its process group, KILL after the grace. Raises NotFound, NotNow."""
        await self.request("terminate", {"key": str(key)} if signal is None else {"key": str(key), "signal": signal})

    async def why(self, key: object) -> dict[str, Any]:
        """Why a run waits, goes on, or ended as it did: ``reasons``, the one that decides first. Raises NotFound."""
        return dict(await self.request("why", {"key": str(key)}))

    async def stack(self, key: object) -> str:
        """Where each thread of a running job is, as text. Raises NotFound, NotNow (it does not run, or cannot say)."""
        return str((await self.request("stack", {"key": str(key)}, wait=True))["text"])

    async def free(self, key: object) -> None:
        """Let the daemon forget an ended run and its output. Raises NotFound, NotNow (it has not ended)."""
        await self.request("free", {"key": str(key)})

    async def edit(self, key: object, **changes: Any) -> AsyncRun:
        """Change a run that waits, all of it or nothing.

        Args:
            changes: of ``params``, ``priority``, ``timeout``, ``delay`` and ``eta`` what is to be another, as ``run`` takes them.

        Raises:
            NotFound: no such run.
            NotNow: it runs already, or has ended.
            RequestError: the parameters do not fit the job, or what is to be changed cannot be.
        """
        return AsyncRun(self, str(key), await self.request("edit", {"key": str(key), **changes}))

    async def retry(self, key: object) -> AsyncRun:
        """Run an ended run again under its key. Raises NotFound, NotNow (it has not ended)."""
        return AsyncRun(self, str(key), await self.request("retry", {"key": str(key)}))

    async def logs(
        self, key: object, *, follow: bool = False, offset: int = 0, told: Callable[[Record], object] | None = None
    ) -> AsyncIterator[str]:
        """The output of a run from byte ``offset`` on, in pieces; ``follow``: until it has ended. Raises NotFound.

        While it follows, ``told`` is called with the record whenever the run starts or says how far it is.
        """
        position = offset
        if follow:
            pieces = self.pieces(str(key), offset, told)
            try:
                async for text, behind in pieces:
                    position = behind
                    yield text
            finally:
                await pieces.aclose()
        while True:
            chunk = await self.request("logs", {"key": str(key), "offset": position})
            if not chunk.get("text") or chunk["offset"] <= position:
                return
            position = chunk["offset"]
            yield chunk["text"]

    async def pieces(
        self, key: str, position: int = 0, told: Callable[[Record], object] | None = None
    ) -> AsyncGenerator[tuple[str, int]]:
        """The output as it is written, until the run has ended: pieces, each with the byte behind it. ``told``: as ``logs``."""
        more = told_calls(key) if told else {}
        said = self._asker.listen(lambda: {**follow_calls(key, position), **more})
        try:
            async for event in said:
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
        finally:
            await said.close()

    async def subscribe(  # noqa: PLR0913  (the filters of the method `subscribe`, all of them by name)
        self,
        *,
        app: str | None = None,
        target: str | None = None,
        keys: Sequence[str] | None = None,
        labels: dict[str, str] | None = None,
        events: Sequence[str] | None = None,
        position: int | None = None,
        failed: bool | None = None,
        scripts: bool | None = None,
    ) -> AsyncSubscription:
        """Hear what happens from now on (or from ``position`` of an earlier subscription on): an iterator of events.

        It goes on over restarts and crashes of the daemon and loses nothing but progress; close it, or use it as a context.
        """
        filters = {"app": app, "target": target, "keys": keys and list(keys), "labels": labels, "events": events and list(events),
                   "failed": failed, "scripts": scripts}  # fmt: skip
        return await AsyncSubscription(self._asker, News(filters, position)).begin()


class AsyncRun:
    """One run at the daemon. ``record`` is what was last heard of it."""

    __slots__ = ("client", "key", "record")

    def __init__(self, client: AsyncClient, key: str, record: Record) -> None:
        self.client = client
        self.key = key
        self.record = record

    def __repr__(self) -> str:
        return f"AsyncRun({self.key!r}, {self.record.get('target')!r}, {self.record.get('state')!r})"

    async def status(self) -> Record:
        """Ask for the record as it is now. Raises NotFound (it was freed)."""
        self.record = await self.client.status(self.key)
        return self.record

    async def wait(self, timeout: float | str | None = None, *, progress: Progress | None = None) -> Record:
        """The record when the run has ended, however it ended. Raises TimedOut after ``timeout`` seconds, NotFound.

        ``progress`` is called with ``done``, ``total`` and ``note`` whenever the job tells how far it is.
        """
        if progress is not None:
            self.record = await self.client.watch(self.key, progress, timeout)
            return self.record
        async for record in self.client.wait(self.key, timeout=timeout):
            self.record = record
        return self.record

    async def result(self, timeout: float | str | None = None, *, progress: Progress | None = None) -> Any:
        """What the job returned. Raises JobFailed when it ended otherwise than well, ResultDropped, and what ``wait`` raises."""
        record = await self.wait(timeout, progress=progress)
        error = failure(record)
        if error is not None:
            raise error
        return returned(record)

    def logs(
        self, *, follow: bool = False, offset: int = 0, told: Callable[[Record], object] | None = None
    ) -> AsyncIterator[str]:
        """Its output from byte ``offset`` on, in pieces; ``follow``: until it has ended.

        While it follows, ``told`` is called with the record whenever the run starts or says how far it is.
        """
        return self.client.logs(self.key, follow=follow, offset=offset, told=told)

    async def terminate(self, signal: int | None = None) -> None:
        """End it: TERM to its process group, KILL after the grace. Raises NotNow (it has ended)."""
        await self.client.terminate(self.key, signal)

    async def why(self) -> dict[str, Any]:
        """Why it waits, goes on, or ended as it did: ``reasons``, the one that decides first."""
        return await self.client.why(self.key)

    async def stack(self) -> str:
        """Where each of its threads is, as text. Raises NotNow (it does not run, or cannot say)."""
        return await self.client.stack(self.key)

    async def free(self) -> None:
        """Let the daemon forget it. Raises NotNow (it has not ended)."""
        await self.client.free(self.key)

    async def edit(self, **changes: Any) -> AsyncRun:
        """Change it while it waits: see ``AsyncClient.edit``."""
        return await self.client.edit(self.key, **changes)

    async def retry(self) -> AsyncRun:
        """Run it again under its key, once it has ended."""
        return await self.client.retry(self.key)


def _late(timeout: float | None) -> TimedOut:
    return TimedOut(f"not ended within {format_duration(timeout or 0.0)}: it goes on; wait for it again, or terminate it")
