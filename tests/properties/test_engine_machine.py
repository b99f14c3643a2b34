"""The engine in a world that hypothesis drives: hand-over and crash at any step, and nothing is lost, doubled or forgotten."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rocksyd.config import Config, PoolConfig
from rocksyd.core import events as ev
from rocksyd.core.engine import Engine
from rocksyd.model import ENDED
from tests.properties.engine_world import World
from tests.unit.engine_actors import JOBS, LEAVES, config
from tests.unit.engine_check import check

POOLS = {
    "fresh": PoolConfig("ondemand", max_workers=2, max_jobs=1, timeout=20.0, grace=2.0, max_queue=4, idle_timeout=5.0),
    "spare": PoolConfig("dynamic", 3, 2, min_spare=1, max_spare=2, max_jobs=3, max_jobs_jitter=2, max_queue=3),
    "fixed": PoolConfig("static", max_workers=2, max_jobs=0, queue_timeout=30.0),
    "tight": PoolConfig("ondemand", max_workers=3, max_jobs=5, slow_after=1.0, max_rss=120, max_rss_hard=200, max_total_rss=250),
    "kept": PoolConfig("ondemand", max_workers=3, max_jobs=2, idle_timeout=1.0, spawn_rate=1),
    "forked anew": PoolConfig("static", max_workers=2, max_jobs=0, refork_after=1),
    "shared": PoolConfig("ondemand", max_workers=2, max_jobs=4, concurrency=3, timeout=20.0, max_rss=120, idle_timeout=5.0),
    "shared spares": PoolConfig("dynamic", 2, 1, min_spare=1, max_spare=1, max_jobs=0, concurrency=2, max_rss_hard=200),
    "aging": PoolConfig("static", max_workers=2, max_jobs=3, max_age=4.0, max_age_jitter=2.0, recycle=2, park_after=2),
}
kinds = st.sampled_from(sorted(POOLS))
configs = st.one_of(
    st.builds(lambda a, b: config(app=POOLS[a], other=POOLS[b]), kinds, kinds),
    st.builds(lambda a: config(app=POOLS[a]), kinds),
    st.builds(lambda a, b: config(**{"app": POOLS[a], "app/side": POOLS[b]}), kinds, kinds),
)
keys = st.sampled_from(["k1", "k2", "k3", "k4", "k5", "k6"])
options = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.integers(-1, 1),
        "delay": st.sampled_from([0, 3]),
        "start_within": st.sampled_from([0, 4]),
        "timeout": st.sampled_from([0, 6]),
        "retries": st.integers(0, 2),
        "after": st.lists(keys, max_size=2),
        "after_outcome": st.sampled_from(["ok", "any"]),
    },
)
picks = st.integers(0, 7)


class EngineMachine(RuleBasedStateMachine):
    """Callers, zygotes, workers, time, restarts and crashes in any order."""

    @initialize(settings=configs)
    def begin(self, settings: Config) -> None:
        self.world = World(settings)
        for app in settings.apps:
            self.world.start_zygote(app)

    def order(self, event: Any) -> None:
        self.world.order(event)

    # --- callers ------------------------------------------------------------------------------------------------------
    @rule(key=keys, name=st.sampled_from(sorted(JOBS)), params=st.integers(0, 1), options=options)
    def submit(self, key: str, name: str, params: int, options: dict[str, Any]) -> None:
        self.look_up(key)
        before = {app: len(queue) for app, queue in self.world.engine.queues.items()}
        self.order(ev.Submit(key, name, [params], "app", options))
        for app, queue in self.world.engine.queues.items():
            assert len(queue) <= max(before[app], self.world.engine.pools[app].policy.max_queue)

    @rule(key=keys, name=st.sampled_from(sorted(JOBS)), options=options)
    def submit_and_meet_a_fault(self, key: str, name: str, options: dict[str, Any]) -> None:
        self.look_up(key)
        self.world.order_in_vain(ev.Submit(key, name, [0], "app", options))

    @rule(key=keys)
    def retry_and_meet_a_fault(self, key: str) -> None:
        self.look_up(key)
        self.world.order_in_vain(ev.Retry(key))

    @rule(key=keys)
    def submit_elsewhere(self, key: str) -> None:
        self.look_up(key)
        self.order(ev.Submit(key, "free", None, "other"))

    @rule(key=keys, signal=st.sampled_from([15, 15, 10]))
    def terminate(self, key: str, signal: int) -> None:
        self.look_up(key)
        self.order(ev.Terminate(key, signal))

    @rule(key=keys, kind=st.sampled_from([ev.Free, ev.Retry]))
    def free_or_retry(self, key: str, kind: Any) -> None:
        self.look_up(key)
        self.order(kind(key))

    @rule(
        key=keys,
        changes=st.fixed_dictionaries(
            {}, optional={"params": st.just([7]), "priority": st.integers(-1, 1), "delay": st.sampled_from([0, 1.5, 30])}
        ),
    )
    def edit(self, key: str, changes: dict[str, Any]) -> None:
        self.look_up(key)
        self.order(ev.Edit(key, changes))

    def look_up(self, key: str) -> None:
        """What is not in memory is brought back from the journal."""
        known = self.world.engine.find(key) is not None
        run = self.world.turn.lookup(key)
        assert known or run is None or run.state == ENDED, "the engine knows every run that has not ended"

    # --- the master ---------------------------------------------------------------------------------------------------
    @rule()
    def end_turn(self) -> None:
        self.world.finish_turn()

    @rule(after=st.integers(0, 4))
    def end_turn_with_a_fault(self, after: int) -> None:
        self.world.finish_turn_with_a_fault(after)

    @precondition(lambda self: self.world.channels())
    @rule(pick=picks)
    def hear(self, pick: int) -> None:
        channels = self.world.channels()
        self.world.hear(channels[pick % len(channels)])

    @precondition(lambda self: self.world.orphans)
    @rule()
    def hear_of_orphans(self) -> None:
        self.world.hear_orphans()

    @rule(seconds=st.sampled_from([0.01, 0.5, 2.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule()
    def next_moment(self) -> None:
        due = self.world.engine.next_deadline()
        if due is not None:
            self.world.wait_until(due)

    @rule(stop=st.sampled_from([None, False, False, True]))
    def drain(self, stop: bool | None) -> None:
        self.world.step(ev.Undrain() if stop is None else ev.Drain(stop))

    @rule(settings=configs)
    def configure(self, settings: Config) -> None:
        self.world.config = settings
        self.world.step(ev.Configure(settings))
        for app in settings.apps:
            self.world.start_zygote(app)

    @rule(settings=st.one_of(st.none(), configs))
    def hand_over(self, settings: Config | None) -> None:
        self.world.hand_over(settings or self.world.config)
        if settings is not None:
            for app in settings.apps:
                self.world.start_zygote(app)

    @rule(committed=st.booleans(), performed=st.integers(0, 10))
    def crash(self, committed: bool, performed: int) -> None:
        self.world.crash(committed, performed)

    # --- zygotes and workers ------------------------------------------------------------------------------------------
    @precondition(lambda self: any(z.inbox and z.alive for z in self.world.zygotes))
    @rule(pick=picks, refuses=st.sampled_from([False, False, False, True]))
    def zygote_reads(self, pick: int, refuses: bool) -> None:
        ready = [zygote for zygote in self.world.zygotes if zygote.inbox and zygote.alive]
        self.world.zygote_reads(ready[pick % len(ready)], refuses)

    @precondition(lambda self: any(z.alive for z in self.world.zygotes))
    @rule(pick=picks)
    def zygote_dies(self, pick: int) -> None:
        alive = [zygote for zygote in self.world.zygotes if zygote.alive]
        self.world.zygote_dies(alive[pick % len(alive)])

    @rule(app=st.sampled_from(["app", "other"]))
    def new_zygote(self, app: str) -> None:
        self.world.start_zygote(app)

    @precondition(lambda self: any(map(self.world.can_act, self.world.processes.values())))
    @rule(pick=picks, retcode=st.sampled_from([0, 0, 1, LEAVES]), dies=st.sampled_from([0, 0, 0, 9, 15]))
    def worker_acts(self, pick: int, retcode: int, dies: int) -> None:
        able = [process for process in self.world.processes.values() if self.world.can_act(process)]
        process = able[pick % len(able)]
        if dies:
            self.world.die(process, dies)
        else:
            self.world.act(process, retcode, pick)

    @rule()
    def all_is_well_for_a_while(self) -> None:
        """Or the machine would spend its steps on messages."""
        for _ in range(6):
            self.world.go_on()

    # --- what holds ---------------------------------------------------------------------------------------------------
    @invariant()
    def all_adds_up(self) -> None:
        if not hasattr(self, "world"):
            return
        check(self.world.engine, self.world.now)
        for key, sequence in self.world.accepted.items():
            run = self.world.engine.find(key)
            assert key in self.world.records.rows or (run is not None and run.sequence >= sequence), (
                f"{key} was accepted and is lost"
            )

    def teardown(self) -> None:
        """In a fair world every run that was accepted ends, once."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.finish_turn()
        if world.engine.draining:  # whoever ordered it to stop starts it again
            world.hand_over(world.config)
            world.engine.draining = world.engine.stopping = False
            for app in world.config.apps:
                world.start_zygote(app)
        world.be_fair()
        assert not world.engine.runs
        assert not world.records.live()
        assert all(count == 1 for count in world.endings.values()), "an end is told once"
        assert all(count == 1 for count in world.answers.values())
        for key in world.accepted:
            assert key in world.records.rows


TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(stateful_step_count=50, max_examples=4 * settings.default.max_examples)


def test_an_engine_can_be_made_from_its_own_snapshot() -> None:
    world = World(config(app=POOLS["spare"]))
    world.start_zygote("app")
    world.be_fair()
    snapshot = world.engine.snapshot()
    other = Engine(world.config)
    assert other.restore(world.records.live(), snapshot, world.now) == []
    assert other.snapshot() == snapshot
