"""The smoke request: a request to the application without a connection, before its code may serve.

What must live here: asking, and what of the answer is wanted. What this file must not know: workers, connections.
"""

from __future__ import annotations

import asyncio
import contextvars
import urllib.parse
from typing import Any

from rocksyd.errors import JobError
from rocksyd.worker.web.engine import Engine, running_request


async def pass_it(engine: Engine, path: str) -> None:
    """Ask for ``path``. Raises JobError when it is not answered with 2xx or 3xx in time, and what the application raises."""
    status = await call(engine, path)
    if not 200 <= status < 400:
        raise JobError(f"smoke_request: {path} was answered with {status}, and 2xx or 3xx is wanted")


async def call(engine: Engine, path: str) -> int:
    """Make a request to the application without a connection; the status of its answer."""
    path, _, query = path.partition("?")
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": urllib.parse.unquote(path), "raw_path": path.encode(), "query_string": query.encode(),
        "root_path": "", "headers": [(b"host", b"localhost"), (b"user-agent", b"rocksyd smoke request")], "state": {},
        "client": ("127.0.0.1", 0), "server": ("localhost", 80),
    }  # fmt: skip
    scope["state"] = engine.lifespan.state.copy()
    answered: asyncio.Future[int] = engine.loop.create_future()
    gone = asyncio.Event()
    bodies = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        body = next(bodies, None)
        if body is not None:
            return body
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start" and not answered.done():
            answered.set_result(message["status"])
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            gone.set()

    context = contextvars.copy_context()
    request = engine.proxies.read(scope, scope["headers"], trusted=False)
    context.run(running_request.set, request)
    task = engine.loop.create_task(engine.app(scope, receive, send), context=context)
    try:
        await asyncio.wait({task, answered}, timeout=engine.timeout or None, return_when=asyncio.FIRST_COMPLETED)
        if not answered.done() and task.done():
            task.result()
            raise JobError(f"smoke_request: {path} was not answered")
        if not answered.done():
            raise JobError(f"smoke_request: {path} was not answered in time (timeout)")
        return answered.result()
    finally:
        gone.set()
        await asyncio.wait({task}, timeout=1.0)
        task.cancel()
        engine.do_rest(request, context.copy())
