"""Folders watched with everything below them."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocksyd.posix.watching import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "skipped").mkdir()
    (tmp_path / "a" / "old").write_text("")
    tree = Tree(lambda path: not path.endswith("skipped"))
    assert tree.add(str(tmp_path)) == [str(tmp_path / "a" / "old")]
    yield tree
    tree.close()


def happened(tree: Tree, folder: Path) -> list[str]:
    assert select.select([tree.fileno()], [], [], 10)[0]
    return sorted(os.path.relpath(path, folder) for path in tree.changed())


def test_writing_moving_and_removing_are_changes_and_reading_is_none(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "new").write_text("x")
    assert happened(tree, tmp_path) == ["a/b/new"]
    (tmp_path / "a" / "b" / "new").rename(tmp_path / "a" / "moved")
    assert happened(tree, tmp_path) == ["a/b/new", "a/moved"]
    (tmp_path / "a" / "moved").read_text()
    (tmp_path / "a" / "moved").unlink()
    assert happened(tree, tmp_path) == ["a/moved"]
    (tmp_path / "skipped" / "x").write_text("")
    assert tree.changed() == set()
    (tmp_path / "a" / "link").symlink_to("old")
    assert happened(tree, tmp_path) == ["a/link"]


def test_folders_that_come_later_are_watched_with_what_is_in_them(tree: Tree, tmp_path: Path) -> None:
    elsewhere = tmp_path / "skipped" / "whole"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "file").write_text("")
    elsewhere.rename(tmp_path / "a" / "whole")
    assert happened(tree, tmp_path) == ["a/whole/deep/file"]
    (tmp_path / "a" / "whole" / "deep" / "file").write_text("again")
    assert happened(tree, tmp_path) == ["a/whole/deep/file"]


def test_a_folder_that_is_gone_is_no_error(tree: Tree, tmp_path: Path) -> None:
    assert tree.add(str(tmp_path / "nothing")) == []
    (tmp_path / "a" / "b").rmdir()
    assert tree.changed() == set()
    tree.close()
    tree.close()
