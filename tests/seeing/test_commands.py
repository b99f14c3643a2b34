"""The commands that look at many runs, at a real daemon."""

from __future__ import annotations

import getpass
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing.daemon import Daemon, until
from tests.seeing.stage import CLOCK, on_terminal, rocksyd, staged
from tests.terminal.stage import Program, command, environment


@pytest.fixture
def daemon(tmp_path: Path) -> Any:
    with staged(tmp_path) as daemon:
        yield daemon


def keys(daemon: Daemon, *words: str) -> list[str]:
    return [record["key"] for record in json.loads(rocksyd(daemon, "ps", "--json", *words).stdout)]


def test_ps_takes_the_filters_and_shows_times_and_what_a_run_waits_for(daemon: Daemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        client.run("good", key="g", labels={"tenant": "4"}).wait()
        client.run("bad", key="b", labels={"tenant": "4"}).wait()
        client.run("leaves", 3, key="l").wait()
        holders = [client.run("holds", str(tmp_path / "go"), key=f"h{n}") for n in (1, 2)]
        until(lambda: {run.status()["state"] for run in holders} == {"running"}, "the pool to be full")
        client.run("good", key="w")
        assert keys(daemon) == ["h1", "h2", "w"]
        assert keys(daemon, "--failed") == ["l", "b"]
        assert keys(daemon, "--failed", "--label", "tenant=4", "--since", "1h") == ["b"]
        assert keys(daemon, "--outcome", "ok") == ["g"]
        assert keys(daemon, "--target", "holds", "--state", "running") == ["h1", "h2"]
        assert keys(daemon, "--until", "1h") == []
        assert keys(daemon, "--since", "2020-01-31T03:00", "--limit", "3") == ["h1", "h2", "w"]
        shown = rocksyd(daemon, "ps").stdout.splitlines()
        assert "STARTED" in shown[0]
        assert re.search(r"\bw +.*waiting .*all 2 workers of pool 'app' are busy", shown[3])
        assert re.search(rf"\bb +.*failed +{CLOCK} +{CLOCK} ", rocksyd(daemon, "ps", "--failed").stdout)
        assert rocksyd(daemon, "ps", "--since", "yesterday").returncode == 2
        (tmp_path / "go").touch()
        for run in holders:
            run.wait()


def test_retry_kill_and_free_take_filters_count_and_ask(daemon: Daemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        for key in ("b1", "b2", "b3"):
            client.run("bad", key=key).wait()
        client.run("leaves", 3, key="l").wait()
        nobody = rocksyd(daemon, "retry", "--failed")
        assert (nobody.returncode, nobody.stdout) == (1, "")
        assert "run again 4 runs (3 bad, 1 leaves)? Nobody can be asked: repeat it with --yes" in nobody.stderr
        assert client.status("b1")["attempt"] == 1
        done = rocksyd(daemon, "retry", "--failed", "--target", "bad", "--since", "1h", "--yes")
        assert (done.returncode, done.stdout) == (0, "3 runs run again\n")
        for key in ("b1", "b2", "b3"):
            assert next(iter(client.wait(key)))["attempt"] == 2
        for key in ("h1", "h2"):
            client.run("holds", str(tmp_path / "never"), key=key)
        assert rocksyd(daemon, "kill", "--target", "holds", "-y", "-q").stdout == ""
        assert {record["outcome"] for record in client.wait("h1", "h2")} == {"cancelled"}
        assert json.loads(rocksyd(daemon, "free", "--all", "--yes", "--json").stdout) == {"done": 6, "refused": {}}
        assert client.runs() == []
        assert rocksyd(daemon, "free", "--all", "--yes").stderr == "rocksyd: no run fits\n"


def test_an_order_about_many_is_asked_about_on_a_terminal(daemon: Daemon) -> None:
    with daemon.client() as client:
        client.run("good", key="g").wait()
        for answer, left in (("n", ["g"]), ("y", [])):
            with Program(command("free", "--target", "good"), environment(daemon)) as program:
                program.sees("forget 1 run (1 good)? [y/N]")
                program.type(f"{answer}\r")
                program.ends()
            assert [record["key"] for record in client.runs()] == left


@pytest.mark.parametrize("words", [("kill",), ("kill", "k", "--target", "t"), ("free",), ("retry", "--all", "k")])
def test_an_order_about_nothing_or_about_both_is_wrong_usage(daemon: Daemon, words: tuple[str, ...]) -> None:
    assert rocksyd(daemon, *words).returncode == 2


def test_errors_tells_each_failure_once(daemon: Daemon) -> None:
    with daemon.client() as client:
        for number in range(3):
            client.run("bad", f"order {number} is empty", key=f"b{number}").wait()
        client.run("worse", "order 7 is empty", key="w").wait()
        for status in (3, 4):
            client.run("leaves", status, key=f"l{status}").wait()
    groups = json.loads(rocksyd(daemon, "errors", "--json").stdout)
    assert [(group["count"], group["key"]) for group in groups] == [(2, "l4"), (1, "w"), (3, "b2")]
    assert groups[2]["text"] == "ValueError: order 2 is empty"
    assert groups[2]["first_at"] < groups[2]["last_at"]
    assert "in inner" in groups[2]["traceback"]
    text = rocksyd(daemon, "errors", "--target", "bad").stdout
    assert text.startswith("3 x ValueError: order 2 is empty\n")
    assert "raise ValueError(text)" in text
    assert rocksyd(daemon, "errors", "--target", "good").stdout == "nothing failed within 1d\n"


def test_jobs_shows_parameters_and_documentation(daemon: Daemon) -> None:
    text = rocksyd(daemon, "jobs").stdout
    assert re.search(r"^holds +path, \[loud\] +Waits for a file\.$", text, re.MULTILINE)
    one = rocksyd(daemon, "jobs", "holds").stdout
    assert re.search(r"^path +a string +needed$", one, re.MULTILINE)
    assert re.search(r"^timeout +3600\.0$", one, re.MULTILINE)
    assert one.endswith("rocksyd run holds path=...\n")
    assert "  Ends well.\n\n  At once.\n" in rocksyd(daemon, "jobs", "good").stdout
    missing = rocksyd(daemon, "jobs", "hold")
    assert (missing.returncode, "did you mean holds?" in missing.stderr) == (1, True)


def test_restarts_says_who_what_and_why_not(daemon: Daemon) -> None:
    assert rocksyd(daemon, "restart", "--quiet").stdout == ""
    jobs = daemon.app / "jobs.py"
    good = jobs.read_text()
    jobs.write_text("import nothing_of_this_name\n")
    assert rocksyd(daemon, "restart", "-q").returncode == 1
    jobs.write_text(good)
    refused, done = json.loads(rocksyd(daemon, "restarts", "--json").stdout)
    assert (done["ok"], done["from"], done["to"], refused["ok"]) == (True, 1, 2, False)
    titles, first, why, *_, last = rocksyd(daemon, "restarts").stdout.splitlines()
    assert titles.split()[:4] == ["WHEN", "KIND", "RESULT", "WHO"]
    assert re.search(rf"restart +refused +{getpass.getuser()}, pid \d+", first)
    assert "nothing_of_this_name" in why
    assert re.search(r"restart +ok .*1 → 2", last)


def test_run_quiet_prints_only_what_cron_should_mail(daemon: Daemon) -> None:
    done = rocksyd(daemon, "run", "good", "--wait", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = rocksyd(daemon, "run", "bad", "--wait", "--quiet", "--key", "b")
    assert (done.returncode, done.stdout) == (1, "")
    assert "b (bad) failed: ValueError: no orders\n" in done.stderr
    assert rocksyd(daemon, "run", "good", "-q", "--key", "g").stdout == ""
    assert rocksyd(daemon, "wait", "g", "-q").stdout == ""


# --- output -----------------------------------------------------------------------------------------------------------
def test_logs_tail_grep_since_and_times(daemon: Daemon, tmp_path: Path) -> None:
    lines = "".join(f"line {number}\n" for number in range(90_000, 100_000))
    with daemon.client() as client:
        run = client.run("prints", lines, str(tmp_path / "go"), "last\nunfinished", key="p")
        until(lambda: client.request("logs", {"key": "p", "offset": 2**62, "times": True})["times"], "its growth to be seen")
        (tmp_path / "go").touch()
        run.wait()
        seen = client.request("logs", {"key": "p", "times": True})["times"]
        record, now = client.status("p"), time.time()
    assert all(size <= len(lines) + 15 and record["started_at"] - 1 <= at <= now + 0.1 for size, at in seen)  # to a tenth
    assert rocksyd(daemon, "logs", "p", "--tail", "3").stdout == "line 99999\nlast\nunfinished"
    assert rocksyd(daemon, "logs", "p", "--tail", "0").stdout == ""
    assert rocksyd(daemon, "logs", "p", "-n", "500000").stdout == lines + "last\nunfinished"
    assert rocksyd(daemon, "logs", "p").stdout == lines + "last\nunfinished"
    assert rocksyd(daemon, "logs", "p", "--grep", "9{5}|^la").stdout == "line 99999\nlast\n"
    assert rocksyd(daemon, "logs", "p", "--grep", "line", "--tail", "1").stdout == "line 99999\n"
    stamped = rocksyd(daemon, "logs", "p", "--tail", "1", "--timestamps").stdout
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d[+-]\d\d:\d\d unfinished", stamped)
    assert rocksyd(daemon, "logs", "p", "--since", "1h", "--tail", "1").stdout == "unfinished"
    assert rocksyd(daemon, "logs", "p", "--since", "2100-01-01").stdout == ""
    assert rocksyd(daemon, "logs", "p", "--grep", "(").returncode == 2
    times = Path(f"{record['log']}.times")
    assert times.exists()
    assert rocksyd(daemon, "free", "p").returncode == 0
    until(lambda: not times.exists(), "the times to go with the output")


EVIL = "\x1b]0;title\x07\x1b[2J\x1b[31mred\x9b2Jx\u202etfel"


def test_what_a_run_contains_steers_no_terminal(daemon: Daemon) -> None:
    """Keys, params, output, errors: with escapes, with what is no UTF-8, with a line of a megabyte."""
    with daemon.client() as client:
        client.run("bad", EVIL, key=f"k{EVIL}", labels={"evil": EVIL}).wait()
        client.run("prints", EVIL + "\x1b[", key="p").wait()
        client.run("prints", params={"text": "x", "times": 1 << 20}, key="long").wait()
        client.run("prints_bytes", "fffe1b5b324a0a", key="bytes").wait()
    words = [
        ("ps", "-a"), ("ps", "-a", "--json"), ("errors",), ("errors", "--json"),
        ("check", f"k{EVIL}"), ("check", f"k{EVIL}", "--json"),
        ("why", f"k{EVIL}"), ("wait", f"k{EVIL}"), ("logs", "p"), ("logs", "p", "-f"), ("logs", "p", "--json"), ("logs", "bytes"),
        ("logs", "long"), ("logs", f"k{EVIL}"), ("run", "bad", "--params", json.dumps([EVIL]), "--wait"), ("retry", f"k{EVIL}"),
        ("run", "prints", "--params", json.dumps([EVIL]), "--follow"), ("retry", "--failed", "--yes", "--json"),
    ]  # fmt: skip
    for one in words:
        shown = on_terminal(daemon, *one)
        rest = re.sub(r"\x1b\[[0-9;]*m|\r\x1b\[K", "", shown).replace("\r", "")
        steers = re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", rest)
        assert not steers, (one, steers, shown[:500])
    assert "\x1b[31mred" in on_terminal(daemon, "logs", "p"), "colours are kept"
    assert "\x1b[2J" in on_terminal(daemon, "logs", "p", "--raw")
    assert rocksyd(daemon, "logs", "p").stdout == EVIL + "\x1b[", "what is piped is what it has written"
