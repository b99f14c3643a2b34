"""P3, where the system is to blame: a disk without room, and no more files that may be open."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import copy_package, until
from tests.restart.stage import JOBS, Unharmed, restart, window

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")


@contextmanager
def small_disk(folder: Path, size: str = "6m") -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Use up the disk to the last byte."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return path


@root
def test_p3_a_full_disk_is_named_and_changes_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "var"), Daemon(tmp_path, JOBS) as daemon, Unharmed(daemon, tmp_path) as unharmed:
        filler = fill(tmp_path / "var")
        reply = daemon.restart()["error_text"]
        # Found by the new master, or by the old one, if it happened to have something to write.
        assert reply.startswith(("Restart failed: state_dir", "Restart failed: the journal cannot be written")), reply
        assert "No space left on device" in reply or "disk is full" in reply
        filler.unlink()
        assert unharmed.daemon.master_pid == unharmed.before[0]
        unharmed.repaired()


@root
def test_p3_a_disk_that_fills_up_during_a_restart_loses_no_run_and_no_reply(tmp_path: Path) -> None:
    """The hand-over waits until the journal holds what was accepted, because what it does not hold is not carried."""
    package = copy_package(tmp_path)
    with small_disk(tmp_path / "var"), Daemon(tmp_path, JOBS, package=package) as daemon:
        talk, other = daemon.talk(), daemon.talk()
        talk.ask("hello")
        with window(package, tmp_path, "_load_applications") as held:
            other.send("restart")
            held.wait_entered()
            filler = fill(tmp_path / "var")
            keys = list(range(1, 400))
            talk.send(*(f'run {{"hash":{key},"class":"add","params":["{"x" * 1000}","y"]}}' for key in keys), 'behind {"n":1}')
            until(lambda: "cannot be written" in daemon.log(), "the journal to have no room")
            held.open()
            filler.unlink()
            replies = [json.loads(talk.line())["error_text"] for _ in keys]
            assert set(replies) <= {"OK", "Too busy"}
            assert b"request_behind" in talk.line()
            assert json.loads(other.line()) == {"error_text": "Restarted successfully"}
        for key, reply in zip(keys, replies, strict=True):
            if reply == "OK":
                assert talk.rpc("wait", key=str(key))["result"] == "x" * 1000 + "y"
            else:
                assert talk.ask(f'check {{"hash":{key}}}') == {"error_text": "Hash not found"}


def test_p3_as_many_connections_as_the_limit_of_open_files_allows_do_not_hinder_a_restart(tmp_path: Path) -> None:
    # What the daemon starts from now on has this limit.
    with Daemon(tmp_path, JOBS) as daemon, open_files(daemon.pid, 160):
        restart(daemon)
        talks = [daemon.talk() for _ in range(200)]
        most = talks[0].rpc("stats")["max_connections"]
        assert most < 160
        until(lambda: talks[0].rpc("stats")["curr_connections"] == most, "as many connections as there may be")
        for _ in range(3):
            assert talks[0].ask("restart") == {"error_text": "Restarted successfully"}
        assert talks[0].rpc("stats")["curr_connections"] == most
        for talk in talks:  # those in the backlog have their turn when others have left
            assert talk.rpc("health")["ok"]
            talk.close()


def test_p3_no_more_files_for_the_new_master_is_named_and_changes_nothing(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talks = [daemon.talk() for _ in range(60)]
        for talk in talks:
            talk.ask("hello")
        with Unharmed(daemon, tmp_path) as unharmed:
            daemon.wait_shelved(60)
            with open_files(daemon.pid, len(daemon.descriptors(daemon.pid)) + 2):
                unharmed.refused(["Too many open files"])
            unharmed.repaired()
        replies = []
        for spare in range(3, 10):  # wherever it is that they run out
            with open_files(daemon.pid, len(daemon.descriptors(daemon.pid)) + spare):
                replies.append(talks[0].ask("restart")["error_text"])
        assert all(reply.startswith(("Restart failed: ", "Restarted successfully")) for reply in replies), replies
        assert talks[0].rpc("stats")["crashes"] == 0
        assert talks[0].ask("restart") == {"error_text": "Restarted successfully"}
        for number, talk in enumerate(talks):
            assert talk.ask(f'x {{"n":{number}}}')["error_text"].endswith(f'{{"n":{number}}}')


@contextmanager
def open_files(pid: int, most: int) -> Iterator[None]:
    """A process, and what it starts meanwhile, may have so many files open."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
