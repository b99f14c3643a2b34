"""What tells open pages that something has changed: it takes the news as they come, however many, and tells of them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from rocksyd.companions.gateway.pages.site import Changes

MANY = 5000


class Flood:
    """So many news at once, and then none."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def __aenter__(self) -> Flood:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def __aiter__(self) -> AsyncIterator[None]:
        for _ in range(MANY):
            yield None
        self.over.set()
        await asyncio.Event().wait()


def test_no_news_are_left_to_be_read_later_and_those_that_come_together_are_one_change() -> None:
    async def look() -> None:
        flood = Flood()

        async def subscribe() -> Flood:
            return flood

        daemon: Any = SimpleNamespace(client=SimpleNamespace(subscribe=subscribe))
        pieces = Changes(daemon).pieces()
        first = await anext(pieces)
        assert b"event: changed" in first
        await asyncio.wait_for(flood.over.wait(), 30)  # a pause for each would be twenty minutes
        assert b"event: changed" in await anext(pieces)
        await pieces.aclose()

    asyncio.run(look())
