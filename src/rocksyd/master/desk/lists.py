"""``list``: the records of many runs, put together piece by piece (``pieces``), so that nobody waits for another's list.

What must live here: which runs a list has, and how much of it is a piece.
What this file must not know: how a reply reaches a client (``replies``), SQL.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from typing import Any

from rocksyd import codes
from rocksyd.core.engine import not_found
from rocksyd.core.reasons import keeps
from rocksyd.errors import RequestError
from rocksyd.journal.search import Filter, Place
from rocksyd.master.desk.pieces import Work
from rocksyd.master.desk.replies import Encoded, Replies
from rocksyd.master.desk.rpc import MOST_REPLIED, Rpc
from rocksyd.master.desk.waiters import Caller
from rocksyd.master.turn import Turn
from rocksyd.model import ENDED, RUNNING, Run
from rocksyd.wire import encode

MOST = 64 << 20
"""Bytes of the records in one list."""
LOOKED_AT = 100
"""Runs that live and are looked at in a piece."""
LAST_SEARCH, SHORT_SEARCH = 0.1, 0.01
"""Seconds of searching that a hand-over lets all lists have together, and seconds of the processor's that each has in any case.

On a busy machine a short search may take long: it is not given up for having waited for the processor.
"""


class _List:
    """One list that is being made: those that live first, then those that have ended, both behind ``last``."""

    def __init__(self, caller: Caller, state: str | None, wanted: Filter, last: Run | None) -> None:
        self.caller = caller
        self.state = state
        self.wanted = wanted
        self.last = last
        self.keys: set[str] = set()
        """Of those that live and are in it: one that ends meanwhile is not found again."""
        self.records = Encoded()
        self.size = 0


class Lists:
    """Answers ``list``."""

    def __init__(self, turn: Turn, replies: Replies) -> None:
        self._turn = turn
        self._replies = replies
        self.search_left = math.inf
        """Seconds for which anything is still looked for in the journal, but for searches that have hardly begun."""

    def serve(self, rpc: Rpc) -> None:
        """Serve this method."""
        rpc.serves("list", self._list)

    def _list(self, caller: Caller, params: dict[str, Any]) -> Work:
        wanted = Filter.asked(params, self._turn.now.wall)
        last = None
        if "after" in params:
            last = self._turn.lookup(params["after"])
            if last is None:
                raise not_found(params["after"])
        return self._made(_List(caller, params.get("state"), wanted, last))

    def _made(self, one: _List) -> Work:
        if self._replies.in_batch(one.caller) > MOST_REPLIED:
            text = f"the replies to this batch have {MOST_REPLIED} bytes already"
            raise RequestError(codes.TOO_BUSY, text, data="send it in parts")
        if one.state != ENDED and one.wanted.outcome is None and not one.wanted.failed:
            yield from self._living(one)
        left = one.wanted.limit - len(one.records)
        if one.state in (None, ENDED) and left > 0:
            yield from self._ended(one, left)
        return one.records

    def _living(self, one: _List) -> Work:
        """Of the runs that live those that fit, from the latest on. Those that end before they were looked at come later."""
        runs, wanted, last = self._turn.engine.runs, one.wanted, one.last
        if last is not None and wanted.timed and last.state == ENDED:
            return
        there = list(runs.values())  # in order of their sequence; the pointers alone are copied at once
        if last is not None:
            del there[bisect_left(there, last.sequence, key=lambda run: run.sequence) :]
        while there and len(one.records) < wanted.limit:
            for run in reversed(there[-LOOKED_AT:]):
                if runs.get(run.key) is run and one.state in (None, run.state) and wanted.fits(run):
                    one.keys.add(run.key)
                    self._add(one, run)
                    yield
                    if len(one.records) == wanted.limit:
                        break
            del there[-LOOKED_AT:]
            yield

    def _ended(self, one: _List, left: int) -> Work:
        """The ``left`` next of those that have ended, from the journal."""
        wanted, looked = one.wanted, 0.0
        search = self._search(one, left)
        while True:
            if self.search_left <= 0.0 and looked >= SHORT_SEARCH:
                text = "a restart came before all runs had been looked through"
                raise RequestError(codes.NOT_NOW, text, data="ask again")
            began, worked = time.monotonic(), time.thread_time()
            found = next(search, None)
            looked += time.thread_time() - worked
            self.search_left -= time.monotonic() - began
            if found is None:
                return
            yield
            keys = deque(found)
            while keys:
                run = self._turn.writing.find(keys.popleft())
                if run is not None and run.key not in one.keys and len(one.records) < wanted.limit:
                    self._add(one, run)
                yield

    def _search(self, one: _List, left: int) -> Iterator[list[str]]:
        """Finds their keys. Also a few more: as many as may have ended since they were put into the list."""
        turn, wanted, last = self._turn, one.wanted, one.last
        turn.commit()
        turn.writing.write_ended(turn.now.mono)
        names = turn.engine.names_of(wanted.target) if wanted.target is not None else ()
        after: Place = ()
        if last is not None and not wanted.timed:
            after = (last.sequence,)
        elif last is not None and last.state == ENDED:
            after = (last.attempt.ended_at, last.sequence)
        more = sum(1 for key in one.keys if key not in turn.engine.runs)
        return turn.writing.journal.search(wanted._replace(limit=left + more, names=names, after=after))

    def _add(self, one: _List, run: Run) -> None:
        one.records.append(encode.plain(self.shown(run)))
        one.size += len(one.records[-1])
        if one.size > MOST:
            text = f"the records of these runs have more than {MOST} bytes"
            raise RequestError(codes.TOO_BUSY, text, data="ask for fewer at once (limit, after)")

    def shown(self, run: Run) -> dict[str, Any]:
        """Its record, and if it waits what keeps it."""
        engine = self._turn.engine
        if run.state == RUNNING:
            usual, left = engine.costs.usual(run), engine.costs.left(run, self._turn.now)
            told = {"usual": usual} if usual is not None else {}
            return {**run.record(), **told, **({"left": round(left, 1)} if left is not None else {})}
        reason = keeps(engine, run, self._turn.now)
        return run.record() if reason is None else {**run.record(), "waits_for": {"code": reason.code, "text": reason.text}}
