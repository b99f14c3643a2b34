"""The journal's tables, each declared once: its columns, its indexes, and how a value becomes a row.

What must live here: the declarations, and the rule by which they may change.
What this file must not know: connections, transactions, who reads.

**The rule.** ``OLDEST_READER`` stands in the file as ``user_version``: the oldest layout whose programs understand it. Additions
do not change it, because older programs do not look at them: a table, an index, a column that may be NULL. (Not a column of
``runs`` or ``meta``: programs of layout 1 write these two without naming columns.) The master that serves makes them, after its
ADOPTED: until then the file belongs to another version, which may have to go on with it. An index over ``runs`` takes about a
second for each million of rows, and everybody waits meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from rocksyd.model import ENDED, Run

OLDEST_READER = 1

# ASCII only: a job may return half of a surrogate pair, which SQLite could not store as it is.
encode = json.JSONEncoder(separators=(",", ":")).encode


class Table(NamedTuple):
    """One table. Its first column is the primary key."""

    name: str
    columns: tuple[str, ...]
    """As SQL defines them; the first word of each is its name."""
    row: Callable[[str, Any], tuple[Any, ...]]
    """What is written for a key and a value, in the order of the columns."""
    indexes: tuple[str, ...] = ()
    """As SQL defines them, behind CREATE INDEX IF NOT EXISTS."""
    lasting: bool = True
    """Whether a row has to outlast a power failure, and is waited for; else only the death of the master."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(column.split()[0] for column in self.columns)

    @property
    def put(self) -> str:
        """The statement that writes a row."""
        return f"INSERT OR REPLACE INTO {self.name} ({', '.join(self.names)}) VALUES ({', '.join('?' * len(self.columns))})"

    @property
    def erase(self) -> str:
        """The statement that deletes a row."""
        return f"DELETE FROM {self.name} WHERE {self.names[0]} = ?"


def _run(key: str, run: Run) -> tuple[Any, ...]:
    ended, order, last = run.state == ENDED, run.order, run.attempt
    return (key, run.rev, int(ended), order.app, order.name, last.outcome, run.sequence, last.ended_at, encode(run.dump()))


def _as_json(key: str, value: Any) -> tuple[Any, ...]:
    return (key, encode(value))


RUNS = Table(
    "runs",
    ("key TEXT PRIMARY KEY", "rev INTEGER NOT NULL", "ended INTEGER NOT NULL", "app TEXT NOT NULL", "target TEXT NOT NULL",
     "outcome TEXT NOT NULL", "sequence INTEGER NOT NULL", "ended_at REAL NOT NULL", "data TEXT NOT NULL"),
    _run,
    (
        "runs_changed ON runs (ended, rev)",
        "runs_sequence ON runs (sequence)",
        "runs_ended ON runs (ended_at) WHERE ended = 1",
        "runs_target ON runs (target, sequence) WHERE ended = 1",
        "runs_trouble ON runs (outcome, sequence) WHERE ended = 1 AND outcome <> 'ok'",
        "runs_target_at ON runs (target, ended_at) WHERE ended = 1",
        "runs_trouble_at ON runs (ended_at) WHERE ended = 1 AND outcome <> 'ok'",
        "runs_trouble_target ON runs (target, sequence) WHERE ended = 1 AND outcome <> 'ok'",
        "runs_trouble_target_at ON runs (target, ended_at) WHERE ended = 1 AND outcome <> 'ok'",
    ),
)  # fmt: skip
META = Table("meta", ("name TEXT PRIMARY KEY", "value TEXT NOT NULL"), _as_json, lasting=False)
RESTARTS = Table("restarts", ("number INTEGER PRIMARY KEY", "data TEXT NOT NULL"), _as_json)
SET_ASIDE = Table(
    "set_aside",
    ("number INTEGER PRIMARY KEY", "source TEXT NOT NULL", "key", "data", "why TEXT NOT NULL", "at REAL NOT NULL"),
    lambda number, row: (number, *row),
)
"""Rows of the other tables that could not be read, as they were."""

TICKS = Table(
    "ticks",
    ("key TEXT PRIMARY KEY", "script TEXT NOT NULL", "time TEXT NOT NULL", "first INTEGER NOT NULL"),
    lambda key, row: (key, *row, 0),
    ("ticks_latest ON ticks (script, time)",),
)
"""Ticks of schedules that were accepted, by the keys of their runs: whatever becomes of those, no tick is new a second time.

``first``: of the oldest one of its script the time before which nothing is remembered, in Unix seconds (``store`` keeps the
latest TICKS_KEPT of each); 1: its own time; 0: everything is.
"""

STARTS = Table("starts", ("subject TEXT PRIMARY KEY", "ends TEXT NOT NULL"), _as_json, lasting=False)
"""Of targets, and concurrency keys, that begin at a limited rate: until when each of the latest beginnings counts (Unix time)."""

COSTS = Table("costs", ("name TEXT PRIMARY KEY", "cost TEXT NOT NULL"), _as_json, lasting=False)
"""What runs of a target, or of a script, have cost (``core.costs``)."""

FLAGS = Table("flags", ("name TEXT PRIMARY KEY", "flag TEXT NOT NULL"), _as_json)
"""What holds for a while for a target or a script (``core.flags``)."""

TABLES = {table.name: table for table in (RUNS, META, RESTARTS, SET_ASIDE, TICKS, STARTS, COSTS, FLAGS)}
