"""Services are added, taken away and moved to another address; those that stay notice nothing."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from tests.services.stage import CHAT, CONFIG, Client, chatting, connect

ECHO = """
@service(listen="unix://echo.sock", protocol=Lines())
class Echo:
    def message(self, c, line):
        c.send(line + "!")
"""


def configure(daemon: Daemon, text: str, *more: str) -> None:
    """Other code, and further services in the configuration."""
    (daemon.app / "jobs.py").write_text(text)
    daemon.config.write_text(CONFIG.format(top="", service="\n".join(more)))


def names(daemon: Daemon) -> list[str]:
    with daemon.client() as client:
        return [row["service"] for row in client.services()]


def says(connection: socket.socket, text: str) -> bytes:
    connection.sendall(text.encode() + b"\n")
    return connection.recv(4096)


def refused(daemon: Daemon, name: str) -> bool:
    """Whether nobody listens there."""
    try:
        connect(daemon, name).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


def test_a_restart_adds_a_service_and_takes_it_away_while_another_one_stays(tmp_path: Path) -> None:
    with chatting(tmp_path) as daemon:
        client = Client(daemon)
        assert client.ask("hello") == "hello"
        configure(daemon, CHAT + ECHO, "[apps.app.services.echo]")
        assert daemon.talk().rpc("restart") == {"generation": 2}
        assert names(daemon) == ["app/chat", "app/echo"]
        echo = connect(daemon, "echo.sock")
        assert says(echo, "here") == b"here!\n"
        assert client.who()["lines"] == 2
        configure(daemon, CHAT + ECHO)
        assert daemon.talk().rpc("restart") == {"generation": 3}
        assert names(daemon) == ["app/chat"]
        assert echo.recv(1) == b"", "its connections are closed"
        echo.close()
        until(lambda: refused(daemon, "echo.sock"), "nobody to listen any longer")
        assert client.who()["lines"] == 3
        client.close()


def test_a_reload_that_would_add_or_take_away_a_service_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with chatting(tmp_path) as daemon:
        client = Client(daemon)
        assert client.ask("hello") == "hello"
        configure(daemon, CHAT + ECHO, "[apps.app.services.echo]")
        answer = daemon.talk().ask("reload")["error_text"]
        assert answer.endswith("app changed, and reload is for applications only: use restart")
        assert names(daemon) == ["app/chat"]
        configure(daemon, CHAT.replace("VERSION = 1", "VERSION = 2"), "max_connections = 7")
        assert daemon.talk().rpc("reload") == {"generation": 2}
        assert client.who()["version"] == 2
        with daemon.client() as asking:
            assert [row["max_connections"] for row in asking.services()] == [7]
        client.close()


@pytest.mark.parametrize("order", ["reload", "restart"])
def test_a_service_moves_to_another_address_with_its_connections(tmp_path: Path, order: str) -> None:
    with chatting(tmp_path) as daemon:
        client = Client(daemon)
        assert client.ask("hello") == "hello"
        configure(daemon, CHAT.replace("unix://chat.sock", "unix://moved.sock"))
        assert daemon.talk().rpc(order) == {"generation": 2}
        assert client.who()["lines"] == 2
        other = connect(daemon, "moved.sock")
        assert says(other, "here") == b"here\n"
        until(lambda: refused(daemon, "chat.sock"), "nobody to listen there any longer")
        with daemon.client() as asking:
            (row,) = asking.services()
        assert [address.endswith("moved.sock") for address in row["listen"]] == [True]
        configure(daemon, CHAT)
        assert daemon.talk().rpc(order) == {"generation": 3}
        third = Client(daemon)
        assert third.who()["connections"] == 3
        third.close()
        assert client.who()["lines"] == 5
        other.close()
        client.close()
