"""What README and manual say is there is there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from rocksyd import config
from rocksyd.cli.commands import COMMANDS
from rocksyd.master.desk.methods import METHODS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]
PROMISES = dict(re.findall(r"^\| \*\*P(\d+)\*\* \|(.+)$", (ROOT / "README.md").read_text(), re.MULTILINE))


@pytest.mark.parametrize("number", PROMISES)
def test_each_promise_links_to_tests_that_carry_its_name(number: str) -> None:
    for link in re.findall(r"\((tests/[^)]+)\)", PROMISES[number]):
        linked = ROOT / link
        assert linked.exists(), link
        if linked.is_file():
            assert re.search(rf"def test_(p\d+_)*p{number}_", linked.read_text()), link


def test_there_are_twelve_promises() -> None:
    assert list(PROMISES) == [str(number) for number in range(1, 13)]


def test_each_line_of_the_threat_model_names_tests_that_there_are() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in row] for row in rows if row[-1].strip() not in ("shown by", "---")]
    assert len(rows) >= 10
    assert [row for row in rows if not re.search(r"`(tests/|test_)", row[-1])] == []
    there = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(tests/[\w/.]+|test_\w+)`", text)
    for name in named:
        assert (ROOT / name).exists() if "/" in name else f"def {name}(" in there, name


@pytest.mark.parametrize("name", METHODS)
def test_the_protocols_page_has_every_method_and_parameter(name: str) -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    for word in (name, *(parameter.name for parameter in METHODS[name].parameters)):
        assert f"`{word}`" in page, word


def test_the_tables_of_the_manual_are_those_of_the_declarations() -> None:
    """When this fails: python docs/reference.py."""
    checked = subprocess.run(
        [sys.executable, ROOT / "docs" / "reference.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_protocols_page_has_every_command(name: str) -> None:
    assert re.search(rf"^\|.*`{name}[ `]", (ROOT / "docs" / "protocol.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_configuration_that_is_shown_is_right(page: Path) -> None:
    for text in re.findall(r"^ *```toml\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL):
        lines = "\n".join(line.strip() for line in text.splitlines())
        tomllib.loads(lines)
        if "[apps." in lines:
            name = lines[lines.index("[apps.") :].partition("]")[0] + "]"
            if "\njobs =" not in lines and "\nallow =" not in lines:  # a part of one: the rest is not its subject
                lines = lines.replace(name, f'{name}\njobs = ["shop.jobs"]', 1)
            config.parse(lines, str(ROOT / "rocksyd.toml"))
