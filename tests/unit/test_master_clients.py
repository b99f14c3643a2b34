"""How the master sets clients' sockets up, and how many it takes. (What it says to them: tests/originals.)"""

from __future__ import annotations

import resource
import socket
from pathlib import Path
from typing import Any

import pytest

from rocksyd import config as configuration
from rocksyd.config import Config, parse_address
from rocksyd.master.clients import FEWEST, Clients, Listener, limit_of
from rocksyd.posix.loop import Loop


def config(folder: Path, **settings: Any) -> Config:
    """A configuration with ``max_connections`` and the pool's ``max_workers`` as given."""
    top = f"max_connections = {settings.get('max_connections', 4096)}\n"
    pool = f"[apps.app.pool]\nmax_workers = {settings.get('max_workers', 16)}\n"
    return configuration.parse(f'{top}[apps.app]\npath = "."\njobs = ["jobs"]\n{pool}', str(folder / "rocksyd.toml"))


def test_tcp_connections_answer_without_delay_and_notice_a_peer_that_is_gone(tmp_path: Path) -> None:
    loop = Loop()
    clients = Clients(config(tmp_path), lambda client, budget: None, loop)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        listener = Listener(server, parse_address(f"tcp://127.0.0.1:{server.getsockname()[1]}"), clients.accept)
        clients.accept(listener)
        (client,) = clients.by_number.values()
        assert client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not client.socket.getblocking()
        clients.close(client)
    loop.close()


def test_p9_until_when_a_stranger_must_show_the_token_is_no_quiet_matter(tmp_path: Path) -> None:
    loop = Loop()
    clients = Clients(config(tmp_path), lambda client, budget: None, loop)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        clients.accept(Listener(server, parse_address(f"tcp://127.0.0.1:{server.getsockname()[1]}"), clients.accept))
        (client,) = clients.by_number.values()
        assert not client.quiet
        assert clients.strangers == {client}
        assert (clients.next_deadline() or 0) <= client.prove_by
        assert client.show_token("secret", "secret")
        assert client.quiet
        assert not clients.strangers
        clients.close(client)
    loop.close()


@pytest.mark.parametrize(
    ("files", "settings", "expected"),
    [
        (20_000, {}, 4096),
        (20_000, {"max_connections": 15_000}, 15_000),
        (1024, {}, 1024 - 64 - 2 * 16 - 4),
        (1024, {"max_connections": 100}, 100),
        (1024, {"max_workers": 400}, 1024 - 64 - 800 - 4),
        (100, {"max_workers": 400}, FEWEST),
        (resource.RLIM_INFINITY, {}, 4096),
        (1 << 20, {"max_connections": 100_000}, 65536),
    ],
)
def test_connections_leave_room_for_workers_and_for_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, settings: dict[str, int], expected: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (files, files))
    assert limit_of(config(tmp_path, **settings)) == expected
