"""``list``: the records of many runs, put together piece by piece, so that nobody waits for another's list.

What must live here: which runs a list has, and how much of it is made in a turn.
What this file must not know: how a reply reaches a client (``replies``), SQL.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

from rocksyd import codes
from rocksyd.core.engine import not_found
from rocksyd.core.reasons import keeps
from rocksyd.errors import JournalError, RequestError
from rocksyd.journal.search import Filter, Place
from rocksyd.master.desk.replies import Replies
from rocksyd.master.desk.rpc import LATER, MOST_REPLIED, SHARE, Rpc
from rocksyd.master.desk.waiters import Caller
from rocksyd.master.turn import Turn
from rocksyd.model import ENDED, RUNNING, Run
from rocksyd.wire import encode

MOST = 64 << 20
"""Bytes of the records in one list."""
LAST_SEARCH, SHORT_SEARCH = 0.1, 0.01
"""Seconds of searching that a hand-over lets all lists have together, and each of them in any case."""


class _List:
    """One list that is being made."""

    def __init__(self, caller: Caller, live: list[Run], search: Iterator[list[str]]) -> None:
        self.caller = caller
        self.live = deque(live)
        """Those that are not in it yet of the runs that live."""
        self.keys: deque[str] = deque()
        """The same: of the runs that have ended and were found."""
        self.search = search
        """Finds more of those, a piece at a time."""
        self.searched = False
        self.looked = 0.0
        """Seconds that the search has taken."""
        self.records: list[bytes] = []
        self.size = 0


class Lists:
    """All lists that are being made; each turn goes on with one of them for a while."""

    def __init__(self, turn: Turn, replies: Replies) -> None:
        self._turn = turn
        self._replies = replies
        self._begun: deque[_List] = deque()
        self._search_left = math.inf
        """Seconds for which anything is still looked for, but for searches that have hardly begun."""
        turn.due(lambda: 0.0 if self._begun else None, lambda now: self.go_on())

    def serve(self, rpc: Rpc) -> None:
        """Serve this method."""
        rpc.serves("list", self._list)

    def _list(self, caller: Caller, params: dict[str, Any]) -> Any:
        wanted = Filter.asked(params, self._turn.now.wall)
        last = None
        if "after" in params:
            last = self._turn.lookup(params["after"])
            if last is None:
                raise not_found(params["after"])
        one = _List(caller, *self._select(params.get("state"), wanted, last))
        if any(other.caller.client == caller.client for other in self._begun) or not self._make(one, SHARE):
            self._begun.append(one)
        return LATER

    def _select(self, state: str | None, wanted: Filter, last: Run | None) -> tuple[list[Run], Iterator[list[str]]]:
        """Those that live first, then the keys of those that ended, both behind ``last``."""
        turn = self._turn
        turn.commit()
        turn.writing.write_ended(turn.now.mono)
        live: list[Run] = []
        if state != ENDED and wanted.outcome is None and not wanted.failed:
            by_arrival = sorted(turn.engine.runs.values(), key=lambda run: -run.sequence)
            asked = (run for run in by_arrival if state in (None, run.state) and _behind(run, last, wanted))
            live = list(islice(filter(wanted.fits, asked), wanted.limit))
        if state not in (None, ENDED) or len(live) >= wanted.limit:
            return live, iter(())
        names = turn.engine.names_of(wanted.target) if wanted.target is not None else ()
        after: Place = ()
        if last is not None and not wanted.timed:
            after = (last.sequence,)
        elif last is not None and last.state == ENDED:
            after = (last.attempt.ended_at, last.sequence)
        wanted = wanted._replace(limit=wanted.limit - len(live), names=names, after=after)
        return live, turn.writing.journal.search(wanted)

    def go_on(self, share: float = SHARE) -> None:
        """Make more of the list that has waited longest: one after the other for each client, and the clients in turn."""
        one = self._begun.popleft()
        if self._replies.owed(one.caller.client) is not None and not self._make(one, share):
            mine = [one, *(other for other in self._begun if other.caller.client == one.caller.client)]
            self._begun = deque([other for other in self._begun if other.caller.client != one.caller.client] + mine)

    def finish(self) -> bool:
        """Make all of them, because a hand-over carries none; whether there were any. No search may last for long."""
        any_begun = bool(self._begun)
        self._search_left = LAST_SEARCH
        while self._begun:
            self.go_on(math.inf)
        self._search_left = math.inf
        return any_begun

    def _make(self, one: _List, share: float) -> bool:
        """Put records into a list for ``share`` seconds; true when it is complete, or failed, and that was said."""
        until = time.monotonic() + share
        try:
            if self._replies.in_batch(one.caller) > MOST_REPLIED:
                text = f"the replies to this batch have {MOST_REPLIED} bytes already"
                raise RequestError(codes.TOO_BUSY, text, data="send it in parts")
            while self._go_on(one):
                if one.size > MOST:
                    text = f"the records of these runs have more than {MOST} bytes"
                    raise RequestError(codes.TOO_BUSY, text, data="ask for fewer at once (limit, after)")
                if time.monotonic() >= until:
                    return False
            self._replies.listed(one.caller, one.records)
        except RequestError as error:
            self._replies.fail(one.caller, error, waited=True)
        except JournalError as error:
            failure = RequestError(codes.INTERNAL_ERROR, "the journal cannot be read", data=str(error))
            self._replies.fail(one.caller, failure, waited=True)
        except Exception as error:  # noqa: BLE001  (the barrier)
            self._replies.broken(one.caller.client, error)
        return True

    def _go_on(self, one: _List) -> bool:
        """One record more, or another piece of the search; false when there is nothing left of either."""
        run: Run | None = None
        if one.live:
            run = one.live.popleft()
        elif one.keys:
            run = self._turn.writing.find(one.keys.popleft())
        elif one.searched:
            return False
        elif self._search_left <= 0.0 and one.looked >= SHORT_SEARCH:
            raise RequestError(codes.NOT_NOW, "a restart came before all runs had been looked through", data="ask again")
        else:
            began = time.monotonic()
            found = next(one.search, None)
            took = time.monotonic() - began
            one.looked += took
            self._search_left -= took
            one.searched = found is None
            one.keys.extend(found or ())
        if run is not None:
            one.records.append(encode.plain(self.shown(run)))
            one.size += len(one.records[-1])
        return True

    def shown(self, run: Run) -> dict[str, Any]:
        """Its record, and if it waits what keeps it."""
        engine = self._turn.engine
        if run.state == RUNNING:
            usual, left = engine.costs.usual(run), engine.costs.left(run, self._turn.now)
            told = {"usual": usual} if usual is not None else {}
            return {**run.record(), **told, **({"left": round(left, 1)} if left is not None else {})}
        reason = keeps(engine, run, self._turn.now)
        return run.record() if reason is None else {**run.record(), "waits_for": {"code": reason.code, "text": reason.text}}


def _behind(run: Run, last: Run | None, wanted: Filter) -> bool:
    """Whether a run that lives comes behind the last one of the page before."""
    return last is None or (run.sequence < last.sequence and not (wanted.timed and last.state == ENDED))
