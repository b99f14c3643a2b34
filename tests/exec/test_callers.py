"""Scripts are runs like others: they wait, are seen, killed, refused; no trouble of the daemon's reaches their callers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from tests.exec.caller import GATED, Call, held_descriptors, kill_master, runs, until_waiting
from tests.exec.stage import CLIENT, POOL, environment, launcher

ONE = POOL.replace("max_workers = 3", "max_workers = 1").replace("max_spare = 2", "max_spare = 1") + "\nmax_queue = 2"
SLOW = "import os, time\nprint('begun', flush=True)\ntime.sleep(60)\n"
JOBS = "from rocksyd import job\n\n@job\ndef add(a, b):\n    return a + b\n"


@pytest.fixture(params=["python", "compiled"])
def command(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Either client, with a script to run."""
    (tmp_path / "script.py").write_text(GATED)
    (tmp_path / "slow.py").write_text(SLOW)
    return f"{(request.param == 'compiled' and launcher(tmp_path)) or CLIENT} script.py"


def test_p1_a_script_that_runs_does_not_notice_restarts_and_crashes(command: str, tmp_path: Path) -> None:
    with Daemon(tmp_path, parts={"pool": POOL}) as daemon, Call(command, daemon, tmp_path) as call:
        assert call.line() == "begun"
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        kill_master(daemon)
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        assert call.end("yes\n") == (3, "through yes\n", "")
        until(lambda: [run["retcode"] for run in runs(daemon, "ended")] == [3], "the run to have ended")
        assert held_descriptors(daemon) == []


@pytest.mark.parametrize("crash", [False, True])
def test_p2_a_script_that_waits_is_not_lost_by_a_restart_or_a_crash(command: str, crash: bool, tmp_path: Path) -> None:
    with Daemon(tmp_path, parts={"pool": ONE}) as daemon, Call(command, daemon, tmp_path) as first:
        assert first.line() == "begun"
        with Call(command, daemon, tmp_path) as second:
            until_waiting(daemon)
            until(lambda: len(held_descriptors(daemon)) == 2, "what is of both callers to be on the shelf")
            if crash:
                kill_master(daemon)
            else:
                assert daemon.restart() == {"error_text": "Restarted successfully"}
            assert first.end("one\n") == (3, "through one\n", "")
            assert second.end("two\n") == (3, "begun\nthrough two\n", "")
        until(lambda: len(runs(daemon, "ended")) == 2, "both to have ended")
        assert held_descriptors(daemon) == []


def test_p2_the_end_of_a_script_that_died_in_a_crash_is_told(command: str, tmp_path: Path) -> None:
    with Daemon(tmp_path, parts={"pool": POOL}) as daemon, Call(command, daemon, tmp_path) as call:
        assert call.line() == "begun"
        (run,) = runs(daemon, "running")
        before = daemon.master_pid
        os.kill(before, signal.SIGSTOP)
        os.kill(run["pid"], signal.SIGSEGV)
        os.kill(before, signal.SIGKILL)
        assert call.end()[0] == -signal.SIGSEGV


