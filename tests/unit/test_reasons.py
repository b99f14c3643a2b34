"""Why a run waits, runs, or ended as it did: every state has a reason, and the first is the one that decides."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import messages as m
from rocksyd.config import AppConfig, Config, PoolConfig
from rocksyd.core import events as ev
from rocksyd.core import reasons
from rocksyd.core.engine import Engine
from rocksyd.core.reasons import why
from rocksyd.model import Now, Run
from tests.unit.engine_actors import fork_failed, forked, zygote_ready

START = 1000.0
JOBS = {
    name: {"target": f"jobs:{name}", "settings": {"max_running": int(name == "one"), "retries": int(name == "again")}}
    for name in ("free", "one", "again")
}


def at(seconds: float) -> Now:
    return Now(START + seconds, 5e8 + seconds)


class Story:
    """An engine with one application; what is told to it, and what it says of a run."""

    def __init__(self, **pool: Any) -> None:
        policy = {"pm": "ondemand", "max_workers": 1, "max_jobs": 0, **pool}
        self.engine = Engine(
            Config("/rocksyd.toml", "/", (), "/var", apps={"app": AppConfig("app", "/app", pool=PoolConfig(**policy))})
        )
        self.engine.step(zygote_ready("app", 1, JOBS), at(0))

    def tell(self, event: Any, now: float = 0.0) -> list[Any]:
        return self.engine.step(event, at(now))

    def order(self, key: str, target: str = "free", now: float = 0.0, **options: Any) -> list[Any]:
        return self.tell(ev.Submit(key, target, [], None, options), now)

    def forked(self, effects: list[Any], now: float = 0.0) -> None:
        for effect in effects:
            if isinstance(effect, ev.ForkWorker):
                self.tell(forked(effect.worker, 10 + effect.worker), now)

    def codes(self, key: str, now: float = 0.0) -> list[str]:
        run = self.engine.find(key)
        assert run is not None
        return [reason["code"] for reason in why(self.engine, run, at(now))["reasons"]]

    def text(self, key: str, now: float = 0.0) -> str:
        run = self.engine.find(key)
        assert run is not None
        return "\n".join(reason["text"] for reason in why(self.engine, run, at(now))["reasons"])


def test_a_worker_is_being_started_then_it_runs_then_the_pool_is_full() -> None:
    story = Story()
    effects = story.order("a")
    assert story.codes("a") == ["worker_starting", "next"]
    story.forked(effects)
    assert story.codes("a", 3.0) == ["running"]
    story.order("b")
    story.order("c")
    assert story.codes("b") == ["pool_full", "next"]
    assert story.codes("c") == ["pool_full", "queue"]
    assert "the only worker of pool 'app' is busy (max_workers = 1)" in story.text("c")


def test_where_runs_share_workers_a_full_pool_says_how_many_may() -> None:
    story = Story(concurrency=2)
    story.forked(story.order("a"))
    story.order("b")
    story.order("c")
    assert (story.codes("b"), story.codes("c")) == (["running"], ["pool_full", "next"])
    assert "has as many runs as may share one (max_workers = 1, concurrency = 2)" in story.text("c")


def test_the_line_is_counted_by_priority_and_arrival() -> None:
    story = Story()
    story.forked(story.order("running"))
    for key, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 5)):
        story.order(key, priority=priority)
    ahead = {key: why(story.engine, story.engine.runs[key], at(0))["ahead"] for key in ("high", "first", "second", "low")}
    assert ahead == {"high": 0, "first": 1, "second": 2, "low": 3}
    assert "3 runs wait before it, 3 of them with a higher priority" in story.text("low")


def test_a_limit_of_its_target_comes_first() -> None:
    story = Story(max_workers=2)
    story.forked(story.order("a", "one"))
    story.order("b", "one")
    assert story.codes("b") == ["max_running"]
    story.order("c", "one")
    assert story.codes("c") == ["max_running", "queue"]


def test_delays_attempts_and_what_it_may_wait_at_most() -> None:
    story = Story()
    story.order("later", delay=60.0, start_within=5.0)
    assert story.codes("later") == ["delay", "start_within"]
    assert story.text("later", 10.0).startswith("it was ordered with a delay and begins in 50s")
    story.forked(story.order("again", "again"))
    run = story.engine.runs["again"]
    story.tell(
        ev.Heard(
            run.attempt.worker, m.Result("again", False, 1, error={"type": "ValueError", "message": "no\nway", "traceback": ""})
        ),
        2.0,
    )
    assert story.codes("again", 2.5) == ["retry", "earlier_attempt"]
    assert story.text("again", 2.5) == (
        "attempt 2 of 2 begins in 500ms, after ValueError: no\nattempt 1 ended as failed: ValueError: no"
    )


def test_nothing_to_fork_from_and_forks_that_fail() -> None:
    story = Story()
    effects = story.order("a")
    worker = next(effect.worker for effect in effects if isinstance(effect, ev.ForkWorker))
    story.tell(fork_failed(worker, "no memory"))
    assert story.codes("a") == ["fork_failed", "next"]
    story.tell(ev.ZygoteGone("app", 1))
    assert story.codes("a") == ["loading", "next"]


def test_draining_and_stopping() -> None:
    story = Story()
    story.forked(story.order("running"))
    story.order("waiting")
    story.tell(ev.Drain())
    assert story.codes("waiting")[-1] == "draining"
    story.tell(ev.Drain(stop=True))
    assert story.codes("waiting")[0] == "stopping"
    assert story.codes("running")[0] == "ending"


def test_a_running_run_says_how_it_is_to_end_how_far_it_is_and_whose_code_it_has() -> None:
    story = Story()
    story.forked(story.order("a", timeout=10.0))
    run = story.engine.runs["a"]
    story.tell(ev.Heard(run.attempt.worker, m.Progress("a", 3, 4, "x")), 1.0)
    story.tell(zygote_ready("app", 2, JOBS), 2.0)
    assert story.codes("a", 2.0) == ["running", "progress", "timeout", "old_code"]
    assert "3 of 4, x" in story.text("a", 2.0)
    assert "ended in 8s at the latest (timeout = 10s)" in story.text("a", 2.0)
    story.tell(ev.Terminate("a"), 3.0)
    assert story.codes("a", 3.0)[0] == "ending"
    assert "it was cancelled and was sent TERM; KILL follows in 10s" in story.text("a", 3.0)
    story.tell(ev.Tick(), 13.5)
    assert "outlived its grace of 10s and was sent KILL" in story.text("a", 13.5)


ENDED = {"key": "k", "app": "app", "pool": "app", "target": "jobs:free", "state": "ended", "started_at": 1.0, "ended_at": 2.5}


@pytest.mark.parametrize(
    ("changes", "codes", "text"),
    [
        ({"outcome": "ok"}, ["ok"], "it ended well after 1.5s"),
        ({"outcome": "failed", "retcode": 3}, ["failed"], "it failed after 1.5s: exit status 3"),
        ({"outcome": "killed", "signal": 9}, ["killed"], "signal 9 after 1.5s, which the daemon had not sent"),
        ({"outcome": "timeout", "timeout": 1.5}, ["timeout"], "at its timeout of 1.5s"),
        ({"outcome": "timeout", "started_at": 0.0}, ["start_too_late"], "no worker was free"),
        ({"outcome": "cancelled", "signal": 9}, ["cancelled", "killed_after_grace"], "within its grace of 10s"),
        ({"outcome": "cancelled", "started_at": 0.0}, ["cancelled"], "before it had started"),
        ({"outcome": "failed", "attempt": 3, "retries": 2, "retcode": 1}, ["failed", "attempts"], "attempt 3 of 3"),
        ({"outcome": "lost", "error": {"type": "Lost", "message": "gone"}}, ["lost"], "Lost: gone"),
        ({"outcome": "memory", "max_rss": 1 << 30}, ["memory"], "too much memory (1G)"),
    ],
)
def test_how_it_ended(changes: dict[str, Any], codes: list[str], text: str) -> None:
    found = why(Story().engine, Run.load({**ENDED, **changes}), at(0))
    assert [reason["code"] for reason in found["reasons"]] == codes
    assert text in " ".join(reason["text"] for reason in found["reasons"])
    assert (found["outcome"], found["ahead"]) == (changes["outcome"], None)


ORDERS = st.tuples(st.sampled_from("abc"), st.sampled_from([*JOBS]), st.integers(-1, 1), st.sampled_from([0, 1.0]))
STEPS = st.lists(
    st.one_of(ORDERS, st.sampled_from(["fork", "fail", "result", "tick", "drain", "stop", "gone", "ready", "kill"])), max_size=25
)


@given(STEPS)
def test_every_run_has_a_reason_at_every_moment_and_asking_changes_nothing(steps: list[Any]) -> None:
    story, now = Story(max_workers=2), 0.0
    forks: list[Any] = []
    for step in steps:
        now += 0.4
        running = [run for run in story.engine.runs.values() if run.state == "running"]
        events: list[Any] = {
            "fork": [forked(worker, 10 + worker) for worker in forks[:1]],
            "fail": [fork_failed(worker, "no") for worker in forks[:1]],
            "result": [ev.Heard(run.attempt.worker, m.Result(run.key, True, 0)) for run in running[:1]],
            "kill": [ev.Terminate(key) for key in [*story.engine.runs][:1]],
            "tick": [ev.Tick()], "drain": [ev.Drain()], "stop": [ev.Drain(stop=True)],
            "gone": [ev.ZygoteGone("app", 1)], "ready": [zygote_ready("app", 1, JOBS)],
        }.get(step if isinstance(step, str) else "", [])  # fmt: skip
        if not isinstance(step, str):
            key, target, priority, delay = step
            events = [ev.Submit(f"{key}{now}", target, [], None, {"priority": priority, "delay": delay})]
        if step in ("fork", "fail"):
            del forks[:1]
        for event in events:
            forks += [effect.worker for effect in story.tell(event, now) if isinstance(effect, ev.ForkWorker)]
        before = copy.deepcopy(story.engine.snapshot())
        for run in [*story.engine.runs.values(), *story.engine.ended.values()]:
            found = why(story.engine, run, at(now))
            assert found["reasons"]
            assert {reason["code"] for reason in found["reasons"]} <= set(reasons.CODES)
            assert all(reason["text"] for reason in found["reasons"])
        assert story.engine.snapshot() == before
