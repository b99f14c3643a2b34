"""Every method of the protocol is reached by a method of both clients."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from rocksyd.client import AsyncClient, Client
from rocksyd.master.desk.methods import METHODS
from tests.process.fake_daemon import FakeDaemon, record

ASKED: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "run": (lambda client: client.run("x"), record()),
    "call": (lambda client: client.call("x"), {"result": 42}),
    "status": (lambda client: client.status("k"), record()),
    "list": (lambda client: client.runs(state="ended"), [record()]),
    "wait": (lambda client: client.wait("k"), record()),
    "terminate": (lambda client: client.terminate("k"), record()),
    "free": (lambda client: client.free("k"), record()),
    "edit": (lambda client: client.edit("k", params=[1], priority=2), record()),
    "retry": (lambda client: client.retry("k"), record()),
    "logs": (lambda client: client.logs("k"), {"text": "", "offset": 0, "ended": True, "truncated": False}),
    "why": (lambda client: client.why("k"), {"key": "k", "reasons": []}),
    "stack": (lambda client: client.stack("k"), {"key": "k", "pid": 1, "text": "here"}),
    "left_behind": (lambda client: client.left_behind(), []),
    "subscribe": (lambda client: client.subscribe(keys=["k"]), {"subscribed": [], "position": 0, "generation": 1}),
    "targets": (lambda client: client.targets("shop"), []),
    "stats": (lambda client: client.stats(), {"pid": 1}),
    "pools": (lambda client: client.pools(), []),
    "services": (lambda client: client.services(), []),
    "restarts": (lambda client: client.restarts(3), []),
    "costs": (lambda client: client.costs(), []),
    "flag": (
        lambda client: client.flag("debug", target="t", lasts="5m"),
        {"flag": "debug", "target": "t", "until": 1, "by": "x"},
    ),
    "unflag": (lambda client: client.unflag("debug", script="s"), {"removed": True}),
    "flags": (lambda client: client.flags(), []),
    "durations": (lambda client: client.durations(), {"bounds": [], "rows": []}),
    "health": (lambda client: client.health(), {"ok": True, "problems": []}),
    "restart": (lambda client: client.restart(), {"generation": 2}),
    "reload": (lambda client: client.reload(), {"generation": 2}),
    "stop": (lambda client: client.stop(wait=False), {"generation": 1}),
    "drain": (lambda client: client.drain(), {"generation": 1}),
    "auth": (lambda client: client.stats(), {}),
    "rpc.discover": (lambda client: client.discover(), {"openrpc": "1.3.2"}),
}


def test_every_method_of_the_protocol_has_one_here() -> None:
    assert ASKED.keys() == METHODS.keys()


async def exhausted(answer: Any) -> None:
    if hasattr(answer, "__aiter__"):
        async for _ in answer:
            pass
    elif inspect.isawaitable(answer):
        found = await answer
        if hasattr(found, "close"):
            await found.close()


@pytest.mark.parametrize("aio", [False, True], ids=["blocking", "asyncio"])
@pytest.mark.parametrize("method", ASKED)
def test_both_clients_reach_the_method(method: str, aio: bool) -> None:
    ask, answer = ASKED[method]

    async def main(address: str) -> None:
        async with AsyncClient(address, token="secret") as client:
            await exhausted(ask(client))

    with FakeDaemon(
        token="secret", handlers={method: lambda caller, params: answer, "stats": lambda caller, params: {}}
    ) as daemon:
        if aio:
            asyncio.run(main(daemon.address))
        else:
            with Client(daemon.address, token="secret") as client:
                found = ask(client)
                if inspect.isgenerator(found):
                    list(found)
                elif hasattr(found, "close"):
                    found.close()
        assert daemon.raw[0].startswith(b"auth ")
        if method != "auth":
            daemon.next(method)
