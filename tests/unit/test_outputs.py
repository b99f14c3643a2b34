"""The files that runs print into, without a daemon."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksyd.master.records.output import Outputs
from tests.unit.runs import run_of

DAY = 86400
NOW = 20 * 365 * DAY  # long ago, on a day of its own


class Registered:
    """A loop that never wakes anybody."""

    def register(self, fd: int, handler: Any, mask: int) -> None:
        self.fd = fd


@pytest.fixture
def outputs() -> Iterator[Outputs]:
    loop = Registered()
    yield Outputs(loop, 0, lambda run: None)
    os.close(loop.fd)


def written(root: Path, day: str, name: str, at: float) -> Path:
    path = root / day / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("output")
    os.utime(path, (at, at))
    return path


def test_old_outputs_go_and_empty_days_with_them_but_nothing_that_runs_or_is_young(tmp_path: Path, outputs: Outputs) -> None:
    old = written(tmp_path, "1989-12-20", "old.log", NOW - 7 * DAY)
    gone = [old, written(tmp_path, "1989-12-20", "older.log", NOW - 8 * DAY)]
    kept = [
        written(tmp_path, "1989-12-19", "still-written.log", NOW),
        written(tmp_path, "1989-12-18", "running.log", NOW - 9 * DAY),
        written(tmp_path, "1989-12-27", "today.log", NOW),
    ]
    outputs.by_path[str(kept[1])] = run_of("running")
    assert [outputs.expire(str(tmp_path), NOW - DAY, most=1) for _ in range(5)] == [True] * 4 + [False], "one in a turn"
    assert not outputs.expire(str(tmp_path), NOW - DAY)
    assert not any(path.exists() for path in gone)
    assert not old.parent.exists()
    assert all(path.exists() for path in kept)


def test_what_cannot_be_removed_is_in_the_way_of_no_other_output(tmp_path: Path, outputs: Outputs) -> None:
    (tmp_path / "1989-12-18").write_text("a file where a day should be")
    (tmp_path / "1989-12-19" / "folder.log").mkdir(parents=True)
    os.utime(tmp_path / "1989-12-19" / "folder.log", (NOW - 7 * DAY, NOW - 7 * DAY))
    gone = [written(tmp_path, day, "old.log", NOW - 7 * DAY) for day in ("1989-12-19", "1989-12-20")]
    assert not outputs.expire(str(tmp_path), NOW - DAY)
    assert not any(path.exists() for path in gone)
    assert not (tmp_path / "1989-12-20").exists()
