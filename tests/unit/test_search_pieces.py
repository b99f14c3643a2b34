"""What a search in the journal costs a turn: rows that are read in a piece, counted, whatever is asked and however few fit."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from rocksyd.journal import search as module
from rocksyd.journal.search import Filter
from rocksyd.journal.store import Journal

RUNS = 6000


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    path = str(tmp_path_factory.mktemp("search") / "journal.sqlite")
    journal = Journal(path, sync="normal")
    rows = []
    for number in range(RUNS):
        outcome, labels = ("failed", {"n": "1"}) if number % 50 == 0 else ("ok", {})
        data = {"key": f"k{number}", "state": "ended", "sequence": number, "outcome": outcome, "labels": labels}
        text = json.dumps(data, separators=(",", ":"))
        rows.append((f"k{number}", number, 1, "app", f"job{number % 7}", outcome, number, 1000.0 + number, text))
    journal._db.execute("BEGIN")
    journal._db.executemany("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    journal._db.execute("COMMIT")
    yield journal
    journal.close()


ASKED: list[dict[str, Any]] = [
    dict(zip(("target", "outcome", "failed", "labels", "since", "app"), values, strict=True))
    for values in itertools.product(
        (None, "job3", "nobody"), (None, "failed", "lost"), (False, True), ((), (("n", "1"),), (("n", "2"),)), (None, 4000.0),
        (None, "another"),
    )
]  # fmt: skip


def test_no_piece_reads_more_than_its_bound_and_nothing_is_read_twice(filled: Journal) -> None:
    read: list[int] = []

    def query(text: str, values: tuple[Any, ...]) -> list[Any]:
        rows = filled._all(text, values)
        read.append(len(rows))
        return rows

    for asked in ASKED:
        total = found = 0
        for keys in module.search(query, Filter(limit=1000, **asked)):
            piece = sum(read)
            assert piece <= module._MOST, asked
            total, found = total + piece, found + len(keys)
            read.clear()
        assert total <= RUNS, asked
        assert found == min(sum(1 for number in range(RUNS) if _fits(number, asked)), 1000), asked


def _fits(number: int, asked: dict[str, Any]) -> bool:
    failed = number % 50 == 0
    return (
        asked["target"] in (None, f"job{number % 7}")
        and asked["outcome"] in (None, "failed" if failed else "ok")
        and (failed or not asked["failed"])
        and (asked["labels"] == () or (failed and asked["labels"] == (("n", "1"),)))
        and (asked["since"] is None or 1000.0 + number >= asked["since"])
        and asked["app"] in (None, "app")
    )
