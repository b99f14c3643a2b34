"""What clients hear without having asked just now: the news of runs, and output as it grows.

What must live here: who is told what, in which order, and how much at a time.
What this file must not know: why a run has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rocksyd.master.waiters import Follower, Subscriber
from rocksyd.model import ENDED, WAITING, Run

if TYPE_CHECKING:
    from rocksyd.master.server import Server

MOST_OUTPUT = 1 << 20
"""Bytes owed to a client beyond which it gets no more output of runs."""


class News:
    """For subscribers and followers of one server (``waiters`` knows who they are)."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.position = 0
        """The revision up to which all news have been told."""
        self._follow: dict[str, Run] = {}
        """Runs whose followers are to get a piece of output at the end of the turn."""
        self._behind: list[Follower] = []
        """Followers that have more to come."""

    @property
    def pressing(self) -> bool:
        """Whether somebody who has read what he got has more to come."""
        return any(self._takes_output(follower) for follower in self._behind)

    def tell(self, event: str, run: Run) -> None:
        """Tell those who want to hear of it."""
        for subscriber in self._server.waiters.subscribers:
            if subscriber.wants(event, run):
                self._tell(subscriber, event, run, self.position)

    def _tell(self, subscriber: Subscriber, event: str, run: Run, position: int) -> None:
        """``position``: that up to which the subscriber has been told everything when it has heard this."""
        self._server.rpc.notify(subscriber.client, event, {**run.record(), "position": position})

    def tell_restarted(self, facts: dict[str, Any]) -> None:
        """Tell those who want to hear of restarts."""
        for subscriber in self._server.waiters.subscribers:
            if subscriber.wants("restarted", None):
                news = {"generation": self._server.engine.generation, **facts, "position": self.position}
                self._server.rpc.notify(subscriber.client, "restarted", news)

    def missed(self, position: int) -> list[Run]:
        """The runs that have changed since then, as the journal has them: who subscribes again is told of these first."""
        self._server.writing.write_behind(self._server.now.mono, everything=True)
        return self._server.journal.changed_since(position)

    def tell_missed(self) -> None:
        """Those who subscribe again hear first what they have missed."""
        missed, self._server.waiters.missed = self._server.waiters.missed, []
        for subscriber, position, runs in missed:
            for run in runs:
                for event in _news_of(run):
                    if subscriber.wants(event, run):
                        self._tell(subscriber, event, run, position)  # not further: the rest is yet to come

    def follow_soon(self, run: Run) -> None:
        """The run's output may have grown, or it has ended: its followers get their piece at the end of the turn."""
        if run.key in self._server.waiters.followers:
            self._follow[run.key] = run

    def send_output(self) -> None:
        """One piece for every follower; those that have more to come, and read what they got, get it next turn."""
        self._behind = []
        for key, run in list(self._follow.items()):
            followers = self._server.waiters.followers.get(key, [])
            pending = [f for f in followers if not self._send_piece(f, run)]
            self._behind += pending
            if not pending:
                del self._follow[key]
                if run.state == ENDED:
                    self._server.waiters.followed(key)

    def _send_piece(self, follower: Follower, run: Run) -> bool:
        """True when there is nothing more to come now."""
        if follower.client not in self._server.clients.by_number:
            return True
        return self._takes_output(follower) and self._server.rpc.follow(follower, run)

    def _takes_output(self, follower: Follower) -> bool:
        """Whether it has read enough to get another piece; if not, the next piece follows when it has."""
        client = self._server.clients.by_number.get(follower.client)
        return client is not None and len(client.out) < MOST_OUTPUT


def _news_of(run: Run) -> list[str]:
    """What has been told of a run that is as it is now."""
    started = ["run.started"] if run.started_at and run.state != WAITING else []
    return started + (["run.ended"] if run.state == ENDED else [])
