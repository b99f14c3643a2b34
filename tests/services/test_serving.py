"""A service serves: messages, announcements, timers; what one connection does wrong ends that one and nobody else."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, DaemonError, until
from tests.services.stage import CHAT, Client, chatting

FEED = """
from rocksyd import service
class Threes:
    pending = b""
    def feed(self, data):
        self.pending += data
        found = [self.pending[at:at + 3] for at in range(0, len(self.pending) - 2, 3)]
        self.pending = self.pending[3 * len(found):]
        return found
@service(listen="unix://chat.sock", protocol=Threes)
class Chat:
    def message(self, c, three):
        c.send(three[::-1])
"""


@pytest.fixture(name="daemon")
def _daemon(tmp_path: Path) -> Iterator[Daemon]:
    with chatting(tmp_path, service='max_unsent = "64K"\nmax_connections = 3') as daemon:
        yield daemon


def test_it_answers_whatever_way_the_bytes_are_cut(daemon: Daemon) -> None:
    client = Client(daemon)
    for part in (b"on", b"e\ntwo\nth", b"ree\n"):
        client.socket.sendall(part)
    assert [client.line() for _ in range(3)] == ["one", "two", "three"]
    assert client.who() == {"version": 1, "pid": client.who()["pid"], "lines": 4, "count": 4, "connections": 1}
    client.close()


def test_a_method_that_raises_closes_its_connection_and_no_other(daemon: Daemon) -> None:
    one, other = Client(daemon), Client(daemon)
    assert other.ask("hello") == "hello"
    one.send("raise")
    assert one.closed
    assert other.who()["connections"] == 1
    text = daemon.log_path.read_text()
    assert "service chat: message raised, and <connection 1> is closed" in text
    assert "ValueError: what was asked for" in text
    one.close()
    other.close()


def test_a_peer_that_breaks_the_rules_is_told_so(daemon: Daemon) -> None:
    client, other = Client(daemon), Client(daemon)
    client.socket.sendall(b"x" * 5000)
    assert "4096" in client.line()
    assert client.closed
    assert other.ask("still") == "still"
    client.close()
    other.close()


def test_all_are_told_and_who_does_not_read_is_closed(daemon: Daemon) -> None:
    deaf, other = Client(daemon), Client(daemon)
    assert deaf.ask("hello") == "hello"
    said = 0
    while other.who()["connections"] == 2:  # until the deaf one is dropped
        other.send("all " + "x" * 4000)
        assert other.line() == "x" * 4000
        said += 1
    assert said * 4000 > 1 << 16
    assert "does not read: more than 65536 bytes are unsent" in daemon.log_path.read_text()
    deaf.close()
    other.close()


def test_no_more_than_max_connections(daemon: Daemon) -> None:
    clients = [Client(daemon) for _ in range(3)]
    assert [client.ask("hello") for client in clients] == ["hello"] * 3
    fourth = Client(daemon)
    assert fourth.closed
    clients.pop().close()
    until(lambda: clients[0].who()["connections"] == 2, "the end of the third")
    again = Client(daemon)
    assert again.ask("hello") == "hello"
    for client in (*clients, fourth, again):
        client.close()


def test_it_is_called_later(daemon: Daemon) -> None:
    client = Client(daemon)
    client.send("later 0.01")
    assert client.line() == "ring"
    client.close()


def test_its_gauges_are_in_the_stats(daemon: Daemon) -> None:
    client = Client(daemon)
    for number in range(1, 6):
        client.send(f"gauge {number}")
    with daemon.talk() as conversation:
        until(lambda: conversation.rpc("stats")["gauges"] == {"app": {"online": 5.0}}, "the last gauge")
    client.close()


def test_a_parser_of_ones_own(tmp_path: Path) -> None:
    with chatting(tmp_path, FEED) as daemon:
        client = Client(daemon)
        client.socket.sendall(b"abcde")
        assert client.socket.recv(3) == b"cba"
        daemon.talk().rpc("restart")
        client.socket.sendall(b"fgh")
        assert client.socket.recv(3) == b"fed"
        client.close()


def test_a_service_that_no_code_declares_is_told_at_the_start(tmp_path: Path) -> None:
    daemon = chatting(tmp_path, CHAT.replace("class Chat", "class Game"))
    with pytest.raises(DaemonError, match="no class marked @service is called 'chat'"):
        daemon.start()
    daemon.close()


def test_a_stop_closes_connections_when_what_was_sent_is_written(tmp_path: Path) -> None:
    with chatting(tmp_path) as daemon:
        client = Client(daemon)
        assert client.ask("hello") == "hello"
    assert client.closed
    client.close()


def test_it_may_open_as_many_files_as_the_daemon_and_not_only_as_many_as_the_daemon_was_started_with(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    says = CHAT.replace("import os\n", "import os, resource\n").replace(
        'c.send(f"{VERSION} ', 'c.send(f"{resource.getrlimit(resource.RLIMIT_NOFILE)[0]} '
    )
    daemon = chatting(tmp_path, says)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard - 1, 512), hard))
    try:
        with daemon:
            client = Client(daemon)
            assert client.who()["version"] == hard
            client.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
