"""When a warm worker becomes a template, and whether that has paid: decisions only, with invented workers and sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rocksyd.config import PoolConfig
from rocksyd.core import events as ev
from rocksyd.core import unperformed
from rocksyd.core.engine import Engine
from rocksyd.core.refork import CHOOSING, FEWEST, KEPT, LEAST_SAVING, NONE, TRYING, WARMING, Refork
from rocksyd.core.worker import Worker
from rocksyd.model import Now
from tests.unit.engine_actors import config, measured, template_ready, zygote_ready
from tests.unit.engine_desk import Desk, kinds

MIB = 1024**2
AFTER = 10


def worker(number: int, jobs: int = AFTER, state: str = "idle", template: int = 0) -> Worker:
    return Worker(number, "app", "app", 1, -1, state, 100 + number, jobs=jobs, template=template)


def tried(before: int, count: int = 4) -> Refork:
    """Up to a template that can be forked from; worker 1 has become it."""
    refork, workers = Refork(), [worker(number) for number in range(1, count + 1)]
    assert refork.looks(workers, AFTER)
    assert refork.seen({w.number: before for w in workers}, workers, AFTER)
    chosen = refork.choose(workers, AFTER)
    assert chosen is not None
    refork.came(chosen.number, before, before)
    return refork


# --- before -----------------------------------------------------------------------------------------------------------
@given(
    st.lists(st.tuples(st.integers(0, 2 * AFTER), st.sampled_from(["idle", "busy", "starting", "leaving"]), st.integers(0, 1)))
)
def test_memory_is_looked_at_when_enough_workers_of_the_zygote_are_warm(some: list[tuple[int, str, int]]) -> None:
    workers = [worker(number, *fields) for number, fields in enumerate(some, 1)]
    warm = [w for w in workers if w.jobs >= AFTER and w.state in ("idle", "busy") and not w.template]
    refork = Refork()
    assert refork.looks(workers, AFTER) == (len(warm) >= FEWEST)
    assert not refork.looks(workers, AFTER), "once is enough"
    assert not Refork().looks(workers, 0), "off"


@given(st.dictionaries(st.integers(1, 6), st.integers(0, 64 * MIB)))
def test_nothing_is_tried_where_all_that_could_be_saved_is_too_little(sizes: dict[int, int]) -> None:
    workers = [worker(number) for number in range(1, 5)]
    refork = Refork()
    refork.looks(workers, AFTER)
    measured = [size for number, size in sizes.items() if number <= 4]
    most = sum(measured) // len(measured) * 3 if len(measured) >= FEWEST else 0
    assert refork.seen(sizes, workers, AFTER) == (most >= LEAST_SAVING)
    assert refork.stage == (CHOOSING if most >= LEAST_SAVING else NONE)


def test_the_warmest_idle_worker_is_taken_when_there_is_one() -> None:
    refork = Refork()
    busy = [worker(number, AFTER + number, "busy") for number in (1, 2, 3)]
    refork.looks(busy, AFTER)
    refork.seen(dict.fromkeys((1, 2, 3), 32 * MIB), busy, AFTER)
    assert refork.choose(busy, AFTER) is None
    cold, unsure = worker(4, AFTER - 1), worker(5, 9 * AFTER)
    unsure.sure = False
    busy[0].state = busy[1].state = "idle"
    assert refork.choose([*busy, cold, unsure], AFTER) is busy[1]
    assert refork.choose(busy, AFTER) is None, "one is enough"
    assert refork.parent == 0, "it is not one yet"


# --- after ------------------------------------------------------------------------------------------------------------
@given(st.integers(8 * MIB, 64 * MIB), st.integers(0, 64 * MIB), st.integers(FEWEST, 16))
def test_a_template_is_kept_exactly_when_the_sum_of_all_memory_is_less_with_it(before: int, now: int, count: int) -> None:
    refork = tried(before)
    workers = [worker(number, template=1) for number in range(10, 10 + count)]
    assert refork.parent == 1
    assert refork.looks(workers, AFTER)
    verdict = refork.weigh({w.number: now for w in workers}, workers, AFTER)
    without, with_it = count * before, count * now + before
    assert verdict is not None
    assert verdict.saved == without - with_it
    assert verdict.pays == (without - with_it >= LEAST_SAVING)
    assert (refork.stage, refork.parent) == ((KEPT, 1) if verdict.pays else (NONE, 0))


def test_what_could_not_be_measured_is_looked_at_again() -> None:
    refork = tried(16 * MIB)
    workers = [worker(number, template=1) for number in (10, 11)]
    assert refork.looks(workers, AFTER)
    assert refork.weigh({10: 5}, workers, AFTER) is None
    assert refork.stage == WARMING
    assert refork.looks(workers, AFTER)


def test_workers_of_the_zygote_are_not_counted_as_the_templates() -> None:
    refork = tried(16 * MIB)
    assert not refork.looks([worker(2), worker(3), worker(10, template=1)], AFTER)


class Life(RuleBasedStateMachine):
    """Anything in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.refork = Refork()
        self.number = 0
        self.living = 0
        self.ages = [0]
        self.workers: list[Worker] = []

    @rule(jobs=st.integers(0, 8 * AFTER), state=st.sampled_from(["idle", "busy", "leaving"]))
    def fork(self, jobs: int, state: str) -> None:
        self.number += 1
        self.workers = [*self.workers[-5:], worker(self.number, jobs, state, self.refork.parent)]

    @rule(sizes=st.lists(st.integers(0, 64 * MIB), min_size=6, max_size=6))
    def look(self, sizes: list[int]) -> None:
        measured = {w.number: size for w, size in zip(self.workers, sizes, strict=False)}
        template = self.refork.parent
        if not self.refork.looks(self.workers, AFTER):
            chosen = self.refork.choose(self.workers, AFTER)
            self.workers = [w for w in self.workers if w is not chosen]
        elif not template:
            self.refork.seen(measured, self.workers, AFTER)
        else:
            verdict = self.refork.weigh(measured, self.workers, AFTER)
            self.living = 0 if verdict is not None and not verdict.pays else self.living

    @precondition(lambda self: self.refork.stage == TRYING)
    @rule()
    def comes(self) -> None:
        self.living = self.refork.number
        self.refork.came(self.living, self.refork.before, MIB)

    @rule(other=st.booleans())
    def ends(self, other: bool) -> None:
        number = self.refork.number
        assert self.refork.gone(number + other, AFTER) == bool(number and not other)
        if number and not other:
            self.living = 0

    @invariant()
    def workers_are_forked_from_who_lives(self) -> None:
        assert self.refork.parent == self.living
        assert bool(self.refork.number) == (self.refork.stage in (TRYING, WARMING, "weighing", KEPT))
        self.ages.append(self.refork._age)
        assert self.ages[-1] in (self.ages[-2], 2 * max(AFTER, self.ages[-2])), "tries become rare"


