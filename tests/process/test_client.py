"""The blocking and the asyncio client over a real socket, against a fake daemon."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksyd.client import AsyncClient, Client
from rocksyd.errors import InUse, JobFailed, NoDaemon, NotFound, RequestError, TimedOut, TooBusy
from tests.process.fake_daemon import Caller, Crash, FakeDaemon, Refusal, Silence, record

ERROR = {"type": "ValueError", "message": "no", "traceback": "Traceback\nValueError: no\n"}


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with tempfile.TemporaryDirectory() as folder, FakeDaemon(str(Path(folder) / "sock")) as fake:
        yield fake


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[Client]:
    with Client(daemon.address, timeout=60, patience=60) as made:
        yield made


def refusing(code: int, data: Any = None) -> Any:
    def handler(caller: Caller, params: dict[str, Any]) -> Any:
        raise Refusal(code, "no", data)

    return handler


def crashing_once(then: Any) -> Any:
    crashed: list[bool] = []

    def handler(caller: Caller, params: dict[str, Any]) -> Any:
        if not crashed:
            crashed.append(True)
            raise Crash
        return then

    return handler


def silent(caller: Caller, params: dict[str, Any]) -> Any:
    raise Silence


def some_job() -> None:
    """A target given as a function."""


def test_a_run_and_all_one_can_do_with_it(daemon: FakeDaemon, client: Client) -> None:
    daemon.handlers.update(
        run=lambda caller, params: record(params["key"], state="running", outcome=None),
        status=lambda caller, params: record(params["key"]),
        wait=lambda caller, params: record(params["key"]),
        terminate=lambda caller, params: {},
        free=lambda caller, params: {},
        retry=lambda caller, params: record(params["key"], state="waiting"),
        logs=lambda caller, params: {"text": "out"[params["offset"] :], "offset": 3, "ended": True, "truncated": False},
    )
    run = client.run(some_job, 1, 2, timeout="5m", labels={"a": "b"})
    assert daemon.next("run") == {
        "target": f"{__name__}:some_job",
        "key": run.key,
        "params": [1, 2],
        "timeout": "5m",
        "labels": {"a": "b"},
    }
    assert run.record["state"] == "running"
    assert run.status()["state"] == "ended"
    assert run.wait(60)["outcome"] == "ok"
    assert run.result() == 42
    assert "".join(run.logs()) == "".join(run.logs(follow=True)) == "out"
    assert "".join(run.logs(offset=1)) == "ut"
    run.terminate()
    assert run.retry().key == run.key
    run.free()
    assert "running" not in repr(client.get(run.key))


@pytest.mark.parametrize(
    ("code", "kind"), [(-32001, NotFound), (-32002, InUse), (-32004, TooBusy), (-32602, RequestError), (1, RequestError)]
)
def test_errors_have_types(daemon: FakeDaemon, client: Client, code: int, kind: type[RequestError]) -> None:
    daemon.handlers["run"] = refusing(code, {"advice": "do better"})
    with pytest.raises(kind, match="no: do better") as caught:
        client.run("x")
    assert type(caught.value) is kind
    assert caught.value.code == code


def test_call_returns_or_raises_what_the_job_did(daemon: FakeDaemon, client: Client) -> None:
    daemon.handlers["call"] = crashing_once({"result": [1]})
    assert client.call("x", a=1) == [1]
    assert daemon.next("call") == daemon.next("call")
    daemon.handlers["call"] = refusing(-32000, ERROR)
    with pytest.raises(JobFailed) as caught:
        client.call("x")
    assert (caught.value.type, caught.value.reason) == ("ValueError", "no")
    assert "ValueError: no" in caught.value.traceback


def test_result_of_a_failed_run_raises(daemon: FakeDaemon, client: Client) -> None:
    daemon.handlers["status"] = daemon.handlers["wait"] = lambda caller, params: record(
        "k", outcome="failed", retcode=1, error=ERROR
    )
    with pytest.raises(JobFailed, match="failed: ValueError: no"):
        client.get("k").result()


@pytest.mark.parametrize("arguments", [((1,), {"a": 1}), ((object(),), {}), ((1,), {"params": [1]}), ((float("nan"),), {})])
def test_arguments_that_cannot_be_sent(daemon: FakeDaemon, client: Client, arguments: tuple[Any, Any]) -> None:
    with pytest.raises(TypeError):
        client.run("x", *arguments[0], **arguments[1])
    assert daemon.requests() == []


OPTIONS: dict[str, Any] = {
    "app": "shop", "priority": 3, "timeout": 60, "start_within": "5m", "delay": 1, "retries": 2, "env": {"A": "b"},
    "labels": {"team": "x"}, "concurrency_key": "c", "key": "k",
}  # fmt: skip


def fetch(url: str, timeout: float = 1.0, *, key: str = "") -> None:
    """A job whose parameters have the names of options."""


def test_run_and_call_take_the_same_names_for_options_and_all_others_for_the_jobs(daemon: FakeDaemon, client: Client) -> None:
    daemon.handlers.update(run=lambda caller, params: record(params["key"]), call=lambda caller, params: {"result": 1})
    expected = {"target": "fetch", "params": {"url": "x", "depth": 2}, **OPTIONS}
    client.run("fetch", url="x", depth=2, **OPTIONS)
    client.call("fetch", url="x", depth=2, **OPTIONS)

    async def aio() -> None:
        async with AsyncClient(daemon.address) as other:
            await other.run("fetch", url="x", depth=2, **OPTIONS)
            await other.call("fetch", url="x", depth=2, **OPTIONS)

    asyncio.run(aio())
    assert daemon.requests() == [("run", expected), ("call", expected)] * 2


@pytest.mark.parametrize("name", ["timeout", "key"])
def test_a_name_that_is_an_option_and_a_parameter_of_the_function_is_an_error(
    daemon: FakeDaemon, client: Client, name: str
) -> None:
    daemon.handlers.update(run=lambda caller, params: record(params["key"]), call=lambda caller, params: {"result": 1})
    given: dict[str, Any] = {name: "60"}
    for order in (client.run, client.call):
        with pytest.raises(TypeError, match=f"{name} is an option of a run and a parameter of {__name__}:fetch: give .* params="):
            order(fetch, "x", **given)
        order(fetch, params={"url": "x", name: "5"}, **given)
        order("fetch", "x", **given)
        (_, explicit), (_, by_string) = daemon.requests()
        assert (explicit["params"], explicit[name]) == ({"url": "x", name: "5"}, "60")
        assert (by_string["params"], by_string[name]) == (["x"], "60")
    with pytest.raises(TypeError, match=f"{name} is an option of a run"):
        next(client.map(fetch, ["x"], **given))


def test_waiting_has_a_limit(daemon: FakeDaemon, client: Client) -> None:
    daemon.handlers["wait"] = lambda caller, params: "timed_out"
    with pytest.raises(TimedOut):
        list(client.wait("a", "b", timeout=0))
    assert daemon.next("wait")["timeout"] > 0


def test_every_time_can_be_written_as_a_duration(daemon: FakeDaemon) -> None:
    daemon.handlers["wait"] = lambda caller, params: "timed_out"
    daemon.handlers["subscribe"] = silent
    daemon.handlers["status"] = lambda caller, params: record("a")
    with Client(daemon.address, timeout="20s", patience="5s") as client:
        assert (client.timeout, client.patience) == (20.0, 5.0)
        run = client.get("a")
        for wait in (
            lambda: list(client.wait("a", timeout="1ms")),
            lambda: client.watch("a", print, timeout="1ms"),
            lambda: list(client.as_completed([run], timeout="1ms")),
            lambda: run.result("1ms"),
        ):
            run.record = record("a", state="running")
            with pytest.raises(TimedOut, match=r"not ended within 1ms"):
                wait()
        with pytest.raises(ValueError, match="expected a duration"):
            list(client.wait("a", timeout="soon"))


def test_a_stuck_daemon_is_no_daemon(daemon: FakeDaemon) -> None:
    daemon.handlers["stats"] = silent
    with Client(daemon.address, timeout=0.01) as client, pytest.raises(NoDaemon, match="has not answered 'stats'"):
        client.stats()


def test_a_daemon_that_stays_away_is_given_up(daemon: FakeDaemon) -> None:
    def last(caller: Caller, params: dict[str, Any]) -> Any:
        daemon.listener.close()
        raise Crash

    daemon.handlers["wait"] = last
    with Client(daemon.address, patience=0.05) as client, pytest.raises(NoDaemon):
        list(client.wait("k"))


def test_a_daemon_that_comes_back_is_found(daemon: FakeDaemon, client: Client) -> None:
    """Stopped and started anew: the socket is another one, and for a while there is none."""
    daemon.handlers["wait"] = silent
    records: list[Any] = []
    waiting = threading.Thread(target=lambda: records.extend(client.wait("k")))
    waiting.start()
    daemon.next("wait")
    daemon.close()
    with FakeDaemon(daemon.path, handlers={"wait": lambda caller, params: record("k")}):
        waiting.join(30)
    assert records == [record("k")]


def test_a_connection_is_used_again_unless_it_has_ended(daemon: FakeDaemon, client: Client) -> None:
    callers = []
    daemon.handlers["stats"] = lambda caller, params: callers.append(caller) or {}
    client.stats()
    client.stats()
    assert callers[0] is callers[1]
    daemon.handlers["stats"] = crashing_once({})
    client.stats()
    # Not on the connection that was lost: this is the first answer to `free`, so NotFound means just that.
    daemon.handlers["free"] = refusing(-32001)
    with pytest.raises(NotFound):
        client.free("k")


def test_threads_share_a_client(daemon: FakeDaemon, client: Client) -> None:
    daemon.handlers["status"] = lambda caller, params: record(params["key"])
    keys: list[list[str]] = [[], [], [], []]
    threads = [
        threading.Thread(target=lambda n=n: keys[n].extend(client.status(f"{n}.{i}")["key"] for i in range(50))) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keys == [[f"{n}.{i}" for i in range(50)] for n in range(4)]


# --- asyncio ----------------------------------------------------------------------------------------------------------
def test_async_calls_at_once_and_out_of_order(daemon: FakeDaemon) -> None:
    waiting: dict[str, int] = {}

    def wait(caller: Caller, params: dict[str, Any]) -> Any:
        waiting[params["key"]] = caller.id
        if len(waiting) == 3:
            for key in ("c", "a", "b"):
                caller.answer(record(key), waiting[key])
        raise Silence

    async def main() -> list[str]:
        async with AsyncClient(daemon.address) as client:
            records = await asyncio.gather(*(client.wait(key) for key in "abc"))
        return [item["key"] for item in records]

    daemon.handlers["wait"] = wait
    assert asyncio.run(main()) == ["a", "b", "c"]


def test_async_survives_a_crash(daemon: FakeDaemon) -> None:
    def logs(caller: Caller, params: dict[str, Any]) -> Any:
        offset = params["offset"]
        if not params.get("follow"):
            return {"text": "", "offset": offset, "ended": True}
        if offset == 0:
            caller.answer({"text": "a", "offset": 1, "ended": False})
            raise Crash
        caller.answer({"text": "b", "offset": 2, "ended": False})
        caller.notify("logs", {"key": params["key"], "text": "c", "offset": 3, "ended": True})
        raise Silence

    async def main() -> tuple[Any, str]:
        async with AsyncClient(daemon.address) as client:
            run = await client.run("x", a=1, key="k")
            result = await run.result()
            return result, "".join([text async for text in run.logs(follow=True)])

    daemon.handlers.update(run=crashing_once(record("k")), wait=crashing_once(record("k")), logs=logs)
    assert asyncio.run(main()) == (42, "abc")


def test_async_errors(daemon: FakeDaemon) -> None:
    async def main() -> None:
        async with AsyncClient("unix:///nowhere/at/all") as nobody:
            with pytest.raises(NoDaemon, match="rocksyd serve"):
                await nobody.stats()
        async with AsyncClient(daemon.address, timeout=0.5) as hasty:
            with pytest.raises(NoDaemon, match="has not answered"):
                await hasty.stats()
        async with AsyncClient(daemon.address) as client:
            with pytest.raises(NotFound):
                await client.status("k")
            with pytest.raises(TimedOut):
                await client.wait("k", timeout=0.01)
            with pytest.raises(TypeError):
                await client.run("x", object())

    daemon.handlers.update(status=refusing(-32001), stats=silent, wait=lambda caller, params: {"timed_out": True})
    asyncio.run(main())


def test_async_waits_for_several_runs_and_is_a_task_for_one(daemon: FakeDaemon) -> None:
    async def main() -> None:
        async with AsyncClient(daemon.address) as client:
            task = asyncio.create_task(client.wait("a", timeout=20))
            assert (await task)["key"] == "a"
            assert sorted([item["key"] async for item in client.wait("a", "b", "c")]) == ["a", "b", "c"]
            runs = [await client.get(key) for key in "aab"]
            assert [run.key async for run in client.as_completed(runs)] == ["a", "a", "b"]

    daemon.handlers["wait"] = daemon.handlers["status"] = lambda caller, params: record(params["key"])
    asyncio.run(main())


def test_async_subscription_ends_when_another_task_closes_it(daemon: FakeDaemon) -> None:
    async def main() -> list[str]:
        async with AsyncClient(daemon.address) as client:
            news = await client.subscribe(keys=["a"])
            heard: list[str] = []
            first = asyncio.Event()

            async def listen() -> None:
                async for event in news:
                    heard.append(event.name)
                    first.set()

            task = asyncio.create_task(listen())
            await first.wait()
            await news.close()
            await task
            return heard

    def subscribe(caller: Caller, params: dict[str, Any]) -> Any:
        caller.answer({"subscribed": [], "position": 1, "generation": 1})
        caller.notify("run.started", {**record("a"), "position": 2})
        raise Silence

    daemon.handlers["subscribe"] = subscribe
    assert asyncio.run(main()) == ["run.started"]


def test_async_map_leaves_nothing_behind_when_it_is_given_up(daemon: FakeDaemon) -> None:
    async def main() -> None:
        async with AsyncClient(daemon.address) as client:
            results = client.map("x", range(10), ahead=3)
            assert await anext(results) == 0
            await results.aclose()  # type: ignore[attr-defined]
            assert await client.stats() == {}

    def call(caller: Caller, params: dict[str, Any]) -> Any:
        if params["params"] != [0]:
            raise Silence
        return {"result": 0}

    daemon.handlers.update(call=call, stats=lambda caller, params: {})
    asyncio.run(main())
