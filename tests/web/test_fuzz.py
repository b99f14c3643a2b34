"""What is nearly HTTP, said to a daemon for long, beside somebody whose every reply is looked at."""

from __future__ import annotations

import random
import socket
import struct
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from tests.fuzz.web import conversation
from tests.restart.stage import many
from tests.web.stage import ASGI, WSGI, Kept, connect, row, served

ROUNDS = many(250, 20_000)
ONE = 'pm = "static"\nmax_workers = 1\ngrace = "2s"'


def say(daemon: Daemon, dice: random.Random) -> bytes:
    """Say a conversation and take what comes, to the end or not: some go in the middle, some by a reset."""
    data = b""
    with connect(daemon) as connection:
        try:
            for piece in conversation(dice):
                connection.sendall(piece)
            how = dice.randrange(4)
            if how == 0:
                return data
            if how == 1:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return data
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                data += part
        except ConnectionError:
            pass  # it has been refused before all of it was said
    return data


@pytest.mark.long
@pytest.mark.timeout(many(120, 3600))
@pytest.mark.parametrize("interface", ["asgi", "wsgi"][: many(1, 2)])
def test_p12_what_is_nearly_http_disturbs_nobody(tmp_path: Path, interface: str) -> None:
    seed = random.randrange(1 << 32) if many(0, 1) else 1
    text = {"asgi": ASGI, "wsgi": WSGI}[interface]
    with served(
        tmp_path, text, interface=interface, pool=ONE, web='max_head = "4K"\nmax_body = "20K"\nkeep_alive = "1h"'
    ) as daemon:
        bystander, (before,) = Kept(daemon), row(daemon)["processes"]
        for number in range(ROUNDS):
            where = f"seed {seed}, round {number}"
            data = say(daemon, random.Random(f"{seed} {number}"))
            assert not data or data.startswith(b"HTTP/1.1 "), where
            status, said = bystander.ask(f"/bystander/{number}", "POST", b"x" * (number % 100))
            assert (status, said) == (200, f"1 {before['pid']} /bystander/{number} {number % 100}"), where
        bystander.close()
        (after,) = row(daemon)["processes"]
        assert after["pid"] == before["pid"]
        assert "please report" not in daemon.log()
