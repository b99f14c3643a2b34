"""The REST paths as an OpenAPI document, made of what the daemon says of itself (``rpc.discover``).

What must live here: the document's form. What this file must not know: the methods.

Source: OpenAPI specification 3.1, whose schemas are those of JSON Schema, as OpenRPC's are.
"""

from __future__ import annotations

from typing import Any

from rocksyd.companions.gateway.daemon import STATUSES, Daemon
from rocksyd.companions.gateway.rest import ELSEWHERE, RESOURCES
from rocksyd.companions.gateway.web import Request, Response, Route, as_json

Object = dict[str, Any]
_ERROR: Object = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "integer"}, "message": {"type": "string"}, "data": {}},
        }
    },
}
_ALWAYS = (400, 401, 403, 404, 405, 408, 413, 415, 429, 503)
_TEXTS = {
    400: "not understood: wrong parameters, or no JSON",
    401: "a token is missing or wrong",
    403: "not allowed: the token's scopes or targets, the host, the origin",
    404: "no such run, target, method or path",
    405: "another verb",
    408: "too slow",
    409: "the key is in use by a run of something else",
    413: "the body is too large",
    415: "the body does not say that it is JSON",
    422: "the run did not end well; or a companion has refused",
    429: "too busy: try again later",
    503: "not now: restarting failed, draining, not ended yet, the daemon is not there",
}


class OpenApi:
    """The handler."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def routes(self) -> list[Route]:
        """The only one."""
        return [Route("GET", "/openapi.json", "read", self._document)]

    async def _document(self, request: Request) -> Response:
        return as_json(document(await self._daemon.described()))


def document(described: Object) -> Object:
    """All of it, from an OpenRPC document."""
    methods: dict[str, Object] = {one["name"]: one for one in described["methods"]}
    paths: dict[str, Object] = {}
    for verb, path, called in RESOURCES:
        paths.setdefault(path, {})[verb.lower()] = _resource(verb, path, methods[called])
    paths["/runs/{key}/logs"]["get"]["responses"]["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    paths["/call/{target}"] = {"post": _call(methods["call"])}
    paths["/rpc"] = {"post": _rpc()}
    for name, method in methods.items():
        if name not in ELSEWHERE:
            paths[f"/rpc/{name}"] = {"post": _method(name, method)}
    paths["/events"] = {"get": _events()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "rocksyd", "version": described["info"]["version"], "description": "The daemon over HTTP."},
        "paths": paths,
        "components": {
            "schemas": {**described["components"]["schemas"], "error": _ERROR},
            "responses": {str(status): _failure(text) for status, text in _TEXTS.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _failure(text: str) -> Object:
    return {"description": text, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/error"}}}}


def _resource(verb: str, path: str, method: Object) -> Object:
    in_path = [one for one in method["params"] if f"{{{one['name']}}}" in path]
    others = [one for one in method["params"] if one not in in_path and one["name"] != "follow"]
    found = _operation(f"{verb.lower()} {method['name']}", method, _result(method))
    found["parameters"] = [_parameter(one, "path") for one in in_path]
    if verb == "GET":
        found["parameters"] += [_parameter(one, "query") for one in others]
    elif others or verb == "POST":
        found["requestBody"] = _body(others)
    return found


def _method(name: str, method: Object) -> Object:
    answer = {"type": "object", "required": ["result"], "properties": {"result": _result(method)}}
    return {**_operation(f"rpc {name}", method, answer), "requestBody": _body(method["params"])}


def _call(method: Object) -> Object:
    answer = {"type": "object", "required": ["result"], "properties": {"result": {}, "result_dropped": {"type": "string"}}}
    found = _operation("call target", method, answer)
    params = {one["name"]: one for one in method["params"]}
    options = [one for name, one in params.items() if name not in ("target", "params")]
    found["parameters"] = [_parameter(params["target"], "path"), *(_parameter(one, "query") for one in options)]
    found["requestBody"] = _json({"type": ["array", "object"]}, params["params"].get("summary", ""))
    return found


def _rpc() -> Object:
    one: Object = {
        "type": "object",
        "required": ["jsonrpc", "method"],
        "properties": {
            "jsonrpc": {"const": "2.0"},
            "id": {"type": ["string", "integer", "null"]},
            "method": {"type": "string"},
            "params": {"type": ["array", "object"]},
        },
    }
    summary = "Any method: a request of JSON-RPC 2.0, or a batch of them."
    found = _operation("rpc", {"summary": summary, "errors": []}, {"type": ["object", "array"]})
    for status in (*_ALWAYS, 409, 422):
        answered = {"schema": {"type": "object", "required": ["error"]}}
        found["responses"][str(status)] = {"description": _TEXTS[status], "content": {"application/json": answered}}
    found["responses"]["204"] = {"description": "there were only notifications"}
    found["requestBody"] = _json({"anyOf": [one, {"type": "array", "minItems": 1, "maxItems": 100, "items": one}]}, "")
    return found


def _events() -> Object:
    found = _operation("events", {"summary": "What happens, as server-sent events.", "errors": []}, {})
    found["responses"]["200"]["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    texts = {"app": "only of this application", "target": "only of this target", "keys": "only these runs, with commas between",
             "events": "only these events, with commas between", "labels": "only with these labels, an object as JSON",
             "position": "go on behind this event's id"}  # fmt: skip
    found["parameters"] = [
        {"name": name, "in": "query", "description": text, "schema": {"type": "integer" if name == "position" else "string"}}
        for name, text in texts.items()
    ]
    return found


def _operation(name: str, method: Object, answer: Object) -> Object:
    own = {int(STATUSES.get(int(error["$ref"].rpartition("/")[2]), 422)) for error in method.get("errors", ())}
    statuses = sorted(status for status in {*_ALWAYS, *own} if status in _TEXTS)
    failures = {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}
    scope = method.get("x-scope", "")
    return {
        "operationId": name.replace(" ", "_").replace(".", "_"),
        "summary": method.get("summary", ""),
        "x-scope": scope,
        "responses": {"200": {"description": "done", "content": {"application/json": {"schema": answer}}}, **failures},
    }


def _result(method: Object) -> Object:
    return dict(method.get("result", {}).get("schema", {}))


def _parameter(one: Object, where: str) -> Object:
    schema = one["schema"]
    found: Object = {"name": one["name"], "in": where, "description": one.get("summary") or one.get("description", "")}
    if where == "path" or one.get("required"):
        found["required"] = True
    kinds = schema.get("type", "string" if "enum" in schema else "object")
    if where == "query" and ("object" in kinds or "array" in kinds):
        return {**found, "content": {"application/json": {"schema": schema}}}
    return {**found, "schema": schema}


def _body(params: list[Object]) -> Object:
    required = [one["name"] for one in params if one.get("required")]
    members = {one["name"]: _optional(one) for one in params}
    schema: Object = {"type": "object", "properties": members, "additionalProperties": False}
    if required:
        schema["required"] = required
    return {**_json(schema, ""), "required": bool(required)}


def _optional(one: Object) -> Object:
    text = one.get("summary") or one.get("description", "")
    return {**one["schema"], **({"description": text} if text else {})}


def _json(schema: Object, text: str) -> Object:
    return {"description": text, "content": {"application/json": {"schema": schema}}}
