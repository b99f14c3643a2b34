"""``/metrics``: the same page as that of the companion ``metrics``, whose work the gateway does where both are configured.

What must live here: asking for the numbers. What this file must not know: which number is which metric (``companions.metrics``).
"""

from __future__ import annotations

from http import HTTPStatus

from rocksyd.companions.gateway.daemon import Daemon
from rocksyd.companions.gateway.web import Refused, Request, Response, Route
from rocksyd.companions.metrics import METHODS, families, text


class Numbers:
    """The handler."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def routes(self) -> list[Route]:
        """The only one."""
        return [Route("GET", "/metrics", "read", self._metrics)]

    async def _metrics(self, request: Request) -> Response:
        answers = await self._daemon.answers(*((method, {}) for method in METHODS))
        if None in answers:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the daemon gives no numbers now")
        kind, body = text(families(*answers), request.headers.get("accept", ""))
        return Response(body, kind)
