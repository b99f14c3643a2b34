"""The scheduler's methods that change scripts, and show how they came to be: apply, versions.

What must live here: their parameters and answers.
What this file must not know: the order in which a change comes about (``acting``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC
from typing import Any

from rocksyd import codes
from rocksyd.companions.by_hand import BY, who
from rocksyd.companions.companion import Request
from rocksyd.companions.schedule_sources import Sources
from rocksyd.companions.schedule_store import Store
from rocksyd.errors import RequestError
from rocksyd.schedule.book import Version, difference
from rocksyd.schedule.words import moment

APPLY: list[dict[str, Any]] = [
    {
        "name": "text",
        "schema": {"type": "string"},
        "required": True,
        "description": "tables [scripts.NAME], as rocksyd.toml has them",
    },
    {"name": "file", "schema": {"type": "string"}, "description": "what errors call it"},
    {"name": "rest", "schema": {"enum": ["keep", "remove"]}, "description": "what becomes of other scripts that were applied"},
    {"name": "dry", "schema": {"type": "boolean"}, "description": "only say what it would change"},
    BY,
]


class Editing:
    """These methods. ``carry_out`` has something done between two looks at what is due, and returns when that holds."""

    def __init__(
        self, sources: Sources, store: Store, carry_out: Callable[[Callable[[], None], str], None], lock: threading.Lock
    ) -> None:
        self._sources = sources
        self._store = store
        self._carry_out = carry_out
        self._lock = lock
        """Of the store."""

    def apply(self, given: dict[str, Any], request: Request) -> Any:
        """Let the API say these scripts from now on; with ``dry`` only say what that would change."""
        text, file, rest = given["text"], given.get("file") or "the text", given.get("rest", "keep")
        if not isinstance(text, str) or not isinstance(file, str) or rest not in ("keep", "remove"):
            raise RequestError(codes.INVALID_PARAMS, 'text and file are strings, and rest is "keep" or "remove"')
        author = who(given, request)
        wanted = self._sources.of_text(text, file, author)
        changes: list[dict[str, Any]] = []

        def change() -> None:
            changes.extend(self._sources.changes(wanted, rest=rest == "remove"))
            if not given.get("dry"):
                self._sources.apply(wanted, rest=rest == "remove")

        self._carry_out(change, author)
        return {"dry": bool(given.get("dry")), "changes": changes}

    def versions(self, given: dict[str, Any], request: Request) -> Any:
        """The versions of a script, latest first, each with what it changed."""
        with self._lock:
            versions = self._store.versions(given["name"])
        if not versions:
            raise RequestError(codes.NOT_FOUND, f"there is and was no script {given['name']!r}")
        before: list[Version | None] = [*versions[1:], None]
        return [self._version(*pair) for pair in zip(versions, before, strict=True)]

    def _version(self, version: Version, before: Version | None) -> dict[str, Any]:
        said = version.said
        return {
            "number": version.number,
            "at": moment(int(version.at), UTC),
            "author": version.author,
            "source": said.source if said else None,
            "place": said.place if said else None,
            "settings": said.settings if said else None,
            "diff": difference(before.said if before else None, said),
        }
