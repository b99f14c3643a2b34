"""What clients hear without having asked just now: the news of runs, and output as it grows.

What must live here: who is told what, in which order, and how much at a time.
What this file must not know: why a run has changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rocksyd import codes
from rocksyd.core import events as ev
from rocksyd.core.engine import not_found
from rocksyd.errors import JournalError, RequestError
from rocksyd.journal.store import latest
from rocksyd.master.desk.condition import Condition
from rocksyd.master.desk.methods import EVENTS
from rocksyd.master.desk.replies import Replies
from rocksyd.master.desk.rpc import Rpc
from rocksyd.master.desk.waiters import Caller, Follower, Subscriber, Waiters
from rocksyd.master.records import seen
from rocksyd.master.records.output import CHUNK, Outputs
from rocksyd.master.turn import Turn, left
from rocksyd.model import ENDED, WAITING, Run

MOST_OUTPUT = 1 << 20
"""Bytes owed to a client beyond which it gets no more output of runs, and hears no more of what it has missed."""
MOST_NEWS = 16 << 20
"""Bytes owed to a subscriber beyond which it is told no more as it happens, but when it has read: as one that was not there."""
MOST_MISSED, MISSED_AT_ONCE = 10_000, 20
"""Of how many that have ended, the latest, it hears then; and how many runs are looked at in a piece."""
TOGETHER, MOST_TOGETHER = 0.01, 200
"""Seconds in which news that come thick and fast are collected, and how many of them, before they are told: followers are woken
once for all. News after a quiet time are told at once."""


class News:
    """For subscribers and followers (``waiters`` knows who they are)."""

    def __init__(self, turn: Turn, waiters: Waiters, replies: Replies, outputs: Outputs) -> None:
        self._turn = turn
        self._waiters = waiters
        self._replies = replies
        self._outputs = outputs
        self._follow: dict[str, Run] = {}
        """Runs whose followers are to get a piece of output at the end of the turn."""
        self._behind: list[Follower] = []
        """Followers that have more to come."""
        self._collected: list[tuple[list[int], str, dict[str, Any]]] = []
        """News that are still to be told: to which clients, which, and with what."""
        self._tell_at = 0.0
        """CLOCK_MONOTONIC seconds from which on they are told."""
        turn.performs(ev.Started, lambda effect: self._tell_all("run.started", effect.run))
        turn.performs(ev.Progressed, lambda effect: self._tell_all("run.progress", effect.run))
        turn.performs(ev.Ended, self._ended)
        turn.due(self._next_moment, lambda now: None)  # being awake is enough: they are sent more at every turn's end
        turn.due(lambda: self._tell_at if self._collected else None, lambda now: None)
        turn.begins(self._tell_missed)
        turn.says(self._tell_in_time)
        turn.says(self._send_output)
        self.condition = Condition(turn, waiters, replies)

    def serve(self, rpc: Rpc, health: Callable[[], dict[str, Any]]) -> None:
        """Serve the methods that this is asked for with. ``health`` says how the daemon is."""
        self.condition.now = health
        rpc.serves("subscribe", self._subscribe)
        rpc.serves("logs", self._logs)

    def _next_moment(self) -> float | None:
        """At once, while one that has read what it got has more to come."""
        more: list[Follower | Subscriber] = [*self._behind, *self._waiters.behind]
        return 0.0 if more and any(self._takes_output(one) for one in more) else None

    # --- news ---------------------------------------------------------------------------------------------------------
    def _subscribe(self, caller: Caller, params: dict[str, Any]) -> Any:
        position = params.get("position", self._turn.told)
        names = ("app", "target", "keys", "events", "labels", "failed", "scripts")
        wanted: dict[str, Any] = {name: params.get(name) for name in names}
        subscriber = Subscriber(caller.client, caller.id, **wanted)
        if "position" in params:
            self._waiters.fall_behind(subscriber, position, latest(self._turn.writing.journal, MOST_MISSED))
        self._waiters.subscribe(subscriber)
        events = params.get("events") or list(EVENTS)
        return {"subscribed": events, "position": position, "generation": self._turn.engine.generation}

    def _ended(self, effect: ev.Ended) -> None:
        if self._waiters.followers:
            self.follow_soon(effect.run)
        self._tell_all("run.ended", effect.run)

    def _tell_all(self, event: str, run: Run) -> None:
        """Those who want to hear of it are told, soon."""
        clients = []
        for one in self._waiters.subscribers:
            if one.missed is None and one.wants(event, run):
                if (self._replies.owed(one.client) or 0) > MOST_NEWS:
                    self._waiters.fall_behind(one, self._turn.told, latest(self._turn.writing.journal, MOST_MISSED))
                else:
                    clients.append(one.client)
        if clients:
            self._collected.append((clients, event, self._told_of(event, run, self._turn.told)))

    def _told_of(self, event: str, run: Run, position: int) -> dict[str, Any]:
        """``position``: that up to which a subscriber has been told everything when it has heard this."""
        usual = self._turn.engine.costs.usual(run) if event == "run.started" else None
        told = {"usual": usual} if usual is not None else {}
        return {**run.record(), **told, "position": position}

    def _tell_in_time(self) -> None:
        if self._turn.now.mono >= self._tell_at or len(self._collected) >= MOST_TOGETHER or self._turn.engine.stopping:
            self.tell_collected()

    def tell_collected(self) -> None:
        """Tell what has been collected."""
        if not self._collected:
            return
        self._tell_at = self._turn.now.mono + TOGETHER
        collected, self._collected = self._collected, []
        for clients, event, told in collected:
            self._replies.notify(clients, event, told)

    def tell_restarted(self, facts: dict[str, Any]) -> None:
        """Tell those who want to hear of restarts."""
        self.tell_collected()
        for subscriber in self._waiters.subscribers:
            if subscriber.wants("restarted", None):
                position = self._turn.told if subscriber.missed is None else subscriber.missed
                news = {"generation": self._turn.engine.generation, **facts, "position": position}
                self._replies.notify([subscriber.client], "restarted", news)

    def _tell_missed(self) -> None:
        """Those who subscribe again hear first what they have missed, a part of it in a turn; then what happens from then on."""
        behind = self._waiters.behind
        until = time.monotonic() + left(self._turn)
        for _ in range(len(behind)):
            subscriber = behind.popleft()
            owed = self._replies.owed(subscriber.client)
            if owed is None:
                continue
            if owed > MOST_OUTPUT or self._tell_some(subscriber):
                behind.append(subscriber)
            if time.monotonic() >= until:
                return

    def _tell_some(self, subscriber: Subscriber) -> bool:
        """Tell it of the next runs that it has missed; whether there are more of them."""
        writing = self._turn.writing
        try:
            writing.write_begun(self._turn.now.mono)
            found = writing.journal.changed_since(subscriber.missed or 0, MISSED_AT_ONCE, subscriber.ended)
        except JournalError as error:  # it comes again, with the last position that it has seen
            self._replies.broken(subscriber.client, error)
            return False
        for run in found.runs:
            for event in _news_of(run):
                if subscriber.wants(event, run):
                    told = self._told_of(event, run, subscriber.missed or 0)  # not further: the rest is yet to come
                    self._replies.notify([subscriber.client], event, told)
        subscriber.missed = found.rev if found.more else None
        return found.more

    # --- output -------------------------------------------------------------------------------------------------------
    def _logs(self, caller: Caller, params: dict[str, Any]) -> Any:
        run = self._turn.lookup(params["key"])
        if run is None:
            raise not_found(params["key"])
        offset, follow = params.get("offset", 0), params.get("follow", False)
        begin, end = _bounds(run, params["attempt"]) if "attempt" in params else (0, None)
        ended, offset = run.state == ENDED or end is not None, max(offset, begin)
        most = CHUNK if end is None else max(min(CHUNK, end - offset), 0)
        chunk = self._outputs.read(run.output, offset, final=ended, most=most)
        complete = ended and (chunk.end or (end is not None and chunk.offset >= end))
        if follow and not complete:
            self._waiters.follow(Follower(caller.client, caller.id, run.key, chunk.offset))
            self.follow_soon(run)
        times = {"times": seen.times(run.output)} if params.get("times") else {}
        begun = {"begin": chunk.begin} if chunk.begin else {}
        return {"text": chunk.text, "offset": chunk.offset, "ended": complete, "truncated": run.log_cut > 0, **begun, **times}

    def follow_soon(self, run: Run) -> None:
        """The run's output may have grown, or it has ended: its followers get their piece at the end of the turn."""
        if run.key in self._waiters.followers:
            self._follow[run.key] = run

    def _send_output(self) -> None:
        """One piece for every follower; those that have more to come, and read what they got, get it next turn."""
        self._behind = []
        for key, run in list(self._follow.items()):
            followers = list(self._waiters.followers.get(key, ()))
            pending = [f for f in followers if not self._send_piece(f, run)]
            self._behind += pending
            if not pending:
                del self._follow[key]
                if run.state == ENDED:
                    self._waiters.followed(key)

    def _send_piece(self, follower: Follower, run: Run) -> bool:
        """True when there is nothing more to come now."""
        if self._replies.owed(follower.client) is None:
            return True
        if not self._takes_output(follower):
            return False
        try:
            return self._send_now(follower, run)
        except Exception as error:  # noqa: BLE001  (the barrier)
            self._replies.broken(follower.client, error)
            return True

    def _send_now(self, follower: Follower, run: Run) -> bool:
        ended = run.state == ENDED
        chunk = self._outputs.read(run.output, follower.offset, final=ended)
        complete = ended and chunk.end
        if chunk.text or complete:
            follower.offset = chunk.offset
            params = {"id": follower.id, "key": run.key, "text": chunk.text, "offset": chunk.offset, "ended": complete}
            self._replies.notify([follower.client], "logs", params)
        return chunk.end

    def _takes_output(self, follower: Follower | Subscriber) -> bool:
        """Whether it has read enough to get another piece; if not, the next piece follows when it has."""
        owed = self._replies.owed(follower.client)
        return owed is not None and owed < MOST_OUTPUT


def _bounds(run: Run, attempt: int) -> tuple[int, int | None]:
    """Where the output of an attempt begins in the run's, and where it ends; None for the last one. Raises RequestError."""
    last = run.attempt
    begins = {past["attempt"]: past.get("log_from", 0) for past in run.earlier} | {last.number: last.log_from}
    if attempt not in begins:
        kept = ", ".join(map(str, sorted(begins)))
        raise RequestError(codes.INVALID_PARAMS, f"attempt: of run {run.key!r} no attempt {attempt} is known; there are: {kept}")
    return begins[attempt], begins.get(attempt + 1)


def _news_of(run: Run) -> list[str]:
    """What has been told of a run that is as it is now."""
    started = ["run.started"] if run.attempt.started_at and run.state != WAITING else []
    return started + (["run.ended"] if run.state == ENDED else [])
