"""What a release of uvicorn has to have for web workers: the members that are used without being documented."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("uvicorn")
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from rocksyd.worker.web import http


async def application(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


@pytest.fixture
def protocol() -> HttpToolsProtocol:
    loop = asyncio.new_event_loop()
    try:
        config = Config(application, log_config=None, lifespan="off", ws="none")
        config.load()
        return HttpToolsProtocol(config, ServerState(), {}, _loop=loop)
    finally:
        loop.close()


@pytest.mark.parametrize("name", http.USED)
def test_the_protocol_has_what_is_used_of_it(protocol: HttpToolsProtocol, name: str) -> None:
    """`url`, `headers` and the like come with a request: they are set by a method of the class, or there from the beginning."""
    set_later = f"self.{name} = " in inspect.getsource(HttpToolsProtocol) or f"self.{name}: " in inspect.getsource(
        HttpToolsProtocol
    )
    assert hasattr(protocol, name) or set_later


@pytest.mark.parametrize(("ours", "theirs"), [(http.Connection, HttpToolsProtocol), (http.Cycle, RequestResponseCycle)])
def test_what_is_overridden_takes_what_it_is_given(ours: type, theirs: type) -> None:
    """A method that has another name or other parameters in a new release would be called in vain, or not at all."""
    common = [name for name in vars(ours) if name != "__init__" and inspect.isfunction(vars(theirs).get(name))]
    assert common
    for name in common:
        needed = [one for one in _by_place(getattr(ours, name)) if one.default is one.empty]
        given = _by_place(getattr(theirs, name))
        assert len(needed) <= len(given), name


def _by_place(method: Callable[..., Any]) -> list[inspect.Parameter]:
    return [one for one in inspect.signature(method).parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD]


def test_every_member_that_is_named_is_used() -> None:
    source = inspect.getsource(http).partition("Members of ``HttpToolsProtocol``")[2]
    assert [name for name in http.USED if name not in source] == []
