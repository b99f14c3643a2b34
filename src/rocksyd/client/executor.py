"""``concurrent.futures.Executor`` whose processes are the daemon's: existing code changes one line.

    with rocksyd.Executor() as executor:                      # was: ProcessPoolExecutor()
        future = executor.submit(shop.reports.daily, day="2026-01-31")
        for price in executor.map(shop.prices.of, articles, chunksize=100): ...

What must live here: what the interface asks for, and the thread that speaks with the daemon.
What this file must not know: the protocol (``aio``).

Differences that remain: arguments and results are JSON; functions are named, so they must be jobs or allowed; the daemon's
workers have loaded their own code, whatever the caller has loaded.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Executor as StandardExecutor
from concurrent.futures import Future as StandardFuture
from typing import Any, ParamSpec, TypeVar

from rocksyd.client.aio import AsyncClient
from rocksyd.client.aio_asking import AsyncSubscription
from rocksyd.client.calls import BUSY_FIRST, BUSY_MOST
from rocksyd.client.job_errors import raised
from rocksyd.client.protocol import new_key, order
from rocksyd.client.records import returned
from rocksyd.errors import JobFailed, ResultDropped, RocksydError, TooBusy

P = ParamSpec("P")
T = TypeVar("T")

AHEAD = 1000
"""Runs that are ordered and have not ended, at most, where ``max_workers`` does not say another number."""


class Future(StandardFuture[T]):
    """A run of the daemon as a future. ``running()`` is true from when a worker has it."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        """The run's key, for ``Client.get`` and the command line."""
        self.progress: dict[str, Any] | None = None
        """What the job last told: ``done``, ``total``, ``note``."""
        self.told = False
        """Whether those who wait for it know that it is cancelled."""
        self.task: asyncio.Task[None] | None = None
        """What asks the daemon for it."""


class _Each:
    """A function that is to be called for each of a list of arguments, in one run."""

    def __init__(self, function: Any) -> None:
        self.function = function


