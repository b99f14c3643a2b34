"""Protocol Buffers at the gateway, by clients made from the published file: the methods, who may, and the upgrade."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rocksyd import codes
from rocksyd.companions.gateway.binary import values
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, until
from tests.companions.stage import Gate
from tests.gateway.binary_client import PROTO, Binary, classes
from tests.gateway.stage import IDLE_POOL, JOBS, Load, companion
from tests.gateway.test_access import TOKENS, secret, tokens
from tests.restart.stage import restart

ROOT = Path(__file__).parents[2]
READING = ("stats", "pools", "services", "health", "list", "targets", "costs", "durations", "restarts", "left_behind")


def daemon(folder: Path, more: str = "") -> Daemon:
    top = f'\n[gateway]\nlisten = ["http://127.0.0.1:0", "protobuf://127.0.0.1:0"]\n{more}'
    return Daemon(folder, JOBS, parts={"top": top, "pool": IDLE_POOL})


def address(talk: Conversation) -> str:
    found: str = companion(talk, "gateway")["listen"][1]
    assert found.startswith("protobuf://")
    return found


def members(value: Any) -> Any:
    """Names of members, at whatever depth; without those that are null or empty, which no message has."""
    if isinstance(value, dict):
        found = {name: members(one) for name, one in value.items() if one is not None and one not in ({}, [])}
        return {name: one for name, one in found.items() if one is not None}
    if isinstance(value, list):
        return [members(one) for one in value]
    return ""


def said_alike(there: Binary, talk: Conversation, method: str) -> bool:
    rpc = talk.rpc(method)
    binary = values.members(getattr(there.ask(method), method))
    return bool(members(binary) == members({"items": rpc} if isinstance(rpc, list) else rpc))


def test_what_is_answered_is_what_json_rpc_answers(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        with Binary(address(talk)) as there:
            assert there.ask("call", target="add", params=[1, 2]).call.result.integer == 3
            assert there.ask("call", target="add", params=[0.5, 2]).call.result.number == 2.5
            assert there.ask("run", target="say", params=["héllo", 2], key="k").run.key == "k"
            waited = there.ask("wait", key="k").wait
            assert (waited.state, waited.outcome, waited.result.integer) == ("ended", "ok", 2)
            assert there.ask("logs", key="k").logs.text == "héllo\nhéllo\n"
            told = values.members(there.ask("status", key="k").status)
            assert told == {name: one for name, one in talk.rpc("status", key="k").items() if one not in (None, {}, [])}
            for method in READING:
                # Numbers of a moment differ from those of the next, and a worker may come between the two.
                until(lambda method=method: said_alike(there, talk, method), f"{method} to have the same members in both")
            named = there.ask("other")
            assert named.error.code == codes.METHOD_NOT_FOUND


def test_a_method_by_its_name_and_errors_as_json_rpc_has_them(tmp_path: Path) -> None:
    with daemon(tmp_path) as served, Binary(address(served.talk())) as there:
        request = classes()["Request"](id=7)
        request.other.method = "call"
        request.other.params["target"].text = "add"
        request.other.params["params"].json = "[1, 2]"
        body = request.SerializeToString()
        there.send(len(body).to_bytes(4, "big") + body)
        reply = there.receive()
        assert (reply.id, values.value(reply.other)["result"]) == (7, 3)
        for method, given, code in (
            ("status", {"key": "nope"}, codes.NOT_FOUND),
            ("call", {"target": "leave", "params": [3]}, codes.JOB_FAILED),
            ("call", {"target": "os:getpid"}, codes.NOT_ALLOWED),
            ("list", {"limit": 5000}, codes.INVALID_PARAMS),
            ("restart", {}, codes.NOT_ALLOWED),
        ):
            error = there.ask(method, **given).error
            assert (error.code, bool(error.message)) == (code, True), method
        there.send((2).to_bytes(4, "big") + classes()["Request"](id=9).SerializeToString())
        assert there.receive().error.code == codes.INVALID_REQUEST
        assert there.ask("call", target="add", params=[1, 2]).call.result.integer == 3


def test_replies_come_as_they_are_ready(tmp_path: Path) -> None:
    with daemon(tmp_path) as served, Binary(address(served.talk())) as there:
        held = Gate(tmp_path / "held")
        there.send(
            there.request("call", target="gate", params=[str(held.path)]) + there.request("call", target="add", params=[1, 2])
        )
        assert there.receive().id == 2
        held.open("open")
        reply = there.receive()
        assert (reply.id, values.value(reply.call.result)[1]) == (1, "open")


def test_tokens_scopes_targets_and_what_is_not_shown(tmp_path: Path) -> None:
    tokens(tmp_path)
    with daemon(tmp_path, TOKENS) as served:
        talk = served.talk()
        where = address(talk)
        with Binary(where) as nobody:
            for method in READING:
                assert nobody.ask(method).error.code == codes.NOT_ALLOWED
            assert "auth" in nobody.ask("run", target="add", params=[1, 2]).error.message
            assert nobody.ask("auth", token="reader-secret-chief").error.code == codes.NOT_ALLOWED
            assert nobody.receive() is None
        with Binary(where, secret("reader")) as reader:
            talk.rpc("run", target="add", params={"a": 1, "b": 2}, env={"DB_PASSWORD": "x"}, labels={"secret": "x"}, key="k")
            assert dict(reader.ask("status", key="k").status.labels) == {"secret": "[redacted]"}
            assert "scope run" in reader.ask("run", target="add", params=[1, 2]).error.message
        with Binary(where, secret("runner")) as runner:
            assert runner.ask("call", target="add", params=[1, 2]).call.result.integer == 3
            assert "it is for" in runner.ask("call", target="say", params=["x"]).error.message
            assert "scope admin" in runner.ask("restart").error.message
        with Binary(where, secret("chief")) as chief:
            assert chief.ask("restart").restart.generation == 2
        # What is sent behind the token, in the same piece, may be as long as whoever has the token may send.
        with Binary(where) as quick:
            long = {"target": "say", "params": ["x" * 100_000, 0]}
            quick.send(quick.request("auth", token=secret("chief")) + quick.request("call", **long))
            assert quick.receive().auth.authorised.boolean
            assert quick.receive().call.result.integer == 0
        with Binary(where) as early:
            early.send(early.request("call", **long))
            assert "longer than" in early.receive().error.message
            assert early.receive() is None


def over_connections(where: str) -> Callable[[Load, int], None]:
    """A client that goes to a new connection when it is told to."""

    def ask(load: Load, which: int) -> None:
        while not load.over.is_set():
            with Binary(where) as there:
                leaving = False
                while not (leaving or load.over.is_set()):
                    reply = there.ask("call", target="add", params=[which, 1])
                    assert reply.call.result.integer == which + 1, reply
                    load.answered[which] += 1
                    leaving = reply.leaving

    return ask


def test_no_request_fails_while_it_is_upgraded_under_load(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        old = companion(talk, "gateway")["pid"]
        load = Load(over_connections(address(talk)), 3)
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


def test_a_connection_is_served_over_a_restart_and_told_to_go(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        held = Gate(tmp_path / "held")
        with Binary(address(talk)) as there:
            assert not there.ask("call", target="add", params=[1, 2]).leaving
            there.send(there.request("call", target="gate", params=[str(held.path)]))
            held.wait_entered()
            restart(served)
            there.send(there.request("call", target="add", params=[2, 2]))
            reply = there.receive()
            assert (reply.call.result.integer, reply.leaving) == (4, True)
            held.open("open")
            assert values.value(there.receive().call.result)[1] == "open"
        new = companion(talk, "gateway")["pid"]
        until(lambda: served.children("rocksyd: gateway") == [new], "the old gateway to have left")


NODE = """
const protobuf = require('protobufjs'), net = require('net');
const [proto, port] = process.argv.slice(2);
const root = protobuf.loadSync(proto), Request = root.lookupType('rocksyd.Request'), Reply = root.lookupType('rocksyd.Reply');
const socket = net.connect(Number(port), '127.0.0.1');
let rest = Buffer.alloc(0);
const told = [];
function ask(request) {
    const wrong = Request.verify(request);
    if (wrong) throw Error(wrong);
    const body = Request.encode(Request.create(request)).finish(), head = Buffer.alloc(4);
    head.writeUInt32BE(body.length);
    socket.write(Buffer.concat([head, body]));
}
const values = (...numbers) => ({list: {items: numbers.map(integer => ({integer}))}});
const asking = [
    {id: 1, call: {target: 'add', params: values(20, 22)}},
    {id: 2, run: {target: 'say', params: {json: '["from Node", 1]'}, key: 'node', labels: {from: 'node'}}},
    {id: 3, wait: {key: 'node'}},
    {id: 4, status: {key: 'nope'}},
    {id: 5, other: {method: 'stats', params: {}}},
];
socket.on('data', data => {
    rest = Buffer.concat([rest, data]);
    while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
        const size = 4 + rest.readUInt32BE(0);
        told.push(Reply.toObject(Reply.decode(rest.subarray(4, size)), {longs: Number}));
        rest = rest.subarray(size);
        if (asking.length) ask(asking.shift()); else socket.end();
    }
});
socket.on('error', error => { throw error; });
socket.on('close', () => console.log(JSON.stringify(told)));
ask(asking.shift());
"""
MODULES = ROOT / "build" / "node" / "node_modules"


@pytest.mark.skipif(not shutil.which("node"), reason="Node is not installed (Debian: nodejs)")
@pytest.mark.skipif(
    not (MODULES / "protobufjs").is_dir(), reason="protobufjs is not there: npm install --prefix build/node protobufjs"
)
def test_a_client_in_javascript_made_from_the_published_file(tmp_path: Path) -> None:
    script = tmp_path / "client.js"
    script.write_text(NODE)
    with daemon(tmp_path) as served:
        port = address(served.talk()).rpartition(":")[2]
        command = ["node", str(script), str(PROTO), port]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env={"NODE_PATH": str(MODULES)}, timeout=100)
        assert done.returncode == 0, done.stderr
        call, run, wait, status, stats = json.loads(done.stdout)
        assert call["call"]["result"] == {"integer": 42}
        assert (run["run"]["key"], run["run"]["labels"]) == ("node", {"from": "node"})
        assert (wait["wait"]["outcome"], wait["wait"]["result"]) == ("ok", {"integer": 1})
        assert (status["id"], status["error"]["code"]) == (4, codes.NOT_FOUND)
        assert stats["other"]["object"]["members"]["generation"] == {"integer": 1}
