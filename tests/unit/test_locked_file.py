"""The file of a companion that only one process has open for writing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from rocksyd.companions.locked_file import LockedFile, StoreError

TABLES = "CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY)"


def locked(folder: Path) -> LockedFile:
    return LockedFile(str(folder / "kept" / "store.sqlite"), TABLES)


def test_one_at_a_time_has_it_and_the_next_gets_it_when_that_one_closes(tmp_path: Path) -> None:
    first, second = locked(tmp_path), locked(tmp_path)
    assert first.acquire()
    assert not second.acquire(wait=False)
    first.close()
    assert second.acquire(wait=False)
    second.close()


def test_one_that_could_not_be_opened_is_tried_again_without_waiting_for_itself(tmp_path: Path) -> None:
    store = locked(tmp_path)
    path = Path(store.path)
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"store\.sqlite: .*see that the folder belongs to the daemon's user"):
            store.acquire()
    path.unlink()
    assert store.acquire()
    assert store.acquire(), "it has it already"
    store.close()


def test_all_of_a_transaction_or_nothing(tmp_path: Path) -> None:
    store = locked(tmp_path)
    store.acquire()
    with pytest.raises(StoreError, match="make room on that file system"), store.writing() as db:
        db.executemany("INSERT INTO things VALUES (?)", [("a",), ("a",)])
    with pytest.raises(IndexError), store.writing() as db:
        db.execute("INSERT INTO things VALUES ('b')").fetchall()[0]
    with store.writing() as db:
        db.execute("INSERT INTO things VALUES ('c')")
    store.close()
    reader = sqlite3.connect(store.path)
    assert reader.execute("SELECT name FROM things").fetchall() == [("c",)]
    reader.close()
