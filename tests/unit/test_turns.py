"""What a turn of the master does at most, whatever is asked: counted, in instructions of Python and of SQLite, at thousands of
runs.

A piece of an answer is as large as a number says, and not as there is of anything. So here the share of a turn is no time at all:
each turn does the least that it can, and what that is does not depend on how fast anything is. A method that goes through all
that there is does many times as much.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from rocksyd import config as configuration
from rocksyd.config import parse_address
from rocksyd.core import deadlines, flags
from rocksyd.core import events as ev
from rocksyd.journal.store import Journal
from rocksyd.master import turn
from rocksyd.master.desk import methods
from rocksyd.master.desk.waiters import Caller, Waiter
from rocksyd.master.records import output
from rocksyd.master.server import Server
from rocksyd.model import ENDED, Run
from tests.unit.engine_desk import Desk
from tests.unit.runs import run_of
from tests.unit.served import served

LIVE, PAST = 5000, 5000
INSTRUCTIONS, STEPS = 50_000, 50_000
"""Of Python and of SQLite's machine, in a turn: some milliseconds each. To go through LIVE runs takes 10 of the former for each
at the very least, or as many of the latter."""
EVERY = 100
ASKED: dict[str, list[dict[str, Any]]] = {
    "status": [{"key": "w100"}],
    "list": [
        {"limit": 10},
        {"labels": {"no": "body"}},
        {"state": "waiting", "target": "nobody"},
        {"state": "ended", "app": "nobody"},
        {"failed": True, "since": 1, "limit": 10},
        {"after": "w100", "limit": 10},
    ],
    "wait": [{"key": "e1"}],
    "free": [{"key": "e2"}],
    "retry": [{"key": "e3"}],
    "terminate": [{"key": "w200"}],
    "edit": [{"key": "w201", "priority": 5}],
    "logs": [{"key": "e1", "times": True}],
    "why": [{"key": "w3900"}, {"key": "e1"}],
    "subscribe": [{"position": 0}, {"position": 0, "app": "nobody"}],
    "run": [{"target": "nobody"}],
    "call": [{"target": "nobody"}],
    "stack": [{"key": "w100"}],
    **{
        name: [{}]
        for name in ("left_behind", "targets", "stats", "costs", "durations", "pools", "services", "health", "rpc.discover")
    },
    "auth": [{"token": "x"}],
    "flag": [{"flag": "debug", "script": f"s{number}"} for number in range(flags.MOST)],
    "flags": [{}],
    "unflag": [{"flag": "debug", "script": "s1"}, {"flag": "debug", "script": "none"}],
    "restarts": [{"limit": 1000}],
}
ORDERS = {"restart", "reload", "stop", "drain"}
"""Orders to the daemon itself are not asked here: what they take is theirs, and measured (docs/performance.md)."""
WORDS = ("stats", "stats pools", "stats jobs", "stats settings", "stats restarts", "stats reset", 'check {"hash":1}')


class Work:
    """Counts what is done."""

    def __init__(self) -> None:
        self.instructions = self.steps = 0

    def step(self) -> int:
        """SQLite has done EVERY more."""
        self.steps += EVERY
        return 0

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.instructions += event == "opcode"
        return self._trace

    @contextmanager
    def counted(self) -> Iterator[None]:
        self.instructions = self.steps = 0
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(before)


class Stage:
    """A master with many runs, and clients that talk to it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.work = Work()
        server.writing.journal._db.set_progress_handler(self.work.step, EVERY)

    @contextmanager
    def client(self) -> Iterator[socket.socket]:
        """Somebody who has connected, and leaves."""
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            self.server.clients.take(theirs, parse_address("unix://d.sock"))
            there = len(self.server.clients.by_number)
            yield ours
        while len(self.server.clients.by_number) == there:
            self.turn()

    def turn(self) -> None:
        """One, which may not do too much."""
        with self.work.counted():
            self.server.once(wait=False)
        assert self.work.instructions <= INSTRUCTIONS
        assert self.work.steps <= STEPS

    def ask(self, talk: socket.socket, line: str, over: Callable[[bytes], bool]) -> bytes:
        """Have it answered, in as many turns as that takes."""
        talk.sendall(line.encode() + b"\n")
        data = b""
        for _ in range(20_000):
            self.turn()
            data += received(talk)
            if over(data):
                return data
        raise AssertionError(f"no end of the answer to {line}: {data[-300:]!r}")

    def call(self, talk: socket.socket, method: str, params: dict[str, Any]) -> Any:
        line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        data = self.ask(talk, line, lambda data: any(b'"id":1}' in line[-10:] for line in data.split(b"\n")))
        return next(one for one in map(json.loads, data.splitlines()) if one.get("id") == 1)


def received(talk: socket.socket) -> bytes:
    data = b""
    try:
        while more := talk.recv(1 << 20):
            data += more
    except BlockingIOError:
        pass
    return data


