"""A master's parts as they are put together, without processes: the other ends of its channels are the test's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rocksyd.config import Config
from rocksyd.master.server import Server
from rocksyd.master.staff.children import Children
from rocksyd.master.staff.keeper import Keeper
from rocksyd.posix.channel import Channel, pair
from rocksyd.posix.loop import Loop


@contextmanager
def served(config: Config) -> Iterator[Server]:
    """A server that nobody has connected to."""
    loop, (ours, theirs) = Loop(), pair()
    keeper, other = Channel(ours), Channel(theirs)
    children = Children(loop, Keeper(keeper, loop), lambda event: None)
    server = Server(config, loop, children)
    children.use(loop, server.evidence.step)
    try:
        yield server
    finally:
        for client in list(server.clients.by_number.values()):
            server.clients.close(client)
        os.close(server.outputs._fd)
        if server.clock._alarm >= 0:
            os.close(server.clock._alarm)
        keeper.close()
        other.close()
        loop.close()
