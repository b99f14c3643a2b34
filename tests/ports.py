"""Ports for servers that have to be told theirs, because they cannot say which one the system has chosen."""

from __future__ import annotations

import random
import socket
from pathlib import Path

CHOSEN_BY_SYSTEM = Path("/proc/sys/net/ipv4/ip_local_port_range")
RANGE = 10_000
"""How many ports below those of the system are tried."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on.

    It is none of those that the system gives to sockets that ask for any, or to those that connect: another process could have
    been given it before the server that is meant has bound it.
    """
    first = int(CHOSEN_BY_SYSTEM.read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(max(1024, first - RANGE), first)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def refuses(host: str, port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection((host, port), timeout=30).close()
    except ConnectionRefusedError:
        return True
    return False