def runs() -> Iterator[Run]:
    order = {"app": "app", "name": "job", "target": "jobs:job", "pool": "app"}
    for number in range(1, LIVE + 1):
        yield run_of(f"w{number}", sequence=number, rev=number, **order)
    for number in range(1, PAST + 1):
        fields = {"state": ENDED, "outcome": "ok" if number % 40 else "failed", "ended_at": 1e9 + number, "submitted_at": 1e9}
        yield run_of(f"e{number}", sequence=LIVE + number, rev=LIVE + number, started_at=1e9, **fields, **order)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("turns")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turn, "SHARE", 0.0)
        text = f'[journal]\nsync = "normal"\n[apps.app]\npath = "."\njobs = ["jobs"]\n[apps.app.pool]\nmax_queue = {2 * LIVE}\n'
        with served(configuration.parse(text, str(folder / "rocksyd.toml"))) as server:
            os.makedirs(f"{server.engine.config.state_dir}/output")
            with closing(Journal(f"{server.engine.config.state_dir}/journal.sqlite", sync="normal")) as journal:
                journal.own()
                journal.commit(runs(), [])
                for number in range(1000):
                    journal.add_restart({"at": number, "kind": "restart", "ok": True, "reason": "x" * 10})
                server.writing.journal = journal
                server.restore({})
                server.begin(1)
                server.engine.awaits_clock = True  # its alarm is there from now on, and not from the first flag on
                server.once(wait=False)  # what a start has left to be done
                yield Stage(server)


def test_every_method_is_asked_or_is_an_order_to_the_daemon() -> None:
    assert {*ASKED, *ORDERS} == set(methods.METHODS)


@pytest.mark.parametrize("method", sorted(ASKED))
def test_no_turn_does_more_than_a_bounded_part_of_an_answer(stage: Stage, method: str) -> None:
    with stage.client() as talk:
        for params in ASKED[method]:
            answer = stage.call(talk, method, params)
            assert ("result" in answer) or method in ("run", "call", "stack"), answer
    stage.turn()


@pytest.mark.parametrize("words", WORDS)
def test_nor_of_one_in_the_other_dialects(stage: Stage, words: str) -> None:
    ends = (b"END\r\n", b"RESET\r\n", b"}\n")
    with stage.client() as talk:
        assert stage.ask(talk, words, lambda data: data.endswith(ends))


def waiting(stage: Stage, keys: list[str], deadline: float = 0.0) -> None:
    """Have the client that came last wait for the ends of these."""
    clients = stage.server.clients
    for number, key in enumerate(keys):
        stage.server.waiters.wait(Waiter(Caller(clients._number, number), key, deadline=deadline))
    clients.by_number[clients._number].waits += len(keys)


def test_who_leaves_is_no_matter_of_all_that_others_wait_for(stage: Stage) -> None:
    with stage.client():
        waiting(stage, [f"w{number}" for number in range(1000, LIVE)])
        with stage.client() as other:
            waiting(stage, ["w1000"])
            assert stage.call(other, "why", {"key": "w1001"})["result"]["state"] == "waiting"
        assert len(stage.server.waiters.ends) == LIVE - 1000
        assert len(stage.server.waiters.ends["w1000"]) == 1
    while stage.server.waiters.ends:
        stage.turn()
    assert not stage.server.waiters.any


def test_thousands_that_wait_for_one_run_or_whose_time_is_over_are_told_in_turns(stage: Stage) -> None:
    with stage.client() as talk, stage.client() as other:
        del talk
        waiting(stage, ["w300"] * 1000)
        assert stage.call(other, "terminate", {"key": "w300"})["result"]["outcome"] == "cancelled"
        (*_, client) = stage.server.clients.by_number.values()
        while client.waits:
            stage.turn()
            received(other)
        waiting(stage, ["w301"] * 1000, deadline=1.0)
        while client.waits:
            stage.turn()
            received(other)
    assert not stage.server.waiters.any


def test_what_becomes_due_at_once_is_done_in_turns() -> None:
    desk = Desk()
    for number in range(120):
        desk.submit(f"k{number}", start_within=5.0)
    desk.at(1006.0)
    assert desk.engine.counters["ended_timeout"] == deadlines.AT_ONCE
    assert desk.engine.next_deadline() <= 1006.0, "the rest is still due"
    for _ in range(2):
        desk.say(ev.Tick())
    assert desk.engine.counters["ended_timeout"] == 120
    assert (desk.engine.next_deadline() or 2000.0) > 1006.0


def test_outputs_of_years_are_looked_at_a_few_in_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = tmp_path / "1989-12-20"
    day.mkdir()
    for number in range(300):
        (day / f"{number}.log").write_text("")
        if number % 2:
            os.utime(day / f"{number}.log", (1.0, 1.0))
    with served(configuration.parse('[apps.app]\npath = "."\njobs = ["jobs"]\n', str(tmp_path / "rocksyd.toml"))) as server:
        looked: list[str] = []
        whole = server.outputs._expire_one
        monkeypatch.setattr(
            server.outputs, "_expire_one", lambda entry, before: (looked.append(entry.path), whole(entry, before))
        )
        pieces = 1
        while server.outputs.expire(str(tmp_path), 700_000_000.0):
            assert len(looked) == pieces * output.EXPIRED_AT_ONCE
            pieces += 1
        assert len(looked) == len({*looked}) == 300
        assert len(list(day.iterdir())) == 150
