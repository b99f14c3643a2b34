"""Runs that wait for each other: who can still end has no circle, and who cannot is told its links."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import messages as m
from rocksyd.config import PoolConfig
from rocksyd.core import events as ev
from rocksyd.core.circle import circle
from rocksyd.core.engine import Engine
from rocksyd.core.reasons import why
from rocksyd.model import RUNNING, Now
from tests.unit.engine_actors import JOBS, config, forked, zygote_ready

NOW = Now(1000.0, 5e8)


class Scene:
    """An engine whose workers are there as soon as they are wanted, and the runs that wait for others."""

    def __init__(self, workers: int = 1, side: int = 1, concurrency: int = 1) -> None:
        policy = {"pm": "ondemand", "max_jobs": 0}
        pools = {
            "app": PoolConfig(**policy, max_workers=workers, concurrency=concurrency),
            "app/side": PoolConfig(**policy, max_workers=side),
        }
        self.engine = Engine(config(**pools))
        self.waits: dict[str, list[str]] = {}
        self.tell(zygote_ready("app", 1, JOBS))

    def tell(self, event: Any) -> None:
        for effect in self.engine.step(event, NOW):
            if isinstance(effect, ev.ForkWorker):
                self.tell(forked(effect.worker, 10 + effect.worker))

    def order(self, key: str, target: str = "free", **options: Any) -> None:
        self.tell(ev.Submit(key, target, [], None, options))

    def awaited(self) -> dict[int, list[str]]:
        running = [run for run in self.engine.runs.values() if run.state == RUNNING]
        return {run.attempt.pid: self.waits[run.key] for run in running if run.key in self.waits}

    def kept(self, key: str) -> bool:
        return bool(circle(self.engine, self.engine.runs[key], self.awaited()))

    def reasons(self, key: str) -> list[dict[str, str]]:
        found = why(self.engine, self.engine.runs[key], NOW, self.awaited)
        return list(found["reasons"])

    def end_what_can(self) -> None:
        """Let every run end that waits for none that is left, until there is no such run."""
        while True:
            free = [
                run
                for run in self.engine.runs.values()
                if run.state == RUNNING and not any(key in self.engine.runs for key in self.waits.get(run.key, ()))
            ]
            if not free:
                return
            self.tell(ev.Heard(free[0].attempt.worker, m.Result(free[0].key, True, 0)))


KEYS = "abcdefgh"
ORDERS = st.lists(st.sampled_from(["free", "one", "two"]), min_size=1, max_size=len(KEYS))
WAITS = st.dictionaries(st.sampled_from(KEYS), st.lists(st.sampled_from(KEYS), min_size=1, max_size=2), max_size=len(KEYS))


@given(st.integers(1, 3), st.integers(1, 2), ORDERS, WAITS)
def test_exactly_what_can_never_end_is_kept_by_a_circle(
    workers: int, side: int, targets: list[str], waits: dict[str, list[str]]
) -> None:
    scene = Scene(workers, side)
    for key, target in zip(KEYS, targets, strict=False):
        scene.order(key, target)
    running = {run.key for run in scene.engine.runs.values() if run.state == RUNNING}
    scene.waits = {key: others for key, others in waits.items() if key in running}
    kept = {key for key in scene.engine.runs if scene.kept(key)}
    scene.end_what_can()
    assert kept == set(scene.engine.runs)


def test_a_pool_full_of_runs_that_wait_for_runs_of_the_same_pool_names_the_circle_first() -> None:
    scene = Scene(workers=2)
    for key in ("a", "b", "of a", "of b"):
        scene.order(key)
    scene.waits = {"a": ["of a"]}
    assert [reason["code"] for reason in scene.reasons("of a")] == ["pool_full", "next"]
    scene.waits["b"] = ["of b"]
    first, *others = scene.reasons("of a")
    assert first["code"] == "circle"
    assert first["text"] == (
        "a circle of runs keeps it, none of which goes on before another has ended: of a waits for a worker of pool 'app', "
        "a waits for of a, b waits for of b, of b waits for a worker of pool 'app'"
    )
    assert "raise max_workers" in first["advice"]
    assert [reason["code"] for reason in others] == ["pool_full", "next"]
    assert [reason["code"] for reason in scene.reasons("a")] == ["circle", "running"]
    scene.order("behind")
    assert scene.reasons("behind")[0]["code"] == "circle"


def test_a_circle_goes_through_other_pools_and_limits_of_targets() -> None:
    scene = Scene()
    scene.order("outer")
    scene.order("inner", "two")
    scene.order("last")
    scene.waits = {"outer": ["inner"], "inner": ["last"]}
    assert scene.reasons("last")[0]["text"].endswith(
        "last waits for a worker of pool 'app', outer waits for inner, inner waits for last"
    )
    scene = Scene(workers=2)
    scene.order("first", "one")
    scene.order("second", "one")
    scene.waits = {"first": ["second"]}
    assert scene.reasons("second")[0]["text"].endswith("second waits for room among those of jobs:one, first waits for second")


@pytest.mark.parametrize("options", [{"concurrency_key": "c"}, {}])
def test_a_concurrency_key_may_close_the_circle(options: dict[str, str]) -> None:
    scene = Scene(workers=2)
    scene.order("first", **options)
    scene.order("second", **options)
    scene.waits = {"first": ["second"]}
    assert scene.kept("first") == bool(options)


def test_what_is_being_ended_or_shares_its_process_or_has_a_worker_coming_is_in_no_circle() -> None:
    scene = Scene()
    scene.order("a")
    scene.order("b")
    scene.waits = {"a": ["b"]}
    assert scene.kept("b")
    scene.tell(ev.Terminate("a"))
    assert not scene.kept("b")
    shared = Scene(concurrency=2)
    for key in "abc":
        shared.order(key)
    shared.waits = {"a": ["c"], "b": ["c"]}
    assert not shared.kept("c")


def test_a_circle_of_many_names_some() -> None:
    scene = Scene(workers=5)
    for number in range(10):
        scene.order(f"k{number}")
    scene.waits = {f"k{number}": [f"k{number + 5}"] for number in range(5)}
    assert scene.reasons("k9")[0]["text"].endswith(", and 4 runs more")
