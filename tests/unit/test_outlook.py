"""What is said before it is too late: where "nearly" begins, and that the sentences do not change with every look."""

from __future__ import annotations

import os

import pytest

from rocksyd.master.desk import outlook

MB = 1 << 20


def disk(monkeypatch: pytest.MonkeyPatch, free: int, size: int, files: tuple[int, int] = (0, 0)) -> list[str]:
    """What is said of a disk with so many bytes free of so many, and files (left, of): 0 where the file system counts none."""
    blocks = (4096, 4096, size // 4096, free // 4096, free // 4096, files[1], files[0], files[0], 0, 255)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(blocks))
    return [one.text.removeprefix("the disk of /srv/var is nearly full: ") for one in outlook.disk("/srv/var")]


def test_a_disk_is_nearly_full_below_five_percent_and_two_gigabytes_or_when_few_files_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert disk(monkeypatch, 51 * MB, 1000 * MB) == []
    assert disk(monkeypatch, 49 * MB, 1000 * MB) == ["less than 64M is left"]
    assert disk(monkeypatch, 33 * MB, 1000 * MB) == ["less than 64M is left"], "nobody is told of each megabyte"
    assert disk(monkeypatch, 31 * MB, 1000 * MB) == ["less than 32M is left"]
    assert disk(monkeypatch, 0, 1000 * MB) == ["nothing is left"]
    assert disk(monkeypatch, 3000 * MB, 1 << 40) == [], "three of a thousand gigabytes are plenty"
    assert disk(monkeypatch, 2000 * MB, 1 << 40) == ["less than 2G is left"]
    assert disk(monkeypatch, 500 * MB, 1000 * MB, (60_000, 1_000_000)) == []
    assert disk(monkeypatch, 500 * MB, 1000 * MB, (40_000, 1_000_000)) == ["there is room for less than 65,536 more files"]
    assert disk(monkeypatch, 0, 1000 * MB, (0, 1_000_000)) == ["nothing is left"]


def test_a_disk_that_cannot_be_asked_is_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(outlook.disk("/nowhere at all")) == []


def test_a_machine_is_overloaded_from_four_processes_a_processor_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    said = {}
    for load in (0.0, 8.0, 8.1, 15.9, 16.1, 40.0):
        monkeypatch.setattr(outlook, "load", lambda load=load: load)
        said[load] = [one.text.partition("more than ")[2].partition(" processes")[0] for one in outlook.machine()]
    assert said == {0.0: [], 8.0: [], 8.1: ["4"], 15.9: ["4"], 16.1: ["8"], 40.0: ["16"]}
