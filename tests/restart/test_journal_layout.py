"""P3, P4, P6: the journal's layout between the version before, which has a table less, and this one, in every order."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import copy_package, until
from tests.restart.stage import JOBS, patched
from tests.versions import Place, label, unpacked, version

ADDED = {
    "runs_target_at", "runs_trouble_at", "runs_trouble_target", "runs_trouble_target_at", "set_aside", "ticks", "ticks_latest",
    "starts", "costs", "flags",
}  # fmt: skip
POOL = 'pm = "static"\nmax_workers = 1'


def layout(daemon: Daemon) -> set[str]:
    with closing(sqlite3.connect(daemon.config.parent / "var" / "journal.sqlite")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        return {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")}


@pytest.mark.timeout(300)
def test_p3_p4_p6_what_a_version_adds_comes_after_its_adopted_and_the_version_before_goes_on_with_it(tmp_path: Path) -> None:
    old, new = unpacked(tmp_path / "before"), copy_package(tmp_path)
    label(new, "now")
    place = Place(tmp_path / "installed", old)
    followed = 0

    with Daemon(tmp_path, JOBS, parts={"pool": POOL}, package=place.path) as daemon:
        talk = daemon.talk()

        def serves(package: Path, number: int) -> None:
            assert talk.rpc("stats")["version"] == version(package)
            for before in range(number):
                assert talk.rpc("status", key=f"k{before}")["result"] == before + 1
            assert talk.rpc("call", target="add", params=[number, 1], key=f"k{number}")["result"] == number + 1

        def deploy(package: Path) -> None:
            nonlocal followed
            place.switch(package)
            assert talk.ask("restart") == {"error_text": "Restarted successfully"}
            followed += 1
            ready = "the keeper's new code has taken over"
            until(lambda: daemon.log().count(ready) == followed, "the keeper to have followed")

        serves(old, 0)
        before = layout(daemon)
        assert "set_aside" not in before
        for number, method in enumerate(("_load_applications", "_take_over", "_load_snapshot"), 1):
            with patched(new, method, "os._exit(5)"):
                place.switch(new)
                talk.send("restart")
                assert json.loads(talk.line())["error_text"].startswith("Restart failed: ")
                place.switch(old)
            assert layout(daemon) == before, f"nothing is added by a version that fails in {method}"
            serves(old, number)
        deploy(new)
        assert layout(daemon) - before == ADDED
        serves(new, 4)
        deploy(old)
        serves(old, 5)
        deploy(new)
        serves(new, 6)
        place.switch(old)
        daemon.stop()
        daemon.start()
        talk = daemon.talk()
        serves(old, 7)
        assert layout(daemon) - before == ADDED
