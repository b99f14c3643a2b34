"""The client without I/O: addresses, the protocol, patience."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.client import endpoint
from rocksyd.client.calls import Backoff
from rocksyd.client.protocol import ClientProtocol, Notification, Reply
from rocksyd.errors import AddressError, ConfigError, MessageError, NoDaemon, NotAllowed, NotFound


# --- addresses --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("unix:///run/x", "unix:///run/x"),
        ("unix://run/x", "unix:///srv/run/x"),
        ("unix://./run/x?mode=0660", "unix:///srv/run/x"),
        ("tcp://localhost:31337", "tcp://localhost:31337"),
        ("tcp://[::1]:80", "tcp://[::1]:80"),
    ],
)
def test_addresses(text: str, shown: str) -> None:
    assert str(endpoint.parse(text, "/srv")) == shown


@pytest.mark.parametrize(
    "text",
    ["", "unix://", "tcp://", "tcp://x", "tcp://x:", "tcp://x:0", "tcp://x:65536", "tcp://:80", "tcp://::1:80", "http://x:80",
     "/run/x",
     "unix:///" + "x" * 107, "tcp://x:٣"],
)  # fmt: skip
def test_no_addresses(text: str) -> None:
    with pytest.raises(AddressError):
        endpoint.parse(text)


_LINES = st.sampled_from(
    r"""
listen = ["unix://run/x", "tcp://127.0.0.1:1"] # both
listen = []
listen = ["a",]
listen=["a"
"b"]
listen = ['a']
token_file = "t"
token_file = "t # no" # yes
state_dir = "v
max_line = 5
x = \"""
\"""
# listen = [1]
[apps.a]
listen = ["b"]
"listen" = ["q"]
a.b = "c"
t = true
d = 1979-05-27
e = "\u0041"
f = {a = 1}
[[x]]
listen = ["a" "b"]
listen = [["a"]]
listen = "a"
listen = ["a", 1]
y = [
]
ä = 1
k = nan
= 1
z =
""".replace(r"\"", '"').split("\n")
)


