"""Records written behind the answer: which are, and until when they may wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rocksyd.master.behind import BATCH, DELAY, Behind
from rocksyd.model import ENDED, FAILED, OK, RUNNING, Run

KEYS = st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("runs"), KEYS),
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
        journal.update({key: (run.state, run.outcome) for key, run in behind.take(now, everything=everything).items()})

    for what, key in steps:
        now += DELAY / 3
        if what == "written":
            write()
        elif what == "forgotten":
            runs.pop(key, None)
            journal.pop(key, None)
            behind.discard(key)
        else:
            run = runs.setdefault(key, Run(key, behind=True))
            run.state, run.outcome = (RUNNING, "") if what == "runs" else (ENDED, OK if what == "ends well" else FAILED)
            if run.behind:
                behind.put(run, now, all_ends=all_ends)
            else:
                journal[key] = (run.state, run.outcome)  # once it is there it is written like any other
        if behind.due(now):
            write()
    write(everything=True)
    for key, run in runs.items():
        assert journal.get(key) == (run.state, run.outcome) or (not all_ends and run.outcome == OK and key not in journal)


@given(st.lists(st.booleans(), min_size=1, max_size=2 * BATCH))
def test_nothing_waits_longer_than_its_time_and_what_has_ended_not_in_a_larger_crowd(ended: list[bool]) -> None:
    behind = Behind()
    assert behind.next_deadline() is None
    for number, over in enumerate(ended):
        state, outcome = (ENDED, OK) if over else (RUNNING, "")
        behind.put(Run(str(number), behind=True, state=state, outcome=outcome), number / 1e6, all_ends=True)
        assert behind.next_deadline() == DELAY
    assert behind.due(0.001) is (sum(ended) >= BATCH)
    assert behind.due(DELAY)
    taken = behind.take(DELAY)
    assert len(taken) >= sum(ended)
    assert "0" in taken
    behind.take(DELAY + len(ended) / 1e6)
    assert not behind
    assert behind.next_deadline() is None
