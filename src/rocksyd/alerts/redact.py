"""What nobody is to read in an alert: values whose names say so, and the same values wherever else they stand.

What must live here: what is taken out. What this file must not know: where it is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rocksyd.redaction import HIDDEN, Redaction

_SHORTEST = 4
"""Characters of the shortest value that is looked for in texts: a shorter one stands everywhere."""


def redacted(said: dict[str, Any], patterns: Sequence[str]) -> dict[str, Any]:
    """The same without what the patterns (of names, in small letters) hide.

    Arguments by position have no names, so with any pattern they are left out as a whole.
    """
    if not patterns:
        return said
    secrets: set[str] = set()
    names = Redaction(patterns)
    _collect(said, names, secrets)
    found: dict[str, Any] = _without(said, names, sorted(secrets, key=len, reverse=True))
    about = found.get("about")
    if isinstance(about, dict) and isinstance(about.get("params"), list) and about["params"]:
        found["about"] = {**about, "params": HIDDEN}
    return found


def _collect(value: Any, names: Redaction, secrets: set[str]) -> None:
    if isinstance(value, dict):
        for name, member in value.items():
            if names.hides(str(name)):
                _texts(member, secrets)
            else:
                _collect(member, names, secrets)
    elif isinstance(value, list | tuple):
        for member in value:
            _collect(member, names, secrets)


def _texts(value: Any, secrets: set[str]) -> None:
    if isinstance(value, dict):
        for member in value.values():
            _texts(member, secrets)
    elif isinstance(value, list | tuple):
        for member in value:
            _texts(member, secrets)
    elif isinstance(value, str | int | float) and not isinstance(value, bool) and len(str(value)) >= _SHORTEST:
        secrets.add(str(value))


def _without(value: Any, names: Redaction, secrets: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {name: HIDDEN if names.hides(str(name)) else _without(member, names, secrets) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_without(member, names, secrets) for member in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
    return value
