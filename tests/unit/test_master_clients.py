"""How the master sets clients' sockets up, and how many it takes. (What it says to them: tests/originals.)"""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rocksyd import config as configuration
from rocksyd.config import FEWEST_CLIENTS, Config, parse_address
from rocksyd.master.desk.clients import Client, Clients
from rocksyd.master.desk.door import limit_of
from tests.unit.served import served


def config(folder: Path, **settings: Any) -> Config:
    """A configuration with ``max_connections`` and the pool's ``max_workers`` as given."""
    top = f"max_connections = {settings.get('max_connections', 4096)}\n"
    pool = f"[apps.app.pool]\nmax_workers = {settings.get('max_workers', 16)}\n"
    return configuration.parse(f'{top}[apps.app]\npath = "."\njobs = ["jobs"]\n{pool}', str(folder / "rocksyd.toml"))


@contextmanager
def connected(folder: Path) -> Iterator[tuple[Clients, Client]]:
    """A master's clients, of whom there is one, who came by TCP."""
    with served(config(folder)) as server, socket.create_server(("127.0.0.1", 0)) as listening:
        address = parse_address(f"tcp://127.0.0.1:{listening.getsockname()[1]}")
        server.door.listen("listen:test", listening, address, server.clients.take)
        with socket.create_connection(listening.getsockname()):
            server.door.accept(server.door.listeners["listen:test"])
            (client,) = server.clients.by_number.values()
            yield server.clients, client
        server.door.close()


def test_tcp_connections_answer_without_delay_and_notice_a_peer_that_is_gone(tmp_path: Path) -> None:
    with connected(tmp_path) as (_, client):
        assert client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not client.socket.getblocking()


def test_p9_until_when_a_stranger_must_show_the_token_is_no_quiet_matter(tmp_path: Path) -> None:
    with connected(tmp_path) as (clients, client):
        clients.token = "secret"
        assert not client.quiet
        assert clients.awaited == {client}
        assert clients.next_deadline() == client.prove_by
        assert client.show_token("secret")
        assert client.quiet
        assert not clients.awaited


def test_one_that_shows_the_token_is_awaited_all_the_same_to_take_what_it_is_owed(tmp_path: Path) -> None:
    with connected(tmp_path) as (clients, client):
        client.progress_at = 5.0
        assert client.show_token("nobody asks for one")
        assert clients.next_deadline() == 5.0 + clients.config.write_timeout


@pytest.mark.parametrize(
    ("files", "settings", "expected"),
    [
        (20_000, {}, 4096),
        (20_000, {"max_connections": 15_000}, 15_000),
        (1024, {}, 1024 - 64 - 2 * 16 - 4),
        (1024, {"max_connections": 100}, 100),
        (1024, {"max_workers": 400}, 1024 - 64 - 800 - 4),
        (100, {"max_workers": 400}, FEWEST_CLIENTS),
        (resource.RLIM_INFINITY, {}, 4096),
        (1 << 20, {"max_connections": 100_000}, 65536),
    ],
)
def test_connections_leave_room_for_workers_and_for_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, settings: dict[str, int], expected: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (files, files))
    assert limit_of(config(tmp_path, **settings)) == expected


def test_clients_leave_room_for_the_connections_of_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (5000, 5000))
    text = '[apps.a]\npath = "."\njobs = ["jobs"]\n[apps.a.services.one]\nmax_connections = 3000\n'
    text += "[apps.a.services.two]\nmax_connections = {}\n"
    one = configuration.parse(text.format(500), str(tmp_path / "rocksyd.toml"))
    assert limit_of(one) == 5000 - 3500 - one.other_files
    assert limit_of(configuration.parse(text.format(5000), str(tmp_path / "rocksyd.toml"))) == FEWEST_CLIENTS
