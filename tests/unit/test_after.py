"""Runs that begin after others have ended: the engine's decisions, what is said of them, and how a plan becomes orders."""

from __future__ import annotations

import pytest

from rocksyd.core import events as ev
from rocksyd.core import reasons
from rocksyd.core.engine import FREED_AT_ONCE, Engine
from rocksyd.errors import NotFound, RequestError
from rocksyd.model import Run
from rocksyd.testing import Eager
from tests.unit.engine_actors import config
from tests.unit.engine_desk import ONDEMAND, Desk, kinds


def after(desk: Desk, key: str, *before: str, **options: object) -> Run:
    """A run that is ordered to come after others."""
    ended = {run.key: run.attempt.outcome for run in desk.engine.ended.values()}
    return desk.answer(ev.Submit(key, "job", None, None, {"after": list(before), **options}, ended=ended))


def why(desk: Desk, run: Run) -> tuple[str, str]:
    reason = reasons.why(desk.engine, run, desk.now)["reasons"][0]
    return reason["code"], reason["text"]


def test_a_run_begins_when_all_that_it_comes_after_have_ended_well() -> None:
    desk = Desk()
    one, two = desk.started("one"), desk.started("two")
    third = after(desk, "third", "one", "two")
    assert (third.state, why(desk, third)) == ("waiting", ("after", "it begins after one, two have ended well (after)"))
    keeps = reasons.keeps(desk.engine, third, desk.now)
    assert keeps is not None
    assert keeps.code == "after"
    desk.result(one)
    assert (third.state, why(desk, third)[1]) == ("waiting", "it begins after two has ended well (after)")
    effects = desk.result(two)
    assert third.state == "running"
    assert third.record()["after"] == ["one", "two"]
    assert [effect.run.key for effect in kinds(effects, ev.StartJob)] == ["third"]


def test_it_is_cancelled_when_one_of_them_does_not_end_well_and_so_is_what_comes_after_it() -> None:
    desk = Desk()
    one = desk.started("one")
    chain = [after(desk, "c0", "one")] + [after(desk, f"c{n}", f"c{n - 1}") for n in range(1, 2000)]
    whatever = after(desk, "whatever", "one", "c1999", after_outcome="any")
    effects = desk.result(one, 3)
    assert {(run.state, run.attempt.outcome) for run in chain} == {("ended", "cancelled")}, "without a stack as deep as the chain"
    assert whatever.state == "running"
    assert len(kinds(effects, ev.Persist)) >= 2002, "in the step, and so in the transaction, in which the first ended"
    assert chain[0].attempt.error == {
        "type": "PredecessorFailed", "message": "run 'one', after which it was to begin, ended as failed", "traceback": "",
    }  # fmt: skip
    code, text = why(desk, chain[1])
    assert code == "predecessor"
    assert "run 'c0', after which it was to begin, ended as cancelled" in text


def test_an_attempt_that_fails_is_no_end_and_a_run_may_be_ended_while_it_waits() -> None:
    desk = Desk()
    one = desk.started("one", retries=1)
    second, third = after(desk, "second", "one"), after(desk, "third", "one")
    desk.result(one, 1)
    assert (one.state, second.state) == ("waiting", "waiting")
    desk.answer(ev.Terminate("third"))
    assert (third.attempt.outcome, third.attempt.error) == ("cancelled", None)
    desk.at(1010.0)
    desk.fork()
    desk.result(one)
    desk.fork()
    assert (one.attempt.outcome, second.state, third.state) == ("ok", "running", "ended")


def test_those_that_have_ended_are_looked_at_once_and_those_that_nobody_knows_are_refused() -> None:
    desk = Desk()
    desk.result(desk.started("good"))
    desk.result(desk.started("bad"), 1)
    assert after(desk, "a", "good").state in ("waiting", "running")
    assert "a" not in desk.engine.following
    assert after(desk, "b", "good", "bad").attempt.outcome == "cancelled"
    assert after(desk, "c", "bad", after_outcome="any").state != "ended"
    with pytest.raises(RequestError, match="no run has the key 'nobody', which after names"):
        after(desk, "d", "good", "nobody")
    with pytest.raises(RequestError, match="no run has the key 'e'"):
        after(desk, "e", "e")
    with pytest.raises(RequestError, match="expected an array of at most 1000 keys"):
        after(desk, "f", *(f"k{n}" for n in range(1001)))


def test_delay_and_start_within_count_from_when_it_could_begin() -> None:
    desk = Desk()
    one = desk.started("one")
    hurried, delayed = after(desk, "hurried", "one", start_within=5), after(desk, "delayed", "one", delay=500)
    assert desk.engine.next_deadline() is None, "what waits for others wakes nobody"
    desk.at(1400.0)
    assert hurried.state == "waiting"
    for n in range(2):
        desk.submit(f"busy{n}", priority=1)
    desk.fork()
    desk.result(one)
    assert hurried.start_by == 1405.0
    desk.at(1405.0)
    assert hurried.attempt.outcome == "timeout"
    assert delayed.state == "waiting"
    desk.at(1500.0)
    assert delayed.key in desk.engine.queues["app"]


