"""The journal: real SQLite files, what is written is what is read, whatever happens in between."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.errors import JournalError
from rocksyd.journal.search import Filter
from rocksyd.journal.store import RESTARTS_KEPT, Journal, exists, latest
from rocksyd.journal.tables import OLDEST_READER
from rocksyd.model import ENDED, RUNNING, WAITING, Run
from tests.unit.runs import run_of

texts = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
strings = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2)
floats = st.floats(0, 1e12)
numbers = st.integers(0, 2**40)
runs = st.builds(
    run_of, key=texts, app=texts, pool=texts, name=texts, target=texts, params=json_values,
    state=st.sampled_from([WAITING, RUNNING]), retcode=st.none() | st.integers(0, 255), signal=st.integers(0, 64),
    result=json_values, error=st.none() | st.fixed_dictionaries(dict.fromkeys(("type", "message", "traceback"), texts)),
    progress=st.none() | strings, attempt=numbers, worker=numbers, submitted_at=floats, priority=st.integers(-9, 9),
    sequence=numbers, timeout=floats, env=strings, labels=strings, deadline=floats, kill_reason=st.sampled_from(["", "timeout"]),
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "a journal #1?%.sqlite")


@pytest.fixture
def journal(path: str) -> Iterator[Journal]:
    with closing(Journal(path, sync="normal")) as journal:
        yield journal


def ended(key: str, at: float, **fields: object) -> Run:
    return run_of(key, state=ENDED, outcome=str(fields.pop("outcome", "ok")), ended_at=at, **fields)  # type: ignore[arg-type]


def test_what_is_written_is_what_is_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(tmp_path_factory.mktemp("journal") / "j")
    with closing(Journal(path, sync="normal")) as journal:

        @given(st.lists(runs, max_size=5, unique_by=lambda run: run.key), st.integers(0, 5))
        def check(written: list[Run], known: int) -> None:
            journal.commit(written, [run.key for run in journal.live()])
            by_arrival = sorted(written, key=lambda run: run.sequence)
            assert sorted(journal.live(), key=lambda run: (run.sequence, run.key)) == sorted(
                written, key=lambda run: (run.sequence, run.key)
            )
            assert [run.sequence for run in journal.live()] == [run.sequence for run in by_arrival]
            assert all(journal.get(run.key) == run for run in written)
            refreshed = journal.refresh(written[:known])
            assert {run.key: run for run in refreshed} == {run.key: run for run in written}

        check()


def test_refresh_takes_what_has_not_changed_and_reads_the_rest(journal: Journal) -> None:
    journal.commit([run_of(f"k{number}", sequence=number, rev=number) for number in range(1, 6)], [])
    known = journal.live()
    journal.commit(
        [run_of("k2", sequence=2, rev=6, state=RUNNING), ended("k3", 1.0, rev=7), run_of("new", sequence=9, rev=8)], ["k4"]
    )
    fresh = journal.refresh(known)
    assert fresh == journal.live()
    assert [run.key for run in fresh] == ["k1", "k2", "k5", "new"]
    assert fresh[0] is known[0]
    assert journal.counters() == (8, 9)
    assert [run.key for run in journal.changed_since(5, 9).runs] == ["k2", "k3", "new"]
    assert [run.key for run in journal.changed_since(0, 9, latest(journal, 0)).runs] == ["k1", "k5", "k2", "new"]
    assert latest(journal, 1) == 0
    first = journal.changed_since(0, 3)
    assert [run.key for run in first.runs] == ["k1", "k5", "k2"]
    assert (first.rev, first.more) == (6, True)
    assert [run.key for run in journal.changed_since(first.rev, 3).runs] == ["k3", "new"]


def test_a_key_that_is_erased_and_written_in_one_turn_is_the_new_run(journal: Journal) -> None:
    journal.commit([ended("k", 1.0)], [])
    journal.commit([run_of("k", params=2)], ["k"])
    run = journal.get("k")
    assert run is not None
    assert (run.state, run.order.params) == (WAITING, 2)


def test_forgotten_is_what_is_too_old_and_then_what_is_too_much(journal: Journal) -> None:
    journal.commit([ended(f"k{n}", float(n), sequence=n) for n in range(10)] + [run_of("live", sequence=99)], [])
    assert [run.key for run in journal.forget(3.0, 0, batch=2)] == ["k0", "k1"]
    assert [run.key for run in journal.forget(3.0, 0)] == ["k2"]
    assert journal.forget(3.0, 7) == []
    assert [run.key for run in journal.forget(3.0, 5)] == ["k3", "k4"]
    assert journal.has_ended()
    assert len(journal.forget(1e9, 0)) == 5
    assert not journal.has_ended()
    assert [run.key for run in journal.live()] == ["live"]


def test_ended_runs_are_listed_latest_first_and_by_what_is_asked_for(journal: Journal) -> None:
    rows = [("a", "one", "ok"), ("a", "two", "failed"), ("b", "one", "ok"), ("b", "m:one", "ok")]
    journal.commit(
        [
            ended(f"k{n}", 1.0, app=app, name=name, target=f"m:{name}" if ":" not in name else name, outcome=outcome, sequence=n)
            for n, (app, name, outcome) in enumerate(rows, 1)
        ],
        [],
    )

    def keys(**wanted: object) -> str:
        return "".join(key[1] for key in chain(*journal.search(Filter(**wanted))))  # type: ignore[arg-type]

    assert keys() == "4321"
    assert (keys(app="a"), keys(target="one"), keys(target="m:one"), keys(outcome="failed")) == ("21", "31", "4", "2")
    assert (keys(target="m:one", names=("one",)), keys(target="m:one", names=("one",), limit=2)) == ("431", "43")
    assert (keys(target="one", app="b"), keys(target="one", outcome="failed"), keys(outcome="ok", app="a")) == ("3", "", "1")
    assert (keys(limit=2), keys(after=(3,)), keys(app="b", after=(4,))) == ("43", "21", "3")


def test_what_nobody_finds_is_not_looked_for_in_all_that_ever_ended(journal: Journal) -> None:
    journal.commit([ended(f"k{n}", 1.0, name=f"n{n % 3}", outcome="ok", sequence=n) for n in range(3000)], [])
    steps: list[int] = []

    def effort(**wanted: object) -> int:
        """Instructions of SQLite's machine, in hundreds."""
        steps.clear()
        assert [*chain(*journal.search(Filter(**wanted)))] == []  # type: ignore[arg-type]
        return len(steps)

    journal._db.set_progress_handler(lambda: steps.append(1), 100)
    assert effort(target="unknown") < 5
    assert effort(target="unknown", names=("unheard",), app="a", outcome="lost", after=(2000,)) < 5
    assert effort(outcome="lost") < 5
    assert effort(failed=True) < 20
    assert effort(target="unknown", since=0.5) < 5
    assert effort(failed=True, since=0.5, until=2.0) < 5
    assert effort(since=1.5) < 5


