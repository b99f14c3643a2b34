"""What the search in the journal finds is what somebody finds who looks at every run."""

from __future__ import annotations

import tempfile
from itertools import chain
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rocksyd.journal.search import Filter
from rocksyd.journal.store import Journal
from rocksyd.model import ENDED, OK, OUTCOMES, Attempt, Order, Run

_APPS, _NAMES, _LABELS = ("a", "b"), ("one", "m:one", 'quo"te'), ({}, {"tenant": "4"}, {"tenant": "5", 'a"b.c': "ü"})
_RUNS = st.lists(
    st.tuples(
        st.sampled_from(_APPS), st.sampled_from(_NAMES), st.sampled_from(OUTCOMES), st.integers(0, 5), st.sampled_from(_LABELS),
        st.booleans(),
    ),
    max_size=60,
)  # fmt: skip
_FILTERS = st.builds(
    Filter,
    app=st.sampled_from((None, *_APPS)), target=st.sampled_from((None, *_NAMES)), names=st.sampled_from(((), ("one",))),
    outcome=st.sampled_from((None, *OUTCOMES, "nonsense")), failed=st.booleans(), limit=st.integers(1, 70), after=st.just(()),
    labels=st.sampled_from([(), *(tuple(one.items()) for one in _LABELS)]),
    since=st.none() | st.integers(0, 6).map(float), until=st.none() | st.integers(0, 6).map(float),
)  # fmt: skip


def _run(number: int, row: tuple[Any, ...]) -> Run:
    app, name, outcome, at, labels, ended = row
    order = Order(app=app, name=name, target=name, labels=labels, params={"labels": {"tenant": "4"}})
    attempt = Attempt(outcome=outcome if ended else "", ended_at=float(at) if ended else 0.0)
    return Run(f"k{number}", order, attempt, state=ENDED if ended else "waiting", sequence=number, rev=number)


def _fits(run: Run, wanted: Filter) -> bool:
    end = run.attempt.ended_at
    return (
        run.state == ENDED
        and wanted.app in (None, run.order.app)
        and (wanted.target is None or run.order.name in (wanted.target, *wanted.names))
        and wanted.outcome in (None, run.attempt.outcome)
        and not (wanted.failed and run.attempt.outcome == OK)
        and all(run.order.labels.get(name) == value for name, value in wanted.labels)
        and (wanted.since is None or end >= wanted.since)
        and (wanted.until is None or end <= wanted.until)
    )


@given(_RUNS, _FILTERS)
def test_the_search_finds_what_fits_in_order_and_page_by_page(rows: list[tuple[Any, ...]], wanted: Filter) -> None:
    runs = [_run(number, row) for number, row in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(str(Path(folder) / "j"), sync="off")
        try:
            journal.commit(runs, ())

            def place(run: Run) -> tuple[float, ...]:
                return (run.attempt.ended_at, run.sequence) if wanted.timed else (run.sequence,)

            expected = [run.key for run in sorted(runs, key=place, reverse=True) if _fits(run, wanted)]
            found = [*chain(*journal.search(wanted))]
            assert found == expected[: wanted.limit]
            by_key = {run.key: run for run in runs}
            pages, after = [], ()
            while page := [*chain(*journal.search(wanted._replace(limit=2, after=after)))]:
                pages += page
                after = place(by_key[page[-1]])
            assert pages == expected
        finally:
            journal.close()


def test_a_search_looks_at_a_bounded_number_of_rows_before_somebody_else_may_have_a_turn() -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(str(Path(folder) / "j"), sync="off")
        try:
            journal.commit([_run(number, ("a", "one", "ok", 1, {}, True)) for number in range(20_000)], ())
            asked: list[int] = []
            journal._db.set_trace_callback(lambda query: asked.append(int(query.rpartition("LIMIT ")[2])))
            assert [*chain(*journal.search(Filter(app="nobody")))] == []
            assert len(asked) > 4
            assert max(asked) <= 4096
        finally:
            journal.close()
