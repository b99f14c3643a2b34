"""The life of a companion, whatever happens to it: back-off, deadlines, reasons."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rocksyd.core.companions import ABSENT, CLEARED_AFTER, DELAYS, FAILED, READY, STARTING, Life


def test_it_is_started_again_at_once_then_after_1_2_and_5_seconds_at_most() -> None:
    life, delays, now = Life(30.0), [], 100.0
    life.start(now)
    for _ in range(6):
        life.ready(now)
        life.ended("it was killed by SIGKILL", now)
        assert life.deadline is not None
        delays.append(life.deadline - now)
        now = life.deadline
        assert life.due(now) == "start"
        life.start(now)
    assert delays == [0.0, 1.0, 2.0, 5.0, 5.0, 5.0]
    assert life.restarts == 6


def test_ten_seconds_of_being_ready_clear_the_back_off() -> None:
    for alive, delay in ((CLEARED_AFTER - 0.001, 1.0), (CLEARED_AFTER, 0.0)):
        life = Life(30.0)
        life.start(0.0)
        life.ended("first", 0.0)
        life.start(0.0)
        life.ready(50.0)
        life.ended("second", 50.0 + alive)
        assert life.deadline == 50.0 + alive + delay


def test_one_that_never_becomes_ready_is_given_up_and_climbs_the_back_off_however_long_it_took() -> None:
    life, now = Life(30.0), 0.0
    waited = []
    for _ in range(5):
        life.start(now)
        assert life.due(now + 29.9) == ""
        now += 30.0
        assert life.due(now) == "give up"
        life.condemn("it was not ready within 30s")
        life.ended("it was killed by SIGKILL", now)
        assert life.reason == "it was not ready within 30s"
        assert life.deadline is not None
        waited.append(life.deadline - now)
        now = life.deadline
    assert waited == [0.0, 1.0, 2.0, 5.0, 5.0]


class Lives(RuleBasedStateMachine):
    """Processes of one companion that come, become ready, are condemned and end in any order that is possible."""

    def __init__(self) -> None:
        super().__init__()
        self.life = Life(30.0)
        self.now = 1000.0
        self.process = False
        self.wanted = True

    @rule(seconds=st.floats(0.0, 60.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        before = self.life.state
        todo = self.life.due(self.now)
        if todo == "start":
            assert not self.process
            assert self.wanted
            self._start()
        elif todo:
            assert (todo, before, self.process) == ("give up", STARTING, True)
            self.life.condemn("late")

    @precondition(lambda self: not self.process and self.life.state == ABSENT)
    @rule()
    def begin(self) -> None:
        self.wanted = True
        self._start()

    def _start(self) -> None:
        self.life.start(self.now)
        self.process = True

    @precondition(lambda self: self.life.state == STARTING)
    @rule()
    def becomes_ready(self) -> None:
        self.life.ready(self.now)

    @precondition(lambda self: self.process and self.life.state != FAILED)
    @rule()
    def talks_nonsense(self) -> None:
        self.life.condemn("nonsense")

    @precondition(lambda self: self.process)
    @rule()
    def ends(self) -> None:
        self.process = False
        self.life.ended("died", self.now)
        if self.life.state != ABSENT:
            assert self.life.deadline is not None
            assert self.life.deadline - self.now in [self.now + delay - self.now for delay in DELAYS]

    @rule()
    def is_not_wanted(self) -> None:
        self.wanted = False
        self.life.retire("the daemon stops")

    @invariant()
    def says_what_is_true(self) -> None:
        life = self.life
        assert (life.state in (STARTING, READY)) <= self.process
        assert (life.state in (FAILED, ABSENT)) or not life.reason or life.state == STARTING
        if life.state == FAILED:
            assert life.reason
            assert self.process or life.deadline is not None, "nobody would ever start it again"
        if life.state == STARTING:
            assert life.deadline is not None


TestLives = Lives.TestCase
