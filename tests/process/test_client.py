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
    with Client(daemon.address, timeout=20, patience=5) as made:
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
    assert run.wait(5)["outcome"] == "ok"
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


def test_waiting_has_a_limit(daemon: FakeDaemon, client: Client) -> None:
    daemon.handlers["wait"] = lambda caller, params: "timed_out"
    with pytest.raises(TimedOut):
        list(client.wait("a", "b", timeout=0))
    assert daemon.next("wait")["timeout"] > 0


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
        async with AsyncClient(daemon.address, timeout=0.01) as hasty:
            with pytest.raises(NoDaemon, match="has not answered"):
                await hasty.stats()
        async with AsyncClient(daemon.address) as client:
            with pytest.raises(NotFound):
                await client.status("k")
            with pytest.raises(TimedOut):
                await client.wait("k", 0.01)
            with pytest.raises(TypeError):
                await client.run("x", object())

    daemon.handlers.update(status=refusing(-32001), stats=silent, wait=lambda caller, params: {"timed_out": True})
    asyncio.run(main())
