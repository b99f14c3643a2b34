"""Callers that a daemon was too busy for, in asyncio code: who asks again when.

What must live here: one of them asks again when another's run has ended, and each after a while in any case.
What this file must not know: what they ask.
"""

from __future__ import annotations

import asyncio
from collections import deque

from rocksyd.client.conversation import BUSY_FIRST, BUSY_MOST


class Room:
    """The places in the daemon's queue, as far as the callers of one client can know of them."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self, tries: int) -> None:
        """Wait for a place, after so many tries in vain."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(min(BUSY_FIRST * 2**tries, BUSY_MOST)):
                await place
        except TimeoutError:
            self._waiting.remove(place)

    def free(self) -> None:
        """A run has ended, so there is a place."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                return place.set_result(None)
        return None
