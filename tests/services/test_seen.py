"""Services are seen: as rows, on terminals, in ``stats``, and memcached's; web pools' numbers have nothing of them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksyd.cli.services import shown
from rocksyd.cli.tables import Screen
from rocksyd.core import schema
from rocksyd.master.desk.methods import SERVICE
from rocksyd.testing import Daemon, until
from tests.process.test_cli import rocksyd
from tests.process.test_numbers_described import described
from tests.services.stage import CHAT, Client, chatting

REFUSES = CHAT.replace("VERSION = 1", "import itertools\nloads = itertools.count(1)").replace(
    'self.lines = state["lines"]', "if next(loads) == 2: raise KeyError('what is not there')"
)
"""Its rehearsal goes well."""


@pytest.fixture(name="daemon")
def _daemon(tmp_path: Path) -> Iterator[Daemon]:
    with chatting(tmp_path, service='max_connections = 500\ncheckpoint = "50ms"') as daemon:
        yield daemon


def row(daemon: Daemon) -> dict[str, Any]:
    with daemon.client() as client:
        (found,) = client.services()
    assert schema.problem(found, SERVICE, "service") == ""
    described(found, SERVICE, "service")
    return found


def deploy(daemon: Daemon, text: str) -> dict[str, Any]:
    (daemon.app / "jobs.py").write_text(text)
    answer: dict[str, Any] = daemon.talk().rpc("restart")
    return answer


def test_a_row_says_what_a_service_has_and_how_its_last_hand_over_went(daemon: Daemon) -> None:
    one, two = Client(daemon), Client(daemon)
    pid = one.who()["pid"]
    assert two.ask("hello") == "hello"
    assert two.ask("gauge 17\nhello") == "hello"
    until(lambda: row(daemon)["gauges"] == {"online": 17}, "its gauge")
    until(lambda: row(daemon)["checkpoint_bytes"], "a checkpoint")
    first = row(daemon)
    wanted = {
        "service": "app/chat", "app": "app", "name": "chat", "pid": pid, "state": "serving", "generation": 1, "connections": 2,
        "max_connections": 500, "messages": 4, "unsent": 0, "taken_over_at": None, "silence": None, "kept": None, "trouble": None,
    }  # fmt: skip
    assert wanted.items() <= first.items()
    assert [address.endswith("chat.sock") for address in first["listen"]] == [True]
    assert first["messages_per_second"] > 0
    began = time.time()
    assert deploy(daemon, CHAT.replace("VERSION = 1", "VERSION = 2"))["generation"] == 2
    assert one.who()["version"] == 2
    second = row(daemon)
    assert {"pid": one.who()["pid"], "connections": 2, "generation": 2, "kept": None}.items() <= second.items()
    assert began - 1 < second["taken_over_at"] < time.time() + 1
    assert 0 < second["silence"] < time.time() - began
    assert second["messages"] >= 5, "those of the worker before count"
    two.close()
    until(lambda: row(daemon)["connections"] == 1, "one to be gone")
    one.close()


def test_what_a_peer_is_owed_is_counted_until_it_has_it(daemon: Daemon) -> None:
    deaf, other = Client(daemon), Client(daemon)
    assert deaf.ask("hello") == "hello"
    lines = [f"all {number} {'x' * 3000}" for number in range(200)]
    for line in lines:
        other.send(line)
        assert other.line() == line[4:]
    owed = row(daemon)["unsent"]
    assert 0 < owed < 200 * 3100
    deploy(daemon, CHAT)
    assert row(daemon)["unsent"] == owed, "it is carried"
    assert [deaf.line() for _ in lines] == [line[4:] for line in lines]
    other.ask("hello")
    assert row(daemon)["unsent"] == 0
    for line in lines:
        other.send(line)
        other.line()
    assert row(daemon)["unsent"] > 0
    deaf.close()
    until(lambda: row(daemon)["unsent"] == 0, "nobody to be owed anything")
    other.close()


def test_a_refused_hand_over_is_in_the_row_and_below_the_table(daemon: Daemon) -> None:
    client = Client(daemon)
    assert client.ask("hello") == "hello"
    assert "what is not there" in deploy(daemon, REFUSES)["kept"]["app/chat"]
    found = row(daemon)
    assert "what is not there" in found["kept"]
    assert {"generation": 1, "state": "serving", "pid": client.who()["pid"]}.items() <= found.items()
    text = rocksyd(daemon.address, "services").stdout
    assert text.startswith("SERVICE ")
    assert "- app/chat goes on in the code before: " in text
    assert json.loads(rocksyd(daemon.address, "services", "--json").stdout)[0]["service"] == "app/chat"
    client.close()


def test_after_the_death_of_master_and_worker_it_is_seen_as_it_is(daemon: Daemon) -> None:
    client = Client(daemon)
    assert client.ask("hello") == "hello"
    pid = client.who()["pid"]
    until(lambda: row(daemon)["checkpoint_bytes"], "a checkpoint")
    os.kill(daemon.talk().rpc("stats")["master_pid"], signal.SIGKILL)
    until(lambda: daemon.talk().rpc("stats")["crashes"] == 1, "another master")
    until(lambda: row(daemon)["pid"] == pid, "it to know the worker")
    assert {"connections": 1, "messages": 2}.items() <= row(daemon).items()
    os.kill(pid, signal.SIGKILL)
    until(lambda: row(daemon)["pid"] not in (pid, None), "another worker")
    assert client.who()["connections"] == 1
    assert {"state": "serving", "connections": 1, "taken_over_at": None}.items() <= row(daemon).items()
    client.close()


def test_sums_of_web_pools_have_nothing_of_services(daemon: Daemon) -> None:
    clients = [Client(daemon) for _ in range(3)]
    for client in clients:
        assert client.ask("hello") == "hello"
    talk = daemon.talk()
    stats = talk.rpc("stats")
    assert {
        "services": 1,
        "service_workers": 1,
        "service_connections": 3,
        "service_messages": 3,
        "service_unsent": 0,
    }.items() <= (stats.items())
    assert {name: stats[name] for name in stats if name.startswith("web_") and stats[name]} == {}
    assert [pool["pool"] for pool in talk.rpc("pools")] == ["app"]
    with daemon.talk() as memcached:
        memcached.send("stats")
        said = dict(line.split(b" ", 2)[1:] for line in iter(lambda: memcached.line().rstrip(b"\r"), b"END"))
    assert (said[b"services"], said[b"service_connections"], said[b"web_connections"]) == (b"1", b"3", b"0")
    for client in clients:
        client.close()


def test_the_log_calls_its_worker_a_service_worker(daemon: Daemon) -> None:
    client = Client(daemon)
    os.kill(client.who()["pid"], signal.SIGKILL)
    until(lambda: "service worker" in daemon.log(), "the master to say so")
    assert "web worker" not in daemon.log()
    client.close()


NOW = 1_800_000_000.0
ROWS: list[dict[str, Any]] = [
    {
        "service": "game/world", "app": "game", "name": "world", "listen": ["tcp://0.0.0.0:7000"], "pid": 41234,
        "state": "serving", "generation": 12, "connections": 4812, "max_connections": 10000, "messages": 123456789,
        "messages_per_second": 8123.4, "unsent": 70000, "gauges": {"online": 4700.0, "rooms": 212.0},
        "checkpoint_bytes": 1 << 20, "checkpoint_at": NOW, "taken_over_at": NOW, "silence": 0.0412, "kept": None,
        "trouble": None, "age": 300.0, "cpu": 61.0, "rss": 90 << 20,
    },
    {
        "service": "game/chat", "app": "game", "name": "chat", "listen": [], "pid": None, "state": "parked", "generation": 12,
        "connections": 0, "max_connections": 10000, "messages": 0, "messages_per_second": 0.0, "unsent": 0, "gauges": {},
        "checkpoint_bytes": None, "checkpoint_at": None, "taken_over_at": None, "silence": None, "kept": "KeyError: 'x'\nwhere",
        "trouble": "a worker \x1b[2J exited with status 1", "age": None, "cpu": 0.0, "rss": 0,
    },
]  # fmt: skip


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_fits_a_terminal_with_what_matters(width: int) -> None:
    text = shown(ROWS, Screen(width), NOW)
    assert max(map(len, text.splitlines())) <= width
    for word in ("SERVICE", "CONNECTIONS", "SILENCE", "4,812", "8,123", "41ms", "serving", "parked", "41234", "KeyError: 'x'"):
        assert word in text
    assert ("GAUGES" in text and "online=4,700 rooms=212" in text) == (width == 200)
    assert "\x1b" not in text
    assert "where" not in text
