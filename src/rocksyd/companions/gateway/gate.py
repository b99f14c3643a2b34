"""The ASGI application: every request comes in here, is looked at, goes to its handler, and what comes of it goes out.

What must live here: the order of the checks, the headers of every answer, errors as answers.
What this file must not know: what any handler does.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, MutableMapping
from http import HTTPStatus
from typing import Any, NamedTuple

from rocksyd.companions.gateway.access import Access, check_scope, login_page, unauthorised
from rocksyd.companions.gateway.connections import Receive, Send
from rocksyd.companions.gateway.rest import error_of
from rocksyd.companions.gateway.web import Refused, Request, Response, Routes, as_json, redirect, send_response
from rocksyd.posix.log import log

ALWAYS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every answer."""


OPEN = ("/login", "/logout")
"""What may be sent by nobody in particular."""


class Listener(NamedTuple):
    """What a listening socket is for."""

    host: str
    """As the configuration has it."""
    only_numbers: bool = False
    """Whether nothing but /metrics is served there, to anybody (it is the one of [metrics])."""


class Gate:
    """The application. ``all_of_it`` are the routes of the gateway's own addresses, ``numbers`` those of [metrics]."""

    def __init__(
        self, access: Access, all_of_it: Routes, numbers: Routes, max_body: int, page: Callable[[Request, Refused], Response]
    ) -> None:
        self._access = access
        self._all_of_it = all_of_it
        self._numbers = numbers
        self._max_body = max_body
        self._page = page

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        request = Request(scope, receive, self._max_body)
        try:
            response = await self._answer(request)
        except Refused as refused:
            if refused.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                await request.discard()
            response = self._refusal(request, refused)
        except Exception as error:  # noqa: BLE001  (the barrier: it is this request's alone)
            log("gateway", f"{request.verb} {request.raw_path[:200]!r} met a fault: {error!r}\n{traceback.format_exc()}")
            response = as_json({"error": {"code": -32603, "message": "a fault of the gateway; its log has it"}}, 500)
        await send_response(request, response, send, ALWAYS)

    async def _answer(self, request: Request) -> Response:
        listener: Listener = request.listener
        if listener.only_numbers:
            route, given = self._numbers.find(request)
            return await route.handler(request, *given)
        self._access.check_host(request)
        route, given = self._all_of_it.find(request)
        if request.verb not in ("GET", "HEAD"):
            self._access.check_write(request)
        request.caller = self._access.caller(request)
        if route.scope or (route.verb != "GET" and route.path not in OPEN):
            if request.caller is None:
                raise unauthorised("a token is needed: Authorization: Bearer and what is in the token's file")
            check_scope(request.caller, route.scope)
        return await route.handler(request, *given)

    def _refusal(self, request: Request, refused: Refused) -> Response:
        headers = {}
        if refused.status == HTTPStatus.UNAUTHORIZED:
            if request.verb == "GET" and request.accepts("text/html"):
                return redirect(login_page(request))
            headers["WWW-Authenticate"] = 'Bearer realm="rocksyd"'
        elif refused.status == HTTPStatus.METHOD_NOT_ALLOWED and isinstance(refused.data, dict):
            headers["Allow"] = str(refused.data["allow"])
        elif refused.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            headers["Retry-After"] = "1"
        if refused.status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.UNSUPPORTED_MEDIA_TYPE):
            headers["Connection"] = "close"  # what is left of the body is not read
        if request.verb == "GET" and request.accepts("text/html") and not request.listener.only_numbers:
            return self._page(request, refused)._replace(headers=headers)
        return as_json({"error": error_of(refused)}, refused.status, **headers)
