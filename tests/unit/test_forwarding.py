"""Requests that are passed on to companions: each caller is answered once, whatever happens in whatever order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rocksyd import messages as m
from rocksyd.config import CompanionConfig
from rocksyd.errors import RequestError
from rocksyd.master.barrier import Barrier
from rocksyd.master.desk import forwarding
from rocksyd.master.desk.forwarding import Forwarding
from rocksyd.master.desk.replies import Replies
from rocksyd.master.desk.waiters import Caller
from rocksyd.master.staff.companions import Companions, Process
from rocksyd.posix.channel import Channel, pair
from rocksyd.posix.loop import Loop

WHO = (True, "unix:///d.sock")
BELL = CompanionConfig("bell", "bell:serve", namespace="bell")


class Noted(Replies):
    """Notes the replies instead of sending them."""

    def __init__(self) -> None:
        self.said: list[tuple[int, Any]] = []

    def answer(self, caller: Caller, result: Any, *, waited: bool = True) -> None:
        assert waited
        self.said.append((caller.id, result))

    def fail(self, caller: Caller, error: RequestError, *, waited: bool = False) -> None:
        assert waited
        self.said.append((caller.id, error.code))


class Stage:
    """One companion that is ready, its other end, and the table of its requests."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.replies = Noted()
        self.open: list[Channel] = []
        self.generation = 0
        self.begin()

    def begin(self) -> None:
        self.companions = Companions({"bell": BELL}, lambda message: None, self.loop, Barrier())
        self.forwarding = Forwarding(self.companions, self.replies)
        self.enter()

    def enter(self) -> None:
        """A process of the companion becomes ready."""
        self.generation += 1
        ours, theirs = pair()
        self.other = Channel(theirs)
        self.process = Process(self.companions, "bell", f"companion:bell@{self.generation}", Channel(ours), 1)
        self.process.methods = {"bell.ring": {}, "bell.secret": {"trusted": True}}
        assert self.process.channel is not None
        self.open += [self.process.channel, self.other]
        self.companions.processes[self.process.title] = self.companions.serving["bell"] = self.process
        self.companions.lives["bell"].start(0.0)
        self.companions.lives["bell"].ready(0.0)

    def ask(self, number: int, params: Any = None) -> None:
        self.forwarding.ask(Caller(1, number), "bell.ring", params, WHO)

    def close(self) -> None:
        for channel in self.open:
            channel.close()
        self.loop.close()


