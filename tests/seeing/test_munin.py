"""munin reads the daemon: by the plugin of the manual, and by munin's own program where that is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rocksyd.testing.daemon import TIMEOUT, Daemon
from tests.seeing.stage import staged

PLUGIN = Path(__file__).parents[2] / "docs" / "munin" / "rocksyd"


def values(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)\.value (\S+)$", text, re.MULTILINE))


def run(daemon: Daemon, *command: str) -> str:
    environment = {**os.environ, "address": daemon.address}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=TIMEOUT).stdout


def test_the_plugin_says_the_numbers_of_stats(tmp_path: Path) -> None:
    with staged(tmp_path) as daemon, daemon.client() as client:
        client.run("good", key="g").wait()
        client.run("bad", key="b").wait()
        config = run(daemon, sys.executable, str(PLUGIN), "config")
        found = values(run(daemon, sys.executable, str(PLUGIN)))
        assert set(found) == set(re.findall(r"^(\w+)\.label ", config, re.MULTILINE))
        assert (found["runs_ended_ok"], found["runs_ended_failed"], found["runs_waiting"]) == ("1", "1", "0")
        assert all(value.isdigit() for value in found.values())
        graphs = re.findall(r"^multigraph (\w+)$", config, re.MULTILINE)
        assert graphs == re.findall(r"^multigraph (\w+)$", run(daemon, sys.executable, str(PLUGIN)), re.MULTILINE)


@pytest.mark.root
@pytest.mark.skipif(not shutil.which("munin-run"), reason="munin-node is not installed")
def test_munins_own_program_runs_it(tmp_path: Path) -> None:
    plugins, settings = tmp_path / "plugins", tmp_path / "settings"
    plugins.mkdir()
    settings.mkdir()
    (plugins / "rocksyd").symlink_to(PLUGIN)
    with staged(tmp_path) as daemon, daemon.client() as client:
        client.run("good", key="g").wait()
        (settings / "rocksyd").write_text(f"[rocksyd]\nuser root\nenv.address {daemon.address}\n")
        words = ["munin-run", "--servicedir", str(plugins), "--sconfdir", str(settings), "rocksyd"]
        assert values(run(daemon, *words))["runs_ended_ok"] == "1"
