"""What was found of libraries and forks, the manual's table of it, and what `rocksyd doctor` knows, say the same."""

from __future__ import annotations

from types import ModuleType

import pytest

from bench.fork_safety import table
from bench.fork_safety.matrix import Row, judge
from bench.fork_safety.zygote import Outcome
from rocksyd.doctor.findings import HOOK, SAFE, UNSAFE
from rocksyd.doctor.inside import sharing
from rocksyd.doctor.libraries import libraries

ROWS = table.read()
KNOWN = libraries()


def test_at_least_forty_libraries_were_tried() -> None:
    assert len(ROWS) >= 40


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_doctor_knows_of_each_library_what_was_found(row: Row) -> None:
    assert table.disagreements([row]) == []
    entry = KNOWN[row.module]
    assert entry["name"] == row.name
    if row.verdict != SAFE:
        assert entry["why"]
        assert entry["cure"]


def test_doctor_claims_to_have_tried_nothing_else() -> None:
    assert {name for name, entry in KNOWN.items() if entry["tested"]} == {row.module for row in ROWS}


def test_the_manual_shows_what_was_found() -> None:
    """When this fails: python -c 'from bench.fork_safety import table; table.PAGE.write_text(table.page())'."""
    assert table.PAGE.read_text() == table.page()


@pytest.mark.parametrize("name", KNOWN)
def test_an_entry_has_what_doctor_needs(name: str) -> None:
    entry = KNOWN[name]
    assert entry["verdict"] in (SAFE, HOOK, UNSAFE)
    assert entry["when"] in ("loaded", "made", "used")
    assert bool(entry["objects"]) == (entry["when"] == "made")
    assert all(address.count(":") == 1 for address in entry["objects"])
    assert entry.keys() == {"name", "distribution", "verdict", "tested", "why", "cure", "when", "objects"}


def test_the_knowledge_is_in_alphabetical_order() -> None:
    assert list(KNOWN) == sorted(KNOWN, key=str.lower)


class Library:
    """A case as the rule sees it."""

    name, distribution, module = "", "library", "library"
    hook, warned = "close it", False


GOOD, LEFT = Outcome(True, ""), Outcome(True, "", ("preload entry 'x' left a socket open: descriptor 4",))
BAD = Outcome(False, "wrong answer")


@pytest.mark.parametrize(
    ("imported", "created", "used", "hooked", "verdict"),
    [
        (GOOD, GOOD, GOOD, BAD, SAFE),
        (GOOD, GOOD, BAD, GOOD, HOOK),
        (GOOD, GOOD, LEFT, GOOD, HOOK),
        (GOOD, LEFT, LEFT, LEFT, UNSAFE),
        (GOOD, GOOD, BAD, BAD, UNSAFE),
        (BAD, GOOD, GOOD, GOOD, UNSAFE),
    ],
)
def test_the_rule(imported: Outcome, created: Outcome, used: Outcome, hooked: Outcome, verdict: str) -> None:
    outcomes = {"imported": imported, "created": created, "used": used, "hooked": hooked}
    assert judge(Library, "1.0", outcomes.__getitem__).verdict == verdict


# --- whose objects ----------------------------------------------------------------------------------------------------
def test_an_object_belongs_to_the_package_that_reaches_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    first, second = ModuleType("first_package"), ModuleType("second_package.inner")
    shared, own = ["shared"], ["own"]
    first.__dict__.update(shared=shared, other=second)
    second.__dict__.update(shared=shared, own=own)
    for module in (first, second):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    found = {package: set(map(id, objects)) for package, objects in sharing.owned(["first_package", "second_package"])}
    assert id(shared) in found["first_package"]
    assert id(second) not in found["first_package"]  # the way does not lead through another package's modules
    assert {id(own), id(second)} <= found["second_package"]
    assert id(shared) not in found["second_package"]
