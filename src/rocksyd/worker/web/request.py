"""A request as the application's code meets it: what ``rocksyd.current()`` gives while one is answered.

What must live here: what is known of a request, and what is done after its response. What this file must not know: HTTP.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from rocksyd.errors import JobError
from rocksyd.jobs import Current
from rocksyd.worker import output, results


class Request(Current):
    """The request that this code answers."""

    __slots__ = ("_doing", "_rest", "agent", "client", "method", "referer", "thread", "url", "version")

    def __init__(self, request_id: str, client: str = "-") -> None:
        super().__init__(request_id)
        self.request_id = request_id
        self.client = client
        self.method, self.version, self.url = "", "", b""
        self.referer, self.agent = "-", "-"
        self.thread: int | None = None
        """The thread that answers, where it is another than the main one."""
        self._doing = False
        self._rest: list[Callable[[], object]] = []

    def progress(self, done: float | None = None, total: float | None = None, note: str = "") -> None:
        """Nobody looks at the progress of a request; code that jobs and requests share may say it all the same."""

    def gauge(self, name: Any, value: Any) -> None:
        """A request is nobody's who would be asked for it: say gauges in jobs. Raises JobError."""
        raise JobError(f"the gauge {name} was said while a request was answered; say it in a job")

    def finish(self, value: Any = None) -> None:
        """Have ``value()`` called when the response is through, in this worker: php-fpm's ``fastcgi_finish_request``.

        A coroutine function is awaited, and so is what another function returns if that can be. Other functions are called
        where they may block: in a thread, and of a WSGI application in one of its own.

        Raises:
            JobError: ``value`` cannot be called.
        """
        if not callable(value):
            raise JobError("finish() of a request takes what is to be done after its response: finish(lambda: work())")
        self._rest.append(value)

    @property
    def has_more(self) -> bool:
        """Whether something is to be done after the response that nobody has begun with."""
        return bool(self._rest) and not self._doing

    def rest(self, call: Callable[[Callable[[], object]], Awaitable[object]]) -> Coroutine[Any, Any, None]:
        """The response is through: what was left for then, to be awaited; ``call`` calls what may block."""
        self._doing = True
        return self._do_rest(call)

    async def _do_rest(self, call: Callable[[Callable[[], object]], Awaitable[object]]) -> None:
        """One after the other. What it raises is printed."""
        while self._rest:
            work = self._rest.pop(0)
            try:
                result = work() if inspect.iscoroutinefunction(work) else await call(work)
                if inspect.isawaitable(result):
                    await result
            except (Exception, SystemExit) as error:  # noqa: BLE001  (the application's; nobody else can be told)
                output.write(f"rocksyd: after the response to request {self.request_id}:\n{results.traceback_of(error)}")
        self._doing = False

    def __repr__(self) -> str:
        return f"<request {self.request_id}>"


def unserved(client: tuple[str, int] | None, line: bytes) -> Request:
    """One that is refused, of which there is the first line, whatever it says, or the beginning of one."""
    request = Request("-", client[0] if client else "-")
    method, _, rest = line.strip(b"\r").partition(b" ")
    url, _, version = rest.rpartition(b" HTTP/")
    if method.isalpha() and url:
        request.method, request.url, request.version = method.decode("ascii"), url, version.decode("latin-1")
    else:
        request.url = line.strip(b"\r") or b"-"
    return request
