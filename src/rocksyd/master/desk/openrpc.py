"""The methods' description as an OpenRPC document: for the manual, for ``rpc.discover``, for whoever generates a client.

    python -m rocksyd.master.openrpc > docs/schema/openrpc.json

What must live here: the document's form. What this file must not know: the methods (``methods``).

Source: OpenRPC specification 1.3, https://spec.open-rpc.org
"""

from __future__ import annotations

import json
import sys
from typing import Any

from rocksyd import __version__, codes
from rocksyd.core.schema import Schema
from rocksyd.master.desk.methods import METHODS, NOTIFICATIONS, RECORD, Method, Parameter


def document(companions: dict[str, dict[str, Any]] | None = None) -> dict[str, Any]:
    """All of it, with the methods that ``companions`` have added.

    Notifications, which OpenRPC has no word for, stand under ``x-notifications``.
    """
    return {
        "openrpc": "1.3.2",
        "info": {"title": "rocksyd", "version": __version__, "description": "JSON-RPC 2.0, one request or batch a line."},
        "methods": [
            *(_method(name, method) for name, method in METHODS.items()),
            *(_of_companion(name, described) for name, described in (companions or {}).items()),
        ],
        "x-notifications": [
            {"name": name, "summary": news.text, "params": _brief(news.params)} for name, news in NOTIFICATIONS.items()
        ],
        "components": {
            "schemas": {"record": RECORD},
            "errors": {str(code): {"code": code, "message": text} for code, text in codes.MEANINGS.items()},
        },
    }


def _method(name: str, method: Method) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": name,
        "summary": method.text,
        "paramStructure": "either",
        "params": [_parameter(parameter) for parameter in method.parameters],
        "result": {"name": "result", "schema": _brief(method.result)},
        "errors": [{"$ref": f"#/components/errors/{code}"} for code in (*codes.COMMON, *method.errors)],
        "x-scope": method.scope,
    }
    if method.trusted:
        described["description"] = "Only for the daemon's own user, and root."
    return described


def _of_companion(name: str, described: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {key: described[key] for key in ("summary", "params", "result") if key in described}
    errors = [{"$ref": f"#/components/errors/{code}"} for code in (*codes.COMMON, codes.NOT_NOW)]
    return {
        "name": name,
        "params": [],
        "result": {"name": "result", "schema": {}},
        **own,
        "errors": errors,
        "x-scope": "admin" if described.get("trusted") else described.get("scope", "admin"),
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "summary": parameter.text,
        "required": parameter.required,
        "schema": parameter.schema,
    }


def _brief(schema: Schema) -> Schema:
    """The same, with records referred to instead of repeated."""
    if schema is RECORD:
        return {"$ref": "#/components/schemas/record"}
    if schema.get("items") is RECORD:
        return {**schema, "items": {"$ref": "#/components/schemas/record"}}
    if schema.get("title") == "record":
        extra = {name: one for name, one in schema["properties"].items() if name not in RECORD["properties"]}
        return {"allOf": [{"$ref": "#/components/schemas/record"}, {"properties": extra, "required": list(extra)}]}
    return schema


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=2)
    sys.stdout.write("\n")