class Executor(StandardExecutor):
    """Runs functions as jobs of a daemon.

    Args:
        max_workers: how many runs of this executor the daemon may have at once; by default as many as its pool takes.
        address, token: of the daemon, as ``rocksyd.Client`` has them.
        options: ``app``, ``timeout``, ``priority``, ``retries`` ... of ``Client.run``, for all runs.
    """

    def __init__(
        self, max_workers: int | None = None, *, address: str | None = None, token: str | None = None, **options: Any
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._pid = os.getpid()
        self._options = options
        self._desk = _Desk(AsyncClient(address, token), max_workers or AHEAD)
        self._shut = False
        # An executor that nobody has any more ends its thread when its last run has ended, as those of Python do.
        self._finish = weakref.finalize(self, self._desk.close, wait=False)
        self._finish.atexit = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Order a run of ``fn(*args, **kwargs)``. Raises RuntimeError after ``shutdown``; TypeError for what is not JSON."""
        if self._shut or self._pid != os.getpid():
            why = "after shutdown" if self._shut else "in a fork of the process that it was made in"
            raise RuntimeError(f"cannot schedule new futures {why}")
        key = new_key()
        future: Future[T] = Future(key)
        labels = {**(self._options.get("labels") or {}), "executor": self._desk.name}
        options = {**self._options, "labels": labels, "key": key}
        given: Any = fn
        if isinstance(given, _Each):
            function, first, named = _unwrapped(given.function)
            if named:
                raise TypeError("map with chunks cannot send arguments by name: leave chunksize at 1")
            chunk: Any = args[0]
            ordered = {**order(function, (), {}, options), "params": [[*first, *one] for one in chunk], "each": True}
        else:
            function, first, named = _unwrapped(given)
            ordered = order(function, (*first, *args), {**named, **kwargs}, options)
        self._desk.take(future, ordered)
        return future

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """As the built-in ``map``; with ``chunksize`` so many calls are one run. Raises what ``fn`` raised, TimeoutError."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        chunks = _chunks(zip(*iterables, strict=False), chunksize)
        each: Any = _Each(fn)
        return itertools.chain.from_iterable(super().map(each, chunks, timeout=timeout))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more; ``wait`` for what was submitted; ``cancel_futures``: what has not begun is not to begin."""
        self._shut = True
        if cancel_futures:
            self._desk.cancel_all()
        self._finish.detach()
        self._desk.close(wait=wait)


class _Desk:
    """The thread that speaks with the daemon, and the futures that it owes."""

    def __init__(self, client: AsyncClient, ahead: int) -> None:
        self.name = new_key()
        self._client = client
        self._queue = _FullQueue()
        self._ahead = ahead
        self._futures: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closing = False
        self._empty: asyncio.Event
        self._subscribed: asyncio.Event
        self._places: asyncio.Semaphore
        self._tasks: set[asyncio.Task[None]] = set()

    # --- from any thread ----------------------------------------------------------------------------------------------
    def take(self, future: Future[Any], ordered: dict[str, Any]) -> None:
        """Owe this future."""
        with self._lock:
            if self._thread is None:
                self._begin()
            self._futures[future.key] = future
        future.add_done_callback(self._done)
        self._soon(lambda: self._begin_serving(future, ordered))

    def _begin(self) -> None:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="rocksyd.Executor", daemon=True)
        self._thread.start()
        started.wait()
        atexit.register(self.close)

    def _soon(self, act: Callable[[], object]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(act)

    def _done(self, future: StandardFuture[Any]) -> None:
        """Called by whoever cancels a future, or by the thread that has settled it."""
        if future.cancelled() and isinstance(future, Future):
            self._soon(lambda: self._start(self._cancelled(future)))

    def cancel_all(self) -> None:
        """Cancel what has not begun."""
        with self._lock:
            futures = list(self._futures.values())
        for future in futures:
            future.cancel()

    def close(self, wait: bool = True) -> None:
        """End the thread when nothing is owed any more."""
        with self._lock:
            thread, loop = self._thread, self._loop
            first, self._closing = not self._closing, True
        if thread is None or loop is None:
            return
        if first and thread.is_alive():
            loop.call_soon_threadsafe(self._look_whether_empty)
        if wait:
            thread.join()

    # --- in the thread ------------------------------------------------------------------------------------------------
    def _run(self, started: threading.Event) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._empty, self._subscribed = asyncio.Event(), asyncio.Event()
            self._places = asyncio.Semaphore(self._ahead)
            started.set()
            news = asyncio.create_task(self._listen())
            await self._empty.wait()
            news.cancel()
            await asyncio.gather(news, *self._tasks, return_exceptions=True)
            await self._client.close()

        asyncio.run(main())
        atexit.unregister(self.close)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _begin_serving(self, future: Future[Any], ordered: dict[str, Any]) -> None:
        future.task = self._start(self._serve(future, ordered))

    async def _listen(self) -> None:
        """Which runs have begun, and how far they are. Only what futures show of it is lost when nobody answers."""
        news: AsyncSubscription | None = None
        try:
            news = await self._client.subscribe(labels={"executor": self.name}, events=["run.started", "run.progress"])
            self._subscribed.set()
            async for event in news:
                future = self._futures.get(event.key)
                if future is not None:
                    self._is_running(future)
                    future.progress = event.record.get("progress") or future.progress
        except RocksydError:
            return  # those who wait for results are told why nobody answers
        finally:
            self._subscribed.set()
            if news is not None:
                await news.close()

    @staticmethod
    def _is_running(future: Future[Any]) -> bool:
        """Whether it is not cancelled; from now on it cannot be."""
        if future.done():
            return False
        running = future.running() or future.set_running_or_notify_cancel()
        future.told = not running  # it was cancelled just now
        return running

    async def _serve(self, future: Future[Any], ordered: dict[str, Any]) -> None:
        try:
            await self._subscribed.wait()
            async with self._places:
                result = await self._called(ordered)
            if self._is_running(future):
                future.set_result(result)
        except JobFailed as error:
            self._failed(future, raised(error))
        except ResultDropped as error:
            self._failed(future, _of_chunk(error) if ordered.get("each") else error)
        except Exception as error:  # noqa: BLE001  (whatever it is, whoever waits for the future has to hear of it)
            self._failed(future, error)
        finally:
            if not future.cancelled():
                self._settled(future)

    async def _called(self, ordered: dict[str, Any]) -> Any:
        """What the run returned; ordered again as long as the daemon is too busy."""
        tries = 0
        while True:
            try:
                result = await self._client.request("call", ordered, wait=True)
            except TooBusy:
                await self._queue.wait(tries)
                tries += 1
            except BaseException:
                self._queue.has_room()
                raise
            else:
                self._queue.has_room()
                return returned(result)

    def _failed(self, future: Future[Any], error: Exception) -> None:
        if self._is_running(future):
            future.set_exception(error)

    async def _cancelled(self, future: Future[Any]) -> None:
        """Whoever waits for it is told; the run, if it was ordered already, is ended."""
        if not future.told:
            future.set_running_or_notify_cancel()
        if future.task is not None:
            future.task.cancel()
        try:
            await self._client.terminate(future.key)
        except RocksydError:
            pass  # it was not ordered yet, or has ended
        self._settled(future)

    def _settled(self, future: Future[Any]) -> None:
        with self._lock:
            self._futures.pop(future.key, None)
        self._look_whether_empty()

    def _look_whether_empty(self) -> None:
        if self._closing and not self._futures:
            self._empty.set()


class _FullQueue:
    """Runs that the daemon's queue had no room for: one is ordered again when another run has ended, and each after a while."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self, tries: int) -> None:
        """Wait for room, after so many tries in vain."""
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(room)
        try:
            async with asyncio.timeout(min(BUSY_FIRST * 2**tries, BUSY_MOST)):
                await room
        except TimeoutError:
            self._waiting.remove(room)

    def has_room(self) -> None:
        """A run has ended."""
        while self._waiting:
            room = self._waiting.popleft()
            if not room.done():
                return room.set_result(None)
        return None


def _unwrapped(function: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """A ``functools.partial`` as what it is made of."""
    args: tuple[Any, ...] = ()
    named: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        args, named = (*function.args, *args), {**function.keywords, **named}
        function = function.func
    return function, args, named


def _of_chunk(error: ResultDropped) -> ResultDropped:
    text = "the results of a chunk were too large to be returned together: choose a smaller chunksize"
    return ResultDropped(text, error.record)


def _chunks(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(itertools.islice(items, size)):
        yield chunk
