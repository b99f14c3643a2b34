"""Every method over HTTP: paths, statuses, JSON-RPC, news and output as events, and the document that describes it all."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rocksyd.testing.daemon import until
from tests.companions.stage import Gate
from tests.gateway.stage import Web, daemon, web
from tests.restart.stage import restart


class Events:
    """A stream of server-sent events, as a browser reads it."""

    def __init__(self, there: Web, path: str, **headers: str) -> None:
        self._link = there.connection()
        self._link.request(
            "GET", path, headers={"Accept": "text/event-stream"} | {k.replace("_", "-"): v for k, v in headers.items()}
        )
        self.reply = self._link.getresponse()
        assert (self.reply.status, self.reply.getheader("content-type")) == (200, "text/event-stream"), self.reply.read()

    def __iter__(self) -> Iterator[tuple[str, str, Any]]:
        """Id, name and data of each event, until the stream ends."""
        found: dict[str, str] = {}
        while line := self.reply.readline().decode():
            if line == "\n":
                if "data" in found:
                    yield found.get("id", ""), found["event"], json.loads(found["data"])
                found = {}
            elif not line.startswith(":"):
                name, _, value = line.rstrip("\n").partition(": ")
                found[name] = value

    def close(self) -> None:
        self.reply.close()
        self._link.close()


def test_paths_and_statuses_are_those_of_the_protocol(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        there = web(served.talk())
        assert there.post("/call/add", {"a": 1, "b": 2}).json == {"result": 3}
        key = "a/b ?#%ü"
        path = "/runs/a%2Fb%20%3F%23%25%C3%BC"
        made = there.post("/runs", {"target": "add", "params": [1, 2], "key": key, "labels": {"x": "y"}})
        assert (made.status, made.json["key"]) == (200, key)
        assert there.post("/rpc/wait", {"key": key}).json["result"]["outcome"] == "ok"
        assert there.get(path).json["result"] == 3
        assert [run["key"] for run in there.get('/runs?labels={"x":"y"}&limit=5&failed=false').json] == [key]
        assert there.get(f"{path}/logs").json["ended"] is True
        assert there.post(f"{path}/retry").json["attempt"] == 2
        there.post("/rpc/wait", {"key": key})
        assert there.ask("DELETE", path).json["key"] == key

        failed = there.post("/call/leave", [3])
        assert (failed.status, failed.json["error"]["code"], failed.json["error"]["data"]["retcode"]) == (422, -32000, 3)
        there.post("/runs", {"target": "add", "params": [1, 2], "key": "k"})
        there.post("/rpc/wait", {"key": "k"})
        for status, code, answer in (
            (400, -32602, there.post("/call/add", [1])),
            (400, -32602, there.get("/runs?limit=many")),
            (400, -32602, there.get("/runs?nonsense=1")),
            (400, -32700, there.ask("POST", "/call/add", b"[1,")),
            (400, -32700, there.ask("POST", "/call/add", b"[NaN, 1]")),
            (400, -32700, there.ask("POST", "/call/add", b"[" * 5000 + b"]" * 5000)),
            (400, -32602, there.post("/call/add", "text")),
            (403, -32003, there.post("/runs", {"target": "os:system", "params": ["true"]})),
            (404, -32001, there.get("/runs/nobody")),
            (404, -32001, there.post("/call/nobody", [])),
            (404, -32601, there.post("/rpc/nothing", {})),
            (409, -32002, there.post("/runs", {"target": "add", "params": [3, 4], "key": "k"})),
            (503, -32005, there.post("/runs/k/terminate")),
            (400, -32600, there.post("/rpc/subscribe", {})),
        ):
            assert (answer.status, answer.json["error"]["code"]) == (status, code), answer.text
        assert there.ask("PUT", "/runs", {}).headers["allow"] == "GET, HEAD, POST"
        assert there.get("/nothing").status == 404
        assert there.ask("HEAD", "/runs").text == ""
        assert there.ask("POST", "/call/add", b" " * (2 << 20)).status == 413

        def rpc(method: str, **more: Any) -> dict[str, Any]:
            return {"jsonrpc": "2.0", "method": method, **more}

        assert there.post("/rpc", rpc("call", id="x", params={"target": "add", "params": [1, 2]})).json["result"]["result"] == 3
        assert there.post("/rpc", rpc("status", id=1, params=["nobody"])).status == 404
        assert there.post("/rpc", {"id": 5}).json == {
            "jsonrpc": "2.0",
            "error": {"code": -32600, "message": "Invalid Request"},
            "id": 5,
        }
        assert there.post("/rpc", rpc("stats")).status == 204
        batch = there.post("/rpc", [rpc("status", id=1, params=["k"]), rpc("stats"), rpc("nothing", id=2), 7]).json
        assert [one.get("error", {}).get("code") for one in batch] == [None, -32601, -32600]
        assert there.post("/rpc", []).status == 400


def test_news_and_output_are_followed_over_a_restart_and_a_crash_of_the_master(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        there = web(talk)
        news = Events(there, "/events?events=run.ended")
        held = Gate(tmp_path / "held")
        there.post("/runs", {"target": "gate", "params": [str(held.path)], "key": "held"})
        held.wait_entered()
        told = iter(news)
        there.post("/call/add?key=first", [1, 2])
        position, name, record = next(told)
        assert (name, record["key"], record["outcome"]) == ("run.ended", "first", "ok")
        restart(served)  # the old gateway ends the stream; whoever listened comes back with the last position
        assert list(told) == []
        news.close()
        there.post("/call/add?key=second", [1, 2])
        again = Events(there, "/events?events=run.ended", Last_Event_ID=position)
        told = iter(again)
        assert next(data["key"] for _, _, data in told if data["key"] != "first") == "second"  # a little may be said again

        output = Events(there, "/runs/held/logs")
        os.kill(served.master_pid, signal.SIGKILL)  # the gateway that belongs to it leaves, too
        list(told), list(iter(output))
        for stream in (again, output):
            stream.close()
        output = Events(there, "/runs/held/logs")
        held.open("open")
        assert [name for _, name, _ in output][-1] == "end"
        output.close()
        assert there.post("/rpc/wait", {"key": "held"}).json["result"]["outcome"] == "ok"
        there.post("/runs", {"target": "say", "params": ["<b>\x1b[31mred", 3], "key": "said"})
        spoken = Events(there, "/runs/said/logs")
        text = "".join(data["text"] for _, name, data in spoken if name == "output")
        assert text.count("<b>\x1b[31mred") == 3
        spoken.close()
        for path in ("/events?nonsense=1", "/events?position=x", "/events?labels=7"):
            assert there.get(path).status == 400
        assert there.get("/runs/nobody/logs", Accept="text/event-stream").status == 404


def test_a_stream_is_given_up_when_its_client_goes(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        there = web(talk)
        streams = [Events(there, "/events") for _ in range(3)]
        until(lambda: talk.rpc("stats")["curr_connections"] >= 4, "their subscriptions")
        for stream in streams:
            stream.close()
        until(lambda: talk.rpc("stats")["curr_connections"] <= 2, "the end of their subscriptions")


def test_metrics_has_one_process_where_both_are_configured(tmp_path: Path) -> None:
    with daemon(tmp_path, '[metrics]\nlisten = ["http://127.0.0.1:0"]\n') as served:
        talk = served.talk()
        (row,) = talk.rpc("health")["companions"]
        assert row["name"] == "gateway"
        own, numbers = (Web(address) for address in row["listen"])
        assert (
            own.get("/metrics").text.splitlines()[0]
            == numbers.get("/metrics").text.splitlines()[0]
            == "# HELP rocksyd The daemon."
        )
        assert numbers.get("/runs").status == 404
        text = served.config.read_text()
        served.config.write_text(text.replace('[gateway]\nlisten = ["http://127.0.0.1:0"]\n', ""))
        restart(served)
        (row,) = talk.rpc("health")["companions"]
        assert (row["name"], row["listen"]) == ("metrics", [numbers.address])  # the socket is the same one
        assert numbers.get("/metrics").status == 200


def test_the_openapi_document_has_every_method(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        document = web(talk).get("/openapi.json").json
        methods = {one["name"] for one in talk.rpc("rpc.discover")["methods"]} - {"subscribe", "auth"}
        assert {path.removeprefix("/rpc/") for path in document["paths"] if path.startswith("/rpc/")} == methods
        numbers = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
        assert len(set(numbers)) == len(numbers)
