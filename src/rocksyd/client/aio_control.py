"""Calls to the daemon itself, for asyncio code.

What must live here: everything that is about no single run.
What this file must not know: how the daemon is asked (``aio_asking``), but for stopping, which ends with the connection.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from rocksyd.client.aio_connections import Exchange, wait_gone
from rocksyd.client.aio_requests import AsyncRequests
from rocksyd.client.calls import Call, no_answer
from rocksyd.client.daemon_socket import ConnectionLost
from rocksyd.client.keeper_process import watch
from rocksyd.client.protocol import Reply, result_of
from rocksyd.errors import NoDaemon, RequestError


class AsyncControl(AsyncRequests):
    """The half of the client that is about the daemon itself."""

    # --- the daemon ---------------------------------------------------------------------------------------------------
    async def stats(self) -> dict[str, Any]:
        """Numbers about the daemon, and ``restarts``: the list of the last hand-overs."""
        return dict(await self.request("stats"))

    async def pools(self) -> list[dict[str, Any]]:
        """Sizes and numbers of every pool."""
        return list(await self.request("pools"))

    async def services(self) -> list[dict[str, Any]]:
        """Each resident service: where it can be reached, its connections, what it owes, its state, its last hand-over."""
        return list(await self.request("services"))

    async def costs(self) -> list[dict[str, Any]]:
        """What was learned of each target, and of each script, from its runs: times in seconds, ``memory`` in bytes."""
        return list(await self.request("costs"))

    async def durations(self) -> dict[str, Any]:
        """How long runs waited, took to begin and ran, by pool and target: histograms, counted from when somebody first asks."""
        return dict(await self.request("durations"))

    async def restarts(self, limit: int = 20) -> list[dict[str, Any]]:
        """The last restarts, reloads and crashes, the latest first, at most ``limit`` of them."""
        return list(await self.request("restarts", {"limit": limit}))

    async def flag(
        self, flag: str, *, target: str | None = None, script: str | None = None, lasts: float | str = "1h"
    ) -> dict[str, Any]:
        """Have something hold for a while for the runs of a target, or a script, that begin meanwhile; it ends by itself.

        ``debug``: what they log is in their output from DEBUG on. Returns ``flag``, ``target`` or ``script``, ``until`` in Unix
        seconds, ``by``.

        Raises:
            NotFound: there is no such target.
            RequestError: it lasts more than a week, or names both a target and a script.
        """
        return dict(await self.request("flag", {"flag": flag, **_whose(target, script), "for": lasts}))

    async def unflag(self, flag: str, *, target: str | None = None, script: str | None = None) -> bool:
        """Let it hold no longer; whether it did."""
        return bool((await self.request("unflag", {"flag": flag, **_whose(target, script)}))["removed"])

    async def flags(self) -> list[dict[str, Any]]:
        """What holds for a while: ``flag``, ``target`` or ``script``, ``until`` in Unix seconds, ``by``."""
        return list(await self.request("flags"))

    async def left_behind(self) -> list[dict[str, Any]]:
        """Processes that runs have left behind: ``pid``, ``name``, ``key`` of the run or None, ``age`` in seconds."""
        return list(await self.request("left_behind"))

    async def health(self) -> dict[str, Any]:
        """Whether the daemon can do its work (``ok``), and if not, why (``problems``)."""
        return dict(await self.request("health"))

    async def targets(self, app: str | None = None) -> list[dict[str, Any]]:
        """What may be run: ``app``, ``name``, ``target``, ``kind``, ``settings``, ``signature``, ``doc``. Raises NotFound."""
        return list(await self.request("targets", {} if app is None else {"app": app}))

    async def discover(self) -> dict[str, Any]:
        """The methods of the protocol, as an OpenRPC document."""
        return dict(await self.request("rpc.discover"))

    async def restart(self) -> int:
        """Load the code and the configuration anew and hand over to it; returns the generation that serves then.

        Raises NotNow, with the reason, when the new code cannot serve: then nothing has changed.
        """
        return _generation(await self.request("restart", wait=True))

    async def reload(self) -> int:
        """Read the configuration again and restart. Raises as ``restart``."""
        return _generation(await self.request("reload", wait=True))

    async def drain(self) -> int:
        """Take no more runs; returns when the present ones have ended."""
        return _generation(await self.request("drain", wait=True))

    async def stop(self, *, wait: bool = True) -> None:
        """Stop the daemon in order; ``wait`` until it is gone: its process if that is of this machine, else its connection."""
        process = None
        if wait and self.place.address.kind == "unix":
            with suppress(RequestError):
                process = watch((await self.stats()).get("pid"))
        try:
            await self._stop(wait=wait)
            if process is not None:
                fd, process = process, None
                await wait_gone(fd)
        finally:
            if process is not None:
                os.close(process)

    async def _stop(self, *, wait: bool) -> None:
        """Order it and, with ``wait``, stay until the connection has ended."""
        exchange = await self._asker.connections.take()
        try:
            while not await self._ordered_to_stop(exchange):
                exchange.close()
                try:
                    exchange = await self._asker.connections.take()
                except NoDaemon:
                    return
            while wait:
                await exchange.events(None)
        except ConnectionLost:
            pass  # the daemon ends the connections when it has stopped
        finally:
            exchange.close()

    async def _ordered_to_stop(self, exchange: Exchange) -> bool:
        """Whether the daemon has taken the order; false when the connection was lost before it said so (it crashed or went)."""
        try:
            await exchange.ask({0: Call("stop", {})}, self.timeout)
            while exchange.unanswered:
                for event in await exchange.events(time.monotonic() + self.timeout):
                    if isinstance(event, Reply):
                        result_of(event)
        except ConnectionLost:
            return False
        except TimeoutError:
            raise no_answer(self.place, "stop", self.timeout) from None
        return True


def _whose(target: str | None, script: str | None) -> dict[str, str]:
    return {name: value for name, value in (("target", target), ("script", script)) if value is not None}


def _generation(result: Any) -> int:
    """What the orders to the daemon answer."""
    return int(result.get("generation", 0)) if isinstance(result, dict) else 0