def test_no_script_is_lost_or_run_twice_while_the_daemon_restarts_and_crashes(command: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import os, sys\nos.write(1, b'ran\\n')\nsys.exit(int(sys.stdin.read()))\n")
    loop = f"for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do echo $i | {command}; echo $?; done"
    with Daemon(tmp_path, parts={"pool": POOL}) as daemon:
        shell = subprocess.Popen(
            ["sh", "-c", loop], cwd=tmp_path, env=environment(daemon), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for turn in range(4):
            if turn % 2:
                kill_master(daemon)
            else:
                daemon.restart()
        output, _ = shell.communicate(timeout=60)
    assert output.decode().split() == [word for number in range(1, 17) for word in ("ran", str(number))]


def test_a_caller_that_goes_while_it_waits_takes_its_run_with_it(command: str, tmp_path: Path) -> None:
    with Daemon(tmp_path, parts={"pool": ONE}) as daemon, Call(command, daemon, tmp_path) as first:
        assert first.line() == "begun"
        with Call(command, daemon, tmp_path) as second, Call(command, daemon, tmp_path) as third:
            until_waiting(daemon, 2)
            assert daemon.restart() == {"error_text": "Restarted successfully"}
            second.process.send_signal(signal.SIGINT)
            assert second.end()[0] == -signal.SIGINT
            third.process.kill()
            until(lambda: [run["outcome"] for run in runs(daemon, "ended")] == ["cancelled"] * 2, "the runs to be cancelled")
        assert first.end("x\n")[0] == 3
        until(lambda: held_descriptors(daemon) == [], "nothing to be held")


def test_a_caller_that_is_killed_hangs_up_on_the_script_and_its_children(command: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import subprocess\nprint('begun', flush=True)\nsubprocess.run(['sleep', '60'])\n")
    with Daemon(tmp_path, parts={"pool": POOL}) as daemon, Call(command, daemon, tmp_path) as call:
        assert call.line() == "begun"
        (run,) = runs(daemon, "running")
        until(lambda: _group(run["pid"]) > 1, "the child")
        call.process.kill()
        assert daemon.talk().rpc("wait", key=run["key"])["signal"] == signal.SIGHUP
        until(lambda: _group(run["pid"]) == 0, "the group to be gone")


def _group(number: int) -> int:
    """How many live in this process group."""
    count = 0
    for name in os.listdir("/proc"):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split() if name.isdigit() else []
        except OSError:
            continue
        count += bool(fields) and fields[2] == str(number) and fields[0] not in "ZX"
    return count


def test_a_signal_for_the_caller_is_one_for_the_script(command: str, tmp_path: Path) -> None:
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH]
    (tmp_path / "script.py").write_text(
        f"import signal, sys\nfor number in {[*map(int, numbers)]}:\n"
        "    signal.signal(number, lambda n, f: (print('got', n), sys.exit(7)))\n"
        "print('begun', flush=True)\nwhile True:\n    signal.pause()\n"
    )
    with Daemon(tmp_path, parts={"pool": POOL}) as daemon:
        for number in numbers:
            with Call(command, daemon, tmp_path) as call:
                assert call.line() == "begun"
                call.process.send_signal(number)
                assert call.end() == (7, f"got {int(number)}\n", "")


def test_a_script_is_listed_and_killed_like_any_run(command: str, tmp_path: Path) -> None:
    with Daemon(tmp_path, parts={"pool": POOL}) as daemon, Call(f"{command} --flag", daemon, tmp_path) as call:
        assert call.line() == "begun"
        (run,) = runs(daemon, "running")
        assert (run["target"], run["params"], run["log"]) == ("exec script.py --flag", ["script.py", "--flag"], None)
        assert daemon.children(f"rocksyd: worker app exec script.py --flag #{run['key']}") == [run["pid"]]
        daemon.talk().rpc("terminate", key=run["key"])
        assert daemon.talk().rpc("wait", key=run["key"])["reason"] == "cancelled"
        status, _, errors = call.end()
        assert status == -signal.SIGTERM
        assert "cancelled" in errors
        with pytest.raises(AssertionError, match="exec it again"):
            daemon.talk().rpc("retry", key=run["key"])


def test_stopping_the_daemon_ends_scripts_and_tells_their_callers(command: str, tmp_path: Path) -> None:
    with Daemon(tmp_path, parts={"pool": ONE}) as daemon, Call(command, daemon, tmp_path) as first:
        assert first.line() == "begun"
        with Call(command, daemon, tmp_path) as second:
            until_waiting(daemon)
            daemon.stop()
            assert first.end()[0] == -signal.SIGTERM
            status, output, errors = second.end()
            assert (status, output) == (143, "")
            assert "cancelled" in errors
        daemon.start()
        (run,) = [run for run in runs(daemon, "ended") if run["outcome"] == "cancelled" and not run["pid"]]
        assert run["target"] == "exec script.py"


def test_a_job_after_a_script_finds_a_clean_worker(command: str, tmp_path: Path) -> None:
    pool = 'pm = "static"\nmax_workers = 1\nmax_jobs = 0'
    with (
        Daemon(tmp_path, JOBS, parts={"pool": pool}) as daemon,
        daemon.client() as client,
        Call(command, daemon, tmp_path) as call,
    ):
        assert call.end("x\n") == (3, "begun\nthrough x\n", "")
        assert client.call("add", 3, 4) == 7


def test_the_journal_does_not_know_a_callers_environment(command: str, tmp_path: Path) -> None:
    secret = "swordfish" * 20000
    with (
        Daemon(tmp_path, parts={"pool": ONE}) as daemon,
        Call(command, daemon, tmp_path, env={"SECRET": secret[:100000]}) as call,
    ):
        assert call.end("x\n")[0] == 3
    files = b"".join(path.read_bytes() for path in (tmp_path / "var").rglob("*") if path.is_file())
    assert b"exec script.py" in files
    assert b"swordfish" not in files


REFUSALS = {
    "an unknown application": ("--app other -- script.py", 2, "no application is called 'other'"),
    "no daemon": ("--address unix:///nowhere/d.sock -- script.py", 69, "no daemon answers at unix:///nowhere/d.sock.exec"),
    "a tcp address": ("--address tcp://127.0.0.1:1 -- script.py", 2, "unix:// address only"),
    "an option of the interpreter": ("-O script.py", 2, "option -O is for a Python that starts"),
    "an unknown option": ("--ap x", 2, "exec has no option --ap"),
    "a priority that is none": ("--priority high script.py", 2, "--priority wants a whole number"),
}


def test_a_refusal_says_why_and_has_its_exit_status(command: str, tmp_path: Path) -> None:
    python = command.removesuffix(" -- script.py")
    with Daemon(tmp_path, parts={"pool": ONE}) as daemon:
        for name, (words, status, sentence) in REFUSALS.items():
            with Call(
                f"{python} {words}", daemon, tmp_path, env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            ) as call:
                found, output, errors = call.end()
                assert (found, output) == (status, ""), (name, errors)
                assert sentence in errors, (name, errors)
        with (
            Call(command, daemon, tmp_path) as first,
            Call(command, daemon, tmp_path) as second,
            Call(command, daemon, tmp_path) as third,
        ):
            until_waiting(daemon, 2)
            with Call(command, daemon, tmp_path) as fourth:
                status, _, errors = fourth.end()
                assert (status, "max_queue = 2" in errors) == (75, True), errors
            daemon.talk().ask("drain")
            with Call(command, daemon, tmp_path) as late:
                status, _, errors = late.end()
                assert (status, "draining" in errors) == (1, True), errors
            ends = [call.end("x\n")[0] for call in _in_order(daemon, first, second, third)]
            assert ends == [3, 3, 3]


def _in_order(daemon: Daemon, *calls: Call) -> list[Call]:
    """The one that has begun, then the others as they begin: there is one worker for all."""
    left = list(calls)
    ordered = []
    for _ in calls:
        import select

        ready, _, _ = select.select([call.process.stdout for call in left], [], [], 30)
        call = next(call for call in left if call.process.stdout in ready)
        assert call.line() == "begun"
        assert call.process.stdin is not None
        call.process.stdin.write(b"x\n")
        call.process.stdin.flush()
        call.process.wait(30)
        left.remove(call)
        ordered.append(call)
    return ordered
