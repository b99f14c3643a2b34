"""What is remembered, as rows by name, and which of them have changed since they were written down.

What must live here: that. What this file must not know: what the rows mean, where they are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Rows:
    """Plain data by name; names of one sort begin with the same word and a slash."""

    def __init__(self, rows: Mapping[str, Any] | None = None) -> None:
        self._sorts: dict[str, dict[str, Any]] = {}
        self._changed: set[str] = set()
        for name, value in (rows or {}).items():
            self._sort(name)[name] = value

    def _sort(self, name: str) -> dict[str, Any]:
        return self._sorts.setdefault(name.partition("/")[0], {})

    def get(self, name: str, default: Any = None) -> Any:
        """The row, or the default."""
        return self._sort(name).get(name, default)

    def put(self, name: str, value: Any) -> None:
        """This is the row from now on."""
        rows = self._sort(name)
        if name not in rows or rows[name] != value:
            rows[name] = value
            self._changed.add(name)

    def drop(self, name: str) -> Any:
        """There is no such row any longer; returns what it was, or None."""
        rows = self._sort(name)
        if name in rows:
            self._changed.add(name)
        return rows.pop(name, None)

    def of(self, sort: str) -> Iterator[tuple[str, Any]]:
        """The rows of one sort, by what stands behind its slash."""
        return ((name.partition("/")[2], value) for name, value in list(self._sorts.get(sort, {}).items()))

    def take_changed(self) -> dict[str, Any]:
        """What is to be written down: a row by its name, None for one that is to go."""
        found = {name: self.get(name) for name in self._changed}
        self._changed = set()
        return found

    def not_written(self, changed: Mapping[str, Any]) -> None:
        """That could not be written: it is still to be."""
        self._changed |= changed.keys()
