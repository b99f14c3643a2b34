"""The revision of the code: in stats, in restarts, in each record, in the log; over restarts and a crash."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from rocksyd.errors import NotNow
from rocksyd.testing.daemon import CONFIG, POOL, Daemon, until
from tests.seeing.stage import JOBS, rocksyd


def test_a_deploy_goes_from_one_revision_to_the_next(tmp_path: Path) -> None:
    config = CONFIG.format(top="", app='revision = "REVISION"', pool=POOL)
    (tmp_path / "app").mkdir()
    told = tmp_path / "app" / "REVISION"
    told.write_text("3f2c1\n")
    with Daemon(tmp_path, JOBS, config=config) as daemon, daemon.client() as client:
        assert client.stats()["rev"] == "3f2c1"
        assert client.run("good", key="a").wait()["revision"] == "3f2c1"
        held = client.run("holds", str(tmp_path / "go"), key="h")
        until(lambda: held.status()["state"] == "running", "it to run")
        told.write_text("9ab04\n")
        client.restart()
        assert client.stats()["rev"] == "9ab04"
        assert client.run("good", key="b").wait()["revision"] == "9ab04"
        told.write_text("bad00\n")
        (daemon.app / "jobs.py").write_text("import nothing_of_this_name\n")
        with pytest.raises(NotNow):
            client.reload()
        (daemon.app / "jobs.py").write_text(JOBS)
        refused, done = client.request("restarts")
        assert (done["from_rev"], done["to_rev"]) == ("3f2c1", "9ab04")
        assert (refused["from_rev"], refused["to_rev"]) == ("9ab04", "9ab04")
        assert "3f2c1 → 9ab04" in rocksyd(daemon, "restarts").stdout
        assert "revision 3f2c1 → 9ab04" in daemon.log()
        os.kill(client.stats()["master_pid"], signal.SIGKILL)
        until(lambda: client.stats()["crashes"] == 1, "another master")
        assert client.stats()["rev"] == "9ab04"
        (tmp_path / "go").touch()
        assert held.wait()["revision"] == "3f2c1"
