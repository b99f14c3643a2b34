"""What docs/design/adding.md says is touched is what names the thing: the page is counted, not remembered."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "design" / "adding.md").read_text()
AIMS = {word: int(aim) for aim, word in re.findall(r"^\| .+ \| (\d+) \| `(\w+)` \|$", PAGE, re.MULTILINE)}
LISTS = {word: re.findall(r"^\| `(src/[^`]+)` \|", rows, re.MULTILINE) for word, rows in re.findall(
    r"^\| `(\w+)` \| \|\n((?:\|.*\n)+)", PAGE, re.MULTILINE
)}  # fmt: skip
GENERATED = {"src/rocksyd/client/sync.py", "src/rocksyd/client/control.py", "src/rocksyd/client/requests.py"}
ASIDE = {
    # They name it, and need not be touched: a sentence in `why`, prose, and callers who say it.
    "concurrency_key": {
        "src/rocksyd/core/circle.py",
        "src/rocksyd/core/reasons.py",
        "src/rocksyd/jobs.py",
        "src/rocksyd/schedule/generation.py",
        "src/rocksyd/schedule/script.py",
        "src/rocksyd/companions/scheduler.py",
    },
}


def naming(pattern: str) -> set[str]:
    found = {path for path in (ROOT / "src").rglob("*.py") if re.search(pattern, path.read_text(), re.MULTILINE)}
    return {str(path.relative_to(ROOT)) for path in found} - GENERATED


@pytest.mark.parametrize(
    ("word", "pattern"),
    [
        ("concurrency_key", r"(?<!per_)\bconcurrency_key\b"),
        ("targets", r"""(serves\(\s*|request\(\s*|^    |\s)"targets"(:|,|\))"""),
        ("park_after", r"\bpark_after\b"),
        ("LoadAfresh", r"\bLoadAfresh\b"),
        ("set_aside", r'(?i)^    "set_aside",|into set_aside'),
        ("forwarded", r'\["forwarded"\]|The table, for the next master'),
        ("metrics", r"companions\.metrics:|companions\.pages import|over HTTP from listening sockets"),
    ],
)
def test_the_page_lists_exactly_the_files_that_name_it(word: str, pattern: str) -> None:
    assert naming(pattern) - ASIDE.get(word, set()) == set(LISTS[word])


@pytest.mark.parametrize("word", LISTS)
def test_each_list_keeps_its_aim_and_names_files_that_are_there(word: str) -> None:
    assert all((ROOT / path).is_file() for path in LISTS[word])
    most = AIMS[word] + (word == "concurrency_key")  # the clients' signature is for the callers' editors
    assert len(LISTS[word]) <= most


def test_every_example_has_its_list() -> None:
    assert AIMS.keys() == LISTS.keys()
    assert AIMS
