"""`rocksyd dev`: which files matter, and what its lines look like."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import config as configuration
from rocksyd.cli.dev_files import Files
from rocksyd.cli.dev_view import View
from rocksyd.cli.tables import COLOURS

TOML = 'state_dir = "app/var"\n[apps.a]\npath = "app"\njobs = ["a"]\n[apps.b]\npath = "other/b"\njobs = ["b"]\n'


@pytest.fixture
def files(tmp_path: Path) -> Files:
    for folder in ("app/pkg/deep", "app/.git", "scripts.d", "app/venv", "app/var", "other/b", "library", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "app" / "venv" / "pyvenv.cfg").touch()
    (tmp_path / "single.txt").touch()
    loaded = configuration.parse(TOML, str(tmp_path / "rocksyd.toml"))
    return Files(loaded, [str(tmp_path / "library"), str(tmp_path / "single.txt")])


@pytest.mark.parametrize(
    ("path", "matters"),
    [
        ("app/jobs.py", True), ("app/pkg/deep/x.html", True), ("other/b/b.py", True), ("library/l.py", True),
        ("rocksyd.toml", True), ("single.txt", True),
        ("scripts.d/shop.toml", True), ("scripts.d/notes.md", False), ("scripts.d/.#shop.toml", False),
        ("app/notes.txt", False), ("app/.#jobs.py", False),
        ("elsewhere/x.py", False), ("app/x.pyc", False),
        ("other/x.py", False), ("application/x.py", False), ("app/db.sqlite3", False),
    ],
)  # fmt: skip
def test_modules_templates_and_the_configuration_matter(files: Files, tmp_path: Path, path: str, matters: bool) -> None:
    assert files.matters(str(tmp_path / path)) is matters


def test_hidden_folders_environments_and_the_daemons_state_are_not_entered(files: Files, tmp_path: Path) -> None:
    entered = [path for path in sorted(tmp_path.rglob("*")) if path.is_dir() and files.entered(str(path))]
    assert [str(path.relative_to(tmp_path)) for path in entered] == [
        "app",
        "app/pkg",
        "app/pkg/deep",
        "library",
        "other",
        "other/b",
        "scripts.d",
    ]
    assert files.folders() == [str(tmp_path / one).rstrip("/.") for one in (".", "app", "library", "other/b", "scripts.d")]
    assert files.shown([str(tmp_path / "library" / "l.py"), str(tmp_path / "app" / "a.py")]) == ["app/a.py", "library/l.py"]


RECORD = {
    "key": "0123456789abcdef",
    "target": "send_digest",
    "state": "ended",
    "outcome": "ok",
    "started_at": 10.0,
    "ended_at": 11.5,
}


@given(st.lists(st.text(alphabet="ab\n\r"), max_size=8))
def test_output_is_shown_line_by_line_whatever_pieces_it_comes_in(pieces: list[str]) -> None:
    whole, cut = View(coloured=False), View(coloured=False)
    together = whole.output(RECORD, "".join(pieces)) + whole.ended(RECORD)
    assert "".join(cut.output(RECORD, piece) for piece in pieces) + cut.ended(RECORD) == together
    assert all(line.startswith("send_digest      01234567 │ ") for line in together.splitlines())


def test_without_colours_nothing_a_job_prints_can_steer_the_terminal() -> None:
    view = View(coloured=False)
    assert view.output(RECORD, "10 %\r 20 %\r\n\x1b[31mred\x1b[0m\x07\n") == (
        "send_digest      01234567 │  20 %\nsend_digest      01234567 │ red\n"
    )


def test_no_colour_is_one_that_a_light_or_a_dark_background_swallows() -> None:
    assert set(COLOURS.values()) <= {"1", "2", "31", "32", "35", "36"}


def test_every_line_ends_in_the_terminals_own_colours_and_none_is_yellow_or_white() -> None:
    view = View(coloured=True)
    failed = {**RECORD, "outcome": "failed", "error": {"type": "ValueError", "message": "oh"}}
    shown = "".join(
        [
            *(view.output({**RECORD, "key": str(n)}, "\x1b[1mtext\n") for n in range(9)), view.ended(RECORD), view.ended(failed),
            view.log("2026-01-01T00:00:00.000Z master[1] reload"), view.log("anything"), view.reloaded(list("abcde"), 2, 0.5),
            view.refused(["a.py"], "no\n  more"), view.not_started("why"), view.note("note"),
        ]
    )  # fmt: skip
    assert all(line.rfind("\x1b[0m") > line.rfind("\x1b[3") for line in shown.splitlines() if "\x1b" in line)
    assert not re.search(r"\x1b\[(?:33|37|9[0-7]|4\d|10\d)m", shown)
    assert "✗ failed: ValueError: oh\x1b[0m (1.5s)" in shown
    assert "(a, b, c and 2 more)" in shown
    assert "✓" not in View(coloured=False, signs=False).ended(RECORD)
