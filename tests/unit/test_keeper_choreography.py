"""The keeper's decisions, without any process: the order of things, and what holds in every order of events."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rocksyd import messages
from rocksyd.keeper.choreography import Choreography
from rocksyd.keeper.effects import (
    Bury,
    CheckCode,
    Discard,
    DropBusyConnections,
    Kill,
    LoseServing,
    Promote,
    Reloading,
    Send,
    SendAdopt,
    SendPrepare,
    StartMaster,
    Stop,
)
from rocksyd.keeper.events import Begin, Died, Expired, Hindered, Hung, Said, Signal
from rocksyd.keeper.stages import Limits


def kinds(effects: list[Any]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def serving(now: float = 0.0) -> Choreography:
    keeper = Choreography()
    assert kinds(keeper.step(Begin(), now)) == ["StartMaster"]
    assert keeper.step(Said(1, messages.Hello()), now) == [SendPrepare(1, "start", "", 0)]
    assert keeper.step(Said(1, messages.Prepared()), now) == [SendAdopt(1, False)]
    assert kinds(keeper.step(Said(1, messages.Adopted()), now)) == ["Promote", "Serves"]
    return keeper


def test_a_serving_keeper_has_no_deadline() -> None:
    assert serving().deadline is None
    assert serving().quiet


def test_a_restart_step_by_step() -> None:
    keeper = serving()
    assert kinds(keeper.step(Said(1, messages.Restart(hello_timeout=3)), 100)) == ["Reloading", "StartMaster"]
    assert keeper.deadline == 103
    keeper.step(Said(2, messages.Hello(prepare_timeout=7, adopt_timeout=2)), 101)
    assert keeper.deadline == 108
    assert keeper.step(Said(2, messages.Prepared()), 102) == [Send(1, messages.Freeze())]
    assert keeper.deadline == 104
    assert keeper.step(Said(1, messages.Frozen()), 103) == [SendAdopt(2, True)]
    assert keeper.deadline == 105
    effects = keeper.step(Said(2, messages.Adopted()), 104)
    assert effects[:2] == [Promote(2), Send(1, messages.Retired())]
    assert CheckCode() in effects
    assert keeper.deadline == 114
    assert keeper.step(Expired(), 114) == [Kill(1)]
    keeper.step(Died(1, "was killed"), 115)
    assert keeper.quiet
    assert keeper.deadline is None


def test_until_the_configuration_is_read_the_time_for_hello_holds() -> None:
    keeper = serving()
    keeper.step(Said(1, messages.Restart(hello_timeout=3)), 100)
    keeper.step(Said(2, messages.Hello(more=True)), 101)
    assert keeper.deadline == 104
    keeper.step(Said(2, messages.Hello(prepare_timeout=50)), 102)
    assert keeper.deadline == 152


def test_a_serving_master_that_dies_before_the_new_one_is_prepared_is_followed_by_a_third() -> None:
    keeper = serving()
    keeper.step(Said(1, messages.Restart()), 100)
    keeper.step(Said(2, messages.Hello()), 100)
    assert kinds(keeper.step(Died(1, "died"), 101)) == ["LoseServing", "Log", "Kill"]
    assert kinds(keeper.step(Died(2, "was killed"), 101)) == ["Discard", "Log", "StartMaster"]
    assert keeper.step(Said(3, messages.Hello()), 101) == [
        SendPrepare(3, "crash", "the master died while a restart was under way", 0)
    ]


def test_what_begins_to_stop_goes_on_with_that_after_a_crash() -> None:
    keeper = serving()
    keeper.step(Said(1, messages.Status("stopping", stopping=True)), 5)
    keeper = Choreography.load(keeper.dump())
    keeper.step(Died(1, "died"), 100)
    assert keeper.step(Said(2, messages.Hello()), 100) == [SendPrepare(2, "crash", "the master died", 0, True)]


def test_an_old_master_that_died_is_not_waited_for() -> None:
    keeper = serving()
    keeper.step(Said(1, messages.Restart()), 100)
    keeper.step(Said(2, messages.Hello(adopt_timeout=2)), 100)
    keeper.step(Said(2, messages.Prepared()), 100)
    assert keeper.step(Expired(), 102)[1:] == [Kill(1)]
    assert keeper.step(Expired(), 107) == [Bury(1)]
    assert kinds(keeper.step(Died(1, "does not die"), 107)) == ["LoseServing", "SendAdopt"]


def test_the_ladder() -> None:
    """At once; 0.25 s doubling to 5; without busy connections from the fourth young death on; the end after the eighth."""
    keeper = serving()
    now, master, delays = 0.0, 1, []
    effects = keeper.step(Died(master, "died"), now)
    while not any(isinstance(effect, Stop) for effect in effects):
        if StartMaster(master + 1) not in effects:
            assert keeper.deadline is not None
            delays.append(keeper.deadline - now)
            now = keeper.deadline
            effects = keeper.step(Expired(), now)
        else:
            delays.append(0.0)
        assert (DropBusyConnections() in effects) == (len(delays) >= 4)
        master += 1
        assert effects[-1] == StartMaster(master)
        effects = keeper.step(Died(master, "died"), now)
    assert delays == [0, 0.25, 0.5, 1, 2, 4, 5]
    assert effects[-1].status == 70
    assert "died" in effects[-1].reason


def test_a_master_that_served_long_begins_a_new_ladder() -> None:
    keeper = serving()
    for turn in range(1, 30):
        now = turn * 1000.0
        assert StartMaster(turn + 1) in keeper.step(Died(turn, "died"), now)
        keeper.step(Said(turn + 1, messages.Hello()), now)
        keeper.step(Said(turn + 1, messages.Prepared()), now)
        keeper.step(Said(turn + 1, messages.Adopted()), now)
    assert keeper.ladder.young == 0


def test_insisting_is_granted_if_the_master_does_not() -> None:
    keeper = serving()
    assert keeper.step(Signal(15), 5) == [Send(1, messages.Signalled(15))]
    assert keeper.deadline is None
    keeper.step(Signal(15), 6)
    assert keeper.deadline == 6 + Limits().insist
    assert kinds(keeper.step(Expired(), 16)) == ["Stop"]


def test_a_third_order_is_obeyed_at_once() -> None:
    keeper = serving()
    keeper.step(Signal(15), 5)
    keeper.step(Signal(2), 5)
    effects = keeper.step(Signal(2), 5)
    assert isinstance(effects[0], Stop)
    assert effects[0].now


WORDS = [
    messages.Hello(), messages.Prepared(), messages.PrepareFailed("no"), messages.Restart(), messages.Frozen(),
    messages.Adopted(), messages.Refused("no"), messages.Hello(more=True), messages.Status("stopping", stopping=True),
]  # fmt: skip
EVENTS = st.one_of(
    st.tuples(st.just("said"), st.integers(-2, 0), st.sampled_from(WORDS)),
    # What a well-behaved pair would say next, so that the far stages are reached often.
    st.tuples(st.just("next"), st.just(0), st.none()),
    st.tuples(st.just("died"), st.integers(-2, 0), st.none()),
    st.tuples(st.just("hung"), st.integers(-2, 0), st.none()),
    st.tuples(st.just("time"), st.integers(0, 40), st.none()),
    st.tuples(st.just("hindered"), st.just(0), st.none()),
    st.tuples(st.just("signal"), st.sampled_from([1, 10, 12]), st.none()),
)


class Watcher:
    """Carries effects out on paper and objects to what must not be."""

    def __init__(self) -> None:
        self.keeper = Choreography()
        self.now = 0.0
        self.masters: list[int] = []
        self.dead: set[int] = set()
        self.silenced: set[int] = set()
        self.frozen: set[int] = set()
        self.asked = 0
        self.answered = 0
        self.signals: list[int] = []
        self.told: list[int] = []

    def feed(self, event: Any) -> None:
        for effect in self.keeper.step(event, self.now):
            self.carry_out(effect)
        held = self.keeper.held
        if self.keeper.stage != "ended":
            assert sorted(self.told + held) == sorted(self.signals)
            if self.keeper.stage != "idle" or self.keeper.leaving:
                assert self.keeper.deadline is not None
        if self.keeper.stage == "idle":
            assert self.answered == self.asked
            assert not self.keeper.frozen

    def carry_out(self, effect: Any) -> None:
        if isinstance(effect, StartMaster):
            assert effect.master not in self.masters
            self.masters.append(effect.master)
        if isinstance(effect, Reloading):
            self.asked += 1
        if isinstance(effect, LoseServing):
            if self.answered < self.asked:
                self.answered += 1  # nobody is left to be answered
            self.frozen.discard(effect.master)
        if isinstance(effect, Discard | Promote):
            assert effect.master == self.masters[-1]
        if isinstance(effect, Send):
            self.check_send(effect)

    def check_send(self, effect: Send) -> None:
        assert effect.master not in self.silenced, "a retired master was spoken to"
        message = effect.message
        if effect.master in self.frozen:
            assert isinstance(message, messages.Thaw | messages.Retired)
            self.frozen.discard(effect.master)
            self.answered += isinstance(message, messages.Thaw)
        if isinstance(message, messages.Freeze):
            self.frozen.add(effect.master)
        if isinstance(message, messages.RestartFailed):
            self.answered += 1
        if isinstance(message, messages.Retired):
            self.silenced.add(effect.master)
            if self.answered < self.asked:
                self.answered += 1
        if isinstance(message, messages.Signalled):
            self.told.append(message.number)

    def next_word(self) -> Said | None:
        keeper = self.keeper
        word = {
            "started": messages.Hello(),
            "reading": messages.Hello(),
            "preparing": messages.Prepared(),
            "adopting": messages.Adopted(),
        }.get(keeper.stage)
        if word is not None:
            return Said(keeper.candidate, word)
        if keeper.stage in ("freezing", "unfreezing"):
            return Said(keeper.serving, messages.Frozen())
        return Said(keeper.serving, messages.Restart()) if keeper.stage == "idle" and keeper.serving else None


@given(st.lists(EVENTS, max_size=60))
def test_whatever_happens(events: list[Any]) -> None:
    """One answer to each RESTART; nothing is said to a frozen master but THAW or RETIRED, and nothing at all to a retired one;
    no signal is lost or told twice; whoever waits has a deadline."""
    watcher = Watcher()
    watcher.feed(Begin())
    for kind, number, word in events:
        if kind == "time":
            watcher.now += number
            watcher.feed(Expired())
        elif kind == "signal":
            if watcher.keeper.stage != "ended":
                watcher.signals.append(number)
            watcher.feed(Signal(number))
        elif kind == "hindered":
            watcher.feed(Hindered("no room"))
        elif kind == "next":
            event = watcher.next_word()
            if event is not None:
                watcher.feed(event)
        else:
            tell(watcher, kind, number, word)


def tell(watcher: Watcher, kind: str, back: int, word: Any) -> None:
    if len(watcher.masters) + back < 1:
        return
    master = watcher.masters[back - 1]
    if master in watcher.dead:
        return
    if kind == "said":
        watcher.feed(Said(master, word))
    elif kind == "hung":
        watcher.feed(Hung(master))
    else:
        watcher.dead.add(master)
        watcher.feed(Died(master, "died"))


@given(st.integers(0, 100), st.floats(0, 1e9), st.lists(st.integers(1, 64)))
def test_a_dumped_choreography_goes_on_where_it_was(crashes: int, since: float, held: list[int]) -> None:
    keeper = serving()
    keeper.served_since, keeper.told, keeper.ladder.young = since, held, crashes
    assert Choreography.load(keeper.dump()).dump() == keeper.dump()
    assert Choreography.load({**keeper.dump(), "unknown": 1}).dump() == keeper.dump()
    assert Choreography.load(keeper.dump()).quiet
