"""What holds servers against the ASGI specification finds what is wrong, and nothing in what is right."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.files import lines
from tests.web import checked

SCOPE: dict[str, Any] = {
    "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET", "scheme": "http",
    "path": "/", "raw_path": b"/", "query_string": b"", "root_path": "", "headers": [(b"host", b"a")], "client": None,
    "server": ("a", 80), "state": {},
}  # fmt: skip
LAST = {"type": "http.request", "body": b"", "more_body": False}
GONE = {"type": "http.disconnect"}


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            continue
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def found(folder: Path, scope: dict[str, Any], *messages: dict[str, Any], refuses: bool = True) -> list[str]:
    """What the checker says of a server that gives this scope and these messages."""
    (folder / "faults").unlink(missing_ok=True)
    names: dict[str, Any] = {}
    exec(checked.TEXT, names)
    made = names["checked"](application)
    left = list(messages)
    over = False

    async def receive() -> dict[str, Any]:
        return left.pop(0) if left else GONE

    async def send(message: dict[str, Any]) -> None:
        nonlocal over
        if over and refuses:
            raise RuntimeError("it is over")
        over = message["type"] == "http.response.body"

    async def serve() -> None:
        lifespan: dict[str, Any] = {"type": "lifespan", "asgi": SCOPE["asgi"], "state": {}}
        await made(lifespan, receive, send)
        await made({**scope, "state": dict(lifespan["state"])}, receive, send)

    asyncio.run(serve())
    return [line.partition(": ")[2] for line in lines(folder / "faults")]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, []),
        ({"method": "get"}, ["method is 'get'"]),
        ({"headers": [(b"Host", b"a")]}, ["headers is [(b'Host', b'a')]"]),
        ({"raw_path": b"/?a"}, ["raw_path is b'/?a'"]),
        ({"scheme": "ws"}, ["scheme is ws"]),
        ({"query_string": "a"}, ["query_string is 'a'"]),
        ({"client": "1.2.3.4"}, ["client is '1.2.3.4'"]),
        ({"extra": 1}, ["the scope has extra, which is nothing known"]),
    ],
    ids=["right", "method", "headers", "raw_path", "scheme", "query_string", "client", "extra"],
)
def test_a_scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], said: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert found(tmp_path, {**SCOPE, **wrong}, LAST, GONE) == said


def test_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert found(tmp_path, SCOPE, LAST, LAST) == ["received more behind the last of the body"]
    assert found(tmp_path, SCOPE, {"type": "http.request", "body": "text"}, GONE)[0].startswith("received {")
    assert found(tmp_path, SCOPE, {"type": "websocket.connect"}, GONE) == ["received websocket.connect"]
    assert found(tmp_path, SCOPE, LAST, GONE, LAST) == ["received something else than http.disconnect behind the response"]
