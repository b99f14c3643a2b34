"""The process of a service is killed: quiet connections stay, the state is that of the last checkpoint."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from tests.services.stage import CHAT, Client, chatting

COUNTED = CHAT.replace("def dump(self):", "def dump(self):\n        open('dumps', 'a').write('x')")
TEXT = f"""{COUNTED}
    def restored(self, c):
        c.send(f"restored {{c.state}}")
    async def disconnected(self, c):
        self.lines += 1000
"""


@pytest.fixture(name="daemon")
def _daemon(tmp_path: Path) -> Iterator[Daemon]:
    with chatting(tmp_path, TEXT, service='checkpoint = "20ms"') as daemon:
        yield daemon


def test_quiet_connections_stay_and_busy_ones_are_closed(daemon: Daemon) -> None:
    quiet, busy = Client(daemon), Client(daemon)
    assert busy.ask("hello") == "hello"
    for _ in range(3):
        quiet.who()
    before = quiet.who()
    busy.socket.sendall(b"half a line")
    kept(daemon)
    os.kill(before["pid"], signal.SIGKILL)
    assert quiet.line().startswith("restored {'count': ")
    after = quiet.who()
    assert after["pid"] != before["pid"]
    assert after["lines"] > before["lines"]
    assert after["connections"] == 1
    assert busy.closed
    quiet.close()
    busy.close()


def kept(daemon: Daemon) -> None:
    """Wait until what has been said so far is in a checkpoint that is kept: the second one from now is begun behind the first.

    Whoever has an answer by then is quiet, since this is served behind it.
    """
    before, client = _dumps(daemon), Client(daemon)
    try:
        until(lambda: client.who() and _dumps(daemon) >= before + 3, "checkpoints")
    finally:
        client.close()


def _dumps(daemon: Daemon) -> int:
    path = daemon.app / "dumps"
    return path.stat().st_size if path.exists() else 0


def test_it_serves_again_after_each_of_several_deaths(daemon: Daemon) -> None:
    client = Client(daemon)
    pids = set()
    for _ in range(3):
        pid = client.who()["pid"]
        pids.add(pid)
        kept(daemon)
        os.kill(pid, signal.SIGKILL)
        assert client.line().startswith("restored")
    assert len(pids) == 3
    newcomer = Client(daemon)
    assert newcomer.ask("hello") == "hello"
    newcomer.close()
    client.close()


def test_the_master_dies_and_the_service_goes_on(daemon: Daemon) -> None:
    client = Client(daemon)
    before = client.who()
    os.kill(daemon.master_pid, signal.SIGKILL)
    assert client.who()["pid"] == before["pid"]
    until(lambda: daemon.talk().rpc("health")["ok"], "the next master")
    kept(daemon)
    os.kill(before["pid"], signal.SIGKILL)
    assert client.line().startswith("restored")
    assert client.who()["connections"] == 1
    client.close()
