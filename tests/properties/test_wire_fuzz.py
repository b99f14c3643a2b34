"""A short, repeatable part of ``python -m tests.fuzz.wire`` in every run of the tests."""

from __future__ import annotations

from tests.fuzz import wire


def test_mutations_of_the_corpus_find_nothing() -> None:
    assert wire.run_unguided(1500, seed=20) == 0
