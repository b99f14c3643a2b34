"""REST and JSON: every method of the daemon over HTTP.

What must live here: which path is which method, and how a request becomes its parameters.
What this file must not know: the methods themselves, which the daemon describes (``rpc.discover``).
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, NamedTuple

from rocksyd import codes
from rocksyd.companions.gateway.access import Caller, check_scope
from rocksyd.companions.gateway.daemon import ORDERS, Daemon
from rocksyd.companions.gateway.streams import Streams
from rocksyd.companions.gateway.web import EVENTS, Refused, Request, Response, Route, as_json
from rocksyd.redaction import HIDDEN

MOST_OF_BATCH = 100
"""Requests of JSON-RPC in one body."""
ELSEWHERE = {
    "subscribe": "news come as server-sent events: GET /events",
    "auth": "the token of the gateway goes into the header: Authorization: Bearer",
}
"""Methods that make no sense in one request and its answer."""
_BY_KEY = frozenset({"terminate", "retry", "free", "edit", "profile.start"})


class Resource(NamedTuple):
    """A path of its own for a method."""

    verb: str
    path: str
    method: str


RESOURCES = (
    Resource("GET", "/runs", "list"),
    Resource("POST", "/runs", "run"),
    Resource("GET", "/runs/{key}", "status"),
    Resource("DELETE", "/runs/{key}", "free"),
    Resource("POST", "/runs/{key}/terminate", "terminate"),
    Resource("POST", "/runs/{key}/retry", "retry"),
    Resource("GET", "/runs/{key}/logs", "logs"),
)


class Rest:
    """The handlers."""

    def __init__(self, daemon: Daemon, streams: Streams) -> None:
        self._daemon = daemon
        self._streams = streams

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            *(self._route(resource) for resource in RESOURCES if resource.method != "logs"),
            Route("GET", "/runs/{key}/logs", "read", self._logs),
            Route("POST", "/call/{target}", "run", self._call),
            Route("POST", "/rpc", "", self._rpc),
            Route("POST", "/rpc/{method}", "", self._method),
        ]

    def _route(self, resource: Resource) -> Route:
        name = resource.path.partition("{")[2].partition("}")[0]

        async def handler(request: Request, *given: str) -> Response:
            params = {name: given[0]} if name else {}
            if resource.verb == "GET":
                params = {**await self._from_query(request, resource.method), **params}
            else:
                params = {**_members(await request.json()), **params}
            return as_json(await self.perform(request.caller, resource.method, params))

        return Route(resource.verb, resource.path, _SCOPES[resource.method], handler)

    async def _logs(self, request: Request, key: str) -> Response:
        if request.accepts(EVENTS):
            return await self._streams.output(request, key)
        params = {**await self._from_query(request, "logs"), "key": key}
        return as_json(await self.perform(request.caller, "logs", params))

    async def _call(self, request: Request, target: str) -> Response:
        body = await request.json()
        if body is not None and not isinstance(body, list | dict):
            raise Refused(HTTPStatus.BAD_REQUEST, "the body is the params: an array or an object", codes.INVALID_PARAMS)
        order = {**await self._from_query(request, "call"), "target": target}
        if body is not None:
            order["params"] = body
        answer = await self.perform(request.caller, "call", order)
        return as_json({name: answer[name] for name in ("result", "result_dropped") if name in answer})

    async def _method(self, request: Request, method: str) -> Response:
        return as_json({"result": await self.perform(request.caller, method, _members(await request.json()))})

    # --- JSON-RPC -----------------------------------------------------------------------------------------------------
    async def _rpc(self, request: Request) -> Response:
        body = await request.json()
        if not isinstance(body, list):
            status, reply = await self._one(request.caller, body)
            return as_json(reply, status) if reply else Response(b"", status=HTTPStatus.NO_CONTENT)
        if not 0 < len(body) <= MOST_OF_BATCH:
            raise Refused(HTTPStatus.BAD_REQUEST, f"a batch has 1 to {MOST_OF_BATCH} requests", codes.INVALID_REQUEST)
        replies = [reply for one in body if (reply := (await self._one(request.caller, one))[1])]
        return as_json(replies) if replies else Response(b"", status=HTTPStatus.NO_CONTENT)

    async def _one(self, caller: Caller, asked: Any) -> tuple[int, dict[str, Any]]:
        """Status and reply of one request; no reply for a notification."""
        named = isinstance(asked, dict) and asked.get("jsonrpc") == "2.0" and isinstance(asked.get("method"), str)
        number = asked.get("id") if isinstance(asked, dict) and isinstance(asked.get("id"), str | int | float | None) else None
        try:
            params = asked.get("params", {}) if named else None
            if not isinstance(params, dict | list):
                raise Refused(HTTPStatus.BAD_REQUEST, "Invalid Request", codes.INVALID_REQUEST)
            result = await self.perform(caller, asked["method"], params)
        except Refused as refused:
            if named and "id" not in asked:
                return HTTPStatus.NO_CONTENT, {}
            return refused.status, {"jsonrpc": "2.0", "error": error_of(refused), "id": number}
        if "id" not in asked:
            return HTTPStatus.NO_CONTENT, {}
        return HTTPStatus.OK, {"jsonrpc": "2.0", "result": result, "id": number}

    # --- performing ---------------------------------------------------------------------------------------------------
    async def perform(self, caller: Caller, method: str, params: dict[str, Any] | list[Any]) -> Any:
        """What the daemon answers, if the caller may ask that. Raises Refused."""
        described = {one["name"]: one for one in (await self._daemon.described())["methods"]}
        if method not in described:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no method {method[:100]!r}", codes.METHOD_NOT_FOUND)
        if method in ELSEWHERE:
            raise Refused(HTTPStatus.BAD_REQUEST, ELSEWHERE[method], codes.INVALID_REQUEST)
        check_scope(caller, described[method].get("x-scope", "admin"))
        if isinstance(params, list):
            names = [one["name"] for one in described[method]["params"]]
            if len(params) > len(names):
                text = f"{method} takes at most {len(names)} parameters"
                raise Refused(HTTPStatus.BAD_REQUEST, text, codes.INVALID_PARAMS, {"advice": f"parameters: {', '.join(names)}"})
            params = dict(zip(names, params, strict=False))
        if method == "logs" and params.get("follow"):
            text = f"output is followed at GET /runs/{{key}}/logs with Accept: {EVENTS}"
            raise Refused(HTTPStatus.BAD_REQUEST, text, codes.INVALID_PARAMS)
        if method == "edit" and self._daemon.redaction and self._daemon.redaction.holds_hidden(params.get("params")):
            text = f"params holds {HIDDEN!r}, which stands for a value that is not shown: give all values, or leave params out"
            raise Refused(HTTPStatus.BAD_REQUEST, text, codes.INVALID_PARAMS)
        if caller.targets and described[method].get("x-scope") != "read":
            await self._check_target(caller, method, params)
        if any(one["name"] == "by" for one in described[method]["params"]):
            params = {**params, "by": f"the token {caller.name}" if caller.name else "somebody at the gateway"}
        return await self._daemon.ask(method, params)

    async def _check_target(self, caller: Caller, method: str, params: dict[str, Any]) -> None:
        """Refuse what concerns a target that is not one of the caller's."""
        if method in ORDERS:
            target = params.get("target")
        elif method in _BY_KEY:
            target = (await self._daemon.ask("status", {"key": params.get("key")}))["target"]
        else:
            target = None
        if not isinstance(target, str) or not caller.may_run(*await self._daemon.names_of(target)):
            text = f"the token {caller.name!r} may not do that: it is for {', '.join(caller.targets)}"
            raise Refused(HTTPStatus.FORBIDDEN, text, codes.NOT_ALLOWED, "targets of [gateway.tokens] says what it is for")

    async def _from_query(self, request: Request, method: str) -> dict[str, Any]:
        """Parameters out of the query, each as its schema wants it. One that does not fit is left to the daemon to refuse."""
        given = request.query()
        if not given:
            return {}
        described = next(one for one in (await self._daemon.described())["methods"] if one["name"] == method)
        schemas = {one["name"]: one["schema"] for one in described["params"]}
        return {name: read(value, schemas.get(name, {})) for name, value in given.items()}


_SCOPES = {"list": "read", "run": "run", "status": "read", "free": "run", "terminate": "run", "retry": "run", "logs": "read"}


def _members(body: Any) -> dict[str, Any]:
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise Refused(HTTPStatus.BAD_REQUEST, "the body is the parameters by name: an object", codes.INVALID_PARAMS)
    return body


def read(text: str, schema: dict[str, Any]) -> Any:
    """A value of a query as its schema wants it; the text itself where it cannot be read so."""
    kinds = schema.get("type", "string" if "enum" in schema else None)
    kinds = [kinds] if isinstance(kinds, str) else kinds or ["object"]
    if kinds == ["string"]:
        return text
    if kinds == ["boolean"]:
        return {"1": True, "true": True, "0": False, "false": False}.get(text.lower(), text)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if "string" in kinds and not isinstance(value, int | float):
        return text
    return text if isinstance(value, float) and not (float("-inf") < value < float("inf")) else value


def error_of(refused: Refused) -> dict[str, Any]:
    """The error as an object of JSON-RPC."""
    found: dict[str, Any] = {"code": refused.code or codes.INVALID_REQUEST, "message": str(refused)}
    return found if refused.data is None else {**found, "data": refused.data}