def test_other_things_are_remembered_by_name_and_restarts_in_order_up_to_a_limit(journal: Journal) -> None:
    assert journal.meta("service", "nothing") == "nothing"
    journal.commit([], [], {("meta", "service"): {"generation": 3}})
    assert journal.meta("service") == {"generation": 3}
    journal._db.execute("BEGIN")
    for number in range(RESTARTS_KEPT + 10):
        journal.add_restart({"number": number})
    journal._db.execute("COMMIT")
    assert [record["number"] for record in journal.restarts(3)] == [RESTARTS_KEPT + 9, RESTARTS_KEPT + 8, RESTARTS_KEPT + 7]
    assert len(journal.restarts(10**6)) == RESTARTS_KEPT


def test_a_reader_beside_the_writer_sees_whole_turns_and_does_not_hold_it_up(journal: Journal, path: str) -> None:
    assert exists(path)
    journal.commit([run_of("1", rev=1)], [])
    with closing(Journal(path, readonly=True)) as reader:
        assert [run.key for run in reader.live()] == ["1"]
        reader._db.execute("BEGIN")
        assert len(reader.live()) == 1
        journal.commit([run_of("2", rev=2), run_of("3", rev=3)], [])
        assert len(reader.live()) == 1
        reader._db.execute("COMMIT")
        assert len(reader.live()) == 3
        with pytest.raises(JournalError, match="attempt to write a readonly database; give the daemon's user"):
            reader.commit([run_of("4")], [])


