"""Runs on their way to the disk: nothing is said to be safe before it is, and a disk that fails costs nothing but time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksyd.errors import JournalError
from rocksyd.journal.store import Journal
from rocksyd.journal.tables import TABLES, Table, encode
from rocksyd.master.records.writing import RETRY, Writing
from rocksyd.model import Run


class Disk(Journal):
    """A journal whose disk can be made to fail."""

    full = broken = False
    synced = 0

    def commit(self, *args: Any, **more: Any) -> None:
        if self.full:
            raise JournalError("full")
        super().commit(*args, **more)

    def sync(self) -> None:
        if self.broken:
            raise JournalError("broken")
        super().sync()
        self.synced += 1


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    journal = Disk(str(tmp_path / "journal.sqlite3"))
    yield journal
    journal.close()


@pytest.fixture
def gone() -> list[Run]:
    return []


@pytest.fixture
def writing(disk: Disk, gone: list[Run]) -> Writing:
    writing = Writing(gone.extend)
    writing.journal = disk
    return writing


def run(key: str, rev: int = 1, kind: str = "job") -> Run:
    return Run.load({"key": key, "rev": rev, "app": "shop", "name": "t", "target": "m:t", "pool": "shop", "kind": kind})


def test_what_is_written_is_found_by_others_before_it_is_on_the_disk(writing: Writing, disk: Disk) -> None:
    writing.put(run("a"))
    assert writing.write(1.0)
    with_it = Journal(disk.path, readonly=True)
    assert with_it.get("a") is not None
    with_it.close()
    assert writing.waiting
    assert disk.synced == 0
    assert writing.sync(1.0)
    assert not writing.waiting
    assert disk.synced == 1


def test_a_turn_without_changes_waits_for_no_disk(writing: Writing, disk: Disk) -> None:
    assert writing.write(1.0)
    assert writing.sync(1.0)
    assert disk.synced == 0


def test_a_script_waits_for_no_disk(writing: Writing, disk: Disk) -> None:
    writing.put(run("s", kind="script"))
    assert writing.write(1.0)
    assert writing.sync(1.0)
    assert disk.synced == 0
    assert not writing.waiting


def test_a_full_disk_is_tried_again_later_and_then_nothing_is_missing(writing: Writing, disk: Disk) -> None:
    disk.full = True
    writing.put(run("a"))
    assert not writing.write(1.0)
    assert writing.trouble == "full"
    disk.full = False
    writing.put(run("b"))
    assert not writing.write(1.0 + RETRY / 2)
    assert writing.write(1.0 + RETRY)
    assert writing.sync(1.0 + RETRY)
    assert writing.trouble == ""
    assert [disk.get(key) is not None for key in "ab"] == [True, True]


def test_after_a_failed_fdatasync_everything_since_the_last_good_one_is_written_anew(
    writing: Writing, disk: Disk, gone: list[Run]
) -> None:
    for key in ("a", "b"):
        writing.put(run(key))
    assert writing.write(1.0)
    assert writing.sync(1.0)
    writing.put(run("a", rev=2))
    writing.erase(run("b"))
    assert writing.write(2.0)
    disk.broken = True
    assert not writing.sync(2.0)
    assert gone == []
    disk.commit([run("a", rev=1), run("b")], [])  # as if the kernel had dropped the pages
    disk.broken = False
    assert writing.write(2.0 + RETRY)
    assert writing.sync(2.0 + RETRY)
    found = disk.get("a")
    assert found is not None
    assert found.rev == 2
    assert disk.get("b") is None
    assert [erased.key for erased in gone] == ["b"]


def test_a_newer_change_is_not_overwritten_by_what_a_failed_fdatasync_brings_back(writing: Writing, disk: Disk) -> None:
    writing.put(run("a"))
    assert writing.write(1.0)
    disk.broken = True
    assert not writing.sync(1.0)
    disk.broken = False
    writing.put(run("a", rev=7))
    assert writing.write(1.0 + RETRY)
    found = disk.get("a")
    assert found is not None
    assert found.rev == 7


def test_an_erased_run_is_not_found_and_its_key_may_be_taken_again(writing: Writing) -> None:
    writing.put(run("a"))
    assert writing.write(1.0)
    writing.erase(run("a"))
    assert writing.find("a") is None
    writing.put(run("a", rev=5))
    found = writing.find("a")
    assert found is not None
    assert found.rev == 5
    assert writing.write(1.0)
    found = writing.find("a")
    assert found is not None
    assert found.rev == 5


def test_rows_of_other_tables_go_the_same_way_as_runs(writing: Writing, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        TABLES, "bells", Table("bells", ("key TEXT PRIMARY KEY", "data TEXT"), lambda key, row: (key, encode(row)))
    )
    disk.own()

    def there() -> dict[str, str]:
        return dict(disk._db.execute("SELECT key, data FROM bells"))

    disk.full = True
    writing.put_row("bells", "a", {"at": 1})
    writing.put_row("bells", "b", {"at": 1})
    assert not writing.write(1.0)
    assert writing.waiting
    disk.full = False
    writing.put_row("bells", "b", None)
    assert writing.write(1.0 + RETRY)
    assert there() == {"a": '{"at":1}'}
    disk.broken = True
    assert not writing.sync(2.0)
    disk._db.execute("DELETE FROM bells")  # as if the kernel had dropped the page
    disk.broken = False
    writing.put_row("bells", "c", [2])
    assert writing.write(2.0 + RETRY)
    assert writing.sync(2.0 + RETRY)
    assert there() == {"a": '{"at":1}', "c": "[2]"}
    assert not writing.waiting
