"""The command line as real processes, against a fake daemon on a real socket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.fake_daemon import Caller, Crash, FakeDaemon, Refusal, Silence, record

SOURCE = Path(__file__).parents[2] / "src"
FAILED = record(
    outcome="failed",
    retcode=3,
    result=None,
    error={"type": "ValueError", "message": "no orders", "traceback": "Traceback ...\nValueError: no orders\n"},
)


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: its names are longer than a unix socket's path may be.
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def daemon(folder: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(str(folder / "sock")) as fake:
        yield fake


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "rocksyd.cli", *arguments]


def environment(address: str | None = None, **more: str) -> dict[str, str]:
    others = ("ROCKSYD_TOKEN", "COLUMNS", "LINES")  # pytest-xdist sets the size of a terminal
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROCKSYD_A") and name not in others}
    return {**kept, "PYTHONPATH": str(SOURCE), **({"ROCKSYD_ADDRESS": address} if address else {}), **more}


def rocksyd(where: FakeDaemon | str | None, *arguments: str, cwd: Path | None = None, **more: str) -> Any:
    address = where.address if isinstance(where, FakeDaemon) else where
    return subprocess.run(
        command(*arguments), env=environment(address, **more), cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def once(error: type[Exception], then: Any) -> Any:
    """A handler that fails once and then answers."""
    failed = []

    def handler(caller: Caller, params: dict[str, Any]) -> Any:
        if not failed:
            failed.append(True)
            raise error
        return then

    return handler


# --- check ------------------------------------------------------------------------------------------------------------
def test_check_says_in_a_line_how_a_run_is(daemon: FakeDaemon) -> None:
    daemon.handlers["status"] = lambda caller, params: record(params["key"])
    done = rocksyd(daemon, "check", "nightly")
    assert (done.returncode, done.stdout, done.stderr) == (0, "nightly: ended ok, retcode 0, 1.2s\n", "")


def test_check_of_a_failed_run_is_0_because_it_was_found(daemon: FakeDaemon) -> None:
    daemon.handlers["status"] = lambda caller, params: FAILED
    done = rocksyd(daemon, "check", "nightly")
    assert (done.returncode, done.stdout) == (0, "nightly: ended failed, ValueError: no orders, retcode 3, 1.2s\n")


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_check_of_an_unknown_run_is_1(daemon: FakeDaemon, more: tuple[str, ...]) -> None:
    def refuse(caller: Caller, params: dict[str, Any]) -> Any:
        raise Refusal(-32001, "not found")

    daemon.handlers["status"] = refuse
    done = rocksyd(daemon, "check", "7", *more)
    assert done.returncode == 1
    assert "no run '7' here" in done.stderr
    assert "rocksyd ps -a" in done.stderr


def test_check_json_is_the_record(daemon: FakeDaemon) -> None:
    daemon.handlers["status"] = lambda caller, params: record("ключ")
    done = rocksyd(daemon, "check", "ключ", "--json")
    assert json.loads(done.stdout) == record("ключ")


def test_check_survives_a_crash_of_the_daemon(daemon: FakeDaemon) -> None:
    daemon.handlers["status"] = once(Crash, record())
    assert rocksyd(daemon, "check", "nightly").stdout == "nightly: ended ok, retcode 0, 1.2s\n"


def test_the_daemon_is_found_by_the_toml_above(daemon: FakeDaemon, folder: Path) -> None:
    daemon.handlers["status"] = lambda caller, params: record()
    (folder / "rocksyd.toml").write_text('listen = ["tcp://127.0.0.1:1", "unix://sock"]\n[apps.shop]\npath = "."\n')
    below = folder / "a" / "b"
    below.mkdir(parents=True)
    assert rocksyd(None, "check", "nightly", cwd=below).returncode == 0
    assert rocksyd(None, "check", "nightly", "--json", cwd=below).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [("--address", "ADDRESS", "check", "x"), ("check", "x", "--address", "ADDRESS"), ("check", "--address=ADDRESS", "x")],
)
def test_the_address_may_stand_before_and_behind_the_command(daemon: FakeDaemon, arguments: tuple[str, ...]) -> None:
    daemon.handlers["status"] = lambda caller, params: record()
    given = [word.replace("ADDRESS", daemon.address) for word in arguments]
    assert rocksyd("unix:///nowhere/at/all", *given).returncode == 0


# --- no daemon --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("arguments", [("check", "1"), ("ps",), ("run", "x"), ("stop",), ("wait", "1")])
def test_no_daemon_is_69_and_says_how_to_start_one(folder: Path, arguments: tuple[str, ...]) -> None:
    done = rocksyd(f"unix://{folder}/nobody", *arguments)
    assert done.returncode == 69
    assert f"no daemon answers at unix://{folder}/nobody" in done.stderr
    assert "rocksyd serve -c FILE" in done.stderr


def test_a_socket_nobody_listens_on_is_no_daemon(daemon: FakeDaemon) -> None:
    daemon.close()
    assert rocksyd(daemon, "ps").returncode == 69


def test_nothing_names_a_daemon(folder: Path) -> None:
    done = rocksyd(None, "check", "1", cwd=folder)
    assert done.returncode == 69
    assert "no rocksyd.toml in" in done.stderr
    assert "--address" in done.stderr


def test_an_address_that_is_none_is_wrong_usage() -> None:
    done = rocksyd("localhost", "ps")
    assert done.returncode == 2
    assert "unix://PATH or tcp://HOST:PORT" in done.stderr


def test_something_else_at_the_address(folder: Path) -> None:
    with FakeDaemon(str(folder / "sock")) as other:
        other._answer = lambda caller, request, **_: caller.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n")  # type: ignore[method-assign]
        done = rocksyd(other, "ps")
    assert done.returncode == 69
    assert "not an answer of a rocksyd daemon" in done.stderr


# --- run --------------------------------------------------------------------------------------------------------------
def test_run_prints_its_key_and_sends_what_was_asked_for(daemon: FakeDaemon) -> None:
    daemon.handlers["run"] = lambda caller, params: record(params["key"], state="waiting", outcome=None, submitted_at=4e9)
    done = rocksyd(
        daemon, "run", "daily", "day=2026-01-31", "shard=3", 'tags=["a"]', "--key", "k1", "--app", "shop", "--priority", "-5",
        "--timeout", "5m", "--delay", "250ms", "--retries", "2", "--start-within", "1h", "--env", "A=1", "--env", "B=x=y",
        "--label", "team=ops",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "k1\n", "")
    assert daemon.next("run") == {
        "target": "daily", "key": "k1", "params": {"day": "2026-01-31", "shard": 3, "tags": ["a"]}, "app": "shop", "priority": -5,
        "timeout": 300.0, "delay": 0.25, "retries": 2, "start_within": 3600.0, "env": {"A": "1", "B": "x=y"},
        "labels": {"team": "ops"},
    }  # fmt: skip


def test_a_run_without_parameters_sends_none(daemon: FakeDaemon) -> None:
    daemon.handlers["run"] = lambda caller, params: record(params["key"])
    assert rocksyd(daemon, "run", "daily").returncode == 0
    assert set(daemon.next("run")) == {"target", "key"}


def test_a_run_that_is_repeated_after_a_crash_has_the_same_key(daemon: FakeDaemon) -> None:
    daemon.handlers["run"] = once(Crash, record("x"))
    done = rocksyd(daemon, "run", "daily", "--params", "[1, 2]")
    first, second = daemon.next("run"), daemon.next("run")
    assert first == second
    assert first["params"] == [1, 2]
    assert done.stdout == first["key"] + "\n"


@pytest.mark.parametrize("how", ["--wait", "--follow"])
def test_the_exit_status_is_the_jobs(daemon: FakeDaemon, how: str) -> None:
    daemon.handlers["run"] = lambda caller, params: record(params["key"], state="running", outcome=None)
    daemon.handlers["wait"] = lambda caller, params: FAILED
    daemon.handlers["logs"] = lambda caller, params: {
        "text": "hi\n" * (params["offset"] == 0),
        "offset": 3,
        "ended": True,
        "truncated": False,
    }
    done = rocksyd(daemon, "run", "daily", "--key", "k", how)
    assert done.returncode == 3
    assert done.stdout == ("k\n" if how == "--wait" else "hi\n")
    assert "failed: ValueError: no orders" in done.stderr


def test_a_crash_during_run_wait_is_not_noticed(daemon: FakeDaemon) -> None:
    daemon.handlers["run"] = once(Crash, record("k", state="running", outcome=None, submitted_at=4e9))
    daemon.handlers["wait"] = once(Crash, record("k"))
    done = rocksyd(daemon, "run", "daily", "--key", "k", "--wait")
    assert (done.returncode, done.stdout, done.stderr) == (0, "k\n42\n", "")


def test_too_busy_is_75(daemon: FakeDaemon) -> None:
    def refuse(caller: Caller, params: dict[str, Any]) -> Any:
        raise Refusal(-32004, "too many runs wait", "try again later")

    daemon.handlers["run"] = refuse
    done = rocksyd(daemon, "run", "daily")
    assert (done.returncode, done.stderr) == (75, "rocksyd: too many runs wait: try again later\n")


@pytest.mark.parametrize("how", ["--wait", "--follow"])
def test_ctrl_c_leaves_the_run_going_and_says_how_to_come_back(daemon: FakeDaemon, how: str) -> None:
    def silent(caller: Caller, params: dict[str, Any]) -> Any:
        raise Silence

    daemon.handlers["run"] = lambda caller, params: record("k", state="running", outcome=None)
    daemon.handlers["wait"] = daemon.handlers["logs"] = silent
    with subprocess.Popen(
        command("run", "daily", "--key", "k", how),
        env=environment(daemon.address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        daemon.next("wait" if how == "--wait" else "logs")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the run goes on; `rocksyd logs -f k`" in said
    assert "Traceback" not in said
    assert all(method != "terminate" for method, _ in daemon.requests())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run",), "TARGET"),
        (("run", "x", "5"), "expected NAME=VALUE"),
        (("run", "x", "a=1", "a=2"), "a is given twice"),
        (("run", "x", "a=1", "--params", "[1]"), "all by position or all by name"),
        (("run", "x", "--params", "{"), "not JSON"),
        (("run", "x", "--params", "5"), "expected an array or an object"),
        (("run", "x", "--timeout", "soon"), "expected a duration"),
        (("run", "x", "--env", "A"), "expected NAME=VALUE"),
        (("kill", "x", "--signal", "FOO"), "expected a signal"),
        (("dance",), "invalid choice"),
        (("lgos", "1"), "(did you mean logs?)"),
        ((), "COMMAND"),
    ],
)
def test_wrong_usage_is_2_and_says_what_was_expected(daemon: FakeDaemon, arguments: tuple[str, ...], words: str) -> None:
    done = rocksyd(daemon, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert daemon.requests() == []


# --- wait, logs -------------------------------------------------------------------------------------------------------
def test_wait_for_several_prints_each_as_it_ends_and_exits_with_the_first_that_failed(daemon: FakeDaemon) -> None:
    waiting: dict[str, int] = {}

    def handler(caller: Caller, params: dict[str, Any]) -> Any:
        waiting[params["key"]] = caller.id
        if len(waiting) == 3:
            for key, code in (("c", 0), ("b", 4), ("a", 5)):
                caller.answer(record(key, outcome="failed" if code else "ok", retcode=code), waiting[key])
        raise Silence

    daemon.handlers["wait"] = handler
    done = rocksyd(daemon, "wait", "a", "b", "c", "--json")
    assert [json.loads(line)["key"] for line in done.stdout.splitlines()] == ["c", "b", "a"]
    assert done.returncode == 5


def test_wait_times_out_with_124(daemon: FakeDaemon) -> None:
    daemon.handlers["wait"] = lambda caller, params: {"timed_out": True}
    done = rocksyd(daemon, "wait", "a", "--timeout", "10s")
    assert done.returncode == 124
    assert "not ended within 10" in done.stderr
    assert 0 < daemon.next("wait")["timeout"] <= 10


def test_wait_times_out_although_the_daemon_says_nothing(daemon: FakeDaemon) -> None:
    def silent(caller: Caller, params: dict[str, Any]) -> Any:
        raise Silence

    daemon.handlers["wait"] = silent
    assert rocksyd(daemon, "wait", "a", "--timeout", "1ms").returncode == 124


def test_logs_prints_all_pieces(daemon: FakeDaemon) -> None:
    pieces = {0: ("eins\n", 5), 5: ("zwei\n", 10), 10: ("", 10)}
    daemon.handlers["logs"] = lambda caller, params: dict(
        zip(("text", "offset"), pieces[params["offset"]], strict=True), ended=False, truncated=False
    )
    done = rocksyd(daemon, "logs", "k")
    assert (done.returncode, done.stdout) == (0, "eins\nzwei\n")


def test_logs_follow_goes_on_after_a_crash_where_it_was(daemon: FakeDaemon) -> None:
    def handler(caller: Caller, params: dict[str, Any]) -> Any:
        offset = params["offset"]
        if not params.get("follow"):
            return {"text": "", "offset": offset, "ended": True, "truncated": False}
        if offset == 0:
            caller.answer({"text": "a", "offset": 1, "ended": False, "truncated": False})
            caller.notify("logs", {"key": "k", "text": "b", "offset": 2, "ended": False})
            raise Crash
        assert offset == 2
        caller.answer({"text": "c", "offset": 3, "ended": False, "truncated": False})
        caller.notify("logs", {"key": "other", "text": "no", "offset": 9, "ended": True})
        caller.notify("logs", {"key": "k", "text": "d", "offset": 4, "ended": True})
        raise Silence

    def silent(caller: Caller, params: dict[str, Any]) -> Any:
        raise Silence

    daemon.handlers.update(logs=handler, wait=silent)
    done = rocksyd(daemon, "logs", "-f", "k")
    assert (done.returncode, done.stdout, done.stderr) == (0, "abcd", "")


def test_logs_follow_ends_with_the_run_although_nobody_said_that_the_output_has(daemon: FakeDaemon) -> None:
    """After a crash a new master may not know of this follower; it knows of the call that waits."""
    daemon.handlers["logs"] = lambda caller, params: {
        "text": "ab"[params["offset"] :][:1],
        "offset": min(params["offset"] + 1, 2),
    }
    daemon.handlers["wait"] = lambda caller, params: record("k")
    assert rocksyd(daemon, "logs", "-f", "k").stdout == "ab"


def test_a_reader_that_leaves_is_no_traceback(daemon: FakeDaemon) -> None:
    daemon.handlers["logs"] = lambda caller, params: {
        "text": "x" * 100_000,
        "offset": params["offset"] + 100_000,
        "ended": False,
        "truncated": False,
    }
    with subprocess.Popen(
        command("logs", "k"), env=environment(daemon.address), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        said = process.stderr.read()
        process.wait(timeout=60)
    assert (process.returncode, said) == (141, b"")


# --- the others -------------------------------------------------------------------------------------------------------
def test_kill_free_and_retry(daemon: FakeDaemon) -> None:
    daemon.handlers.update(
        terminate=lambda caller, params: {},
        free=lambda caller, params: {},
        retry=lambda caller, params: record("k", state="waiting"),
    )
    assert rocksyd(daemon, "kill", "k").returncode == 0
    assert rocksyd(daemon, "kill", "k", "--signal", "SIGINT").returncode == 0
    assert rocksyd(daemon, "free", "k").returncode == 0
    assert rocksyd(daemon, "retry", "k").stdout == "k\n"
    assert daemon.requests() == [
        ("terminate", {"key": "k"}), ("terminate", {"key": "k", "signal": 2}), ("free", {"key": "k"}), ("retry", {"key": "k"}),
    ]  # fmt: skip


def test_free_whose_reply_was_lost_has_been_done(daemon: FakeDaemon) -> None:
    calls = []

    def handler(caller: Caller, params: dict[str, Any]) -> Any:
        calls.append(params)
        if len(calls) == 1:
            raise Crash
        raise Refusal(-32001, "not found")

    daemon.handlers["free"] = handler
    assert rocksyd(daemon, "free", "k").returncode == 0


def test_ps_lists_what_has_not_ended_as_a_table_or_json(daemon: FakeDaemon) -> None:
    runs = {
        "running": [record("r", state="running", outcome=None, pid=77, progress={"done": 2, "total": 5, "note": "reading"})],
        "waiting": [
            record(
                "w", state="waiting", outcome=None, target="\x1b[2Jevil", waits_for={"code": "next", "text": "its turn\x1b[2J"}
            )
        ],
    }
    daemon.handlers["list"] = lambda caller, params: runs[params["state"]]
    daemon.handlers["pools"] = lambda caller, params: []
    done = rocksyd(daemon, "ps", "--app", "shop")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["KEY", "APP", "TARGET", "STATE", "STARTED", "DURATION", "PID", "CPU", "MEMORY", "NOTE"]
    assert lines[1].split()[:4] == ["r", "shop", "shop.jobs:nightly", "running"]
    assert "40 % reading" in lines[1]
    assert "its turn\\x1b[2J" in lines[2]
    assert "\x1b" not in done.stdout
    asked = [params["state"] for method, params in daemon.requests() if method == "list"]
    assert sorted(asked) == ["running", "waiting"]
    assert [item["key"] for item in json.loads(rocksyd(daemon, "ps", "--json").stdout)] == ["r", "w"]


def test_ps_asks_page_by_page(daemon: FakeDaemon) -> None:
    keys = [str(number) for number in range(2500)]

    def page(caller: Caller, params: dict[str, Any]) -> Any:
        if params["state"] != "waiting":
            return []
        start = keys.index(params["after"]) + 1 if "after" in params else 0
        return [record(key, state="waiting", outcome=None) for key in keys[start : start + params["limit"]]]

    daemon.handlers["list"] = page
    assert len(json.loads(rocksyd(daemon, "ps", "--json").stdout)) == 2500
    assert len(json.loads(rocksyd(daemon, "ps", "-a", "--json", "--limit", "1200").stdout)) == 1200


def test_stats_and_pools(daemon: FakeDaemon) -> None:
    numbers = {
        "version": "0.1.0", "uptime": 3700.5, "jobs_running": 2, "jobs_waiting": 12345,
        "memory_rss": 20 << 20, "memory_peak_bytes": 30 << 20,
        "restarts": [
            {"at": 1.7e9, "kind": "restart", "ok": True, "from": 1, "to": 2, "waited_ms": 2.5, "connections": 3, "jobs": 4},
            {"at": 1.7e9, "kind": "restart", "ok": False, "from": 2, "to": 2, "waited_ms": 0, "connections": 0, "bytes": 0,
             "reason": "SyntaxError in shop/jobs.py"},
        ],
    }  # fmt: skip
    daemon.handlers["stats"] = lambda caller, params: numbers
    daemon.handlers["pools"] = lambda caller, params: [{"pool": "shop", "pm": "dynamic", "workers": 4}]
    text = rocksyd(daemon, "stats").stdout
    assert "jobs_waiting  12,345\n" in text
    assert "1h1m" in text
    assert "SyntaxError in shop/jobs.py" in text
    assert json.loads(rocksyd(daemon, "stats", "--json").stdout) == numbers
    assert rocksyd(daemon, "pools").stdout == "POOL  PM       WORKERS\nshop  dynamic        4\n"


def test_restart_says_the_generation_or_why_not(daemon: FakeDaemon) -> None:
    daemon.handlers["restart"] = lambda caller, params: {"generation": 8}

    def refuse(caller: Caller, params: dict[str, Any]) -> Any:
        raise Refusal(-32005, "Restart failed: SyntaxError", {"advice": "correct it and restart again"})

    daemon.handlers["reload"] = refuse
    assert rocksyd(daemon, "restart").stdout == "restarted: generation 8\n"
    assert json.loads(rocksyd(daemon, "restart", "--json").stdout) == {"generation": 8}
    done = rocksyd(daemon, "reload")
    assert (done.returncode, done.stderr) == (1, "rocksyd: Restart failed: SyntaxError: correct it and restart again\n")


def test_stop_returns_when_the_daemon_is_gone(daemon: FakeDaemon) -> None:
    daemon.handlers["stop"] = lambda caller, params: {"generation": 1}
    with subprocess.Popen(command("stop"), env=environment(daemon.address)) as process:
        daemon.next("stop")
        assert rocksyd(daemon, "stop", "--no-wait").returncode == 0
        assert process.poll() is None
        daemon.close()
        assert process.wait(timeout=60) == 0


def test_a_method_the_daemon_does_not_have(daemon: FakeDaemon) -> None:
    done = rocksyd(daemon, "drain")
    assert done.returncode == 1
    assert "another version" in done.stderr


# --- tcp --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("arguments", [("check", "nightly"), ("check", "nightly", "--json")])
def test_tcp_with_the_token_of_the_file(folder: Path, arguments: tuple[str, ...]) -> None:
    with FakeDaemon(token='se"cret') as daemon:
        daemon.handlers["status"] = lambda caller, params: record()
        (folder / "token").write_text('se"cret\n')
        (folder / "rocksyd.toml").write_text(f'listen = ["{daemon.address}"]\ntoken_file = "token"\n')
        assert rocksyd(None, *arguments, cwd=folder).returncode == 0
        done = rocksyd(None, *arguments, cwd=folder, ROCKSYD_TOKEN="wrong")
        assert done.returncode == 1
        assert "refuses the token" in done.stderr
        assert "ROCKSYD_TOKEN" in done.stderr


# --- configuration ----------------------------------------------------------------------------------------------------
def test_check_config_says_what_is_set_up_or_all_that_is_wrong(folder: Path) -> None:
    config = folder / "rocksyd.toml"
    config.write_text('[apps.shop]\npath = "."\njobs = ["jobs"]\n')
    done = rocksyd(None, "check-config", cwd=folder)
    assert (done.returncode, "apps.shop.jobs[0]: no module 'jobs' in " in done.stdout) == (1, True)
    (folder / "jobs.py").touch()
    done = rocksyd(None, "check-config", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"{config}: OK" in done.stdout
    assert "application shop" in done.stdout
    assert json.loads(rocksyd(None, "check-config", "-c", str(config), "--json").stdout)["ok"] is True
    config.write_text('listn = []\n[apps.shop]\npath = "."\njobs = 5\n')
    done = rocksyd(None, "check-config", cwd=folder)
    assert done.returncode == 1
    assert "listn" in done.stdout
    assert ":4:" in done.stdout
    assert rocksyd(None, "serve", cwd=folder).returncode == 1


def test_help_of_every_command(folder: Path) -> None:
    from rocksyd.cli.commands import COMMANDS

    whole = rocksyd(None, "--help", cwd=folder).stdout
    for name in COMMANDS:
        assert f"\n    {name} " in whole or f"\n    {name}\n" in whole
    assert rocksyd(None, "run", "--help").returncode == 0
