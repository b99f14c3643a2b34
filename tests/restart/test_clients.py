"""Clients over restarts and crashes: every call returns the right value, no job runs twice, no news is lost or told twice."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rocksyd import AsyncClient, Client, Executor
from rocksyd.client import Event
from rocksyd.testing import Daemon, until
from tests.faults.crowd import crowd, kill_master, lenient_package, traced
from tests.restart.stage import many, restart

JOBS = """
import os
from rocksyd import current, job

@job
def square(n: int) -> int:
    fd = os.open("ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, f"{current().key}\\n".encode())
    os.close(fd)
    print("squared", n)
    return n * n
"""
POOL = 'pm = "dynamic"\nmax_workers = 3\nmin_spare = 1\nmax_spare = 2\ngrace = "30s"'
RESTARTS, KILLS = many(20, 50), 10
PACE = 0.02
"""Seconds between two calls of a client: what is shown wants a call on its way at any moment, not all of the processor."""


class Callers:
    """Every kind of client, calling and calling until it is told to stop."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.stop = threading.Event()
        self.called: Counter[str] = Counter()
        self.kinds: list[Callable[[], None]] = [
            self._blocking,
            self._mapping,
            self._asynchronous,
            self._submitting,
            self._following,
        ]

    def work(self, number: int) -> None:
        self.kinds[number]()

    def right(self, kind: str, n: int, result: Any) -> None:
        assert result == n * n, f"{kind}: {n} squared is {result}"
        self.called[kind] += 1

    def _numbers(self) -> Iterator[int]:
        n = 0
        while not self.stop.wait(PACE):
            n += 1
            yield n

    def _blocking(self) -> None:
        with self.daemon.client() as client:
            for n in self._numbers():
                self.right("call", n, client.call("square", n))

    def _mapping(self) -> None:
        with self.daemon.client() as client:
            for n, result in enumerate(client.map("square", self._numbers(), ahead=3), 1):
                self.right("map", n, result)

    def _asynchronous(self) -> None:
        async def caller(client: AsyncClient) -> None:
            for n in self._numbers():
                run = await client.run("square", n)
                self.right("async", n, await run.result())

        async def main() -> None:
            async with AsyncClient(self.daemon.address) as client:
                await asyncio.gather(*(caller(client) for _ in range(3)))

        asyncio.run(main())

    def _submitting(self) -> None:
        with Executor(2, address=self.daemon.address) as pool:
            for n in self._numbers():
                self.right("executor", n, pool.submit(self.square, n).result())

    def _following(self) -> None:
        with self.daemon.client() as client:
            for n in self._numbers():
                text = "".join(client.run("square", n).logs(follow=True))
                assert text == f"squared {n}\n", text
                self.called["logs"] += 1

    @staticmethod
    def square(n: int) -> int:
        raise AssertionError("only its name is sent")


Callers.square.__module__, Callers.square.__qualname__ = "jobs", "square"


class Listener:
    """Subscribes to everything, and keeps it until the run called ``last`` has ended."""

    def __init__(self, client: Client) -> None:
        self.heard: list[Event] = []
        self._news = client.subscribe()

    def listen(self, _: int) -> None:
        with self._news:
            for event in self._news:
                self.heard.append(event)
                if event.name == "run.ended" and event.key == "last":
                    return

    def count(self, name: str) -> Counter[str]:
        return Counter(event.key for event in self.heard if event.name == name)


@contextmanager
def at_work(daemon: Daemon) -> Iterator[tuple[Callers, Listener]]:
    """All kinds of clients call while the block runs; after it each call has returned, each run ran once and was told of once."""
    callers = Callers(daemon)
    with daemon.client() as client:
        listener = Listener(client)
        with crowd(1, listener.listen):
            try:
                with crowd(len(callers.kinds), callers.work):
                    try:
                        yield callers, listener
                    finally:
                        callers.stop.set()
            finally:
                assert client.call("square", 5, key="last") == 25
        ran = traced(daemon)
        assert ran["last"] == 1
        assert set(ran.values()) == {1}, "ran twice"
        assert sum(ran.values()) == sum(callers.called.values()) + 1
        assert callers.called.keys() == {"call", "map", "async", "executor", "logs"}
        assert listener.count("run.started") == listener.count("run.ended") == ran


@pytest.mark.slow
def test_p1_over_many_restarts_every_call_returns_the_right_value_and_every_event_is_heard_once(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon, at_work(daemon) as (callers, listener):
        for _ in range(RESTARTS):
            before = callers.called.total()
            restart(daemon)
            until(lambda: callers.called.total() > before, "a call that returned after the restart")  # noqa: B023
        until(lambda: sum(event.name == "restarted" for event in listener.heard) == RESTARTS, "every restart to be told")
        generations = [event.record["generation"] for event in listener.heard if event.name == "restarted"]
        assert generations == sorted(set(generations))


@pytest.mark.slow
def test_p11_over_ten_deaths_of_the_master_every_call_returns_the_right_value_and_every_event_is_heard_once(
    tmp_path: Path,
) -> None:
    package = lenient_package(tmp_path)
    with Daemon(tmp_path / "daemon", JOBS, parts={"pool": POOL}, package=package) as daemon, at_work(daemon) as (callers, _):
        for _ in range(KILLS):
            before = Counter(callers.called)
            kill_master(daemon)
            until(
                lambda: all(callers.called[kind] > before[kind] for kind in ("call", "map", "async", "executor", "logs")),  # noqa: B023
                "every kind of client to go on",
            )


@pytest.mark.parametrize("kill", [False, True], ids=["restart", "SIGKILL"])
def test_news_of_what_happened_while_nobody_listened_are_told_to_who_goes_on_from_a_position(kill: bool, tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon, daemon.client() as client:
        with client.subscribe(events=["run.ended"]) as news:
            client.call("square", 1, key="heard")
            assert next(news).key == "heard"
            position = news.position
        client.call("square", 2, key="missed")
        kill_master(daemon) if kill else restart(daemon)
        client.call("square", 3, key="missed too")
        with client.subscribe(events=["run.ended"], position=position) as news:
            keys = [next(news).key]
            while keys[-1] != "missed too":
                keys.append(next(news).key)
        assert keys in (["missed", "missed too"], ["heard", "missed", "missed too"])


def test_a_subscriber_waits_for_a_daemon_that_is_stopped_and_started_again(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, JOBS, parts={"pool": POOL})
    with daemon, daemon.client() as client, client.subscribe(events=["run.ended"]) as news:
        client.run("square", 7, key="later", delay="300ms")
        daemon.stop()
        thread = threading.Thread(target=daemon.start)
        thread.start()
        try:
            event = next(news)
            assert (event.key, event.record["result"]) == ("later", 49)
        finally:
            thread.join()
