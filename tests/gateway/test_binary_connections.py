"""Slow and hostile clients of Protocol Buffers: each ends by itself, is told why, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import codes
from rocksyd.companions.gateway.access import Access
from rocksyd.companions.gateway.binary import exchange
from rocksyd.companions.gateway.binary.exchange import Exchange
from rocksyd.companions.gateway.binary.requests import LONGEST, messages
from rocksyd.companions.gateway.connections import Served
from tests.gateway.test_connections import NEVER, holds

NO_TOKENS = {"tokens": {}, "hosts": []}
MAX = 1 << 20


async def echo(caller: Any, method: str, params: dict[str, Any]) -> Any:
    """Instead of the daemon: answers the parameters, or so many bytes."""
    if method == "fault":
        raise RuntimeError("broken")
    return {"result": "x" * params["params"] if isinstance(params.get("params"), int) else params.get("params"), "key": method}


@asynccontextmanager
async def served(
    perform: Callable[..., Awaitable[Any]] = echo, access: Access | None = None
) -> AsyncIterator[tuple[Served, Callable[[], Any]]]:
    server = Served(lambda *_: asyncio.sleep(0))
    server.most = 100
    listening = socket.create_server(("127.0.0.1", 0))
    where = listening.getsockname()
    server.listen(listening, lambda: Exchange(server, access or Access(NO_TOKENS), perform, MAX))
    try:
        yield server, lambda: asyncio.open_connection(*where)
    finally:
        for connection in list(server.state.connections):
            connection.transport.abort()  # type: ignore[union-attr]
        if not server.leaving.is_set():
            await server.leave()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_TIMEOUT", "KEEP_ALIVE", "WRITE_TIMEOUT", "BODY_TIMEOUT"):
        monkeypatch.setattr(exchange, name, NEVER)


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def call(number: int, **value: Any) -> bytes:
    request = messages()["Request"](id=number)
    request.call.params.CopyFrom(messages()["Value"](**value))
    return framed(request.SerializeToString())


async def reply(reader: asyncio.StreamReader) -> Any:
    size = int.from_bytes(await reader.readexactly(4), "big")
    return messages()["Reply"].FromString(await reader.readexactly(size))


async def ended(reader: asyncio.StreamReader) -> list[Any]:
    """The replies up to the end of the connection."""
    found, data = [], await reader.read()
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(messages()["Reply"].FromString(data[4 : 4 + size]))
        data = data[4 + size :]
    return found


@pytest.mark.parametrize(
    ("sent", "code", "says"),
    [
        (b"\xff\xff\xff\xff", codes.INVALID_REQUEST, "a message of 4294967295 bytes is longer than"),
        ((LONGEST + 1).to_bytes(4, "big"), codes.INVALID_REQUEST, "max_body"),
        ((MAX + 1).to_bytes(4, "big"), codes.INVALID_REQUEST, "max_body"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", codes.INVALID_REQUEST, "longer than"),
        (framed(b"\xff\xff\xff"), codes.PARSE_ERROR, "not a Request"),
        (framed(b"\x1b" * 500), codes.PARSE_ERROR, "not a Request"),
    ],
)
def test_what_is_no_message_is_answered_with_why_and_the_connection_ends(sent: bytes, code: int, says: str) -> None:
    async def client() -> None:
        async with served() as (_, connect):
            reader, writer = await connect()
            writer.write(call(1, integer=2) + sent + call(3, integer=2))
            one, error = sorted(await ended(reader), key=lambda found: not found.id)
            assert (one.id, one.call.result.text) == (1, "xx")  # what was asked before is answered
            assert (error.id, error.error.code) == (0, code)
            assert says in error.error.message
            writer.close()

    asyncio.run(client())


def test_a_fault_is_that_of_one_request_and_its_text_stays_here() -> None:
    async def client() -> None:
        async with served() as (_, connect):
            reader, writer = await connect()
            request = messages()["Request"](id=1)
            request.other.method = "fault"
            writer.write(framed(request.SerializeToString()))
            told = await reply(reader)
            assert (told.error.code, "broken" in told.error.message) == (codes.INTERNAL_ERROR, False)
            writer.write(call(2, text="x"))
            assert (await reply(reader)).call.result.text == "x"
            writer.close()

    asyncio.run(client())


def test_an_answer_that_is_too_long_is_an_error_that_says_so() -> None:
    async def client() -> None:
        async with served() as (_, connect):
            reader, writer = await connect()
            writer.write(call(1, integer=LONGEST))
            told = await reply(reader)
            assert told.error.code == codes.INVALID_REQUEST
            assert "ask for less" in told.error.message
            writer.close()

    asyncio.run(client())


def test_a_message_that_does_not_come_to_its_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def client() -> None:
        async with served() as (_, connect):
            reader, writer = await connect()
            writer.write(call(1, integer=1))
            assert (await reply(reader)).id == 1
            monkeypatch.setattr(exchange, "BODY_TIMEOUT", 0.05)
            writer.write(call(2, integer=1)[:-1])
            (error,) = await ended(reader)
            assert "has not come within" in error.error.message
            writer.close()

    asyncio.run(client())


def test_who_shows_no_token_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "HEAD_TIMEOUT", 0.05)
    file = tmp_path / "token"
    file.write_text("a secret that is long\n")
    file.chmod(0o600)
    access = Access({"tokens": {"a": {"file": str(file), "scopes": ["read"], "targets": []}}, "hosts": []})

    async def client() -> None:
        async with served(access=access) as (_, connect):
            reader, writer = await connect()
            (error,) = await ended(reader)
            assert (error.error.code, "auth" in error.error.message) == (codes.NOT_ALLOWED, True)
            writer.close()

    asyncio.run(client())


def test_a_client_that_does_not_read_is_dropped_and_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "WRITE_TIMEOUT", 0.05)

    async def client() -> None:
        async with served() as (server, connect):
            _, deaf = await connect()
            deaf.transport.pause_reading()
            deaf.write(b"".join(call(number, integer=4 << 20) for number in range(1, 20)))
            await holds(lambda: len(server.state.connections) == 1)
            reader, writer = await connect()
            writer.write(call(1, integer=1))
            assert (await reply(reader)).id == 1
            await holds(lambda: len(server.state.connections) == 1)
            writer.close()
            deaf.transport.abort()

    asyncio.run(client())


def test_a_connection_has_so_many_requests_at_the_same_time_and_the_others_wait() -> None:
    at_once, most, go = 0, 0, asyncio.Event()

    async def slow(caller: Any, method: str, params: dict[str, Any]) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await go.wait()
        at_once -= 1
        return await echo(caller, method, params)

    async def client() -> None:
        async with served(slow) as (_, connect):
            reader, writer = await connect()
            writer.write(b"".join(call(number, integer=1) for number in range(1, 101)))
            await holds(lambda: at_once == exchange.AT_ONCE)
            go.set()
            assert sorted([(await reply(reader)).id for _ in range(100)]) == list(range(1, 101))
            assert most == exchange.AT_ONCE
            writer.close()

    asyncio.run(client())


def test_who_has_said_all_and_sends_no_more_is_still_answered() -> None:
    async def client() -> None:
        async with served() as (_, connect):
            reader, writer = await connect()
            writer.write(call(1, integer=1) + call(2, integer=1))
            writer.write_eof()
            assert {one.id for one in await ended(reader)} == {1, 2}
            writer.close()

    asyncio.run(client())


def test_leaving_an_idle_connection_ends_and_one_that_asks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "KEEP_ALIVE", 0.05)
    go = asyncio.Event()

    async def slow(caller: Any, method: str, params: dict[str, Any]) -> Any:
        await go.wait()
        return await echo(caller, method, params)

    async def client() -> None:
        async with served(slow) as (server, connect):
            idle, idle_writer = await connect()
            reader, writer = await connect()
            writer.write(call(1, integer=1))
            await holds(lambda: any(one.active for one in server.state.connections))  # type: ignore[union-attr]
            leaving = asyncio.ensure_future(server.leave())
            assert await ended(idle) == []
            go.set()
            (told,) = await ended(reader)
            assert (told.id, told.leaving) == (1, True)
            await leaving
            writer.close()
            idle_writer.close()

    asyncio.run(client())


@given(
    st.lists(
        st.binary(max_size=40) | st.builds(framed, st.binary(max_size=40)) | st.builds(call, st.integers(0, 9), text=st.text())
    )
)
def test_whatever_comes_nothing_but_replies_goes_out(pieces: list[bytes]) -> None:
    async def client() -> None:
        async with served() as (server, connect):
            reader, writer = await connect()
            for piece in pieces:
                writer.write(piece)
            writer.write_eof()
            await ended(reader)  # each is a Reply, or this raises
            writer.close()
            await holds(lambda: not server.state.connections)

    asyncio.run(client())
