"""The clients with the daemon itself: many runs at once, their output, their progress, the news."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import decimal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rocksyd import AsyncClient
from rocksyd.client import Client
from rocksyd.errors import JobFailed, NotFound, RequestError, ResultDropped, TimedOut
from rocksyd.testing import Daemon
from tests.restart.stage import gate

JOBS = """
import datetime, decimal
from rocksyd import current, job

@job
def double(n: int):
    return 2 * n

@job
def day(when: datetime.date, price: decimal.Decimal, *, note: str = ""):
    return [when.isoformat(), str(price), note]

@job
def long(size):
    return "x" * size

@job
def broken(n):
    if n == 3:
        raise ValueError("three")
    return n

@job
def gate(path):
    "Waits until the test opens the gate, and tells that it got there."
    current().progress(1, 3, "waiting")
    print("before", flush=True)
    with open(path) as file:
        text = file.read()
    print("after", flush=True)
    current().progress(3, 3, "through")
    return text
"""
NARROW = 'pm = "ondemand"\nmax_workers = 2\nmax_queue = 3\ngrace = "30s"'


@contextmanager
def at_work(folder: Path, **parts: str) -> Iterator[tuple[Daemon, Client]]:
    with Daemon(folder / "daemon", JOBS, parts=parts) as daemon, daemon.client() as client:
        yield daemon, client


def test_map_gives_what_the_jobs_return_in_order(tmp_path: Path) -> None:
    with at_work(tmp_path) as (_, client):
        assert list(client.map("double", range(40))) == [2 * n for n in range(40)]
        assert list(client.map("double", [])) == []
        numbers = iter(range(10**9))
        some = client.map("double", numbers, ahead=5)
        assert [next(some) for _ in range(10)] == [2 * n for n in range(10)]
        some.close()
        assert next(numbers) <= 20, "it is not read further than needed"


def test_map_waits_where_the_queue_has_no_room(tmp_path: Path) -> None:
    with at_work(tmp_path, pool=NARROW) as (_, client):
        assert list(client.map("double", range(30))) == [2 * n for n in range(30)]


def test_map_raises_at_the_run_that_failed(tmp_path: Path) -> None:
    with at_work(tmp_path) as (_, client):
        results = client.map("broken", range(5))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(JobFailed, match="ValueError: three"):
            next(results)


def test_a_result_that_was_too_long_to_be_kept_is_no_none(tmp_path: Path) -> None:
    with at_work(tmp_path) as (daemon, client):
        wanted = "the result was dropped: it is 3000002 bytes of JSON, and result_limit is 1048576"
        with pytest.raises(ResultDropped, match=wanted):
            client.call("long", 3_000_000)
        run = client.run("long", 3_000_000, key="k")
        assert (run.wait()["outcome"], run.record["result"], run.record["result_dropped"]) == ("ok", None, wanted)
        with pytest.raises(ResultDropped, match=wanted) as caught:
            run.result()
        assert caught.value.record["key"] == "k"
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        assert client.status("k")["result_dropped"] == wanted
        assert client.retry("k").record["result_dropped"] is None

        async def ask() -> None:
            async with AsyncClient(daemon.address) as daemon_:
                await daemon_.call("long", 3_000_000)

        with pytest.raises(ResultDropped, match=wanted):
            asyncio.run(ask())


def test_runs_come_as_they_are_completed(tmp_path: Path) -> None:
    with at_work(tmp_path) as (_, client), gate(tmp_path, "a") as first, gate(tmp_path, "b") as second:
        runs = [client.run("gate", str(held.path)) for held in (first, second)]
        completed = client.as_completed([*runs, runs[1]])
        second.open("second")
        assert [next(completed).record["result"] for _ in range(2)] == ["second", "second"]
        with pytest.raises(TimedOut):
            list(client.as_completed(runs[:1], timeout=0.01))
        first.open("first")
        assert next(completed) is runs[0]
        assert list(completed) == []


def test_ten_thousand_waits_at_once_are_all_answered(tmp_path: Path) -> None:
    """More than the daemon reads ahead from a client that does not read its answers."""
    with at_work(tmp_path) as (_, client):
        run = client.run("double", 4, key="k" * 100)
        run.wait()
        records = list(client.wait(*[run.key] * 10_000))
        assert len(records) == 10_000
        assert {record["result"] for record in records} == {8}


def test_progress_is_told_while_one_waits(tmp_path: Path) -> None:
    with at_work(tmp_path) as (_, client), gate(tmp_path) as held:
        told: list[dict[str, Any]] = []

        def progress(news: dict[str, Any]) -> None:
            told.append(news)
            if news["note"] == "waiting":
                held.open("done")

        assert client.run("gate", str(held.path)).result(progress=progress) == "done"
        assert [news["note"] for news in told] == ["waiting", "through"]
        with pytest.raises(NotFound):
            client.watch("nobody", progress)


def test_arguments_are_python_values_and_may_be_mixed_for_a_function(tmp_path: Path) -> None:
    def day(when: datetime.date, price: decimal.Decimal, *, note: str = "") -> None: ...

    day.__module__, day.__qualname__ = "jobs", "day"
    with at_work(tmp_path) as (_, client):
        when = datetime.date(2026, 1, 31)
        assert client.call(day, when, decimal.Decimal("1.50"), note="x") == ["2026-01-31", "1.50", "x"]
        with pytest.raises(RequestError, match="parameter 'price' must be a decimal number") as caught:
            client.call("day", when=when, price="cheap")
        assert caught.value.code == -32602
        with pytest.raises(TypeError, match="object has no form in JSON"):
            client.call("day", object())


def test_what_may_be_run_and_how_it_is_called_can_be_asked(tmp_path: Path) -> None:
    with at_work(tmp_path) as (_, client):
        targets = {row["name"]: row for row in client.targets("app")}
        assert sorted(targets) == ["broken", "day", "double", "gate", "long"]
        parameters = targets["day"]["signature"]["parameters"]
        assert [parameter["name"] for parameter in parameters] == ["when", "price", "note"]
        assert client.health()["ok"] is True
        with pytest.raises(NotFound, match="there are: app"):
            client.targets("other")


# --- the news -----------------------------------------------------------------------------------------------------------
def test_a_subscriber_hears_what_it_asked_for_from_the_moment_it_asked(tmp_path: Path) -> None:
    with at_work(tmp_path) as (_, client):
        with client.subscribe(labels={"of": "interest"}) as news:
            client.call("double", 1)
            run = client.run("double", 2, labels={"of": "interest", "more": "labels"})
            events = [next(news), next(news)]
            assert [(event.name, event.key) for event in events] == [("run.started", run.key), ("run.ended", run.key)]
            assert events[1].record["result"] == 4
            position = news.position
        client.call("double", 3)
        with client.subscribe(events=["run.ended"], position=position) as later:
            assert [event.record["params"] for event in (next(later), next(later))] == [[2], [3]]
            assert client.restart() == 2
            client.call("double", 5)
            assert next(later).record["params"] == [5]


# --- asyncio ------------------------------------------------------------------------------------------------------------
def test_the_asynchronous_client_does_all_of_it(tmp_path: Path) -> None:
    async def main(address: str, path: str, held: Any) -> None:
        async with AsyncClient(address) as client:
            assert [n async for n in client.map("double", range(20), ahead=4)] == [2 * n for n in range(20)]
            assert await asyncio.gather(*(client.call("double", n) for n in range(5))) == [0, 2, 4, 6, 8]
            async with await client.subscribe(keys=["g"]) as news:
                run = await client.run("gate", path, key="g")
                assert (await anext(news)).name == "run.started"
                told: list[Any] = []
                waiting = asyncio.create_task(run.result(progress=told.append))
                logs = run.logs(follow=True)
                text = await anext(logs)
                with contextlib.suppress(TimeoutError):  # nothing is lost by it
                    await asyncio.wait_for(anext(news), 0.01)
                await asyncio.to_thread(held.open, "through")
                assert await waiting == "through"
                assert text + "".join([more async for more in logs]) == "before\nafter\n"
                assert {item["note"] for item in told} <= {"waiting", "through"}
                while (event := await anext(news)).name != "run.ended":
                    pass
                assert event.record["result"] == "through"
            runs = [await client.run("double", n) for n in range(3)]
            ended = {done.key: done.record["result"] async for done in client.as_completed(runs)}
            assert ended == {run.key: 2 * n for n, run in enumerate(runs)}
            assert (await (await client.get("g")).retry()).key == "g"
            await client.terminate("g")
            assert (await client.wait("g"))["outcome"] == "cancelled"
            assert await client.restart() == 2
            with pytest.raises(JobFailed):
                await client.call("broken", 3)

    with at_work(tmp_path) as (daemon, _), gate(tmp_path) as held:
        asyncio.run(main(daemon.address, str(held.path), held))


def test_the_asynchronous_map_waits_where_the_queue_has_no_room(tmp_path: Path) -> None:
    async def main(address: str) -> list[int]:
        async with AsyncClient(address) as client:
            return [n async for n in client.map("double", range(30))]

    with at_work(tmp_path, pool=NARROW) as (daemon, _):
        assert asyncio.run(main(daemon.address)) == [2 * n for n in range(30)]
