"""Which scripts there are: what the configuration, the code and the API say, which of them holds, and what changed.

What must live here: the rule of precedence, and a change in lines.
What this file must not know: what a setting means (``script``), where anything is kept.

The rule: the configuration before the code before the API. Whoever is first has the whole script; nothing is mixed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

FILE, CODE, API = "file", "code", "api"
"""Where a script is from, the one that holds first."""
_RANK = {FILE: 0, CODE: 1, API: 2}


class Said(NamedTuple):
    """What one source says of one script."""

    source: str
    place: str
    """Where that stands: a file, a file and line, or who applied it."""
    settings: dict[str, Any]
    """As ``ScriptConfig`` has them; those that are not the default's."""


class Version(NamedTuple):
    """What held of a script from some moment on."""

    number: int
    """From 1, for each script."""
    said: Said | None
    """None: it was in no source then."""
    author: str
    """Who has brought it."""
    at: float
    """Unix seconds."""


class Book(NamedTuple):
    """All scripts."""

    holds: dict[str, Said]
    """What holds, by name."""
    shadowed: dict[str, list[Said]]
    """What others say of the same names, and does not hold."""


def book(pages: Iterable[Mapping[str, Said]]) -> Book:
    """What all sources say, together."""
    found: dict[str, list[Said]] = {}
    for page in pages:
        for name, said in page.items():
            found.setdefault(name, []).append(said)
    ranked = {name: sorted(all_of_it, key=lambda said: _RANK[said.source]) for name, all_of_it in found.items()}
    return Book({name: one[0] for name, one in ranked.items()}, {name: one[1:] for name, one in ranked.items() if len(one) > 1})


def same(before: Said | None, after: Said | None) -> bool:
    """Whether there is nothing new in it: that it stands elsewhere in the same source is none."""
    if before is None or after is None:
        return before is after
    return (before.source, before.settings) == (after.source, after.settings)


def difference(before: Said | None, after: Said | None) -> list[str]:
    """What changed, a line a setting: ``-cron = "0 3 * * *"`` and ``+cron = "0 4 * * *"``."""
    old, new = (_lines(said) for said in (before, after))
    found = []
    for key in [*old, *(key for key in new if key not in old)]:
        if old.get(key) != new.get(key):
            found += [f"-{key} = {old[key]}"] if key in old else []
            found += [f"+{key} = {new[key]}"] if key in new else []
    return found


def _lines(said: Said | None) -> dict[str, str]:
    if said is None:
        return {}
    return {"source": said.source, **{key: json.dumps(value, ensure_ascii=False) for key, value in said.settings.items()}}
