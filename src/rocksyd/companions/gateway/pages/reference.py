"""The page of the REST paths, for people.

What must live here: the OpenAPI document in the order in which one reads. What this file must not know: HTML.
"""

from __future__ import annotations

from typing import Any

from rocksyd.companions.gateway.daemon import Daemon
from rocksyd.companions.gateway.openapi import document


class Reference:
    """What finds the contents."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def page(self, query: dict[str, str]) -> dict[str, Any]:
        """API."""
        described = document(await self._daemon.described())
        text = query.get("text", "").lower()
        rows = [
            {"verb": verb.upper(), "path": path, **operation, "fields": list(_fields(operation))}
            for path, operations in described["paths"].items()
            for verb, operation in operations.items()
            if text in f"{path} {operation['summary']}".lower()
        ]
        return {"title": "API", "rows": rows, "text": text}


def _fields(operation: dict[str, Any]) -> Any:
    for one in operation.get("parameters", ()):
        yield {"name": one["name"], "where": one["in"], "required": one.get("required", False), "text": one["description"]}
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    for name, schema in body.get("properties", {}).items():
        required = name in body.get("required", ())
        yield {"name": name, "where": "body", "required": required, "text": schema.get("description", "")}
