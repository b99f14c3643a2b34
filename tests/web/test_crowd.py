"""Connections over which nothing is said, or slowly: nobody else is answered otherwise for it."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from tests.restart.stage import many
from tests.web.stage import ASGI, Load, connect, row, served

IDLE, SLOW = many(300, 5000), many(50, 500)
POOL = 'pm = "static"\nmax_workers = 2\ngrace = "2s"'
WEB = 'concurrency = 1000\nkeep_alive = "1h"\nhead_timeout = "1h"\ntimeout = "0"'
SAID = b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """So many for this process, and for what it starts; skips where the system gives fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"this needs {count} descriptors, and may have {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def reply(connection: socket.socket) -> bytes:
    """One whole chunked response."""
    data = b""
    while not data.endswith(b"\r\n0\r\n\r\n"):
        part = connection.recv(4096)
        assert part, f"it was closed behind {data!r}"
        data += part
    return data


def crowd(daemon: Daemon, stack: ExitStack, count: int) -> list[socket.socket]:
    """So many that are accepted; a hundred at a time, because more than the kernel keeps cannot wait."""
    made: list[socket.socket] = []
    there = row(daemon)["connections"]
    while len(made) < count:
        made += [stack.enter_context(connect(daemon)) for _ in range(min(100, count - len(made)))]
        accepted = there + len(made)
        until(lambda accepted=accepted: row(daemon)["connections"] >= accepted, "all to be accepted")
    return made


@pytest.mark.long
@pytest.mark.timeout(many(120, 1200))
def test_idle_and_slow_connections_leave_others_unaffected(tmp_path: Path) -> None:
    """Not by their number, not by their bytes one by one, and not at a deploy, after which they are answered as well."""
    with descriptors(2 * (IDLE + SLOW) + 500), served(tmp_path, ASGI, pool=POOL, web=WEB) as daemon, ExitStack() as stack:
        idle, slow = crowd(daemon, stack, IDLE), crowd(daemon, stack, SLOW)
        half = threading.Event()

        def say() -> None:
            for at in range(len(SAID) - 1):
                for one in slow:
                    one.sendall(SAID[at : at + 1])
                if at == len(SAID) // 2:
                    half.set()

        with Load(daemon, 4) as load:
            saying = threading.Thread(target=say)
            saying.start()
            half.wait()
            load.more(50)
            assert daemon.restart() == {"error_text": "Restarted successfully"}
            saying.join()
            load.more(50)
            for one in slow:
                one.sendall(SAID[-1:])
            assert [b"/slow 5\r\n" in reply(one) for one in slow] == [True] * SLOW
            for one in idle:
                one.sendall(b"GET /idle HTTP/1.1\r\nHost: a\r\n\r\n")  # one after the other: all at once are too many requests
                assert b"/idle 0\r\n" in reply(one)
            load.more(20)
            assert load.failed == []
