"""`rocksyd run --follow`: output and progress on a terminal, output alone in a pipe."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from rocksyd.testing.daemon import TIMEOUT, Daemon
from tests.terminal.stage import JOBS, Program, command, environment


def follow(daemon: Daemon, *words: str, size: tuple[int, int] = (80, 24), **more: str) -> Program:
    return Program(command("run", "--follow", "--key", "k", *words), environment(daemon, **more), size=size)


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (30, 10)])
def test_a_line_of_progress_stays_below_the_output_and_leaves_nothing(tmp_path: Path, size: tuple[int, int]) -> None:
    with Daemon(tmp_path, JOBS) as daemon, follow(daemon, "steps", f"folder={tmp_path}", size=size) as program:
        (tmp_path / "1").touch()
        screen = program.until(lambda s: "step 1" in s.text and " 25 %" in s.lines[2], "the line of progress")
        assert screen.lines[2].strip().startswith("25 %")
        assert "█" in screen.lines[2]
        assert len(screen.lines[2]) < size[0]
        for step in "234":
            (tmp_path / step).touch()
        program.until(lambda s: "step 4" in s.text and "100 %" in s.text, "100 %")
        (tmp_path / "end").touch()
        assert program.ends() == 0
        assert screen.text.splitlines()[:5] == ["rocksyd: run k", "step 1", "step 2", "step 3", "step 4"]
        assert "%" not in screen.text
        assert "ended ok" in screen.text


def test_p1_p11_progress_goes_on_over_a_restart_and_a_crash_of_the_master(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, follow(daemon, "steps", f"folder={tmp_path}") as program:
        (tmp_path / "1").touch()
        program.sees("step 1", " 25 %")
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        (tmp_path / "2").touch()
        program.sees("step 2", " 50 %", "did 2")
        os.kill(daemon.master_pid, signal.SIGKILL)
        (tmp_path / "3").touch()
        program.sees("step 3", " 75 %", "did 3")
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        (tmp_path / "4").touch()
        program.sees("step 4", "100 %")
        (tmp_path / "end").touch()
        assert program.ends() == 0
        assert [line for line in program.screen.lines if line.startswith("step")] == [f"step {n}" for n in (1, 2, 3, 4)]


def test_a_line_of_output_that_is_not_finished_is_left_alone(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, follow(daemon, "dots", f"folder={tmp_path}") as program:
        program.sees("before", "..")
        (tmp_path / "end").touch()
        assert program.ends() == 0
        assert program.screen.lines[1:3] == ["before", ".."]


def test_waiting_is_shown_until_it_starts(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client:
        first = client.run("single", str(tmp_path / "end"), key="first")
        with follow(daemon, "single", f"path={tmp_path}/end") as program:
            program.until(lambda s: s.lines[1] == "waiting", "that it waits")
            (tmp_path / "end").touch()
            first.wait()
            assert program.ends() == 0
            assert "waiting" not in program.screen.text


def test_ctrl_c_leaves_the_run_and_cleans_the_line(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client, follow(daemon, "steps", f"folder={tmp_path}") as program:
        (tmp_path / "1").touch()
        program.sees(" 25 %")
        program.type("\x03")
        assert program.ends() == 130
        assert "%" not in program.screen.text
        assert "the run goes on" in program.screen.text
        assert client.status("k")["state"] == "running"
        client.terminate("k")


def test_a_failure_is_said_below_the_output(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, follow(daemon, "broken") as program:
        assert program.ends() == 1
        assert program.screen.lines[-1] == "" or "no orders" in program.screen.text
        assert "k failed: ValueError: no orders" in program.screen.text


def test_no_color_and_a_dumb_terminal(tmp_path: Path) -> None:
    (tmp_path / "1").touch()
    with Daemon(tmp_path, JOBS) as daemon, follow(daemon, "steps", f"folder={tmp_path}", NO_COLOR="1") as program:
        program.sees(" 25 %")
        assert not program.screen.colours
        with follow(daemon, "steps", f"folder={tmp_path}", TERM="dumb") as dumb:
            dumb.sees("step 1")
            for name in ("2", "3", "4", "end"):
                (tmp_path / name).touch()
            assert dumb.ends() == 0
            assert "\x1b" not in dumb.screen.raw
        assert program.ends() == 0


def test_piped_the_output_is_the_jobs_and_nothing_else(tmp_path: Path) -> None:
    for name in ("1", "2", "3", "4", "end"):
        (tmp_path / name).touch()
    with Daemon(tmp_path, JOBS) as daemon:
        done = subprocess.run(
            command("run", "--follow", "--key", "k", "steps", f"folder={tmp_path}"),
            env=environment(daemon), capture_output=True, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "step 1\nstep 2\nstep 3\nstep 4\n")
    assert done.stderr == "rocksyd: run k\n"