class Requests(RuleBasedStateMachine):
    """Requests, answers right and wrong, time, deaths and hand-overs."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.asked = 0
        self.known: dict[int, int] = {}
        """Number of a request -> who asked, of those that the companion may answer."""
        self.old: list[Process] = []

    def teardown(self) -> None:
        for process in [*self.old, self.stage.process]:
            self.stage.forwarding.gone(process, "the end")
        assert sorted(one for one, _ in self.stage.replies.said) == list(range(1, self.asked + 1))
        self.stage.close()

    @rule()
    def asks(self) -> None:
        self.asked += 1
        self.stage.ask(self.asked)
        message = self.stage.other.receive()
        assert isinstance(message, m.Ask)
        assert message.number not in self.known
        self.known[message.number] = self.asked

    @precondition(lambda self: self.known)
    @rule(data=st.data(), error=st.booleans())
    def answers(self, data: st.DataObject, error: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.known)))
        process = self._holder(number)
        before = len(self.stage.replies.said)
        reply = m.Reply(number, error={"code": 7, "message": "no"}) if error else m.Reply(number, number)
        assert self.stage.forwarding.replied(process, reply) == ""
        said = self.stage.replies.said[before:]
        assert said in ([], [(self.known[number], 7 if error else number)])  # []: it was too late
        del self.known[number]
        assert self.stage.forwarding.replied(process, reply) != ""

    @rule(number=st.integers(-5, 1000))
    def answers_what_was_not_asked(self, number: int) -> None:
        if number not in self.known:
            assert self.stage.forwarding.replied(self.stage.process, m.Reply(number)) != ""

    @precondition(lambda self: self.known)
    @rule(data=st.data(), wrong=st.sampled_from([{"result": float("nan")}, {"error": {"code": 1}}, {"error": {"message": "no"}}]))
    def answers_nonsense(self, data: st.DataObject, wrong: dict[str, Any]) -> None:
        number = data.draw(st.sampled_from(sorted(self.known)))
        before = list(self.stage.replies.said)
        assert self.stage.forwarding.replied(self._holder(number), m.Reply(number, **wrong)) != ""
        assert self.stage.replies.said == before

    @rule()
    def time_is_over(self) -> None:
        deadline = self.stage.forwarding.next_deadline()
        if deadline is not None:
            before = len(self.stage.replies.said)
            self.stage.forwarding.on_time(deadline)
            assert {code for _, code in self.stage.replies.said[before:]} == {-32005}

    @rule()
    def its_process_ends(self) -> None:
        holders = {number: self._holder(number) for number in self.known}
        self.stage.forwarding.gone(self.stage.process, "it was killed")
        self.known = {number: who for number, who in self.known.items() if holders[number] is not self.stage.process}
        del self.stage.companions.processes[self.stage.process.title]
        self.stage.enter()

    @rule(left=st.booleans())
    def hand_over(self, left: bool) -> None:
        state = json.loads(json.dumps(self.stage.forwarding.dump()))
        processes = [] if left else [*self.old, self.stage.process]
        self.stage.begin()
        self.stage.companions.processes.update({process.title: process for process in processes})
        self.stage.forwarding.load(state)
        self.old = processes
        if left:
            self.known.clear()

    def _holder(self, number: int) -> Process:
        title = self.stage.forwarding._asked[number].process
        return self.stage.companions.processes[title]

    @invariant()
    def nobody_is_answered_twice(self) -> None:
        answered = [one for one, _ in self.stage.replies.said]
        assert len(answered) == len(set(answered))


TestRequests = Requests.TestCase


@pytest.fixture
def stage() -> Any:
    made = Stage()
    yield made
    made.close()


def test_requests_under_way_are_bounded_in_number_and_in_bytes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "MOST", 3)
    monkeypatch.setattr(forwarding, "MOST_BYTES", 100)
    for number in range(2):
        stage.ask(number, ["x" * 30])
    with pytest.raises(RequestError, match="2 requests to answer") as refused:
        stage.ask(2, ["x" * 40])
    assert refused.value.code == -32004
    stage.ask(3)
    with pytest.raises(RequestError, match="3 requests to answer"):
        stage.ask(4)


def test_what_is_only_for_the_daemons_own_user_is_refused_to_others(stage: Stage) -> None:
    with pytest.raises(RequestError, match="only the daemon's own user") as refused:
        stage.forwarding.ask(Caller(1, 1), "bell.secret", {}, (False, "tcp://127.0.0.1:1"))
    assert refused.value.code == -32003
    stage.forwarding.ask(Caller(1, 1), "bell.secret", {}, WHO)


def test_p12_a_companion_that_cannot_be_started_costs_nothing_else_and_is_started_later(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor may be left for its channel."""
    left: list[Any] = []

    def no_pair() -> Any:
        raise OSError(24, "Too many open files")

    barrier = Barrier()
    companions = Companions({"bell": BELL}, left.append, stage.loop, barrier)
    monkeypatch.setattr("rocksyd.master.staff.companions.pair", no_pair)
    companions.start_all()
    life = companions.lives["bell"]
    assert (life.state, companions.processes, companions.serving, left) == ("failed", {}, {}, [])
    assert "OSError" in life.reason
    assert barrier.faults == {"companion": 1}
    monkeypatch.undo()
    companions.restarts = True
    due = companions.next_deadline()
    assert due is not None
    companions.on_time(due)
    assert life.state == "starting"
    assert isinstance(left[0], m.Spawn)
    for process in companions.processes.values():
        process.close(stage.loop)
