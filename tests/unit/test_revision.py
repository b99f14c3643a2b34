"""The revision of code: git's own files say it, in every form in which git keeps them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from rocksyd.zygote.revision import MOST, SHOWN, revision


def git(folder: Path, *words: str) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *who, *words], cwd=folder, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "shop").mkdir(parents=True)
    git(tree, "init", "-q")
    (tree / "shop" / "jobs.py").write_text("")
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "one")
    return tree


def test_every_form_of_a_work_tree_says_its_commit_without_git(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = git(tree, "rev-parse", "HEAD")[:SHOWN]
    further = tree.parent / "further"
    git(tree, "worktree", "add", "-q", "-b", "other", str(further))
    monkeypatch.setenv("PATH", "/nowhere")
    assert revision("git", str(tree)) == revision("git", str(tree / "shop")) == revision("git", str(further)) == (commit, "")
    monkeypatch.undo()
    git(tree, "pack-refs", "--all")
    assert not (tree / ".git" / "refs" / "heads" / "main").exists()
    monkeypatch.setenv("PATH", "/nowhere")
    assert revision("git", str(tree)) == (commit, "")
    monkeypatch.undo()
    git(tree, "checkout", "-q", "--detach")
    assert revision("git", str(tree)) == (commit, "")
    assert revision("git", str(tree.parent)) == ("", "")


def test_a_tree_without_a_commit_and_a_broken_one_have_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert revision("git", str(tmp_path)) == ("", "")
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/../../etc/passwd\n")
    assert revision("git", str(tmp_path)) == ("", "")


def test_a_file_and_a_command_say_their_first_line(tmp_path: Path) -> None:
    (tmp_path / "REVISION").write_text("\nv7 \x1b[2J\nmore\n")
    assert revision("REVISION", str(tmp_path)) == ("v7 [2J", "")
    assert revision("printf 'r1\\nr2'", str(tmp_path)) == ("r1", "")
    assert revision(f"printf {'x' * 100}", str(tmp_path)) == ("x" * MOST, "")
    assert revision("false", str(tmp_path)) == ("", "revision: 'false' ended with status 1: ")
    found, unclear = revision("no-such-program --version", str(tmp_path))
    assert (found, "is no file in" in unclear) == ("", True)
