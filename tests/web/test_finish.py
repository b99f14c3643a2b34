"""What an application leaves for the time after its response: that it is done, where, and in which order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from rocksyd import jobs
from rocksyd.errors import JobError
from rocksyd.jobs import current
from rocksyd.worker.web.engine import running
from tests.web.inside import Inside, Wire

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture(autouse=True)
def current_is_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_find", running)


class Left:
    """Work of several kinds, and what was done of it: its name, its request's address, and whether by the main thread."""

    def __init__(self) -> None:
        self.done: list[tuple[str, bytes, bool]] = []

    def note(self, what: str) -> None:
        here = threading.current_thread() is threading.main_thread()
        self.done.append((what, getattr(current(), "url", b"none"), here))

    async def coroutine(self) -> None:
        await asyncio.sleep(0)
        self.note("coroutine")

    def function(self) -> None:
        self.note("function")

    def gives_a_coroutine(self) -> Any:
        self.note("gives")
        return self.coroutine()

    def wrong(self) -> None:
        raise ValueError("wrong")

    def leaves_more(self) -> None:
        current().finish(lambda: self.note("more"))

    def all_of_them(self) -> None:
        """In this order."""
        for work in (self.function, self.coroutine, self.wrong, self.leaves_more, self.gives_a_coroutine):
            current().finish(work)


def asgi(left: Callable[[], object], *, how: str = "") -> Any:
    """An application that leaves work in each request, and then does as ``how`` says."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        left()
        if how == "raises":
            raise RuntimeError("raised")
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            assert (await receive())["type"] == "websocket.disconnect"
            return
        if how == "waits":
            while (await receive())["type"] != "http.disconnect":
                continue
        if how == "hangs":
            await asyncio.Event().wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    return application


def wsgi(left: Callable[[], object]) -> Any:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        left()
        if environ["PATH_INFO"] == "/raises":
            raise RuntimeError("raised")
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    return application


def said(inside: Inside, path: str = "/") -> Wire:
    """A connection over which this has been asked."""
    wire = inside.connect()
    wire.feed(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
    return wire


def wait(inside: Inside) -> None:
    """Until nothing is left that a worker which leaves would wait for."""
    inside.settle()
    while inside.engine.state.tasks:
        inside.loop.run_until_complete(asyncio.wait(set(inside.engine.state.tasks)))
        inside.turn(2)


def in_order(left: Left, url: bytes, *, here: bool) -> bool:
    functions = [("function", url, here), ("coroutine", url, True), ("gives", url, here), ("coroutine", url, True)]
    return left.done == [*functions, ("more", url, here)]


def test_of_asgi_coroutines_are_awaited_and_functions_are_called_in_a_thread(capfd: pytest.CaptureFixture[str]) -> None:
    left = Left()
    inside = Inside(asgi(left.all_of_them))
    wire = said(inside, "/a")
    wait(inside)
    inside.close()
    assert wire.written.endswith(b"ok")
    assert in_order(left, b"/a", here=False), left.done
    assert "ValueError: wrong" in capfd.readouterr().err


@pytest.mark.parametrize("threads", [1, 4])
def test_of_wsgi_functions_are_called_as_the_application_is(threads: int, capfd: pytest.CaptureFixture[str]) -> None:
    left = Left()
    inside = Inside(wsgi(left.all_of_them), wsgi=True, threads=threads)
    wire = said(inside, "/a")
    wait(inside)
    inside.close()
    assert wire.written.endswith(b"ok")
    assert in_order(left, b"/a", here=threads == 1), left.done
    assert "ValueError: wrong" in capfd.readouterr().err


def test_a_function_that_blocks_keeps_nobody_waiting() -> None:
    """Neither the next request over the same connection nor those over others."""
    may = threading.Event()
    works: list[Callable[[], object]] = [may.wait, lambda: None, lambda: None]
    inside = Inside(asgi(lambda: current().finish(works.pop(0))))
    first = said(inside)
    inside.settle()
    first.feed(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    other = said(inside)
    inside.settle()
    assert (first.written.count(b"\r\n\r\nok"), other.written.count(b"\r\n\r\nok")) == (2, 1)
    assert inside.engine.state.tasks, "a worker that leaves waits for it"
    may.set()
    wait(inside)
    inside.close()


@pytest.mark.parametrize("how", ["raises", "waits", "hangs", "websocket"])
def test_it_is_done_whatever_has_become_of_the_request(how: str) -> None:
    """The application has raised, its client has gone, it has reached its timeout; and when a WebSocket has ended."""
    left = Left()
    inside = Inside(asgi(lambda: current().finish(left.function), how=how), timeout=1e-9 if how == "hangs" else 0.0)
    wire = said(inside) if how != "websocket" else inside.connect()
    if how == "websocket":
        wire.feed(UPGRADE)
    inside.turn(5)
    assert how == "raises" or not left.done
    if how == "hangs":
        for cycle in list(inside.engine.in_flight):
            cycle.look(cycle.touched + 1)
    elif how != "raises":
        wire.close()
    wait(inside)
    inside.close()
    assert [one[0] for one in left.done] == ["function"]


@pytest.mark.parametrize("threads", [1, 4])
def test_it_is_done_of_wsgi_as_well_where_the_application_raises(threads: int) -> None:
    left = Left()
    inside = Inside(wsgi(lambda: current().finish(left.function)), wsgi=True, threads=threads)
    wire = said(inside, "/raises")
    wait(inside)
    inside.close()
    assert wire.written.startswith(b"HTTP/1.1 500 ")
    assert [one[0] for one in left.done] == ["function"]


def test_what_cannot_be_called_is_refused_with_what_can() -> None:
    said_of: list[str] = []

    def left() -> None:
        with pytest.raises(JobError, match=r"finish\(lambda: work\(\)\)") as refused:
            current().finish("a value")
        said_of.append(str(refused.value))

    inside = Inside(asgi(left))
    said(inside)
    wait(inside)
    inside.close()
    assert said_of
