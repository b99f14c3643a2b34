"""`rocksyd debug`: what runs log, from DEBUG on, for a while."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rocksyd.client import Client
from rocksyd.errors import RequestError
from rocksyd.testing.daemon import Daemon, until
from tests.seeing.stage import rocksyd

JOBS = """
import asyncio, logging, logging.config, os, sys
from rocksyd import job

HERE = os.path.dirname(__file__)
SHOP = logging.getLogger("shop")

class Letters(logging.Handler):
    def emit(self, record):
        with open(os.path.join(HERE, "letters"), "a") as file:
            file.write(record.getMessage() + "\\n")

if os.path.exists(os.path.join(HERE, "configured")):
    logging.basicConfig(level="WARNING", format="%(levelname)s-%(message)s")
    logging.root.handlers[0].setLevel("WARNING")
    logging.root.addHandler(Letters("ERROR"))
    SHOP.setLevel("INFO")

@job
def says():
    SHOP.debug("fine")
    SHOP.warning("rough")
    SHOP.error("bad")
    return os.getpid()

@job
async def says_async():
    await asyncio.sleep(0)
    SHOP.debug("fine")

@job
def other():
    SHOP.debug("fine")
"""


def output(client: Client, key: str, target: str = "says") -> str:
    client.call(target, key=key)
    return "".join(client.logs(key))


@pytest.mark.parametrize("configured", [False, True])
def test_a_run_logs_everything_while_the_flag_holds_also_after_a_restart_and_nothing_else_does(
    tmp_path: Path, configured: bool
) -> None:
    (tmp_path / "app").mkdir()
    if configured:
        (tmp_path / "app" / "configured").touch()
    pool = 'pm = "static"\nmax_workers = 1\nmax_jobs = 0'
    with Daemon(tmp_path, JOBS, parts={"pool": pool}) as daemon, daemon.client() as client:
        before = output(client, "before")
        assert "fine" not in before
        said = rocksyd(daemon, "debug", "says", "--for", "20m")
        assert said.returncode == 0, said.stderr
        assert "log everything" in said.stderr
        loud = output(client, "loud")
        assert ("DEBUG-fine" if configured else " DEBUG shop: fine\n") in loud
        assert loud.count("rough") == 1, "once, by whichever handler prints"
        assert "fine" not in output(client, "other", "other"), "of another target, in the same process"
        client.restart()
        assert "fine" in output(client, "after")
        assert "debug log" in rocksyd(daemon, "ps", "-a").stdout
        assert client.status("after")["debug"] is True
        listed = json.loads(rocksyd(daemon, "debug", "--list", "--json").stdout)
        assert [(row["flag"], row["target"]) for row in listed] == [("debug", "says")]
        assert "says" in rocksyd(daemon, "debug", "--list").stdout
        assert [rocksyd(daemon, "debug", "says", "--stop").returncode for _ in range(2)] == [0, 1]
        assert output(client, "quiet") == before.replace("before", "quiet"), "as it was, in a process that has logged more"
        if configured:
            assert (daemon.app / "letters").read_text().splitlines() == ["bad"] * 4, "who gets letters gets no more of them"
        assert "flag debug of target says holds until" in daemon.log()
        assert "flag debug of target says was taken away" in daemon.log()


def test_it_ends_by_itself(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client:
        client.flag("debug", target="says", lasts="10ms")
        until(lambda: "flag debug of target says is over" in daemon.log(), "its end")
        assert client.flags() == []
        assert "fine" not in output(client, "a")


def test_runs_that_share_a_worker_log_everything_as_long_as_one_of_them_is_to(tmp_path: Path) -> None:
    pool = 'pm = "static"\nmax_workers = 1\nmax_jobs = 0\nconcurrency = 5'
    with Daemon(tmp_path, JOBS, parts={"pool": pool}) as daemon, daemon.client() as client:
        client.flag("debug", target="says_async")
        assert "fine" in output(client, "a", "says_async")
        client.unflag("debug", target="says_async")
        assert output(client, "b", "says_async") == ""


def test_what_is_no_target_or_too_long_or_a_command_is_refused_with_a_sentence(tmp_path: Path) -> None:
    script = '[scripts.nightly]\ncron = "0 3 * * *"\ntarget = "says"\n[scripts.dump]\ncron = "0 4 * * *"\ncommand = ["true"]\n'
    with Daemon(tmp_path, JOBS, parts={"top": script}) as daemon, daemon.client() as client:
        for params, text in (
            ({"target": "sais"}, "no job is called 'sais'"),
            ({"target": "says", "script": "nightly"}, "name one of target, script"),
            ({}, "name one of target, script"),
            ({"target": "says", "for": "8d"}, "at most 7d"),
            ({"target": "says", "for": 0}, "more than 0"),
            ({"target": "says", "for": "soon"}, "for: "),
        ):
            with pytest.raises(RequestError, match=text):
                client.request("flag", {"flag": "debug", **params})
        said = rocksyd(daemon, "debug", "sais")
        assert (said.returncode, "did you mean" in said.stderr) == (1, True), said.stderr
        said = rocksyd(daemon, "debug", "dump")
        assert (said.returncode, "is a command line" in said.stderr) == (1, True), said.stderr
        said = rocksyd(daemon, "debug", "nothing", "--script")
        assert (said.returncode, "no script is called nothing" in said.stderr) == (1, True), said.stderr
        assert rocksyd(daemon, "debug", "nightly").returncode == 0
        shown = rocksyd(daemon, "schedule", "show", "nightly").stdout
        assert "debug log for another 1h" in shown or "debug log for another 59" in shown
        key = rocksyd(daemon, "schedule", "run", "nightly").stdout.strip()
        assert next(client.wait(key))["outcome"] == "ok"
        assert "fine" in "".join(client.logs(key))
