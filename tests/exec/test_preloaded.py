"""Scripts in an application that has loaded what scripts use themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rocksyd.testing import Daemon

APPLICATION = """
import multiprocessing.pool
import os
os.environ.setdefault("SET_BY_IMPORT", "by the application")
"""
SCRIPT = """
import multiprocessing
import os
class Answer:
    def __init__(self, value): self.value = value
def double(x): return Answer(2 * x)
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print([answer.value for answer in pool.map(double, [1, 2, 3])])
    print(os.environ.get("SET_BY_IMPORT"))
"""


def _run(folder: Path, daemon: Daemon, **env: str) -> str:
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "rocksyd.cli", "exec", "--", "script.py"]
    surroundings = {**os.environ, "ROCKSYD_ADDRESS": daemon.address, **env}
    ended = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_processes_by_spawn_send_back_objects_of_the_script(tmp_path: Path) -> None:
    with Daemon(tmp_path, APPLICATION) as daemon:
        assert _run(tmp_path, daemon).splitlines()[0] == "[2, 4, 6]"


def test_variables_that_an_import_has_set_are_there_unless_the_caller_has_them(tmp_path: Path) -> None:
    with Daemon(tmp_path, APPLICATION) as daemon:
        assert _run(tmp_path, daemon).splitlines()[1] == "by the application"
        assert _run(tmp_path, daemon, SET_BY_IMPORT="by the caller").splitlines()[1] == "by the caller"