def test_a_new_master_knows_who_waits_for_whom_and_a_run_that_is_ordered_again_waits_again() -> None:
    desk = Desk()
    desk.started("one")
    after(desk, "second", "one")
    after(desk, "third", "second")
    for snapshot in (desk.engine.snapshot(), None):
        engine = Engine(config(app=ONDEMAND))
        engine.restore([Run.load(run.dump()) for run in desk.engine.runs.values()], snapshot, desk.now)
        assert engine.following.waits_for("second") == ("one",)
        assert engine.following.waits_for("third") == ("second",)
        engine.lose("the power was gone", desk.now)
        assert {run.attempt.outcome for run in engine.ended.values()} == {"lost", "cancelled"}
    first = desk.engine.runs["one"]
    desk.result(first, 1)
    again = desk.answer(ev.Retry("one"))
    second = desk.answer(ev.Retry("second"))
    desk.fork()
    assert (again.state, second.state) == ("running", "waiting")
    desk.result(again)
    assert second.state == "running"


def test_thousands_that_wait_for_one_run_are_let_go_in_steps_in_their_order_and_a_new_master_lets_go_of_the_rest() -> None:
    desk, number = Desk(), 2 * FREED_AT_ONCE + 10
    one = desk.started("one")
    for n in range(number):
        after(desk, f"f{n}", "one", start_within=600)
    held = [f"f{n}" for n in range(number)]
    first = desk.result(one)
    assert [key for key in held if key in desk.engine.following] == held[FREED_AT_ONCE:]
    assert len({effect.run.key for effect in kinds(first, ev.Persist)} - {"one"}) == FREED_AT_ONCE
    assert desk.engine.next_deadline() == 0.0, "the rest is let go at once, but not in this step"
    runs, snapshot = [Run.load(run.dump()) for run in desk.engine.runs.values()], desk.engine.snapshot()
    for event, left in ((ev.Terminate(held[-1]), held[2 * FREED_AT_ONCE : -1]), (ev.Tick(), [])):
        desk.say(event)
        assert [key for key in held if key in desk.engine.following] == left
    assert desk.engine.following.free == {}
    assert desk.engine.next_deadline() == desk.now.mono + 600
    for data in (snapshot, None):
        engine = Engine(config(app=ONDEMAND))
        engine.restore([Run.load(run.dump()) for run in runs], data, desk.now)
        assert not [key for key in held if key in engine.following]
        assert {engine.runs[key].start_by for key in held if engine.runs[key].state == "waiting"} == {desk.now.mono + 600}


def test_who_was_ended_and_is_ordered_again_waits_again_although_it_was_to_be_let_go() -> None:
    desk = Desk()
    one = desk.started("one")
    for n in range(4 * FREED_AT_ONCE + 1):
        after(desk, f"f{n}", "one")
    last = f"f{4 * FREED_AT_ONCE}"
    desk.result(one)
    desk.answer(ev.Terminate(last))
    again = desk.answer(ev.Retry("one"))
    assert desk.answer(ev.Retry(last)).state == "waiting"
    desk.say(ev.Tick())
    assert again.state != "ended"
    assert desk.engine.following.waits_for(last) == ("one",)


def test_a_circle_through_after_is_found() -> None:
    desk = Desk()
    one = desk.started("one")
    second = after(desk, "second", "one")
    found = reasons.why(desk.engine, second, desk.now, lambda: {one.attempt.pid: ["second"]})["reasons"][0]
    assert found["code"] == "circle"
    assert "second waits for one, one waits for second" in found["text"]


# --- plans ------------------------------------------------------------------------------------------------------------
def test_chain_and_group_are_orders_with_after() -> None:
    from rocksyd import chain, group, step
    from rocksyd.client.plans import orders

    plan = chain(step("a", 1, key="first"), group("b", chain("c", step("d", app="x"))), step("e", results=True, day="2026-01-31"))
    found = orders(plan, "k")
    assert [(one["target"], one["key"], one.get("after")) for one in found] == [
        ("a", "first", None), ("b", "k.1", ["first"]), ("c", "k.2", ["first"]), ("d", "k.3", ["k.2"]),
        ("e", "k.4", ["k.1", "k.3"]),
    ]  # fmt: skip
    assert found[4]["after_results"] is True
    assert (found[0]["params"], found[3]["app"], found[4]["params"]) == ([1], "x", {"day": "2026-01-31"})
    with pytest.raises(TypeError, match="of nothing"):
        chain()


def test_eager_runs_follow_and_have_the_results() -> None:
    from rocksyd import chain, group, step

    with Eager(["tests.unit.eager_jobs"]) as client:
        runs = client.submit(chain(group(step("inner", "a"), step("inner", "b")), step("joined", results=True)), key="k")
        assert [run.key for run in runs] == ["k.0", "k.1", "k.2"]
        assert runs[-1].result() == ["a!", "b!", ["a!", "b!"]]
        with pytest.raises(NotFound, match="which after names"):
            client.run("inner", "c", after="nobody")
        failing = client.run("leave", 3)
        assert client.run("inner", "c", after=failing).record["outcome"] == "cancelled"
        assert client.call("inner", "c", after=[failing], after_outcome="any") == "c!"
        later = client.run("inner", "z", delay="1ms")
        assert client.run("joined", after=later, after_results=True).result() == ["z!", ["z!"]]
