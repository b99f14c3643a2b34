"""P12: what is to be done for one stranger at its time, or as an effect, costs that one and nobody else when it raises.

The master's parts are the real ones, put together as they are where it serves, without a loop that turns. What is looked at is
taken from what they have registered: an effect that is added later without being named here fails here.
"""

from __future__ import annotations

import inspect
import os
import re
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rocksyd import messages as m
from rocksyd.config import AppConfig, Config
from rocksyd.core import events as ev
from rocksyd.core import supervision
from rocksyd.master.barrier import RECENT
from rocksyd.master.desk import script_callers
from rocksyd.master.desk.forwarding import Question
from rocksyd.master.desk.pieces import Task
from rocksyd.master.desk.waiters import Caller, Waiter
from rocksyd.master.server import Server
from rocksyd.master.staff.children import Children
from rocksyd.master.staff.keeper import Keeper
from rocksyd.master.staff.zygotes import Zygote, Zygotes
from rocksyd.model import Attempt, Order, Run
from rocksyd.posix.channel import Channel, pair
from rocksyd.posix.loop import Loop

APP = AppConfig("app", "/app")
RUN = Run("k", Order("app", "job", "jobs:job"), Attempt(worker=7))
OF_A_WORKER = {
    ev.StartJob: ev.StartJob(7, RUN, False), ev.AckResult: ev.AckResult(7, "k"), ev.AskWorker: ev.AskWorker(7, 1),
    ev.CancelRun: ev.CancelRun(7, RUN), ev.DrainWorker: ev.DrainWorker(7),
}  # fmt: skip
"""Whoever it was for is killed: what it has been told is not known."""
OF_NOBODY = {
    ev.Answer: ev.Answer(1), ev.Ended: ev.Ended(RUN), ev.Started: ev.Started(RUN), ev.Progressed: ev.Progressed(RUN),
    ev.Answered: ev.Answered(RUN), ev.Slow: ev.Slow(RUN), ev.Note: ev.Note("text"),
    ev.FlagEnded: ev.FlagEnded({"flag": "debug", "target": "job", "until": 1.0, "by": "uid 1"}),
    ev.RetireZygote: ev.RetireZygote("app", 1), ev.RetireTemplate: ev.RetireTemplate("app", 1, 7),
    ev.LoadAfresh: ev.LoadAfresh("app", "why"),
}  # fmt: skip
"""They are lost, and all else is done."""
ANSWERED = {
    ev.ForkWorker: (ev.ForkWorker("app", 1, "app", 7, 0), [m.ForkFailed(7, "app", "why")]),
    ev.MeasurePool: (ev.MeasurePool("app", 1, 9, "app"), [m.Measured("app")]),
    ev.MeasureWorkers: (ev.MeasureWorkers("app", ((7, 70),)), [ev.WorkersMeasured("app", {})]),
    ev.PromoteWorker: (ev.PromoteWorker("app", 1, 7, 0), [ev.ZygoteGone("app", 1, 7, "why"), ev.WorkerSpokeNonsense(7, "why")]),
}
"""The engine waits for what comes of them: it is told that nothing has."""
KILL = ev.KillWorker(7, 9, 0.0)


