"""A short part of `python -m tests.fuzz` in every run of the tests: another seed each time; that of a finding is printed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.__main__ import KINDS, talk
from tests.fuzz.starts import Starts


@pytest.mark.parametrize("kind", KINDS)
def test_p12_what_is_nearly_right_ends_nothing_leaks_nothing_and_loses_no_reply(tmp_path: Path, kind: str) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"again: python -m tests.fuzz --only {kind} --seed {seed}")
    counts = talk(tmp_path, seed, {"clients": 150, "exec": 400, "jobs": 150}[kind], [kind])
    assert sum(counts.values()) >= 150


def test_p12_a_file_that_is_nearly_right_is_read_or_refused_with_a_sentence(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"again: python -m tests.fuzz --only files --seed {seed}")
    assert Starts(tmp_path, random.Random(seed)).rounds(5).total() > 5
