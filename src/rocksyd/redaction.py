"""Values that are not to be shown: the one place that records pass on their way to pages, logs and notifications.

What must live here: which values go, by the names that they have. What this file must not know: who is shown what.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from typing import Any

HIDDEN = "[redacted]"
"""What stands in the place of a value."""
_NAMED = ("params", "env", "labels")
"""The parts of a record that are hidden by name."""


class Redaction:
    """Patterns of names, such as ``*password*``, in either case."""

    def __init__(self, patterns: Iterable[str]) -> None:
        found = [translate(pattern.lower()) for pattern in patterns]
        self._match = re.compile("|".join(found)).match if found else None

    def __bool__(self) -> bool:
        return self._match is not None

    def hides(self, name: str) -> bool:
        """Whether what has this name is hidden."""
        return self._match is not None and self._match(name.lower()) is not None

    def record(self, record: dict[str, Any], names: Sequence[str] = ()) -> dict[str, Any]:
        """The same record without what is hidden; ``names`` are those of the target's parameters, by position."""
        if self._match is None:
            return record
        shown = {key: self.value(record[key]) for key in _NAMED if isinstance(record.get(key), dict | list)}
        params = shown.get("params")
        if isinstance(params, list):
            shown["params"] = [
                HIDDEN if place < len(names) and self.hides(names[place]) else value for place, value in enumerate(params)
            ]
        return {**record, **shown}

    def holds_hidden(self, value: Any) -> bool:
        """Whether something stands in it that only stands for a value."""
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return value == HIDDEN or any(self.holds_hidden(one) for one in inside)

    def value(self, value: Any) -> Any:
        """Any value without what is hidden in it, at whatever depth."""
        if isinstance(value, dict):
            return {name: HIDDEN if self.hides(str(name)) else self.value(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self.value(one) for one in value]
        return value
