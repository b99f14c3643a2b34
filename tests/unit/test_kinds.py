"""Kinds of work: what a row says is what happens, and a kind of a newer version's is refused by name."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import rocksyd
from rocksyd import kinds, messages
from rocksyd.core import events as ev
from rocksyd.core.engine import Engine
from rocksyd.errors import RequestError
from rocksyd.kinds import KINDS, Kind, kind_of
from rocksyd.model import ENDED, LOST, RUNNING, WAITING, Run
from rocksyd.worker.report import Report
from tests.unit.engine_desk import Desk

SOURCE = Path(rocksyd.__file__).parent
OWN_FILES = {"kinds.py", "worker/script.py", "worker/main.py", "master/desk/script_callers.py"}
"""Where a kind may be called by its name: the table, and the files of its own (the loop of workers rehearses a job)."""


def ordered(desk: Desk, kind: str) -> Run:
    return desk.answer(ev.Submit("k", "job", app="app", kind=kind))


def names_a_kind(node: ast.AST) -> bool:
    """Whether this compares a run's kind, or names a row of the table."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "rocksyd.kinds" and any(alias.name in ("JOB", "SCRIPT") for alias in node.names)
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and (node.value.id, node.attr) in (("kinds", "JOB"), ("kinds", "SCRIPT"))
    sides = [getattr(node, "test", None), getattr(node, "operand", None)]
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
    kinds_of_runs = ("run.kind", "job.kind", "event.kind")
    return any(isinstance(side, ast.Attribute) and ast.unparse(side) in kinds_of_runs for side in sides)


def test_no_kind_is_compared_by_its_name() -> None:
    found = [
        f"{name}:{getattr(node, 'lineno', 0)}"
        for path in SOURCE.rglob("*.py")
        if (name := str(path.relative_to(SOURCE))) not in OWN_FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if names_a_kind(node)
    ]
    assert not found


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name or "job")
def test_what_a_kinds_row_says_is_what_happens(kind: Kind) -> None:
    desk = Desk()
    run = ordered(desk, kind.name)
    assert bool(run.order.log) is kind.has_output
    desk.fork()
    (start,) = [effect for effect in desk.told if isinstance(effect, ev.StartJob)]
    assert start.last is kind.own_process
    desk.result(run)
    if kind.retryable:
        assert desk.answer(ev.Retry("k")).state in (WAITING, RUNNING)
    else:
        refused = desk.refusal(ev.Retry("k"))
        assert (kind.called in str(refused), refused.data) == (True, kind.again)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name or "job")
def test_what_waits_at_a_stop_is_kept_if_it_is_durable(kind: Kind) -> None:
    desk = Desk()
    run = ordered(desk, kind.name)
    desk.say(ev.Drain(stop=True))
    assert (run.state == WAITING) is kind.durable


def test_a_kind_needs_a_process_of_its_own_or_may_share_one() -> None:
    from rocksyd.config import PoolConfig

    desk = Desk(PoolConfig("ondemand", max_workers=2, max_jobs=0, concurrency=4))
    assert ordered(desk, "").state == WAITING
    with pytest.raises(RequestError, match="a script cannot share a process with others"):
        desk.answer(ev.Submit("s", "x.py", app="app", kind="script"))


# --- one of a newer version's -----------------------------------------------------------------------------------------
def taken_over(**changes: Any) -> tuple[Engine, Run]:
    """What a master makes of a row in the journal."""
    desk = Desk()
    desk.submit()
    run = Run.load({**desk.engine.runs["k"].dump(), "kind": "web", **changes})
    engine = Engine(desk.engine.config)
    effects = engine.restore([run], desk.engine.snapshot(), desk.now)
    assert (run.state == ENDED) is any(isinstance(effect, ev.Ended) for effect in effects)
    return engine, run


def test_a_waiting_run_of_an_unknown_kind_ends_with_a_sentence() -> None:
    engine, run = taken_over()
    assert (run.state, run.attempt.outcome) == (ENDED, LOST)
    assert run.attempt.error is not None
    assert run.attempt.error["message"].startswith("this version of rocksyd knows no kind of work called 'web'")
    assert not engine.runs


def test_a_running_one_is_left_to_its_worker() -> None:
    desk = Desk()
    run = desk.started()
    row = Run.load({**run.dump(), "kind": "web"})
    engine = Engine(desk.engine.config)
    engine.restore([row], desk.engine.snapshot(), desk.now)
    assert engine.runs["k"].state == RUNNING


def test_the_row_of_an_unknown_kind_is_the_most_careful_one() -> None:
    row = kind_of("web")
    assert (row.name, row.worker, row.durable, row.retryable, row.own_process) == ("web", "", True, False, True)
    assert "'web'" in row.called
    assert not any(kinds.unknown(name) for name in KINDS)


# --- results are kept until they are acknowledged ---------------------------------------------------------------------
def test_a_result_is_said_again_until_it_is_acknowledged() -> None:
    said: list[Any] = []
    report = Report(7, said.append)
    result = messages.Result(key="k", ok=True)
    report.say(result)
    report.answer(1)
    assert said == [result, result]
    assert not report.heard("other")
    report.answer(2)
    assert report.heard("k")
    report.answer(3)
    assert said[2:] == [result, messages.Idle(7, report._pid, 3)]


def test_a_worker_that_runs_share_names_what_it_holds() -> None:
    said: list[Any] = []
    report = Report(7, said.append)
    report.say(messages.Result(key="done"))
    report.answer(1, {"going": 5.0})
    assert said[1:] == [messages.Result(key="done"), messages.Holding(7, report._pid, 1, ("going", "done"), (5.0,))]
    report.all_heard()
    report.answer(2, {})
    assert said[3:] == [messages.Idle(7, report._pid, 2)]
