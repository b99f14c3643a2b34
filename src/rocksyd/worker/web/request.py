"""A request as the application's code meets it: what ``rocksyd.current()`` gives while one is answered.

What must live here: what is known of a request, and what is done after its response. What this file must not know: HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rocksyd.errors import JobError
from rocksyd.jobs import Current
from rocksyd.worker import output, results


class Request(Current):
    """The request that this code answers."""

    __slots__ = ("_rest", "agent", "client", "method", "over", "referer", "thread", "url", "version")

    def __init__(self, request_id: str, client: str = "-") -> None:
        super().__init__(request_id)
        self.request_id = request_id
        self.client = client
        self.method, self.version, self.url = "", "", b""
        self.referer, self.agent = "-", "-"
        self.thread: int | None = None
        """The thread that answers, where it is another than the main one."""
        self.over = False
        self._rest: list[Callable[[], object]] = []

    def progress(self, done: float | None = None, total: float | None = None, note: str = "") -> None:
        """Nobody looks at the progress of a request; code that jobs and requests share may say it all the same."""

    def gauge(self, name: Any, value: Any) -> None:
        """A request is nobody's who would be asked for it: say gauges in jobs. Raises JobError."""
        raise JobError(f"the gauge {name} was said while a request was answered; say it in a job")

    def finish(self, value: Any = None) -> None:
        """Have ``value()`` called when the response is through, in this worker: php-fpm's ``fastcgi_finish_request``.

        Raises:
            JobError: ``value`` cannot be called.
        """
        if not callable(value):
            raise JobError("finish() of a request takes what is to be done after its response: finish(lambda: work())")
        self._rest.append(value)

    @property
    def has_more(self) -> bool:
        """Whether something is to be done after the response."""
        return bool(self._rest)

    def do_rest(self) -> None:
        """The response is through: do what was left for then. What it raises is printed."""
        while self._rest:
            try:
                self._rest.pop(0)()
            except Exception as error:  # noqa: BLE001  (the application's; nobody else can be told)
                output.write(f"rocksyd: after the response to request {self.request_id}:\n{results.traceback_of(error)}")

    def close(self) -> None:
        """It is over."""
        self.over = True

    def __repr__(self) -> str:
        return f"<request {self.request_id}>"
