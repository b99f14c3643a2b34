"""Records written behind the answer: which are, and until when they may wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rocksyd.master.records.behind import BATCH, DELAY, Behind
from rocksyd.model import ENDED, FAILED, OK, RUNNING, WAITING, Run
from tests.unit.runs import run_of

KEYS = st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["waits", "runs"]), KEYS),
        st.tuples(st.sampled_from(["ends well", "fails"]), KEYS),
        st.tuples(st.just("written"), st.just("")),
        st.tuples(st.just("forgotten"), KEYS),
    ),
    max_size=30,
)


@given(STEPS, st.booleans())
def test_the_journal_never_holds_a_run_as_running_that_has_ended(steps: list[tuple[str, str]], all_ends: bool) -> None:
    behind = Behind()
    now = 0.0
    runs: dict[str, Run] = {}
    journal: dict[str, tuple[str, str]] = {}

    def write(*, everything: bool = False) -> None:
        journal.update({key: (run.state, run.attempt.outcome) for key, run in behind.take(now, everything=everything).items()})

    for what, key in steps:
        now += DELAY / 3
        if what == "written":
            write()
        elif what == "forgotten":
            runs.pop(key, None)
            journal.pop(key, None)
            behind.discard(key)
        else:
            run = runs.setdefault(key, run_of(key, behind=True))
            run.state, run.attempt.outcome = {
                "waits": (WAITING, ""), "runs": (RUNNING, ""), "ends well": (ENDED, OK), "fails": (ENDED, FAILED),
            }[what]  # fmt: skip
            behind.put(run, now, all_ends=all_ends)
        if behind.due(now):
            write()
        assert all(journal[key] == (run.state, run.attempt.outcome) for key, run in runs.items() if key in journal and not behind)
    write(everything=True)
    assert not behind
    for key, run in runs.items():
        assert journal.get(key) == (run.state, run.attempt.outcome) or (
            not all_ends and run.attempt.outcome == OK and key not in journal
        )


@given(st.lists(st.integers(0, 1000), max_size=50))
def test_a_call_that_only_waits_is_not_written_however_long_it_waits(numbers: list[int]) -> None:
    behind = Behind()
    for number in numbers:
        behind.put(run_of(str(number), behind=True), 0.0, all_ends=True)
    assert behind.next_deadline() is None
    assert not behind.due(1e9)
    assert behind.take(1e9) == {}
    assert behind.take(1e9, everything=True).keys() == set(map(str, numbers))
    assert not behind


@given(st.lists(st.floats(0, 10 * DELAY), min_size=1, max_size=200))
def test_runs_that_begin_one_after_another_are_written_together_and_none_later_than_promised(begin: list[float]) -> None:
    behind, writes, end = Behind(), 0, 10 * DELAY
    begun: dict[str, float] = {}
    for number, now in enumerate(sorted(begin)):
        while (at := behind.next_deadline()) is not None and at <= now:
            for key in behind.take(at):
                assert at - begun.pop(key) <= DELAY + 1e-9
            writes += 1
        begun[str(number)] = now
        behind.put(run_of(str(number), behind=True, state=RUNNING), now, all_ends=True)
    assert writes <= 2 * end / DELAY + 1


@given(st.lists(st.booleans(), min_size=1, max_size=2 * BATCH))
def test_nothing_waits_longer_than_its_time_and_what_has_ended_not_in_a_larger_crowd(ended: list[bool]) -> None:
    behind = Behind()
    assert behind.next_deadline() is None
    for number, over in enumerate(ended):
        state, outcome = (ENDED, OK) if over else (RUNNING, "")
        behind.put(run_of(str(number), behind=True, state=state, outcome=outcome), number / 1e6, all_ends=True)
        assert behind.next_deadline() == DELAY
    assert behind.due(0.001) is (sum(ended) >= BATCH)
    assert behind.due(DELAY)
    taken = behind.take(DELAY)
    assert len(taken) >= sum(ended)
    assert "0" in taken
    assert not behind
    assert behind.next_deadline() is None
