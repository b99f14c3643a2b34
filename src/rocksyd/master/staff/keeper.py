"""The channel to the keeper.

What must live here: saying something to it without ever blocking. What this file must not know: what is said, and why.
"""

from __future__ import annotations

import select
from typing import Any

from rocksyd.errors import ChannelClosed
from rocksyd.master.barrier import KeeperGone
from rocksyd.posix.channel import Channel
from rocksyd.posix.loop import Loop


class Keeper:
    """The master's end of the channel to the keeper."""

    def __init__(self, channel: Channel, loop: Loop) -> None:
        self.channel = channel
        self._loop = loop

    def use(self, loop: Loop) -> None:
        """The channel is registered with another loop from now on."""
        self._loop = loop

    def tell(self, message: Any) -> None:
        """Say something to the keeper. Raises KeeperGone."""
        try:
            self.channel.send(message)
        except ChannelClosed as error:
            raise KeeperGone(str(error)) from error
        if self.channel.pending:
            self._loop.modify(self.channel.fileno(), select.EPOLLIN | select.EPOLLOUT)
