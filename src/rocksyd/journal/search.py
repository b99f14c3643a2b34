"""Ended runs that fit a filter, found piece by piece: whoever asks for them decides after each piece when to go on.

What must live here: which index finds what, and how much is looked at in a piece.
What this file must not know: what becomes of the keys that are found; who waits meanwhile.

Each piece begins where the one before it stopped, looks at a bounded number of rows along one index, and says of each whether it
fits. So what nobody finds costs as many pieces as there are rows, and never one long query.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from rocksyd import codes
from rocksyd.errors import RequestError
from rocksyd.model import OK, OUTCOMES, Run
from rocksyd.units import parse_duration

_FIRST, _MOST = 16, 4096
"""Rows of a piece: so many at first, and at most."""
_QUICK, _SLOW = 0.001, 0.004
"""Seconds: after a quicker piece the next is twice as large, after a slower one half."""
_END = 2**63 - 1
"""What SQLite sorts behind every number that is written: text and bytes, which only damage can have put there."""
_HAS_LABEL = """CASE WHEN instr(data, '"labels":{') AND json_valid(data) THEN EXISTS (
SELECT 1 FROM json_each(data, '$.labels') AS label WHERE label.key = ? AND label.value = ?) ELSE 0 END"""

Place = tuple[float, ...]
"""Where a run stands in the order of what is found: its ``sequence``, or with a time its end and its ``sequence``."""
_Conditions = list[tuple[str, tuple[Any, ...]]]
"""SQL with its values."""
_Query = Callable[[str, tuple[Any, ...]], list[Any]]


class Filter(NamedTuple):
    """Which runs are wanted: those that arrived last come first, where a time is asked for those that ended last."""

    app: str | None = None
    target: str | None = None
    outcome: str | None = None
    limit: int = 100
    after: Place = ()
    """Only those behind this place; empty for the first."""
    names: tuple[str, ...] = ()
    """What else callers write for ``target``."""
    failed: bool = False
    """Only those that did not end well."""
    labels: tuple[tuple[str, str], ...] = ()
    since: float | None = None
    """Unix seconds: only those that ended then or later."""
    until: float | None = None
    """Unix seconds: only those that ended then or earlier."""

    @property
    def timed(self) -> bool:
        """Whether it asks for a time."""
        return self.since is not None or self.until is not None

    @classmethod
    def asked(cls, given: Mapping[str, Any], now: float) -> Filter:
        """What the parameters of ``list`` stand for; ``now`` is Unix time. Raises RequestError."""
        since, until = (_moment(given[name], name, now) if name in given else None for name in ("since", "until"))
        return cls(
            given.get("app"), given.get("target"), given.get("outcome"), given.get("limit", 100),
            failed=given.get("failed", False), labels=tuple(given.get("labels", {}).items()), since=since, until=until,
        )  # fmt: skip

    def fits(self, run: Run) -> bool:
        """Whether it wants this run, which may be in any state; the time of one that lives is its beginning, or its order."""
        order, last = run.order, run.attempt
        at = last.ended_at or last.started_at or order.submitted_at
        return (
            self.app in (None, order.app)
            and (self.target in (None, order.name, order.target) or order.name in self.names)
            and self.outcome in (None, last.outcome)
            and not (self.failed and last.outcome in ("", OK))
            and all(order.labels.get(name) == value for name, value in self.labels)
            and (self.since is None or at >= self.since)
            and (self.until is None or at <= self.until)
        )


def _moment(value: Any, name: str, now: float) -> float:
    """Unix seconds, from themselves or from how long ago it was. Raises RequestError."""
    if not isinstance(value, str):
        return float(value)
    try:
        return now - parse_duration(value)
    except ValueError as error:
        advice = "Unix seconds, or how long ago as a duration such as '1h'"
        raise RequestError(codes.INVALID_PARAMS, f"{name}: {error}", data={"parameter": name, "advice": advice}) from None


class _Line:
    """One walk along an index, from the latest on."""

    def __init__(self, wanted: Filter, index: str, along: _Conditions, fits: _Conditions) -> None:
        self.found: deque[tuple[Place, str]] = deque()
        self.over = False
        self._size = _FIRST
        self._seldom = bool(fits)
        self._timed = wanted.timed
        if self._timed:
            columns = "ended_at, sequence"
            self._place = wanted.after or (_END if wanted.until is None else wanted.until, _END)
            if wanted.since is not None:
                along = [*along, ("ended_at >= ?", (wanted.since,))]
            walk = f"ended_at <= ? AND (ended_at < ? OR sequence < ?) AND sequence <= {_END}"
        else:
            columns, walk, self._place = "sequence", "sequence < ?", wanted.after or (_END,)
        fitting = " AND ".join(text for text, _ in fits) or "1"
        where = " AND ".join([*(text for text, _ in along), walk])
        order = columns.replace(",", " DESC,")
        self._query = (
            f"SELECT {columns}, CASE WHEN {fitting} THEN key END FROM runs INDEXED BY {index} "
            f"WHERE {where} ORDER BY {order} DESC LIMIT ?"
        )
        self._values = tuple(value for _, values in (*fits, *along) for value in values)

    def look(self, query: _Query, most: int) -> None:
        """Look at the next rows; ``most``: no more than so many are needed."""
        size = self._size if self._seldom else min(self._size, most)
        began = time.monotonic()
        walk = (self._place[0], *self._place) if self._timed else self._place
        rows = query(self._query, (*self._values, *walk, size))
        took = time.monotonic() - began
        self.over = len(rows) < size
        self.found.extend((tuple(place), key) for *place, key in rows if key is not None)
        if rows:
            self._place = tuple(rows[-1][:-1])
        if took < _QUICK:
            self._size = min(2 * self._size, _MOST)
        elif took > _SLOW:
            self._size = max(self._size // 2, 1)


def search(query: _Query, wanted: Filter) -> Iterator[list[str]]:
    """Keys of ended runs that fit, in order, with a pause (a list that may be empty) after each piece that was looked at.

    ``query`` answers SQL with rows, and may raise what it likes.
    """
    lines = _lines(wanted)
    left = wanted.limit
    while left > 0:
        hungry = next((line for line in lines if not line.found and not line.over), None)
        if hungry is not None:
            hungry.look(query, left)
            yield []
            continue
        lines = [line for line in lines if line.found]
        if not lines:
            return
        keys = []
        while left > 0 and all(line.found for line in lines):
            keys.append(max(lines, key=lambda line: line.found[0][0]).found.popleft()[1])
            left -= 1
        yield keys


def _lines(wanted: Filter) -> list[_Line]:
    """By an index each, so that what nobody finds is not looked for in all that ever ended."""
    names = [] if wanted.target is None else list(dict.fromkeys((wanted.target, *wanted.names)))
    ended: _Conditions = [("ended = 1", ())]
    fits: _Conditions = [("app = ?", (wanted.app,))] if wanted.app is not None else []
    fits += [(_HAS_LABEL, label) for label in wanted.labels]
    outcome: _Conditions = [("outcome = ?", (wanted.outcome,))] if wanted.outcome is not None else []
    if not wanted.failed and wanted.outcome in (None, OK):
        fits = [*outcome, *fits]
        if names:
            index = "runs_target_at" if wanted.timed else "runs_target"
            return [_Line(wanted, index, [*ended, ("target = ?", (name,))], fits) for name in names]
        if wanted.timed:
            return [_Line(wanted, "runs_ended", ended, fits)]
        return [_Line(wanted, "runs_sequence", [], [*ended, *fits])]
    trouble: _Conditions = [*ended, ("outcome <> 'ok'", ())]
    if names:
        index = "runs_trouble_target_at" if wanted.timed else "runs_trouble_target"
        return [_Line(wanted, index, [*trouble, ("target = ?", (name,))], [*outcome, *fits]) for name in names]
    if wanted.timed:
        return [_Line(wanted, "runs_trouble_at", trouble, [*outcome, *fits])]
    return [
        _Line(wanted, "runs_trouble", [*trouble, ("outcome = ?", (one,))], fits)
        for one in ((wanted.outcome,) if wanted.outcome is not None else OUTCOMES)
        if one != OK
    ]
