"""The daemon as the gateway sees it: one client for all who come, what is remembered of the answers, what of them is not shown.

What must live here: asking; the redaction of whatever is answered; the errors of the daemon as those of HTTP.
What this file must not know: paths, pages, who asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, TypeVar
from uuid import uuid4

from rocksyd import codes
from rocksyd.client import AsyncClient
from rocksyd.companions.gateway.web import Refused
from rocksyd.errors import JobFailed, NoDaemon, RequestError
from rocksyd.redaction import Redaction

T = TypeVar("T")

STATUSES = {
    codes.PARSE_ERROR: HTTPStatus.BAD_REQUEST,
    codes.INVALID_REQUEST: HTTPStatus.BAD_REQUEST,
    codes.METHOD_NOT_FOUND: HTTPStatus.NOT_FOUND,
    codes.INVALID_PARAMS: HTTPStatus.BAD_REQUEST,
    codes.INTERNAL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
    codes.JOB_FAILED: HTTPStatus.UNPROCESSABLE_ENTITY,
    codes.NOT_FOUND: HTTPStatus.NOT_FOUND,
    codes.IN_USE: HTTPStatus.CONFLICT,
    codes.NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    codes.TOO_BUSY: HTTPStatus.TOO_MANY_REQUESTS,
    codes.NOT_NOW: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The daemon's errors as statuses of HTTP. One that a companion has invented is 422: understood, and not done."""
FRESH = 2.0
"""Seconds for which what rarely changes is remembered: the targets, the description of the protocol."""
TIMEOUT = 15.0
"""Seconds in which the daemon has to answer what it can answer at once."""
LONG = frozenset({"call", "wait", "stack", "restart", "reload", "drain"})
"""Methods that are answered when something has come about."""
ORDERS = frozenset({"run", "call"})


class Daemon:
    """One daemon."""

    def __init__(self, address: str, token: str, redact: Sequence[str]) -> None:
        self.client = AsyncClient(address, token or None, timeout=TIMEOUT)
        self.redaction = Redaction(redact)
        self._remembered: dict[str, tuple[float, asyncio.Future[Any]]] = {}

    async def ask(self, method: str, params: dict[str, Any] | list[Any] | None = None) -> Any:
        """What the daemon answers, as it may be shown. Raises Refused."""
        given: Any = {} if params is None else params
        if method in ORDERS and isinstance(given, dict) and "key" not in given:
            given = {**given, "key": uuid4().hex}  # so that it is one order, should the master die before it has answered
        try:
            return await self.shown(await self.client.request(method, given, wait=method in LONG))
        except RequestError as error:
            raise refusal(error) from error
        except JobFailed as error:
            said = error.record.get("error") or error.record
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), codes.JOB_FAILED, said) from error
        except NoDaemon as error:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error), codes.NOT_NOW) from error

    async def answers(self, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
        """What the daemon answers to several calls at once; None for what it refuses."""
        if not calls:
            return []
        try:
            found = await self.client.answers(calls)
        except NoDaemon as error:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error), codes.NOT_NOW) from error
        return [None if isinstance(one, RequestError) else await self.shown(one) for one in found]

    async def shown(self, answer: Any) -> Any:
        """The same without what is hidden, where it has records."""
        if not self.redaction:
            return answer
        if isinstance(answer, list):
            return [await self.shown(one) for one in answer]
        if isinstance(answer, dict) and "target" in answer and "params" in answer:
            return self.redaction.record(answer, await self._names(answer))
        if isinstance(answer, dict) and any(name in answer for name in ("params", "env", "labels")):
            return self.redaction.record(answer)
        if isinstance(answer, dict) and isinstance(answer.get("order"), dict):
            return {**answer, "order": await self.shown(answer["order"])}
        return answer

    async def _names(self, record: dict[str, Any]) -> list[str]:
        """What the parameters of the run's target are called."""
        if not isinstance(record["params"], list):
            return []
        for row in await self.targets():
            if row["app"] == record.get("app") and record["target"] in (row["target"], row["name"]) and row["signature"]:
                return [
                    str(one["name"]) for one in row["signature"]["parameters"] if one.get("kind") not in ("keyword", "others")
                ]
        return []

    # --- what is remembered -------------------------------------------------------------------------------------------
    async def targets(self) -> list[dict[str, Any]]:
        """What may be run."""
        return list(await self.remembered("targets", self.client.targets))

    async def described(self) -> dict[str, Any]:
        """The protocol, as an OpenRPC document."""
        return dict(await self.remembered("described", self.client.discover))

    async def remembered(self, name: str, ask: Callable[[], Awaitable[T]], fresh: float = FRESH) -> T:
        """What ``ask`` found within the last seconds, or is about to find for somebody else. Raises Refused."""
        now = time.monotonic()
        since, found = self._remembered.get(name, (0.0, None))
        if found is None or (found.done() and (now - since > fresh or found.cancelled() or found.exception() is not None)):
            for old in [key for key, (at, one) in self._remembered.items() if one.done() and now - at > 10 * fresh]:
                del self._remembered[old]
            found = asyncio.ensure_future(ask())
            self._remembered[name] = (now, found)
        try:
            return await asyncio.shield(found)
        except RequestError as error:
            raise refusal(error) from error
        except NoDaemon as error:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error), codes.NOT_NOW) from error

    async def names_of(self, target: str) -> list[str]:
        """All that a target is called: what it was given as, and for a short name what that stands for."""
        rows = await self.targets()
        return [target, *(row["target"] for row in rows if target in (row["name"], row["target"]))]


def refusal(error: RequestError) -> Refused:
    """An error of the daemon as one of HTTP."""
    return Refused(STATUSES.get(error.code, HTTPStatus.UNPROCESSABLE_ENTITY), str(error), error.code, error.data)
