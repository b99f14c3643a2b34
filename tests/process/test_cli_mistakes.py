"""What a person types wrongly, or sends to a place that takes nothing, ends with a sentence and a status; never a traceback."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rocksyd import Executor
from rocksyd.client.job_errors import raised
from rocksyd.errors import JobFailed
from rocksyd.testing import Daemon
from tests.process.fake_daemon import Caller, FakeDaemon, Refusal, record
from tests.process.test_cli import command, environment, rocksyd

JOBS = """
from rocksyd import job

@job
def daily(day="today", shard=1):
    return day

@job
def exhausted():
    next(iter(()))
"""
CONFIG = '[apps.shop]\npath = "."\n'


def status_to(output: str, address: str | None, *words: str, cwd: Path) -> tuple[int, str]:
    """The exit status and what is said, with standard output redirected as a shell has it."""
    line = ["sh", "-c", f'"$@" {output}', "sh", *command(*words)]
    done = subprocess.run(line, env=environment(address), cwd=cwd, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(("output", "cause"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")])
def test_an_output_that_takes_nothing_is_a_sentence_and_74(tmp_path: Path, output: str, cause: str) -> None:
    (tmp_path / "rocksyd.toml").write_text(CONFIG)
    said = f"rocksyd: standard output cannot be written ({cause})\n"
    with FakeDaemon(str(tmp_path / "sock")) as daemon:
        daemon.handlers.update(
            status=lambda caller, params: record(params["key"]),
            run=lambda caller, params: record(params["key"]),
            wait=lambda caller, params: record(params["key"]),
            list=lambda caller, params: [record("a")],
            stats=lambda caller, params: {"generation": 1},
            logs=lambda caller, params: {"text": "out", "offset": 3, "ended": True, "truncated": False},
            why=lambda caller, params: {"key": "a", "target": "x", "state": "ended", "outcome": "ok", "reasons": []},
        )
        for words in (["check", "a"], ["check", "a", "--json"], ["run", "x"], ["wait", "a"], ["stats"],
                      ["logs", "a"], ["logs", "-f", "a"], ["why", "a"]):  # fmt: skip
            assert status_to(output, daemon.address, *words, cwd=tmp_path) == (74, said), words
    for words in (["--help"], ["run", "--help"], ["--version"], ["check-config"], ["completion", "bash"]):
        assert status_to(output, None, *words, cwd=tmp_path) == (74, said), words


def test_closed_standard_streams_keep_their_numbers(tmp_path: Path) -> None:
    with FakeDaemon(str(tmp_path / "sock")) as daemon:
        daemon.handlers["status"] = lambda caller, params: record(params["key"])
        for streams in ("<&-", "2>&-", "<&- 2>&-", "<&- >/dev/null"):
            assert status_to(streams, daemon.address, "check", "a", cwd=tmp_path) == (0, ""), streams
        assert status_to("2>&-", daemon.address, "run", cwd=tmp_path) == (2, "")
        assert status_to("<&- >&- 2>&-", daemon.address, "check", "a", cwd=tmp_path) == (74, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run", "error: the following arguments are required: TARGET\n"),
        ("run shard=3", "run: shard=3 is an argument, and the job goes before it: rocksyd run TARGET shard=3\n"),
        ("run daily --folow", "unrecognized arguments: --folow (did you mean --follow?)\n"),
        ("run daily --prioritty=3", "unrecognized arguments: --prioritty=3 (did you mean --priority?)\n"),
        ("kil a", "invalid choice: 'kil' (did you mean kill?)\n"),
        ("ps --state runing", "invalid choice: 'runing' (did you mean running?)\n"),
        ('run daily --params {"day":1} day=2', "run: day is in --params and given as day=...: give it once\n"),
        ("run daily --params [1] day=2", "--params is an array, and NAME=VALUE are arguments by name"),
    ],
)
def test_wrong_usage_says_what_was_probably_meant(tmp_path: Path, words: str, said: str) -> None:
    with FakeDaemon(str(tmp_path / "sock")) as daemon:
        done = rocksyd(daemon.address, *words.split())
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert daemon.requests() == []


def test_the_daemon_says_what_was_probably_meant_and_that_a_key_was_used_before(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        done = rocksyd(daemon.address, "run", "dayly")
        assert (done.returncode, done.stderr) == (
            1, "rocksyd: no job is called 'dayly': did you mean daily? jobs there are: daily, exhausted\n"
        )  # fmt: skip
        done = rocksyd(daemon.address, "run", "daily", "shrad=3")
        assert done.returncode == 2
        assert "there is no parameter 'shrad' (did you mean shard?)" in done.stderr
        assert rocksyd(daemon.address, "run", "daily", "--key", "k", "--wait").stderr == ""
        again = rocksyd(daemon.address, "run", "daily", "--key", "k")
        assert (again.returncode, again.stdout) == (0, "k\n")
        assert again.stderr == (
            "rocksyd: k was ordered before (ok): nothing new runs; once it has ended, `rocksyd retry k` runs it again\n"
        )
        assert len(daemon.talk().rpc("list")) == 1


def test_kill_and_free_take_several_keys_and_go_on_behind_one_that_is_refused(tmp_path: Path) -> None:
    def known(caller: Caller, params: dict[str, Any]) -> Any:
        if params["key"] == "nobody":
            raise Refusal(-32001, "no such run")
        if params["key"] == "busy":
            raise Refusal(-32005, "not now")
        return record(params["key"])

    with FakeDaemon(str(tmp_path / "sock")) as daemon:
        daemon.handlers.update(terminate=known, free=known)
        for word, method in (("kill", "terminate"), ("free", "free")):
            done = rocksyd(daemon.address, word, "a", "nobody", "b", "busy", "a", "c")
            assert done.returncode == 1
            first, second = done.stderr.splitlines()
            assert "no run 'nobody' here" in first
            assert second == "rocksyd: busy: not now"
            assert [(name, params["key"]) for name, params in daemon.requests()] == [
                (method, key) for key in ("a", "nobody", "b", "busy", "c")
            ]
            assert rocksyd(daemon.address, word, "a", "b").returncode == 0
            assert rocksyd(daemon.address, word).returncode == 2
            daemon.requests()


def test_a_stop_iteration_of_a_job_ends_what_asyncio_waits_for(tmp_path: Path) -> None:
    async def main(address: str) -> None:
        with Executor(address=address) as pool:
            loop = asyncio.get_running_loop()
            with pytest.raises(JobFailed, match="StopIteration"):
                await asyncio.wait_for(loop.run_in_executor(pool, "exhausted"), 30)  # type: ignore[arg-type]

    with Daemon(tmp_path, JOBS) as daemon:
        asyncio.run(main(str(daemon.address)))


@pytest.mark.parametrize("name", ["StopIteration", "KeyboardInterrupt", "SystemExit", "GeneratorExit"])
def test_no_exception_that_a_future_cannot_hold_is_made(name: str) -> None:
    failure = JobFailed("it failed", {"error": {"type": name, "message": "", "traceback": "T"}})
    assert raised(failure) is failure
