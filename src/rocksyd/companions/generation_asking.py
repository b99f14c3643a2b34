"""What a generation asks the daemon: one question until it is answered, whoever is replaced or crashes meanwhile.

What must live here: which answers are an end, and which are no answer yet. What this file must not know: what the end means.
"""

from __future__ import annotations

import asyncio
from typing import Any

from rocksyd import codes
from rocksyd.client import AsyncClient
from rocksyd.errors import JobFailed, NoDaemon, RequestError
from rocksyd.posix.log import log
from rocksyd.schedule.generation import FAILED, OK, Generation

AGAIN = 0.5
"""Seconds until an order is tried again that the daemon could not take."""
UNKNOWN = "unknown"
"""How a run ended whose record is gone: it has been run."""
REFUSED = "refused"
"""How one ends that the daemon does not take, and never will."""


class Asking:
    """Asks one daemon."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def call(self, order: dict[str, Any]) -> tuple[str, Any]:
        """How a run ended that is ordered by this, or was, and what it returned.

        It is one ``call``: the order, and the end as its answer. After a gap it is called again under the same key, and the
        daemon says how it has ended, or lets it go on.
        """
        return await self._asked("call", order)

    async def wait(self, key: str) -> tuple[str, Any]:
        """How a run ended, and what it returned."""
        return await self._asked("wait", {"key": key})

    async def _asked(self, method: str, params: dict[str, Any]) -> tuple[str, Any]:
        while True:
            try:
                found = await self._client.request(method, params, wait=True)
            except JobFailed as error:
                return str(error.record.get("outcome") or FAILED), None
            except NoDaemon as error:
                log("scheduler", f"the daemon does not answer, generations wait: {error}")
            except RequestError as error:
                if error.code == codes.NOT_FOUND and method == "wait":
                    return UNKNOWN, None
                if error.code not in (codes.TOO_BUSY, codes.NOT_NOW):
                    log("scheduler", f"{params.get('key')} is refused: {error}")
                    return REFUSED, None
            else:
                if method == "wait":
                    return str(found["outcome"]), found["result"]
                return (UNKNOWN, None) if found.get("known") else (OK, found.get("result"))
            await asyncio.sleep(AGAIN)

    async def workers(self, one: Generation) -> int:
        """How many workers the pools of its application may have, the largest of them."""
        app = one.order.get("app")
        while True:
            try:
                pools = await self._client.request("pools")
                return max((pool["max_workers"] for pool in pools if app in (None, pool["app"])), default=1)
            except (RequestError, NoDaemon):
                await asyncio.sleep(AGAIN)

    async def terminate(self, keys: list[str]) -> list[str]:
        """End these runs; the keys of those that had not ended."""
        try:
            answers = await self._client.answers([("terminate", {"key": key}) for key in keys])
        except NoDaemon:
            return []
        return [key for key, answer in zip(keys, answers, strict=True) if not isinstance(answer, RequestError)]

    async def close(self) -> None:
        """Ask no more."""
        await self._client.close()
