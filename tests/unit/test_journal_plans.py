"""Every filter of ``list`` walks along an index: with five million runs no query looks at all of them, and none sorts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from rocksyd.companions.history_failures import Failures
from rocksyd.journal import ageing
from rocksyd.journal.beside import Beside
from rocksyd.journal.search import Filter, search
from rocksyd.journal.store import Journal, latest
from rocksyd.model import ENDED
from tests.unit.runs import run_of

CHOICES: dict[str, tuple[Any, ...]] = {
    "app": (None, "app"), "target": (None, "t"), "outcome": (None, "ok", "failed"), "failed": (False, True),
    "labels": ((), (("a", "b"),)), "since": (None, 1.0), "until": (None, 9.0),
}  # fmt: skip


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(str(tmp_path / "j"), sync="normal")) as journal:
        journal.own()
        journal.commit([run_of(f"k{n}", name="t", state=ENDED, outcome="ok", ended_at=1.0, sequence=n) for n in range(3)], [])
        yield journal


def planned(journal: Journal, query: str, values: tuple[Any, ...]) -> None:
    """Look at the plan of a query: an index for each table, nothing read as a whole, nothing sorted as a whole."""
    for *_, step in journal.query(f"EXPLAIN QUERY PLAN {query}", values):
        if "label" in step or "SUBQUERY" in step:  # the labels of one row
            continue
        if re.fullmatch(r"USE TEMP B-TREE FOR (RIGHT PART|LAST TERM) OF ORDER BY", step):
            continue  # those that ended in the same instant are sorted
        assert re.fullmatch(r"SEARCH \w+ USING (COVERING )?INDEX \w+ \(.*\)|SEARCH \w+ USING INTEGER PRIMARY KEY .*", step), step


@pytest.mark.parametrize("after", [False, True])
def test_a_list_with_any_filter_walks_along_an_index(journal: Journal, after: bool) -> None:
    seen = set()

    def query(text: str, values: tuple[Any, ...]) -> list[Any]:
        seen.add(text)
        planned(journal, text, values)
        return journal.query(text, values)

    for chosen in product(*CHOICES.values()):
        wanted = Filter(**dict(zip(CHOICES, chosen, strict=True)))
        if after:
            wanted = wanted._replace(after=(5.0, 5) if wanted.timed else (5,))
        for _ in search(query, wanted):
            pass
    assert len(seen) > 40


def test_what_every_start_and_every_turn_asks_for_is_found_by_an_index(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, tuple[Any, ...]]] = []
    whole = journal._all

    def all_of(query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        asked.append((query, values))
        return whole(query, values)

    monkeypatch.setattr(journal, "_all", all_of)
    monkeypatch.setattr(journal, "_one", lambda query, values: (all_of(query, values) or [None])[0])
    monkeypatch.setattr(journal, "_each", lambda query: iter(all_of(query)))
    journal.counters()
    journal.live()
    journal.refresh([])
    journal.changed_since(5, 10)
    latest(journal, 10)
    journal.get("k1")
    journal.has_ended()
    journal.tick("key", "script")
    journal.restarts()
    journal.meta("service")
    journal.forget(0.5, 0)
    ageing.next_target(journal, "")
    ageing.aged(journal, "t", ageing.START, 5.0, 10)
    monkeypatch.undo()
    assert len(asked) > 12
    for query, values in asked:
        if "restarts" not in query:  # which has a thousand rows at most, the latest of which are wanted
            planned(journal, query, values)


def test_what_is_remembered_of_failures_is_held_against_the_journal_by_an_index(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Beside(journal.path)) as beside:
        asked: list[tuple[str, tuple[Any, ...]]] = []
        whole = beside._all

        def all_of(query: str, values: tuple[Any, ...] = ()) -> list[Any]:
            asked.append((query, values))
            return whole(query, values)

        monkeypatch.setattr(beside, "_all", all_of)
        assert beside.revisions([f"k{n}" for n in range(1200)]) == dict.fromkeys(("k0", "k1", "k2"), 0)
        Failures().groups(beside, Filter(failed=True, since=0.0, limit=10_000))
    assert len(asked) > 3
    for query, values in asked:
        planned(journal, query, values)
