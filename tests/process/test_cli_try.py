"""`rocksyd try`: a program cold and warm in turns, without a configuration, with a daemon that is gone afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rocksyd.cli.crontab_measure import Measured, shown
from rocksyd.cli.tables import Screen

ROCKSYD = [str(Path(sys.executable).parent / "rocksyd")]
PROGRAM = """
import decimal, json, sys
import beside
print(__name__, sys.argv[1:], json.dumps([str(decimal.Decimal(1))]), beside.SAID)
print("wrong", file=sys.stderr)
sys.exit(3)
"""


def tried(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*ROCKSYD, "try", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "beside.py").write_text("SAID = 'beside'\n")
    return tmp_path


def test_the_same_program_is_run_cold_and_warm_and_compared(folder: Path) -> None:
    found = tried(folder, "--json", "--turns", "2", "--", sys.executable, "program.py", "a", "--b")
    assert found.returncode == 0, found.stderr
    said = json.loads(found.stdout)
    assert (said["same"], said["status"], len(said["cold"]), len(said["warm"])) == (True, 3, 2, 2)
    shown = tried(folder, "--turns", "1", "program.py")
    assert "the same output and exit status (3) each time\n" in shown.stdout
    assert " -> " in shown.stdout
    assert not (folder / "var").exists(), "nothing is left in the program's folder"


def test_what_prints_something_else_each_time_cannot_be_compared(folder: Path) -> None:
    found = tried(folder, "--turns", "1", "--", sys.executable, "-c", "import os; print(os.getpid())")
    assert found.returncode == 1
    assert "it prints something else each time, also when it is cold" in found.stderr


def test_what_differs_only_where_it_is_warm_is_said(folder: Path) -> None:
    (folder / "warm.py").write_text("import sys; print('rocksyd.worker' in sys.modules)\n")
    found = tried(folder, "--turns", "1", "--", sys.executable, "warm.py")
    assert found.returncode == 1
    assert "was another one when it was warm" in found.stderr


@pytest.mark.parametrize("words", [["ls"], [], ["python3"], ["python3", "nothing.py"], ["python3", "-O", "program.py"]])
def test_what_is_no_python_program_is_refused(folder: Path, words: list[str]) -> None:
    found = tried(folder, "--", *words)
    assert found.returncode == 1
    assert "expected a Python program: rocksyd try -- python manage.py nightly" in found.stderr


def test_each_python_line_of_a_crontab_is_measured_and_what_that_comes_to_is_said(folder: Path) -> None:
    crontab = folder / "crontab"
    crontab.write_text(
        f"*/10 * * * * cd {folder} && {sys.executable} program.py a >> log 2>&1\n"
        f"0 3 * * * cd {folder}/nowhere && {sys.executable} program.py\n30 1 * * 1 /usr/bin/backup --all\n"
    )
    command = [*ROCKSYD, "schedule", "import-crontab", str(crontab), "--measure"]
    found = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    said = json.loads(found.stdout)
    first, second, third = said["lines"]
    assert (first["name"], first["starts"], first["note"]) == ("program", 144.0, "")
    assert first["cold"] > 0 < first["warm"]
    assert (second["cold"], second["note"]) == (None, f"there is no folder {folder}/nowhere")
    assert (third["starts"], third["note"]) == (1 / 7, "no Python program: it is started as before")
    assert said["starts_a_day"] == 145 + 1 / 7
    assert said["core"] == max(0.0, first["cold"] - first["warm"]) * 144 / 86_400
    assert "line 1 is run 3 times" in found.stderr


def test_what_a_crontab_costs_is_read_on_a_narrow_terminal() -> None:
    rows = [
        Measured(1, "nightly", 1.0, 1.31, 0.012, ""), Measured(2, "sync", 210.0, 45.0, 0.1, ""),
        Measured(3, "backup", 1.0, None, None, "no Python program: it is started as before"),
    ]  # fmt: skip
    text = shown(rows, Screen(80))
    assert text.splitlines()[-1] == "212 starts a day, 11 % of a core spent importing"
    assert max(map(len, text.splitlines())) <= 80
    assert "1.31s   12ms" in text
