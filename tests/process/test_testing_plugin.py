"""The fixtures for pytest, as a project's own test run has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

PLUGIN = "rocksyd.testing.plugin"

JOBS = """
from rocksyd import current, job

@job
def add(a: int, b: int) -> int:
    return a + b

@job(timeout="10s")
def left() -> float:
    import time
    return current().deadline - time.monotonic()

@job
def pid() -> int:
    import os
    return os.getpid()
"""
TOML = '[apps.mine]\npath = "."\njobs = ["own_jobs"]\n[apps.mine.pool]\nmax_workers = 2\n'


def run(folder: Path, tests: str, ini: str = "", conftest: str = "") -> subprocess.CompletedProcess[str]:
    """pytest over a project that has JOBS and a rocksyd.toml, with nothing of this repository's settings."""
    (folder / "own_jobs.py").write_text(JOBS)
    (folder / "rocksyd.toml").write_text(TOML)
    (folder / "pytest.ini").write_text(f"[pytest]\n{ini}")
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_own.py").write_text(tests)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    words = ["-m", "pytest", "-p", PLUGIN, "-q", "-p", "no:cacheprovider", "--basetemp", str(folder / "base")]
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=100
    )


def test_the_daemon_is_real_and_has_the_projects_applications(tmp_path: Path) -> None:
    tests = """
import os

def test_real(rocksyd_daemon):
    with rocksyd_daemon.client() as client:
        assert client.call("add", 1, 2) == 3
        assert client.call("pid") != os.getpid()
    assert "run/rocksyd.sock" not in rocksyd_daemon.address

def test_also_by_its_short_name(daemon, rocksyd_daemon):
    assert daemon is rocksyd_daemon

def test_jobs_of_its_own(rocksyd_daemon_factory):
    first = rocksyd_daemon_factory("from rocksyd import job\\n@job\\ndef one():\\n    return 1\\n")
    with first.client() as client:
        assert client.call("one") == 1
"""
    done = run(tmp_path, tests)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "var").exists()


def test_one_daemon_can_serve_the_whole_session_and_is_started_as_the_project_says(tmp_path: Path) -> None:
    tests = """
pids = set()

def test_one(daemon):
    pids.add(daemon.pid)

def test_two(daemon):
    pids.add(daemon.pid)
    assert len(pids) == 1
    assert "MARK=here" in open(f"/proc/{daemon.pid}/environ").read()
"""
    options = """
import pytest

@pytest.fixture(scope="session")
def rocksyd_daemon_options():
    return {"environment": {"MARK": "here"}}
"""
    done = run(tmp_path, tests, ini="rocksyd_scope = session\n", conftest=options)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_a_failure_shows_the_daemons_log(tmp_path: Path) -> None:
    done = run(tmp_path, "def test_wrong(daemon):\n    daemon.client().call('add', 1, 1)\n    assert False\n")
    assert "1 failed" in done.stdout
    assert "log of the daemon in" in done.stdout
    assert "serves mine at" in done.stdout


def test_eager_runs_and_the_clock(tmp_path: Path) -> None:
    tests = """
import os
from rocksyd import Client

def test_eager(rocksyd_eager):
    assert rocksyd_eager.call("pid") == Client().call("pid") == os.getpid()

def test_clock(rocksyd_eager, rocksyd_clock):
    assert Client().call("left") == 10
    run = rocksyd_eager.run("add", 1, 2, delay="1h")
    rocksyd_clock.advance("1h")
    assert run.status()["result"] == 3
"""
    done = run(tmp_path, tests)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_a_project_without_a_configuration_is_told_what_to_do(tmp_path: Path) -> None:
    done = run(tmp_path, "def test_none(daemon):\n    pass\n", ini="rocksyd_config = elsewhere/rocksyd.toml\n")
    assert "1 error" in done.stdout
    assert "elsewhere/rocksyd.toml: No such file" in done.stdout


def test_a_suite_that_does_not_use_it_pays_only_for_its_own_import() -> None:
    code = f"import pytest, sys; before = set(sys.modules); import {PLUGIN}; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == ["rocksyd", "rocksyd.testing", "rocksyd.testing.plugin"]


def test_pytest_finds_it_by_itself() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert json.dumps(project["entry-points"]["pytest11"]) == json.dumps({PLUGIN: PLUGIN})