TestLife = Life.TestCase


# --- in the engine ----------------------------------------------------------------------------------------------------
NOW = Now(1000.0, 1.7e9)


def pool_with(template: int) -> Engine:
    """An engine after a crash of the master, which has found what a template told."""
    engine = Engine(config(app=PoolConfig("static", max_workers=2, max_jobs=0, refork_after=2)))
    engine.restore((), {"applications": {"app": {"generation": 3}}}, NOW)
    engine.step(template_ready("app", 3, "app", template, 16 * MIB, 17 * MIB), NOW)
    return engine


def test_a_template_found_after_a_crash_is_forked_from_and_not_reset_by_its_zygotes_return() -> None:
    engine = pool_with(7)
    effects = engine.step(zygote_ready("app", 3, {}), NOW)
    forks = [effect for effect in effects if isinstance(effect, ev.ForkWorker)]
    assert [fork.template for fork in forks] == [7, 7]


def test_a_template_of_other_code_or_of_a_pool_without_refork_is_retired() -> None:
    engine = pool_with(7)
    retired = [ev.RetireTemplate("app", 2, 8)]
    assert [e for e in engine.step(template_ready("app", 2, "app", 8, 1, 1), NOW) if isinstance(e, ev.RetireTemplate)] == retired
    effects = engine.step(template_ready("app", 3, "app", 9, 1, 1), NOW)
    assert ev.RetireTemplate("app", 3, 9) in effects, "there is one already"
    engine.step(ev.Configure(config(app=PoolConfig("static", max_workers=2, max_jobs=0))), NOW)
    assert ev.RetireTemplate("app", 3, 7) in engine.step(template_ready("app", 3, "app", 7, 1, 1), NOW)


def test_new_code_begins_without_a_template_and_retires_the_old_ones() -> None:
    engine = pool_with(7)
    effects = engine.step(zygote_ready("app", 4, {}), NOW)
    assert ev.RetireZygote("app", 3) in effects
    assert [effect.template for effect in effects if isinstance(effect, ev.ForkWorker)] == [0, 0]


def test_workers_that_a_dead_template_had_not_forked_yet_come_from_the_zygote() -> None:
    engine = pool_with(7)
    first = [e.worker for e in engine.step(zygote_ready("app", 3, {}), NOW) if isinstance(e, ev.ForkWorker)]
    effects = engine.step(ev.ZygoteGone("app", 3, 7, "it is gone"), NOW)
    again = [effect for effect in effects if isinstance(effect, ev.ForkWorker)]
    assert [effect.template for effect in again] == [0, 0]
    assert not set(first) & {effect.worker for effect in again}


def come_about(order: ev.MeasurePool | ev.PromoteWorker, desk: Desk) -> ev.HeardZygote:
    """What is heard when the order has been carried out."""
    if isinstance(order, ev.MeasurePool):
        return measured(order, tuple((number, 16 * MIB) for number in desk.engine.workers))
    return template_ready("app", 1, "app", order.worker, order.before, 0)


@pytest.mark.parametrize("lost", ["looking", "trying", "weighing"])
def test_an_order_that_cannot_be_carried_out_is_given_again_when_workers_are_warm_again(lost: str) -> None:
    desk = Desk(PoolConfig("static", max_workers=2, max_jobs=0, refork_after=2))
    times = 0
    for number in range(200):
        desk.fork()
        runs = [desk.submit(f"{number}-{each}") for each in range(2)]
        for run in [run for run in runs if run.state == "running"]:
            desk.result(run)
        for worker in [worker for worker in desk.engine.workers.values() if worker.state == "leaving"]:
            desk.say(ev.WorkerExited(worker.number, 0))
        orders, desk.told = kinds(desk.told, ev.MeasurePool, ev.PromoteWorker), []
        for order in orders:
            stage = desk.engine.pools["app"].refork.stage
            times += stage == lost
            for event in unperformed.instead(order, "no descriptor left") if stage == lost else [come_about(order, desk)]:
                desk.say(event)
        if times == 2:
            return
    raise AssertionError(f"it is {desk.engine.pools['app'].refork.stage} for ever, after {times} times")
