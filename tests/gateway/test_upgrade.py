"""A gateway that is replaced, or dies: no request fails in the upgrade, and nobody but its own clients notices its death."""

from __future__ import annotations

import http.client
import os
import signal
from collections.abc import Callable
from pathlib import Path

from rocksyd.testing.daemon import until
from tests.companions.stage import Gate
from tests.gateway.stage import Load, companion, daemon, wait_ready, web
from tests.restart.stage import restart


def over_http(address: tuple[str, int]) -> Callable[[Load, int], None]:
    """A client that keeps its connection."""

    def ask(load: Load, which: int) -> None:
        link = http.client.HTTPConnection(*address, timeout=60)
        try:
            while not load.over.is_set():
                link.request("POST", "/call/add", f"[{which}, 1]", {"Content-Type": "application/json"})
                reply = link.getresponse()
                text = reply.read()
                assert (reply.status, text) == (200, f'{{"result":{which + 1}}}'.encode()), text
                load.answered[which] += 1
        finally:
            link.close()

    return ask


def test_no_request_fails_while_it_is_upgraded_under_load(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        there, old = web(talk), companion(talk, "gateway")["pid"]
        load = Load(over_http((there.host, there.port)), 3)
        try:
            load.more()
            for _ in range(3):
                restart(served)
                load.more()
        finally:
            load.end()
        assert not load.failures
        new = companion(talk, "gateway")["pid"]
        assert new != old
        until(lambda: served.children("rocksyd: gateway") == [new], "the old gateways to have left")


def test_a_call_under_way_is_answered_by_the_gateway_that_has_it(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        there, held = web(talk), Gate(tmp_path / "held")
        link = there.connection()
        link.request("POST", "/call/gate", f'["{held.path}"]', {"Content-Type": "application/json"})
        held.wait_entered()
        old = companion(talk, "gateway")["pid"]
        restart(served)
        assert there.post("/call/add", [1, 2]).json == {"result": 3}
        assert set(served.children("rocksyd: gateway")) == {old, companion(talk, "gateway")["pid"]}
        held.open("open")
        reply = link.getresponse()
        assert (reply.status, reply.getheader("connection")) == (200, "close")
        reply.read()
        link.close()
        until(lambda: served.children("rocksyd: gateway") == [companion(talk, "gateway")["pid"]], "the old gateway to have left")


def test_when_it_is_killed_runs_go_on_and_its_socket_is_the_same(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        there, held, old, master = web(talk), Gate(tmp_path / "held"), companion(talk, "gateway")["pid"], served.master_pid
        assert there.post("/runs", {"target": "gate", "params": [str(held.path)], "key": "held"}).json["key"] == "held"
        held.wait_entered()
        os.kill(old, signal.SIGKILL)
        assert talk.rpc("status", key="held")["state"] == "running"
        assert there.get("/runs/held").json["state"] == "running"  # waits in the socket's queue for the next gateway
        wait_ready(talk, "gateway", other_than=old)
        held.open("open")
        assert talk.rpc("wait", key="held")["outcome"] == "ok"
        assert served.master_pid == master
