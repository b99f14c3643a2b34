"""`make demo` as a visitor runs it, without a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("django", reason="the extra `examples` is not installed")

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_the_demonstration_holds_every_claim_and_leaves_nothing_behind(tmp_path: Path) -> None:
    # A folder of its own, so that what it leaves there is seen; and no terminal, as in continuous integration.
    environment = {**os.environ, "TMPDIR": os.environ["TMPDIR"]}
    done = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert not list(Path(environment["TMPDIR"]).glob("rocksyd-demo-*"))
