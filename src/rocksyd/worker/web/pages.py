"""Two pages that the pool itself answers: its state, with php-fpm's field names, and whether it is there.

What must live here: their contents. What this file must not know: where the numbers come from (the master has them).
"""

from __future__ import annotations

import json
from typing import Any


class Pages:
    """Paths that are no application's."""

    def __init__(self, status: str, ping: str, engine: Any) -> None:
        self._engine = engine
        self._apps = {path: app for path, app in ((status, self._status), (ping, self._ping)) if path}

    def app_for(self, path: str) -> Any:
        """What answers this path; None for all that are the application's."""
        return self._apps.get(path) if self._apps else None

    async def _ping(self, _scope: Any, _receive: Any, send: Any) -> None:
        await _answer(send, 200, b"pong", b"text/plain")

    async def _status(self, scope: Any, _receive: Any, send: Any) -> None:
        try:
            row = await self._engine.ask("pool")
        except TimeoutError:
            await _answer(send, 503, b"the master does not answer now\n", b"text/plain")
            return
        said = row or {}
        if b"json" in scope["query_string"].split(b"&"):
            await _answer(send, 200, json.dumps(said).encode() + b"\n", b"application/json")
        else:
            await _answer(
                send, 200, "".join(f"{name + ':':<22}{value}\n" for name, value in said.items()).encode(), b"text/plain"
            )


async def _answer(send: Any, status: int, body: bytes, kind: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