@given(st.lists(_LINES | st.text(max_size=12), max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_the_scanner_knows_what_the_parser_knows_or_is_in_doubt(lines: list[str], end: str) -> None:
    text = end.join(lines)
    found = endpoint.scan(text)
    if found is None:
        return
    try:
        parsed = tomllib.loads(text)
    except ValueError:
        return  # the daemon says what is wrong with it; a client has only to find the daemon
    for name in ("listen", "token_file"):
        assert found.get(name) == parsed.get(name)


def test_the_example_of_the_manual_is_simple_enough_for_the_scanner() -> None:
    text = 'listen = ["unix://run/rocksyd.sock", "tcp://127.0.0.1:31337"]  # x\nstate_dir = "v"\ntoken_file = "token"\n\n[a]\n'
    assert endpoint.scan(text) == {
        "listen": ["unix://run/rocksyd.sock", "tcp://127.0.0.1:31337"],
        "state_dir": "v",
        "token_file": "token",
    }


def test_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROCKSYD_ADDRESS", raising=False)
    monkeypatch.delenv("ROCKSYD_TOKEN", raising=False)
    config = tmp_path / "rocksyd.toml"
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    for text, shown in (
        ("", f"unix://{tmp_path}/run/rocksyd.sock"),
        ('listen = ["tcp://0.0.0.0:5", "unix:///s"]', "unix:///s"),
        ('listen = [\n"tcp://0.0.0.0:5"]', "tcp://127.0.0.1:5"),
        ('listen = ["tcp://[::]:5"]', "tcp://[::1]:5"),
    ):
        config.write_text(text)
        assert str(endpoint.find().address) == shown
    config.write_text('listen = ["tcp://h:5"]\ntoken_file = "token"')
    assert endpoint.find().token is None
    (tmp_path / "token").write_text("secret\n")
    assert endpoint.find().token == "secret"
    monkeypatch.setenv("ROCKSYD_TOKEN", "other")
    assert endpoint.find().token == "other"
    monkeypatch.setenv("ROCKSYD_ADDRESS", "unix://x")
    assert str(endpoint.find().address) == f"unix://{below}/x"
    assert str(endpoint.find("unix:///y").address) == "unix:///y"


@pytest.mark.parametrize(
    ("text", "kind"),
    [("listen = 5", ConfigError), ("listen = [", ConfigError), ("listen = []", NoDaemon), ('listen = ["x"]', NoDaemon)],
)
def test_a_configuration_that_names_no_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kind: type[Exception]
) -> None:
    monkeypatch.delenv("ROCKSYD_ADDRESS", raising=False)
    (tmp_path / "rocksyd.toml").write_text(text)
    with pytest.raises(kind):
        endpoint.find(folder=str(tmp_path))


def test_the_default_is_the_configurations() -> None:
    from rocksyd import config

    listen = config.parse('[apps.a]\npath = "."\njobs = ["j"]\n', "/srv/rocksyd.toml").listen
    assert [str(item) for item in listen] == [str(endpoint.parse(text, "/srv")) for text in endpoint.DEFAULT_LISTEN]


# --- protocol ---------------------------------------------------------------------------------------------------------
@given(st.data())
def test_any_cutting_of_the_bytes_gives_the_same_events(data: st.DataObject) -> None:
    stream = b"".join(
        json.dumps(message).encode() + b"\n"
        for message in (
            {"error_text": "OK"},
            {"jsonrpc": "2.0", "id": 1, "result": {"a": "\n"}},
            {"jsonrpc": "2.0", "method": "logs", "params": {"text": "ü"}},
            {"jsonrpc": "2.0", "id": 2, "result": None},
        )
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    protocol = ClientProtocol("token")
    assert protocol.opening() == b'auth {"token": "token"}\n'
    events: list[Any] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events += protocol.receive(stream[start:end])
    assert events == [Reply(1, {"a": "\n"}), Notification("logs", {"text": "ü"}), Reply(2, None)]


@given(st.binary(max_size=60))
def test_garbage_is_said_to_be_garbage(data: bytes) -> None:
    try:
        ClientProtocol().receive(data + b"\n")
    except MessageError:
        pass


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b"{}",
        b'{"error_text":"Invalid JSON"}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}',
    ],
)
def test_complaints_about_the_line_are_errors(line: bytes) -> None:
    with pytest.raises(MessageError):
        ClientProtocol().receive(line + b"\n")


def test_a_refused_token() -> None:
    with pytest.raises(NotAllowed, match="ROCKSYD_TOKEN"):
        ClientProtocol("t").receive(b'{"error_text":"Not allowed"}\n')


def test_an_error_is_an_exception_in_the_reply() -> None:
    (reply,) = ClientProtocol().receive(
        b'{"jsonrpc":"2.0","id":5,"error":{"code":-32001,"message":"no such run","data":"look at ps"}}\n'
    )
    assert isinstance(reply, Reply)
    assert isinstance(reply.error, NotFound)
    assert str(reply.error) == "no such run: look at ps"


# --- patience ---------------------------------------------------------------------------------------------------------
def test_patience_tries_at_once_then_slower_then_gives_up() -> None:
    patience = Backoff(10.0)
    now, pauses = 100.0, []
    while (pause := patience.failure(now)) is not None:
        pauses.append(pause)
        now += pause + 0.001
    assert pauses[0] == 0.0
    assert pauses[1:] == sorted(pauses[1:])
    assert max(pauses) == 1.0
    assert 110.0 <= now <= 112.0


def test_patience_begins_anew_after_an_answer_or_a_connection_that_held() -> None:
    patience = Backoff(10.0)
    patience.failure(0.0)
    assert patience.failure(20.0) is None
    assert patience.failure(20.0, connected_at=5.0) == 0.0
    patience.success()
    assert patience.failure(500.0) == 0.0
