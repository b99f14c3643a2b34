"""Failures that are the same one, told once.

What must live here: what makes two failures the same, and what is kept of a group of them.
What this file must not know: where records come from, how a group is shown.

An exception is known by its type and by the functions it went through, innermost last, without lines and files: a deploy moves
lines, and messages hold keys and numbers. What left no traceback is known by its outcome, its target and its message without
numbers.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rocksyd.client.records import failure_text

_FRAME = re.compile(r'^  File "[^"]*", line \d+, in (.+)$', re.MULTILINE)
_VARIES = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8,}|\d+|'[^']*'|\"[^\"]*\"", re.IGNORECASE)


@dataclass
class Group:
    """Failures that are the same one."""

    fingerprint: str
    text: str = ""
    """What the last one said, in a line."""
    count: int = 0
    first: float = 0.0
    last: float = 0.0
    """Unix seconds."""
    key: str = ""
    """Of the last one."""
    traceback: str = ""
    """Of the last one that has any."""
    traced: str = ""
    """The key of that one."""
    targets: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    revisions: set[str] = field(default_factory=set)


def fingerprint(record: dict[str, Any]) -> str:
    """Eight characters that are the same for failures that are the same one."""
    error = record.get("error") if isinstance(record.get("error"), dict) else None
    kind, traceback = str((error or {}).get("type") or ""), str((error or {}).get("traceback") or "")
    frames = _FRAME.findall(traceback)
    if kind and frames:
        parts = [kind, *frames]
    else:
        parts = [kind, str(record.get("outcome")), str(record.get("target")), _VARIES.sub("#", failure_text(record))]
    return hashlib.sha256("\0".join(parts).encode(errors="backslashreplace")).hexdigest()[:8]


class Brief(NamedTuple):
    """What groups are made of: a failure without what only the last one of a group tells."""

    key: str
    fingerprint: str
    target: str
    outcome: str
    revision: str
    ended_at: float
    traced: bool
    """Whether it has a traceback."""


def brief(record: dict[str, Any]) -> Brief:
    """That of a record."""
    return Brief(
        str(record.get("key")), fingerprint(record), str(record.get("target")), str(record.get("outcome")),
        str(record.get("revision") or ""), float(record.get("ended_at") or 0.0), bool(_traceback(record)),
    )  # fmt: skip


def gather(groups: dict[str, Group], one: Brief) -> tuple[Group, bool]:
    """Count a failure to its group; returns that, and whether it is the last one of it so far."""
    group = groups.setdefault(one.fingerprint, Group(one.fingerprint, first=one.ended_at))
    group.count += 1
    group.first = min(group.first, one.ended_at)
    group.targets[one.target] += 1
    group.outcomes[one.outcome] += 1
    if one.revision:
        group.revisions.add(one.revision)
    last = one.ended_at >= group.last
    if last:
        group.last, group.key = one.ended_at, one.key
        group.traced = one.key if one.traced else group.traced
    return group, last


def in_order(groups: dict[str, Group]) -> list[Group]:
    """The one that was seen last comes first."""
    return sorted(groups.values(), key=lambda group: -group.last)


def tell(group: Group, record: dict[str, Any]) -> None:
    """What the last one of it, or the last one with a traceback, tells."""
    if record.get("key") == group.key:
        group.text = failure_text(record)
    if record.get("key") == group.traced:
        group.traceback = _traceback(record)


def grouped(records: Iterable[dict[str, Any]]) -> list[Group]:
    """Groups of failures, the one that was seen last comes first."""
    groups: dict[str, Group] = {}
    for record in records:
        group, last = gather(groups, brief(record))
        if last:
            tell(group, record)
    return in_order(groups)


def _traceback(record: dict[str, Any]) -> str:
    return str((record.get("error") or {}).get("traceback") or "")


def plain(group: Group) -> dict[str, Any]:
    """As JSON."""
    return {
        "fingerprint": group.fingerprint,
        "count": group.count,
        "first_at": group.first,
        "last_at": group.last,
        "key": group.key,
        "text": group.text,
        "by_target": dict(group.targets),
        "by_outcome": dict(group.outcomes),
        "revisions": sorted(group.revisions),
        "traceback": group.traceback,
    }