class Stage:
    """The parts of a master, and the keeper's end of its channel."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        ours, theirs = pair()
        self.open = [Channel(ours), Channel(theirs)]
        config = Config(str(folder / "rocksyd.toml"), str(folder), (), str(folder), apps={"app": APP})
        children = Children(self.loop, Keeper(self.open[0], self.loop), lambda event: None)
        self.server = Server(config, self.loop, children)
        self.turn, self.barrier = self.server.turn, self.server.barrier
        self.heard: list[Any] = []

    def close(self) -> None:
        for channel in self.open:
            channel.close()
        os.close(self.server.outputs._fd)
        self.loop.close()

    def channel(self, use: Callable[[Channel], Any]) -> Channel:
        """The other end of a channel that is used like this."""
        ours, theirs = (Channel(end) for end in pair())
        self.open += [ours, theirs]
        use(ours)
        return theirs

    def hear(self) -> None:
        """One turn of the loop, with what is there already."""
        self.server.once(wait=False)

    def only(self, effect: type[Any], *performers: Callable[[Any], None]) -> None:
        """Effects of this type are performed by these alone, and what that makes the engine hear is noted."""
        self.turn._performers[effect] = list(performers)
        self.turn.engine.step = lambda event, now: self.heard.append(event) or []  # type: ignore[func-returns-value,method-assign]

    def perform(self, effect: Any) -> list[Any]:
        """The effect cannot be carried out by one of two; returns what the engine hears of that."""
        done: list[Any] = []
        self.only(type(effect), raises, done.append)
        self.turn._carry_out([effect])
        assert done == [effect], "the other does its part"
        assert sum(self.barrier.faults.values()) == 1
        return self.heard


def raises(*_: Any) -> Any:
    raise ZeroDivisionError("a fault")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


def test_every_effect_that_anybody_performs_is_looked_at_here(stage: Stage) -> None:
    assert set(stage.turn._performers) == {*OF_A_WORKER, *OF_NOBODY, *ANSWERED, ev.KillWorker}


@pytest.mark.parametrize("effect", OF_A_WORKER.values(), ids=lambda effect: type(effect).__name__)
def test_p12_an_effect_for_a_worker_that_cannot_be_carried_out_costs_the_worker(stage: Stage, effect: Any) -> None:
    (heard,) = stage.perform(effect)
    assert isinstance(heard, ev.WorkerSpokeNonsense)
    assert heard.worker == 7
    assert "ZeroDivisionError" in heard.reason


@pytest.mark.parametrize("effect", OF_NOBODY.values(), ids=lambda effect: type(effect).__name__)
def test_p12_an_effect_for_no_worker_that_cannot_be_carried_out_costs_nobody(stage: Stage, effect: Any) -> None:
    assert stage.perform(effect) == []


@pytest.mark.parametrize(("effect", "answers"), ANSWERED.values(), ids=lambda value: type(value).__name__)
def test_p12_what_is_waited_for_and_cannot_come_is_said_not_to_come(stage: Stage, effect: Any, answers: list[Any]) -> None:
    for heard, answer in zip(stage.perform(effect), answers, strict=True):
        said = heard.message if isinstance(heard, ev.HeardZygote) else heard
        assert type(said) is type(answer)
        if hasattr(said, "reason"):
            assert "ZeroDivisionError" in said.reason
            said = said._replace(reason="why")
        assert said == answer
        if isinstance(heard, ev.HeardZygote):
            assert (heard.app, heard.generation, heard.template) == ("app", 1, effect.template)


def test_an_order_to_kill_that_cannot_be_given_ends_the_master(stage: Stage) -> None:
    """There is nothing else by which to end the worker."""
    stage.only(ev.KillWorker, raises)
    with pytest.raises(ZeroDivisionError):
        stage.turn._carry_out([KILL])


# --- what is said -----------------------------------------------------------------------------------------------------
OF_THE_WORKER = {"Forked", "Exited", "ForkFailed", "Workers"}
"""Messages of a zygote that speak of one worker, who is to blame."""
OF_THE_ZYGOTE = {"Ready", "Failed", "Measured"}
SAID_BY_ZYGOTES = {
    "Forked": m.Forked(9, 90), "Exited": m.Exited(90, worker=9), "ForkFailed": m.ForkFailed(9), "Ready": m.Ready("app", 1),
    "Workers": m.Workers(((9, 90, "app", -1),)), "Failed": m.Failed("app", 1, "why"), "Measured": m.Measured("app"),
}  # fmt: skip
SAID_BY_WORKERS = {
    m.Result: m.Result("k"), m.Progress: m.Progress("k", 1.0), m.Finished: m.Finished("k"), m.Idle: m.Idle(7, 70, 1),
    m.Holding: m.Holding(7, 70, 1, ("k",)),
}  # fmt: skip


class Once:
    """Raises the first time; then it notes what it is told."""

    def __init__(self) -> None:
        self.noted: list[Any] = []
        self.armed = True

    def __call__(self, what: Any, *_: Any) -> list[Any]:
        if self.armed:
            self.armed = False
            raises()
        self.noted.append(what)
        return []


def known_to(handler: Any) -> set[str]:
    """The messages that a handler knows, from itself."""
    return set(re.findall(r"(?:case|\|) m\.(\w+)\(\)", inspect.getsource(handler)))


def test_every_message_of_a_zygote_and_of_a_worker_is_looked_at_here() -> None:
    assert known_to(Zygotes._heard) == OF_THE_ZYGOTE | OF_THE_WORKER == set(SAID_BY_ZYGOTES)
    assert set(supervision._OF_A_RUN) | {m.Idle, m.Holding} == set(SAID_BY_WORKERS)


@pytest.mark.parametrize("name", SAID_BY_ZYGOTES)
def test_p12_what_a_zygote_says_costs_it_or_the_worker_that_it_speaks_of(stage: Stage, name: str) -> None:
    children, once, message = stage.server.children, Once(), SAID_BY_ZYGOTES[name]
    children.board = SimpleNamespace(find=lambda worker: None, read=lambda slot: None)  # type: ignore[assignment]
    children.use(stage.loop, stage.server.evidence.step)
    children.zygotes.settled = stage.turn.engine.step = once  # type: ignore[method-assign,assignment]
    says = stage.channel(lambda ours: children.zygotes.enlist(Zygote(children.zygotes, "app", 1, ours, "ready"), 0, 10))
    stage.channel(lambda ours: children.zygotes.enlist(Zygote(children.zygotes, "other", 1, ours, "ready"), 0, 11))
    if name in ("Forked", "Workers"):
        mine, theirs = pair()
        stage.open.append(Channel(mine))
        message = message._replace(fds=(theirs.fileno(),))
        says.send(message)
        theirs.close()
    else:
        says.send(message)
    stage.hear()
    of_worker = name in OF_THE_WORKER
    assert stage.barrier.faults == {"worker" if of_worker else "zygote": 1}
    assert set(children.zygotes) == ({"zygote:app@1", "zygote:other@1"} if of_worker else {"zygote:other@1"})
    assert ([event.worker for event in once.noted if type(event) is ev.WorkerSpokeNonsense] == [9]) == of_worker
    for link in list(children.workers.values()):
        stage.open.append(link.channel)


@pytest.mark.parametrize("message", SAID_BY_WORKERS.values(), ids=lambda message: type(message).__name__)
def test_p12_what_a_worker_says_costs_the_worker(stage: Stage, message: Any) -> None:
    children, once = stage.server.children, Once()
    children.use(stage.loop, stage.server.evidence.step)
    stage.turn.engine.step = once  # type: ignore[method-assign]
    stage.turn.lookup = lambda key: None  # type: ignore[method-assign]
    mine, theirs = pair()
    children.workers.link((7, 70), ("app", 1, 0), theirs.detach())
    stage.open += [Channel(mine), children.workers[7].channel]
    stage.open[-2].send(message)
    stage.hear()
    assert stage.barrier.faults == {"worker": 1}
    assert [(type(event), event.worker) for event in once.noted] == [(ev.WorkerSpokeNonsense, 7)]


@pytest.mark.parametrize(("datagram", "part"), [(b"exec 1", "_order"), (b"ended k", "_question")])
def test_p12_what_a_caller_of_exec_says_costs_its_connection(stage: Stage, datagram: bytes, part: str) -> None:
    execs = stage.server.execs
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    caller = execs._callers[ours.fileno()] = script_callers.ScriptCaller(execs, ours)
    stage.loop.register(caller.fd, caller, select.EPOLLIN)
    setattr(execs, part, raises)
    with theirs:
        theirs.send(datagram)
        stage.hear()
        assert b"ZeroDivisionError" in theirs.recv(4096)
        assert theirs.recv(4096) == b""
    assert execs._callers == {}
    assert stage.barrier.faults == {"exec": 1}


def test_what_the_masters_own_handlers_raise_ends_the_master(stage: Stage) -> None:
    """The keeper's channel is nobody's turn: who could be ended for it?"""
    theirs = stage.channel(lambda ours: stage.loop.register(ours.fileno(), SimpleNamespace(handle=raises), select.EPOLLIN))
    theirs.send(m.Freeze())
    with pytest.raises(ZeroDivisionError):
        stage.hear()
    assert not stage.barrier.faults


# --- by time ----------------------------------------------------------------------------------------------------------
OF_ONE = {
    "Turn._tick", "Clients.on_time", "Children.overdue", "Stacks.on_time", "Companions.on_time", "Forwarding.on_time",
    "Endings._on_time", "Loading.on_time", "Evidence._look", "Pieces.__init__.<locals>.<lambda>", "Endings._go_on",
}  # fmt: skip
"""Each is looked at below, but for companions: see test_forwarding."""
OF_THE_MASTER = {
    "Turn.__init__.<locals>.<lambda>", "News.__init__.<locals>.<lambda>", "Outputs.on_time", "Server._forget",
    "Server._say_alive", "Declaring.on_time", "Shelving.__init__.<locals>.<lambda>", "Door._try_again",
    "Stopping.__init__.<locals>.<lambda>", "Condition.__init__.<locals>.<lambda>",
}  # fmt: skip
"""Nobody is to blame for these."""
LATE = 1e9
"""CLOCK_MONOTONIC seconds at which everything is due."""


def test_everything_that_is_done_by_time_is_looked_at_here(stage: Stage) -> None:
    stage.server.watch(1.0)
    assert {act.__qualname__ for _, act in stage.turn.moments.due} == OF_ONE | OF_THE_MASTER  # type: ignore[attr-defined]


class Stranger(SimpleNamespace):
    """One whose moment has come."""

    kind = "client"

    def __hash__(self) -> int:
        return id(self)

    def broken(self, reason: str) -> None:
        self.reason = reason


def test_p12_a_run_whose_moment_raises_does_not_cost_the_turn(stage: Stage) -> None:
    stage.turn.engine.step = raises  # type: ignore[method-assign]
    stage.turn._tick(LATE)
    assert stage.barrier.faults == {"run": 1}


def test_p12_a_client_whose_moment_raises_is_ended_and_the_others_moments_are_kept(stage: Stage) -> None:
    clients = stage.server.clients
    one, other, lingers = (Stranger(number=n, linger_until=0.0, prove_by=1.0, deadline=1.0, reason="") for n in (1, 2, 3))
    one.authorised, other.authorised, lingers.authorised = False, False, True
    lingers.linger_until = 1.0
    closed: list[Any] = []
    clients.close = lambda client: raises() if client is one else closed.append(client)  # type: ignore[method-assign,assignment]
    clients.awaited = {one, other, lingers}  # type: ignore[arg-type]
    clients.on_time(LATE)
    assert set(closed) == {other, lingers}
    assert "ZeroDivisionError" in one.reason
    assert stage.barrier.faults == {"client": 1}


def test_p12_a_run_that_cannot_be_looked_at_for_its_stacks_costs_those_who_asked_for_these(stage: Stage) -> None:
    told: list[Any] = []
    stacks = stage.server.stacks

    def asked(key: str, look: Callable[[float], bool]) -> Any:
        teller = [raises, lambda text, trouble: told.append((key, text, bool(trouble)))]
        run = Run(key, Order("app", "job", "jobs:job"))
        return SimpleNamespace(run=run, path="", look_at=0.0, look=look, told=teller, text="the stacks")

    stacks._asked = {"k1": asked("k1", raises), "k2": asked("k2", lambda now: True)}
    stacks.on_time(LATE)
    assert told == [("k1", "", True), ("k2", "the stacks", False)]
    assert stacks._asked == {}
    assert stage.barrier.faults == {"run": 1, "client": 2}


def test_p12_a_zygote_whose_moment_raises_is_ended_and_the_others_moments_are_kept(stage: Stage) -> None:
    children, ended = stage.server.children, []
    for number in (1, 2):
        zygote = Zygote(children.zygotes, "app", number, stage.open[1])
        zygote.deadline = 1.0
        children.zygotes[zygote.name] = zygote

    def end(zygote: Zygote) -> None:
        ended.append(zygote.generation)
        if len(ended) == 1:
            raises()

    children.zygotes.end = end  # type: ignore[method-assign]
    children.overdue(LATE)
    assert ended == [1, 1, 2]
    assert stage.barrier.faults == {"zygote": 1}


def test_p12_a_worker_that_cannot_be_told_that_its_result_is_safe_is_killed(stage: Stage) -> None:
    children, told = stage.server.children, []
    silenced: list[int] = []
    for number in (7, 8):
        say = raises if number == 7 else lambda message: told.append(8)
        children.workers[number] = SimpleNamespace(kind="worker", say=say, broken=lambda reason: silenced.append(7))  # type: ignore[assignment]
        children.workers.acks.owe(number, "k", 0.0)
    children.overdue(LATE)
    assert (told, silenced) == ([8], [7])
    assert stage.barrier.faults == {"worker": 1}


def test_p12_a_caller_who_has_waited_long_enough_and_cannot_be_told_costs_only_itself(stage: Stage) -> None:
    """Neither of a run nor of what a companion was asked."""
    server, told = stage.server, []
    server.replies.answer = lambda caller, result, **_: raises() if caller.client == 1 else told.append(caller.client)  # type: ignore[method-assign,assignment]
    server.replies.fail = lambda caller, error, **_: raises() if caller.client == 1 else told.append(caller.client)  # type: ignore[method-assign,assignment]
    stage.turn.lookup = lambda key: RUN  # type: ignore[method-assign]
    for number in (1, 2):
        server.waiters.wait(Waiter(Caller(number), "k", deadline=1.0))
        server.forwarding._asked[number] = Question(Caller(number), "bell", "", 1.0, 0)
    server.runs.endings._on_time(LATE)
    server.forwarding.on_time(LATE)
    assert told == [2, 2]
    assert stage.barrier.faults == {"client": 2}


def test_p12_an_application_that_cannot_be_loaded_again_is_tried_later_and_costs_nobody(stage: Stage) -> None:
    """No descriptor may be left for the channel of its zygote."""
    loading = stage.server.loading
    stage.server.children.zygotes.load = raises  # type: ignore[method-assign]
    loading._again = {"app": 1.0}
    loading.on_time(LATE)
    assert "ZeroDivisionError" in loading.trouble("app")
    due = loading.next_deadline()
    assert due is not None
    assert due > LATE
    assert stage.barrier.faults == {"zygote": 1}


def test_p12_an_exit_whose_evidence_cannot_be_found_is_counted_all_the_same(stage: Stage) -> None:
    evidence, heard = stage.server.evidence, []
    stage.turn.engine.step = lambda event, now: heard.append(event) or []  # type: ignore[func-returns-value,method-assign]
    stage.turn.engine.workers[7] = SimpleNamespace(number=7, sure=False, run="", pid=-1)  # type: ignore[assignment]
    evidence._never_began = raises  # type: ignore[method-assign]
    evidence._look(LATE)
    assert [type(event) for event in heard] == [ev.WorkerSpokeNonsense, ev.WorkerExited]
    assert stage.barrier.faults == {"worker": 1}


def test_a_fault_is_a_problem_for_an_hour_and_counted_until_the_next_restart(stage: Stage) -> None:
    def problems() -> list[str]:
        return [problem for problem in stage.server.numbers.health()["problems"] if "fault" in problem]

    stage.server.writing.journal = SimpleNamespace(set_aside=dict)  # type: ignore[assignment]
    assert problems() == []
    for kind in ("client", "client", "worker"):
        stage.barrier.note(kind, "somebody", ZeroDivisionError())
    (problem,) = problems()
    assert "2 of a client, 1 of a worker" in problem
    stage.barrier._last["client"] -= RECENT
    (problem,) = problems()
    assert "1 of a worker" in problem
    assert "client" not in problem
    stage.barrier._last["worker"] -= RECENT
    assert problems() == []
    assert stage.server.numbers.health()["faults"] == {"client": 2, "worker": 1}
    stage.barrier.note("client", "somebody", ZeroDivisionError())
    (problem,) = problems()
    assert "3 of a client" in problem


def test_p12_what_is_made_in_pieces_and_fails_or_cannot_be_sent_costs_whoever_asked_for_it(stage: Stage) -> None:
    pieces, told = stage.server.rpc.pieces, []

    def work(client: int) -> Any:
        yield
        return client / (client - 1)

    pieces._here = lambda client: True
    for client in (1, 2, 3):
        pieces._begun.append(Task(client, work(client), told.append if client == 3 else raises, raises))
    while pieces._begun:  # in three turns, or more: a turn ends when its time is over
        pieces.go_on()
    assert told == [1.5]
    assert stage.barrier.faults == {"client": 2}


def test_p12_the_end_of_a_run_that_cannot_be_said_to_one_of_thousands_costs_that_one(stage: Stage) -> None:
    endings, told = stage.server.runs.endings, []
    stage.server.replies.answer = lambda caller, result: raises() if caller.client == 1 else told.append(caller.client)  # type: ignore[method-assign,assignment]
    endings._untold.extend((Waiter(Caller(client), "k"), RUN) for client in (1, 2))
    endings._go_on(LATE)
    assert told == [2]
    assert not endings._untold
    assert stage.barrier.faults == {"client": 1}
