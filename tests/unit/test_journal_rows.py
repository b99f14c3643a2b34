"""Rows of the journal that cannot be read, and what a version adds to the layout: real SQLite files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest

from rocksyd.journal.search import Filter
from rocksyd.journal.store import Journal
from rocksyd.journal.tables import RESTARTS, TABLES, Table, encode
from rocksyd.model import ENDED, Run
from tests.unit.runs import run_of

DEEP = "[" * 5000 + "]" * 5000
BAD: dict[str, object] = {
    "no JSON": "not JSON", "half of it": '{"key": "bad"', "bytes": b'{"key": "bad"}', "no text": b"\xff\xfe", "no object": "[1]",
    "null": "null", "a number": "5", "no key": "{}", "another key": '{"key": "other"}', "a key that is none": '{"key": {}}',
    "deep": '{"key": "bad", "params": ' + DEEP + "}", "deeper": "[" * 100_000,
    "a state that is none": '{"key": "bad", "state": "x"}', "a state that is a number": '{"key": "bad", "state": 5}',
    "another state": '{"key": "bad", "state": "THE OTHER"}', "an error that is a number": '{"key": "bad", "error": 5}',
    "an attempt that is a text": '{"key": "bad", "attempt": "1"}', "an env of numbers": '{"key": "bad", "env": {"A": 1}}',
    "a time that is none": '{"key": "bad", "timeout": NaN}', "labels that are an array": '{"key": "bad", "labels": []}',
    "a sequence of 400 digits": '{"key": "bad", "sequence": ' + "9" * 400 + "}",
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal.sqlite")


def spoil(path: str, ended: int, data: object, **columns: object) -> None:
    """Put a bad row among the others, as a disk or a person might."""
    if isinstance(data, str):
        data = data.replace("THE OTHER", "waiting" if ended else "ended")
        if ended and '"state"' not in data:
            data = data.replace('{"key": "bad"', '{"key": "bad", "state": "ended"', 1)
    row = {"key": "bad", "rev": 5, "ended": ended, "app": "app", "target": "t", "outcome": "", "sequence": 5, "ended_at": 1.0}
    row |= columns
    names, values = (*row, "data"), (*row.values(), None if data == b"\xff\xfe" else data)
    places = "?, " * len(row) + "coalesce(?, cast(x'fffe' AS TEXT))"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"INSERT INTO runs ({', '.join(names)}) VALUES ({places})", values)
        db.commit()


@pytest.mark.parametrize("ended", [0, 1])
@pytest.mark.parametrize("what", BAD)
def test_a_row_that_cannot_be_read_is_passed_over_and_set_aside_by_who_serves(path: str, what: str, ended: int) -> None:
    told: list[str] = []
    good = [Run("k1", sequence=1, rev=1), run_of("k2", sequence=2, rev=2, state=ENDED, outcome="ok")]
    with closing(Journal(path)) as journal:
        journal.commit(good, [])
    spoil(path, ended, BAD[what])
    with closing(Journal(path, tell=told.append)) as journal:
        for _ in range(2):
            assert journal.live() == good[:1]
            assert [*filter(None, map(journal.get, chain(*journal.search(Filter()))))] == good[1:]
            assert journal.changed_since(0, 9).runs == good
            assert journal.get("bad") is None
            assert journal.refresh(good[:1]) == good[:1]
        assert (journal.set_aside(), told) == (1, []), "as long as it is another master's, nothing is written"
        journal.own()
        assert journal.set_aside() == 1
        assert len(told) == 1
        assert "row 'bad' of table runs cannot be read (" in told[0]
        assert [(run.key, run.rev) for run in journal.refresh(())] == [("k1", 1)]
        assert journal.counters() == (2, 2)
        kept = journal._db.execute("SELECT source, key, typeof(data), why, at > 1.6e9 FROM set_aside").fetchone()
        assert (kept[0], kept[1], kept[4]) == ("runs", "bad", 1)
        journal.commit([Run("bad", sequence=9)], [])
        assert journal.get("bad") == Run("bad", sequence=9)


@pytest.mark.parametrize("column", ["rev", "sequence"])
@pytest.mark.parametrize("value", ["text", b"bytes"])
@pytest.mark.parametrize("ended", [0, 1])
def test_columns_that_are_no_numbers_do_not_count(path: str, column: str, value: object, ended: int) -> None:
    with closing(Journal(path)) as journal:
        journal.commit([Run("k", sequence=3, rev=4)], [])
    spoil(path, ended, "not JSON", **{column: value})
    with closing(Journal(path)) as journal:
        revision, sequence = journal.counters()
        assert (revision if column == "rev" else sequence) == (4 if column == "rev" else 3)
        journal.own()
        assert [run.key for run in (*journal.live(), *filter(None, map(journal.get, chain(*journal.search(Filter())))))] == ["k"]


@pytest.mark.parametrize("value", ["not JSON", "5", "null", '{"generation": "x"}', '{"applications": {"a": 5}}', b"x", DEEP,
                                   '{"applications": {"a": {"jobs": {"x": {}}}}}', '{"restarts": 1e999}'])  # fmt: skip
def test_bad_rows_of_the_other_tables_are_set_aside_as_well(path: str, value: object) -> None:
    told: list[str] = []
    with closing(Journal(path, tell=told.append)) as journal:
        journal.own()
        journal.add_restart({"at": 1.0})
        journal._db.execute("INSERT INTO meta VALUES ('service', ?)", (value,))
        journal._db.execute("INSERT INTO restarts (data) VALUES (?)", ("not JSON",))
        journal._db.execute("INSERT INTO restarts (data) VALUES ('[]')")
        journal.add_restart({"at": 2.0})
        assert journal.meta("service", {}) == {}
        assert journal.restarts() == [{"at": 2.0}, {"at": 1.0}]
        assert (journal.set_aside(), len(told)) == (3, 3)
        journal.commit([], [], {("meta", "service"): {"generation": 3}})
        assert journal.meta("service") == {"generation": 3}
        assert len(journal.restarts()) == 2


def layout(path: str) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return sorted(row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"))


OLD_SCHEMA = """
CREATE TABLE runs (key TEXT PRIMARY KEY, rev INTEGER NOT NULL, ended INTEGER NOT NULL, app TEXT NOT NULL, target TEXT NOT NULL,
    outcome TEXT NOT NULL, sequence INTEGER NOT NULL, ended_at REAL NOT NULL, data TEXT NOT NULL);
