"""Subscribers lose nothing and hear nothing twice, wherever a connection is cut; and calls are asked again as they should be."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rocksyd.client.calls import BUSY_FIRST, Call, Outstanding
from rocksyd.client.news import News
from rocksyd.client.protocol import Notification, Reply
from rocksyd.errors import TooBusy


class Daemon:
    """What a daemon does with news, in a few lines: revisions, a journal of runs as they are, turns, positions."""

    def __init__(self) -> None:
        self.rev = 0
        self.position = 0
        self.runs: dict[str, dict[str, Any]] = {}
        self.out: list[Notification] = []
        self.truth: list[tuple[str, str]] = []

    def turn(self, changes: list[str]) -> None:
        """Each change moves a run on: it starts, then it ends. Told when all are written down."""
        told = []
        for key in changes:
            run = self.runs.setdefault(key, {"key": key, "attempt": 1, "state": "waiting"})
            if run["state"] == "ended":
                continue
            run["state"] = "running" if run["state"] == "waiting" else "ended"
            self.rev += 1
            run["rev"] = self.rev
            told.append((f"run.{'started' if run['state'] == 'running' else 'ended'}", key))
        self.truth += told
        self.out += [self._say(name, self.runs[key], self.position) for name, key in told]
        self.position = self.rev

    @staticmethod
    def _say(name: str, run: dict[str, Any], position: int) -> Notification:
        return Notification(name, {**run, "position": position})

    def subscribe(self, call: Call) -> Reply:
        """A new connection: what was on its way on the last one is lost."""
        self.out = []
        since = call.params.get("position")
        for run in sorted(self.runs.values(), key=lambda run: int(run["rev"])) if since is not None else []:
            if run["rev"] > since:
                names = ["run.started"] + ["run.ended"] * (run["state"] == "ended")
                self.out += [self._say(name, run, since) for name in names]
        return Reply(0, {"position": self.position if since is None else since, "generation": 1})


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from("abcdef"), max_size=4), st.integers(0, 8), st.booleans()),
        max_size=30,
    )
)
def test_wherever_connections_are_cut_everything_is_heard_once(steps: list[tuple[list[str], int, bool]]) -> None:
    daemon, news = Daemon(), News({})
    heard = news.subscribed(daemon.subscribe(news.call()))
    assert heard == []
    for changes, arrive, cut in steps:
        daemon.turn(changes)
        arrived, daemon.out = (daemon.out[:arrive], daemon.out[arrive:]) if cut else (daemon.out, [])
        for notification in arrived:
            heard += news.heard(notification)
        if cut:
            heard += news.subscribed(daemon.subscribe(news.call()))
    for notification in daemon.out:
        heard += news.heard(notification)
    assert sorted((event.name, event.key) for event in heard) == sorted(daemon.truth)
    for key in {event.key for event in heard}:
        names = [event.name for event in heard if event.key == key]
        assert names in (["run.started"], ["run.started", "run.ended"])


def test_a_restart_that_came_about_while_nobody_listened_is_told() -> None:
    news = News({})
    assert news.subscribed(Reply(0, {"position": 5, "generation": 1})) == []
    assert news.subscribed(Reply(0, {"position": 5, "generation": 2}))[0].record == {"generation": 2}
    assert news.heard(Notification("restarted", {"generation": 2, "position": 5})) == []
    assert news.heard(Notification("restarted", {"generation": 3, "position": 5}))[0].name == "restarted"
    assert news.call().params == {"position": 5}


def test_a_subscription_goes_on_with_its_filters() -> None:
    news = News({"keys": ["a"], "app": None, "events": ["run.ended"]}, 7)
    assert news.call() == Call("subscribe", {"keys": ["a"], "events": ["run.ended"], "position": 7})
    assert news.subscribed(Reply(0, {"position": 9, "generation": 4})) == []
    assert news.subscribed(Reply(0, {"position": 9, "generation": 5})) == []
    assert news.position == 7


# --- calls on their way -------------------------------------------------------------------------------------------------
def test_never_more_calls_than_allowed_are_on_their_way() -> None:
    queue = Outstanding((Call("call", {"n": n}) for n in range(5)), 2)
    assert list(queue.fill(0.0)) == [0, 1]
    assert queue.fill(0.0) == {}
    assert queue.answered(Reply(1), 0.0) == Reply(1)
    assert list(queue.fill(0.0)) == [2]
    assert sorted(queue.open) == [0, 2]


def test_a_call_that_the_daemon_is_too_busy_for_is_asked_again() -> None:
    busy = TooBusy(-32004, "busy")
    queue = Outstanding([Call("call", {"n": n}) for n in range(3)], 2)
    queue.fill(0.0)
    assert queue.answered(Reply(1, error=busy), 0.0) is None
    assert queue.fill(BUSY_FIRST / 2) == {}
    assert queue.again_at == BUSY_FIRST
    assert list(queue.fill(BUSY_FIRST)) == [1]
    assert queue.answered(Reply(1, error=busy), 1.0) is None
    assert queue.answered(Reply(0), 1.0) is not None
    assert list(queue.fill(1.0)) == [1], "another one was answered, so there is room"
    assert queue.answered(Reply(1), 1.0) is not None
    assert list(queue.fill(1.0)) == [2]


def test_without_a_limit_busy_is_an_answer() -> None:
    queue = Outstanding([Call("run", {})], 0)
    queue.fill(0.0)
    assert queue.answered(Reply(0, error=TooBusy(-32004, "busy")), 0.0) is not None
