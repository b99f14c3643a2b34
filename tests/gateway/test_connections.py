"""Slow and hostile clients of HTTP: each ends by itself, and nobody else waits for it. And what is relied on of uvicorn."""

from __future__ import annotations

import asyncio
import inspect
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from rocksyd.companions.gateway import connections
from rocksyd.companions.gateway.connections import Served
from tests.gateway.stage import daemon, web
from tests.restart.stage import many

NEVER = 3600.0
POST = b"POST /call/add HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HOSTILE = (
    b"",
    b"POST /call/add HTTP/1.1\r\nA: ",
    POST + b"Content-Length: 1000000000000\r\n\r\n" + b"x" * 1000,
    POST + b"Content-Length: 500000\r\n\r\n[",
    POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n[1,",
    b"\x16\x03\x01\x02\x00\x01\x00",
)
"""What is no request, or never comes to its end."""
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@contextmanager
def open_files(number: int) -> Iterator[None]:
    """So many files may be open in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def served(
    application: Any = hello, most: int = 100, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Served, Callable[..., Any]]]:
    """A server, and what connects to it."""
    server = Served(application)
    server.most = most
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    server.listen(listening, server.http(), context)
    try:
        yield server, lambda **more: asyncio.open_connection(*address, **more)
    finally:
        for connection in list(server.state.connections):
            connection.transport.abort()  # type: ignore[union-attr]
        await server.leave()


async def holds(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  (uvicorn's set of connections tells nobody)
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_TIMEOUT", "KEEP_ALIVE", "WRITE_TIMEOUT"):
        monkeypatch.setattr(connections, name, NEVER)


async def talk(connect: Callable[[], Any], data: bytes) -> bytes:
    """What is answered until the server ends the connection."""
    reader, writer = await connect()
    writer.write(data)
    try:
        return bytes(await reader.read())
    finally:
        writer.close()


def test_a_head_that_does_not_come_to_its_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def clients() -> None:
        async with served() as (_, connect):
            reader, writer = await connect()
            writer.write(HEAD + b"\r\n")
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")
            monkeypatch.setattr(connections, "HEAD_TIMEOUT", 0.5)  # from here on nothing comes in time
            assert await talk(connect, b"") == b""
            assert (await talk(connect, HEAD)).startswith(b"HTTP/1.1 408 ")
            writer.write(HEAD)
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
            writer.close()

    asyncio.run(clients())


def test_a_connection_that_is_idle_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEEP_ALIVE", 0.05)

    async def client() -> None:
        async with served() as (_, connect):
            answer = await talk(connect, HEAD + b"\r\n")
            assert answer.endswith(b"hello")
            assert b"408" not in answer

    asyncio.run(client())


def test_a_client_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WRITE_TIMEOUT", 0.05)
    over: list[str] = []

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await asyncio.wait_for(more(receive, send), NEVER)) != "http.disconnect":
            pass
        over.append("told")

    async def more(receive: Any, send: Any) -> str:
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        task = asyncio.ensure_future(receive())
        done, _ = await asyncio.wait({task}, timeout=0)
        task.cancel()
        return task.result()["type"] if done else ""

    async def client() -> None:
        async with served(endless) as (server, connect):
            _, writer = await connect()
            writer.write(HEAD + b"\r\n")
            writer.transport.pause_reading()
            await holds(lambda: bool(server.state.connections))
            await holds(lambda: not server.state.connections)
            writer.close()

    asyncio.run(client())


def test_nonsense_and_heads_that_are_too_large_are_refused() -> None:
    async def clients() -> None:
        async with served() as (_, connect):
            wrong = b"Content-Length: x\r\n\r\n"
            large = (b"A" * 70000, HEAD + b"X: " + b"y" * 70000)
            for data in (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET\r\n\r\n", HEAD + wrong, *large):
                answer = await talk(connect, data)
                assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")

    asyncio.run(clients())


def test_one_connection_too_many_ends_the_one_that_was_silent_for_longest() -> None:
    async def clients() -> None:
        async with served(most=3) as (server, connect):
            silent = [await connect() for _ in range(3)]
            await holds(lambda: len(server.state.connections) == 3)
            reader, writer = await connect()
            assert await silent[0][0].read() == b""
            writer.write(HEAD + b"\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            for _, one in (*silent, (reader, writer)):
                one.close()

    asyncio.run(clients())


def test_what_is_relied_on_of_uvicorn() -> None:
    assert list(inspect.signature(H11Protocol.__init__).parameters)[:4] == ["self", "config", "server_state", "app_state"]
    for name in (
        "connection_made",
        "data_received",
        "on_response_complete",
        "connection_lost",
        "pause_writing",
        "resume_writing",
    ):
        assert inspect.isfunction(getattr(H11Protocol, name))
    assert "response_complete" in inspect.getsource(RequestResponseCycle.__init__)


def test_a_crowd_of_hostile_connections_holds_up_neither_the_gateway_nor_the_master(tmp_path: Path) -> None:
    """Hundreds of them; five thousand in the long form."""
    number = many(700, 5000)
    with daemon(tmp_path) as running, open_files(number + 200):
        talk = running.talk()
        there = web(talk)
        before = talk.rpc("stats")["curr_connections"]
        crowd = []
        try:
            for place in range(number):
                crowd.append(one := socket.create_connection((there.host, there.port)))
                try:
                    one.sendall(HOSTILE[place % len(HOSTILE)])
                except OSError:
                    pass  # this one has had to go
                if place % 100 == 99:
                    assert there.post("/call/add", [place, 2]).json == {"result": place + 2}
            assert talk.rpc("call", target="add", params=[1, 2])["result"] == 3
            assert talk.rpc("stats")["curr_connections"] <= before + 2, "what does not say what it wants never reaches the master"
        finally:
            for one in crowd:
                one.close()
