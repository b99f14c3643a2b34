"""What ``[apps.NAME.services.SERVICE]`` may say.

What must live here: the settings of resident services, declared once.
What this file must not know: where a service listens and how it speaks, which its code says (``rocksyd.service``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rocksyd.config import forms
from rocksyd.config.setting import declared, read_table, setting
from rocksyd.config.table import Table
from rocksyd.options import whole
from rocksyd.units import parse_duration, parse_size, shown

MOST = 65536
"""Connections of a service (``posix.service_page``: a byte each)."""


def _one(value: object) -> int:
    if value != 1 or isinstance(value, bool):
        raise ValueError(
            f"expected 1, got {shown(value)}: all connections of a service are in one process, which shares its state"
        )
    return 1


@dataclass(frozen=True)
class ServiceConfig:
    """A resident service: how many connections, and what becomes of them in a deploy and after a crash."""

    workers: int = setting(1, _one, "processes that serve it; there is one")
    max_connections: int = setting(
        10000, whole(1, MOST).convert, "connections at the same time; who comes beyond them is closed at once",
        told="max_connections",
    )  # fmt: skip
    checkpoint: float = setting(
        "5s", parse_duration, "how often its state is kept in memory, for the case that its process dies; `0`: never",
        told="checkpoint",
    )  # fmt: skip
    settle: float = setting(
        "1s",
        parse_duration,
        "how long a deploy waits for methods in the middle of an `await`; if they are still there, the old code goes on",
        told="settle",
    )
    max_unsent: int = setting(
        "1M",
        forms.size_between(parse_size, 1024, 1 << 30),
        "what may be owed to a peer that does not read, 1 KiB to 1 GiB; then it is closed",
        told="max_unsent",
    )

    def told(self) -> dict[str, Any]:
        """What its worker must know, by name."""
        return {one.told: getattr(self, name) for name, one in declared(ServiceConfig).items() if one.told}


def parse(table: Table) -> ServiceConfig:
    """What the table says; what is wrong with it is noted."""
    return read_table(ServiceConfig, table)
