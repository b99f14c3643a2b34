"""A short part of `python -m tests.fuzz` in every run of the tests: the same each time, or another if thorough."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.__main__ import KINDS, talk
from tests.fuzz.starts import Starts
from tests.restart.stage import many

SEED = many(20_261_130, random.SystemRandom().randrange(10**9))


@pytest.mark.parametrize("kind", KINDS)
def test_p12_what_is_nearly_right_ends_nothing_leaks_nothing_and_loses_no_reply(tmp_path: Path, kind: str) -> None:
    print(f"again: python -m tests.fuzz --only {kind} --seed {SEED}")
    counts = talk(tmp_path, SEED, {"clients": 150, "exec": 400, "jobs": 150}[kind], [kind])
    assert sum(counts.values()) >= 150


def test_p12_a_file_that_is_nearly_right_is_read_or_refused_with_a_sentence(tmp_path: Path) -> None:
    print(f"again: python -m tests.fuzz --only files --seed {SEED}")
    assert Starts(tmp_path, random.Random(SEED)).rounds(5).total() > 5