WRITER = """
import sys
from rocksyd.journal.store import Journal
from rocksyd.model import Run
from tests.unit.runs import run_of
journal = Journal(sys.argv[1], sync=sys.argv[2])
for turn in range(1, 10**9):
    journal.commit([run_of(f"{turn}.{n}", rev=turn, params="x" * 500) for n in range(20)], [f"{turn - 2}.{n}" for n in range(20)])
    print(turn, flush=True)
"""


@pytest.mark.parametrize("sync", ["full", "normal"])
@pytest.mark.parametrize("turns", [1, 2, 7, 40])
def test_p2_a_writer_that_is_killed_leaves_whole_turns_and_every_one_it_had_finished(path: str, sync: str, turns: int) -> None:
    command = [sys.executable, "-c", WRITER, path, sync]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(turns)]
        writer.send_signal(signal.SIGKILL)
        said += [int(line) for line in writer.stdout.read().split("\n") if line]
    with closing(Journal(path, sync=sync)) as journal:
        found: dict[int, int] = {}
        for run in journal.live():
            found[run.rev] = found.get(run.rev, 0) + 1
        assert set(found.values()) == {20}, "no turn is there in part"
        assert max(found) in (said[-1], said[-1] + 1), "what was finished is there"
        assert len(found) == min(2, max(found))
        assert journal.counters()[0] == max(found)
        journal.commit([run_of("after")], [])


@pytest.mark.parametrize("readonly", [False, True])
def test_p6_a_newer_layout_is_refused_with_a_cure(path: str, readonly: bool) -> None:
    Journal(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {OLDEST_READER + 1}")
    with pytest.raises(
        JournalError, match=r"written by a newer rocksyd .layout 2, this one knows 1.: start the newer version, or move"
    ):
        Journal(path, readonly=readonly)


def test_p6_columns_tables_and_keys_added_later_are_passed_over(path: str) -> None:
    with closing(Journal(path)) as journal:
        journal.commit([run_of("k", app="a", params=[1])], [])
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE added_later (x)")
        db.execute("UPDATE runs SET data = json_set(data, '$.added_later', json('{\"x\": [1]}'))")
        db.commit()
    with closing(Journal(path)) as journal:
        assert journal.live() == [run_of("k", app="a", params=[1])]


def test_p6_a_row_with_nothing_but_its_key_has_the_defaults(path: str) -> None:
    with closing(Journal(path)) as journal:
        journal._db.execute("INSERT INTO runs VALUES ('k', 0, 0, '', '', '', 0, 0, '{\"key\": \"k\"}')")
        assert journal.live() == [run_of("k")]


def test_a_file_that_is_no_journal_is_refused_with_a_cure(path: str) -> None:
    Path(path).write_bytes(b"this is not SQLite" * 100)
    with pytest.raises(JournalError, match="file is not a database; it is damaged: `rocksyd journal repair` saves"):
        Journal(path)


def test_a_damaged_page_is_reported_with_a_cure(path: str) -> None:
    with closing(Journal(path)) as journal:
        journal.commit([run_of(f"k{n}", params="x" * 1000) for n in range(200)], [])
    data = bytearray(Path(path).read_bytes())
    data[4096 * 4 :] = b"\xff" * (len(data) - 4096 * 4)
    Path(path).write_bytes(data)
    damaged = "database disk image is malformed; it is damaged: `rocksyd journal repair` saves"
    with pytest.raises(JournalError, match=damaged), closing(Journal(path)) as journal:
        journal.live()


def test_a_folder_that_is_not_there_is_reported_with_a_cure(tmp_path: Path) -> None:
    for readonly in (False, True):
        with pytest.raises(JournalError, match=r"gone/j"):
            Journal(str(tmp_path / "gone" / "j"), readonly=readonly)


def test_a_full_disk_loses_nothing_that_was_written_and_the_turn_can_be_tried_again(journal: Journal) -> None:
    journal.commit([run_of("before")], [])
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    turn = [run_of(f"k{n}", params="x" * 5000) for n in range(20)]
    for _ in range(2):
        with pytest.raises(JournalError, match="database or disk is full; make room on that file system"):
            journal.commit(turn, ["before"])
        assert [run.key for run in journal.live()] == ["before"]
    journal._db.execute("PRAGMA max_page_count = 100000")
    journal.commit(turn, ["before"])
    assert len(journal.live()) == 20