CREATE INDEX runs_changed ON runs (ended, rev); CREATE INDEX runs_sequence ON runs (sequence);
CREATE INDEX runs_ended ON runs (ended_at) WHERE ended = 1; CREATE INDEX runs_target ON runs (target, sequence) WHERE ended = 1;
CREATE INDEX runs_trouble ON runs (outcome, sequence) WHERE ended = 1 AND outcome <> 'ok';
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE restarts (number INTEGER PRIMARY KEY, data TEXT NOT NULL);
PRAGMA user_version = 1;
"""


def test_p4_nothing_is_added_to_a_file_before_the_master_that_opened_it_serves(path: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript("PRAGMA journal_mode = WAL;" + OLD_SCHEMA)
    before = layout(path)
    with closing(Journal(path)) as preparing:
        assert preparing.live() == []
        assert preparing.counters() == (0, 0)
        assert layout(path) == before
        preparing.own()
        added = {
            "runs_target_at", "runs_trouble_at", "runs_trouble_target", "runs_trouble_target_at", "set_aside", "ticks",
            "ticks_latest", "starts", "costs", "flags",
        }  # fmt: skip
        assert set(layout(path)) - set(before) == added
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (1,), "the version before still understands it"
    fresh = f"{path}.fresh"
    Journal(fresh).close()
    assert layout(fresh) == layout(path)


def test_a_declared_table_column_and_index_is_all_that_an_addition_costs(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Journal(path).close()
    added = Table("bells", ("key TEXT PRIMARY KEY", "at REAL", "data TEXT"), lambda key, value: (key, value["at"], encode(value)),
                  ("bells_at ON bells (at)",))  # fmt: skip
    grown = RESTARTS._replace(columns=(*RESTARTS.columns, "author TEXT"))
    monkeypatch.setitem(TABLES, "bells", added)
    monkeypatch.setitem(TABLES, "restarts", grown)
    with closing(Journal(path)) as journal:
        journal.own()
        journal.commit([Run("k")], [], {("bells", "a"): {"at": 1.0}, ("bells", "b"): {"at": 2.0}})
        journal.commit([], ["k"], {("bells", "a"): None})
        assert journal._db.execute("SELECT * FROM bells").fetchall() == [("b", 2.0, '{"at":2.0}')]
        assert {"bells", "bells_at"} <= set(layout(path))
        assert "author" in {row[1] for row in journal._db.execute("PRAGMA table_info(restarts)")}
        journal.add_restart({"at": 1.0})
        assert journal.restarts() == [{"at": 1.0}]


def test_how_much_a_start_reads_does_not_depend_on_how_many_runs_have_ended(tmp_path: Path) -> None:
    def effort(count: int) -> int:
        """Instructions of SQLite's machine, in hundreds, from the opening of the file to the first turn."""
        path, steps = str(tmp_path / f"{count}.sqlite"), []
        Journal(path).close()
        with closing(sqlite3.connect(path)) as db:
            db.execute(
                "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO runs SELECT"
                " 'k' || i, i, 1, 'app', 'echo', 'ok', i, 1e9, json_object('key', 'k' || i, 'state', 'ended', 'rev', i) FROM n",
                (count,),
            )
            db.commit()
        with closing(Journal(path)) as journal:
            journal._db.set_progress_handler(lambda: steps.append(1), 100)
            assert journal.meta("service") is None
            assert journal.live() == []
            assert journal.counters() == (count, count)
            journal.own()
            assert journal.has_ended()
            assert len([*chain(*journal.search(Filter()))]) == 100
            assert journal.restarts() == []
        return len(steps)

    assert effort(50_000) <= effort(500) + 2
