"""The journal as a file: what it holds is nobody else's business."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rocksyd.journal.repair import repair
from rocksyd.journal.store import Journal
from tests.unit.runs import run_of


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_only_the_daemons_user_can_read_the_journal_and_the_files_beside_it(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal.sqlite"))
    journal.commit([run_of("1", params=["secret"])], [])
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    journal.close()
    assert modes == dict.fromkeys(("journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"), 0o600)


def test_rows_between_two_damaged_places_are_saved(tmp_path: Path) -> None:
    path = str(tmp_path / "j")
    with closing(Journal(path)) as journal:
        journal.commit([run_of(f"k{n:03}", params=[f"mark{n:03}" + "x" * 1000]) for n in range(200)], [])
    data = bytearray(Path(path).read_bytes())
    sound = {n for n in range(200) if n not in (50, 150)}
    for n in (50, 150):
        at = data.index(b"mark%03d" % n) // 4096 * 4096
        data[at : at + 4096] = b"\xff" * 4096
    Path(path).write_bytes(data)
    repaired = repair(path)
    with closing(Journal(path)) as journal:
        kept = {int(run.key[1:]) for run in journal.live()}
    assert len(kept) == repaired.runs
    assert kept <= sound
    assert kept & set(range(60, 140)) == set(range(60, 140))
