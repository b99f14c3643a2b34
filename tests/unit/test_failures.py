"""What failed, each failure once: groups made of what is remembered are those that are made of the records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.client import failures
from rocksyd.companions import history_failures
from rocksyd.companions.history_failures import Failures
from rocksyd.journal import rows
from rocksyd.journal.beside import Beside
from rocksyd.journal.search import Filter
from rocksyd.journal.store import Journal
from rocksyd.model import ENDED, Run
from tests.unit.runs import run_of

WANTED = Filter(failed=True, since=0.0, limit=10_000)
KINDS = 3


def failed(number: int, kind: int = 0, **fields: Any) -> Run:
    traceback = f'Traceback:\n  File "jobs.py", line {number}, in f{kind}\nValueError: {number}' if kind else ""
    error = {"type": "ValueError", "message": f"no {number}", "traceback": traceback}
    given = {"ended_at": 1e9 + number, "sequence": number, "rev": number, "error": error, **fields}
    return run_of(f"e{number}", name="t", state=ENDED, outcome="failed", **given)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(str(tmp_path / "j"), sync="normal")) as journal:
        journal.own()
        yield journal


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the runs that are read and taken apart."""
    found: list[str] = []
    run_of = rows.run_of

    def counted(key: Any, ended: Any, data: Any) -> Run:
        found.append(key)
        return run_of(key, ended, data)

    monkeypatch.setattr(rows, "run_of", counted)
    return found


def asked(journal: Journal, known: Failures, wanted: Filter = WANTED) -> list[dict[str, Any]]:
    with closing(Beside(journal.path)) as beside:
        groups, number = known.groups(beside, wanted)
        assert number == sum(group.count for group in groups)
        return [failures.plain(known.told(beside, group)) for group in groups]


def test_each_failure_is_read_once_and_then_only_what_a_group_tells(journal: Journal, read: list[str]) -> None:
    runs = [failed(number, number % KINDS) for number in range(1, 301)]
    journal.commit(runs, [])
    known = Failures()
    first = asked(journal, known)
    assert set(read) == {run.key for run in runs}
    assert first == [failures.plain(group) for group in failures.grouped(run.record() for run in reversed(runs))]
    read.clear()
    assert asked(journal, known) == first
    assert len(read) == KINDS, "the last one of each group"
    read.clear()
    known.take([new := failed(301, 1)])
    journal.commit([new], [])
    assert [group["count"] for group in asked(journal, known)] == [101, 100, 100]
    assert len(read) == KINDS, "what has been taken in as it ended is not read again"


def test_what_was_tried_again_or_forgotten_counts_as_it_is_now(journal: Journal, read: list[str]) -> None:
    runs = [failed(number, 1) for number in range(1, 4)]
    journal.commit(runs, [])
    known = Failures()
    asked(journal, known)
    again = failed(1, 2, rev=10, ended_at=2e9)
    well = run_of("e2", name="t", state=ENDED, outcome="ok", ended_at=2e9, sequence=2, rev=11)
    journal.commit([again, well], ["e3"])
    read.clear()
    (group,) = asked(journal, known)
    assert (group["count"], group["key"], "in f2" in group["traceback"]) == (1, "e1", True)
    assert set(read) == {"e1"}


def test_only_so_many_are_remembered(journal: Journal, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_failures, "REMEMBERED", 10)
    journal.commit([failed(number) for number in range(1, 31)], [])
    known = Failures()
    assert asked(journal, known) == asked(journal, known)
    assert len(known._known) == 10


RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from("abcdefgh"),
            "ended_at": st.sampled_from([None, 1.0, 2.0, 3.0]),
            "target": st.sampled_from(["t", "u"]),
            "outcome": st.sampled_from(["failed", "timeout"]),
            "revision": st.sampled_from([None, "r1", "r2"]),
            "error": st.none()
            | st.fixed_dictionaries(
                {
                    "type": st.sampled_from(["", "KeyError"]),
                    "message": st.sampled_from(["no 1", "no 2"]),
                    "traceback": st.sampled_from(["", "plain", 'x\n  File "a.py", line 3, in f\n']),
                }
            ),
        }
    ),
    unique_by=lambda record: record["key"],
)


@given(RECORDS)
def test_a_group_tells_what_its_last_failure_does(records: list[dict[str, Any]]) -> None:
    for group in failures.grouped(records):
        own = [record for record in records if failures.fingerprint(record) == group.fingerprint]
        assert group.count == len(own) == sum(group.targets.values()) == sum(group.outcomes.values())
        times = [record["ended_at"] or 0.0 for record in own]
        assert (group.first, group.last) == (min(times), max(times))
        assert group.key == [record["key"] for record in own if (record["ended_at"] or 0.0) == group.last][-1]
        if group.traceback:
            assert group.traceback in {record["error"]["traceback"] for record in own if record["error"]}
