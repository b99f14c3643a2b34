"""What happens to outputs beside their runs: folders that somebody removes, processes that print when the run is over."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from rocksyd.testing import Conversation, Daemon, until
from rocksyd.testing.daemon import DaemonError
from tests.faults.bystander import Bystander
from tests.files import whole

JOBS = """
import os, time
from rocksyd import job

@job
def echo(*args):
    return list(args)

@job
def prints(count, size=100):
    for _ in range(count):
        os.write(1, b"x" * (size - 1) + b"\\n")

@job
def leaves(folder):
    "A process in a session of its own prints on when it is told to, and says when it has."
    ready, said = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.close(said)  # from now on it does not end with its run
        for step in ("first", "second"):
            while not os.path.exists(f"{folder}/{step}"):
                time.sleep(0.01)
            for _ in range(50):
                os.write(1, b"x" * 1_000_000)
            open(f"{folder}/{step}.done", "w").close()
        os._exit(0)
    os.close(said)
    os.read(ready, 1)

@job
def waits(folder):
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.01)
    for _ in range(50):
        os.write(1, b"x" * 100_000)
    while not os.path.exists(f"{folder}/end"):
        time.sleep(0.01)
"""
LIMIT = 1_000_000
OUTPUT = f"[output]\nlimit = {LIMIT}"


def run(talk: Conversation, target: str, *params: object) -> Path:
    """Run it to its good end; returns the file of its output."""
    record = talk.rpc("wait", key=talk.rpc("run", target=target, params=list(params))["key"])
    assert record["outcome"] == "ok", record
    return Path(record["log"])


def test_p6_a_folder_of_outputs_that_somebody_removes_is_made_again(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"top": OUTPUT}) as daemon, Bystander(daemon) as bystander:
        talk = daemon.talk()
        run(talk, "prints", 10)
        waiting = talk.rpc("run", target="waits", params=[str(tmp_path)])
        for _ in range(3):
            shutil.rmtree(tmp_path / "var" / "output")
            assert run(talk, "prints", 10).stat().st_size == 1000
        (tmp_path / "go").touch()
        (tmp_path / "end").touch()
        assert talk.rpc("wait", key=waiting["key"])["outcome"] == "ok"
        (tmp_path / "end").unlink()
        again = talk.rpc("run", target="waits", params=[str(tmp_path)], key="again")  # watched as before
        output = Path(again["log"])
        until(lambda: "cut here" in whole(output)[-200:], "its output to be cut while it runs, and the mark")
        until(lambda: output.stat().st_size < LIMIT + 200, "all beyond the limit to be cut")
        (tmp_path / "end").touch()
        assert talk.rpc("wait", key="again")["outcome"] == "ok"
        bystander.was_served()


@pytest.mark.parametrize("restart", [False, True])
def test_p6_the_limit_of_an_output_holds_for_what_a_run_has_left_behind(tmp_path: Path, restart: bool) -> None:
    pool = 'pm = "ondemand"\nmax_workers = 4'
    with Daemon(tmp_path, JOBS, parts={"top": OUTPUT, "pool": pool}) as daemon:
        talk = daemon.talk()
        output = run(talk, "leaves", str(tmp_path))
        for step in ("first", "second"):
            (tmp_path / step).touch()
            until(lambda step=step: (tmp_path / f"{step}.done").exists(), "it to print")  # type: ignore[misc]
            until(lambda: 0 < output.stat().st_size < LIMIT + 200, "its output to be cut")
            if restart:
                assert talk.ask("restart") == {"error_text": "Restarted successfully"}
        until(lambda: "[rocksyd: output cut here, at least " in whole(output)[-200:], "the mark")


REPLACES = """
import os, time
from rocksyd import current, job

@job
def echo(*args):
    return list(args)

@job(slow_after="200ms")
def replaces(path, kind, folder):
    "Puts something else in the place of a file, its own output for example."
    path = path or os.readlink("/proc/self/fd/1")
    if os.path.exists(path):
        os.remove(path)
    {"fifo": os.mkfifo, "folder": os.mkdir, "device": lambda path: os.symlink("/dev/tty", path),
     "endless": lambda path: os.symlink("/dev/zero", path)}[kind](path)
    while not os.path.exists(f"{folder}/end"):
        time.sleep(0.01)
"""


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "endless"])
@pytest.mark.parametrize("name", ["", "var/slow.log"])
def test_p12_who_puts_something_else_in_the_place_of_a_file_makes_nobody_wait(tmp_path: Path, kind: str, name: str) -> None:
    """Whoever opens a FIFO that nobody writes to waits for ever, and the master would be he."""
    with Daemon(tmp_path, REPLACES, parts={"top": OUTPUT}) as daemon, Bystander(daemon) as bystander:
        talk = daemon.talk()
        path = str(tmp_path / name) if name else ""
        key = talk.rpc("run", target="replaces", params=[path, kind, str(tmp_path)])["key"]
        until(lambda: talk.rpc("stats")["runs_slow"] == 1, "the run to be slow")
        if not name:
            assert talk.rpc("logs", key=key)["text"] == ""
        stack = talk.ask(f'{{"jsonrpc":"2.0","id":1,"method":"stack","params":["{key}"]}}')
        assert "result" in stack if name else "cannot be written" in stack["error"]["message"]
        (tmp_path / "end").touch()
        assert talk.rpc("wait", key=key)["outcome"] == "ok"
        talk.rpc("logs", key=key)
        talk.rpc("free", key=key)
        bystander.was_served()


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_p12_a_lock_that_is_no_file_is_told_with_what_to_do(tmp_path: Path, kind: str) -> None:
    daemon = Daemon(tmp_path, JOBS)
    path = tmp_path / "var" / "lock"
    path.parent.mkdir()
    {"fifo": os.mkfifo, "folder": os.mkdir, "device": lambda path: os.symlink("/dev/null", path)}[kind](path)
    try:
        with pytest.raises(DaemonError):
            daemon.start()
        assert "Traceback" not in daemon.log()
        assert "lock" in daemon.log() or kind == "folder"
        assert "state_dir" in daemon.log()
    finally:
        daemon.close()
