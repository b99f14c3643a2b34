"""`rocksyd top` on real terminals, beside a real daemon."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from rocksyd.testing.daemon import TIMEOUT, Daemon, until
from tests.terminal.screen import Screen
from tests.terminal.stage import JOBS, Program, command, environment, rocksyd

FAST = ("top", "--interval", "100ms")


def top(daemon: Daemon, *, size: tuple[int, int] = (80, 24), **more: str) -> Program:
    return Program(command(*FAST), environment(daemon, **more), size=size)


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
def test_shows_pools_runs_workers_queue_and_progress(tmp_path: Path, size: tuple[int, int]) -> None:
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client, top(daemon, size=size) as program:
        (tmp_path / "1").touch()
        client.run("steps", str(tmp_path), key="half", labels={"of": "monday"})
        client.run("single", str(tmp_path / "end"), key="first")
        client.run("single", str(tmp_path / "end"), key="second")
        screen = program.sees("half", "first", "second", "25 %")
        assert "running" in screen.line_with("half")
        assert "waiting" in screen.line_with("second")
        assert screen.line_with("app ").split()[:1] == ["app"]
        program.sees("2 running  1 waiting", "idle", "q quit")
        assert not screen.overflowed
        assert ("PID" in screen.line_with("KEY")) or size[0] == 80
        (tmp_path / "end").touch()
        for step in "234":
            (tmp_path / step).touch()
        program.sees("0 running  0 waiting", "3 ok")
        program.type("e")
        assert "ok" in program.until(lambda s: "half" in s.text, "an ended run").line_with("half")


def test_kill_asks_and_kills(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client, top(daemon) as program:
        run = client.run("holds", str(tmp_path / "never"), key="victim")
        program.sees("victim")
        program.type("kx")
        program.sees("not killed")
        assert run.status()["state"] == "running"
        program.type("k")
        program.sees("kill victim?")
        program.type("y")
        assert run.wait()["outcome"] == "cancelled"
        program.sees_no("victim  ")


def test_a_capital_k_kills_at_once_what_does_not_listen(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client, top(daemon) as program:
        run = client.run("polite", str(tmp_path / "there"), key="deaf")
        until((tmp_path / "there").exists, "the job to ignore TERM")
        program.sees("deaf")
        program.type("k")
        program.sees("kill deaf?")
        program.type("K")
        assert run.wait()["signal"] == 9


def test_filter_choose_follow_why_and_help(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client, top(daemon) as program:
        (tmp_path / "1").touch()
        client.run("steps", str(tmp_path), key="alpha")
        client.run("single", str(tmp_path / "end"), key="beta")
        client.run("single", str(tmp_path / "end"), key="gamma", labels={"of": "monday"})
        program.sees("alpha", "beta", "gamma")
        program.type("/of=mon\r")
        program.until(lambda s: "gamma" in s.text and "alpha" not in s.text and "beta" not in s.text, "only gamma")
        program.type("w")
        program.sees("max_running")
        program.type("q")
        program.sees("filter: of=mon")
        program.type("\x1b")
        program.sees("alpha", "beta")
        program.type("\x1b[H\r")
        program.sees("alpha  steps", "step 1")
        (tmp_path / "2").touch()
        program.sees("step 2", "50 %")
        program.type("q?")
        program.sees("choose a run")
        program.type("qq")
        assert program.ends() == 0
        program.assert_restored()
        client.terminate("alpha")
        (tmp_path / "end").touch()


@pytest.mark.parametrize(
    ("end", "status"),
    [("q", 0), ("\x03", 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP), (signal.SIGINT, 130)],
)
def test_the_terminal_is_given_back_as_it_was(tmp_path: Path, end: str | int, status: int) -> None:
    with Daemon(tmp_path, JOBS) as daemon, top(daemon) as program:
        program.sees("POOL")
        assert program.screen.is_other
        assert not program.screen.modes[25]
        if isinstance(end, str):
            program.type(end)
        else:
            program.process.send_signal(end)
        assert program.ends() == status
        program.assert_restored()


def test_a_window_that_is_closed_ends_it(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, top(daemon) as program:
        program.sees("POOL")
        program.hang_up()
        assert program.process.wait(TIMEOUT) == -signal.SIGHUP


def test_ctrl_z_gives_the_terminal_back_until_fg(tmp_path: Path) -> None:
    script = f"set -m; {' '.join(command(*FAST))}; echo stopped $?; read; fg >/dev/null; printf '\\nended %s\\n' $?"
    with Daemon(tmp_path, JOBS) as daemon, Program(["bash", "-c", script], environment(daemon)) as program:
        program.sees("POOL")
        program.type("\x1a")
        screen = program.sees(f"stopped {128 + signal.SIGTSTP}")
        assert not screen.is_other
        assert screen.modes[25]
        program.type("\n")
        program.until(lambda s: s.is_other and "POOL" in s.text, "the table again")
        program.type("q")
        program.sees("ended 0")
        assert program.ends() == 0
        program.assert_restored()


def rows_of_last_frame(screen: Screen) -> int:
    """How far down it goes since the window was cleared; a frame that is drawn as a whole begins with that."""
    return max(map(int, re.findall("\x1b\\[([0-9]+);1H", screen.raw.rpartition("\x1b[2J")[2])), default=0)


def test_follows_the_size_of_the_window(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client, top(daemon, size=(200, 40)) as program:
        run = client.run("holds", str(tmp_path / "end"), key="k" * 100)
        program.sees("k" * 100, "PM")
        for size in ((60, 10), (30, 5), (8, 2), (1, 1), (120, 30)):
            program.resize(*size)
            # Frames that were on their way have the rows of a size before.
            program.until(lambda s: rows_of_last_frame(s) == size[1], f"a frame at {size}")  # noqa: B023
            program.until(lambda s: s.lines[-1].startswith("q quit"[: min(size[0] - 1, 6)]), f"the frame at {size}")  # noqa: B023
            assert not program.screen.overflowed
        program.sees("POOL", "kkkk")
        (tmp_path / "end").touch()
        run.wait()


def test_p1_a_restart_is_seen_and_does_not_disturb(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client, top(daemon) as program:
        run = client.run("holds", str(tmp_path / "end"), key="lasting")
        program.sees("generation 1", "lasting")
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        program.sees("generation 2", "lasting", "restarts  1  last", "clients waited")
        assert "no answer" not in program.screen.raw
        (tmp_path / "end").touch()
        run.wait()
        program.sees("1 ok")


def test_p11_connects_again_after_the_master_was_killed(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client, top(daemon) as program:
        run = client.run("holds", str(tmp_path / "end"), key="lasting")
        program.sees("lasting")
        os.kill(daemon.master_pid, signal.SIGKILL)
        program.sees("1 crash ", "lasting")
        (tmp_path / "end").touch()
        assert run.wait()["outcome"] == "ok"
        program.sees("0 running")


def test_says_that_nobody_answers_and_goes_on_when_somebody_does(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, top(daemon) as program:
        program.sees("POOL")
        daemon.stop()
        program.sees("no answer (what follows is", "POOL")
        daemon.start()
        program.sees_no("no answer")
        program.type("q")
        assert program.ends() == 0


def test_no_daemon_at_all_is_69_and_leaves_the_screen_alone(tmp_path: Path) -> None:
    env = {**environment(None), "ROCKSYD_ADDRESS": f"unix://{tmp_path}/nobody"}
    with Program(command("top"), env) as program:
        assert program.ends() == 69
        assert "no daemon answers" in program.screen.text.replace("\n", "")
        assert "\x1b" not in program.screen.raw


def test_no_color_has_none_and_ascii_where_there_is_no_utf8(tmp_path: Path) -> None:
    plain = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "NO_COLOR": "1"}
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client:
        run = client.run("holds", str(tmp_path / "end"), key="there")
        with top(daemon) as coloured:
            assert coloured.sees("▸ there").colours >= {"1", "36"}
        with top(daemon, **plain) as program:
            screen = program.sees("> there")
            assert not screen.colours
            assert screen.raw.isascii()
        (tmp_path / "end").touch()
        run.wait()


def test_piped_it_is_plain_text_once(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client:
        run = client.run("holds", str(tmp_path / "end"), key="there")
        done = rocksyd(daemon, "top")
        assert done.returncode == 0
        assert "\x1b" not in done.stdout
        assert "there" in done.stdout
        assert "POOL" in done.stdout
        assert {"stats", "pools", "runs"} == json.loads(rocksyd(daemon, "top", "--json").stdout).keys()
        with subprocess.Popen(command("top"), env=environment(daemon), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.wait(TIMEOUT) in (0, 141)
        (tmp_path / "end").touch()
        run.wait()
