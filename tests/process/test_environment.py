"""Tests see the same environment whoever runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from rocksyd.testing import until

ROOT = Path(__file__).parents[2]

SHOWS = """
import json, os
from pathlib import Path

def test_shows():
    Path(__file__).with_name("seen").write_text(json.dumps(dict(os.environ)))
"""
LATE = """
import os, signal, sys, time
from pathlib import Path

def test_takes_too_long():
    words = [sys.executable, "-c", "import time; time.sleep(3600)"]
    pid = os.posix_spawn(words[0], words, os.environ, setsid=True)  # no object that complains when it goes
    Path(__file__).with_name("pid").write_text(str(pid))
    signal.raise_signal(signal.SIGALRM)  # the time is over
    time.sleep(3600)

def test_goes_on():
    pass
"""
DIES = """
import os, signal, sys
from pathlib import Path

def test_dies():
    words = [sys.executable, "-c", "import time; time.sleep(3600)"]
    pid = os.posix_spawn(words[0], words, os.environ, setsid=True)  # no object that complains when it goes
    Path(__file__).with_name("pid").write_text(str(pid))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run(folder: Path, text: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A pytest of its own with the conftest of these tests."""
    (folder / "test_it.py").write_text(text)
    options = ["-p", "no:cacheprovider", "-p", "no:randomly", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    command = [sys.executable, "-m", "pytest", *options, "-p", "tests.conftest", *words, str(folder / "test_it.py")]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=100
    )


def test_what_the_caller_has_set_is_unknown_to_the_tests(tmp_path: Path) -> None:
    strange = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "", "NO_COLOR": "1", "ROCKSYD_ADDRESS": "x", "LANG": "C"}
    seen = []
    for environment in ({}, strange):
        done = run(tmp_path, SHOWS, **environment)
        assert done.returncode == 0, done.stdout
        seen.append(json.loads((tmp_path / "seen").read_text()))
    plain, other = (
        {name: value for name, value in one.items() if name not in ("TMPDIR", "ROCKSYD_TEST_RUN", "ROCKSYD_TEST_SESSION")}
        for one in seen
    )
    assert plain == other
    assert {name: other[name] for name in strange.keys() & other.keys()} == {"LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


def test_a_test_that_takes_too_long_ends_with_what_it_has_started_and_the_next_one_runs(tmp_path: Path) -> None:
    done = run(tmp_path, LATE)
    assert "Timeout" in done.stdout, done.stdout
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    until(lambda: not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text()}/exe"), "what it had started to be gone")


def test_what_a_process_of_pytest_had_started_ends_with_it_when_it_is_killed(tmp_path: Path) -> None:
    done = run(tmp_path, DIES, "-n", "1", "--max-worker-restart", "0", ROCKSYD_TEST_SESSION="", TMPDIR=str(tmp_path))
    assert "crashed" in done.stdout, done.stdout
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not os.path.exists(f"/proc/{pid}/exe"), "what it had started to be gone")
