"""The watch that makes a leaking test red, watched itself."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests import leaks


def test_nothing_left_behind_is_nothing_found(tmp_path: Path) -> None:
    watch = leaks.Watch(tmp_path)
    subprocess.run([sys.executable, "-S", "-c", ""], check=True)
    with open(tmp_path / "file", "w", encoding="utf-8"):
        pass
    (tmp_path / "file").unlink()
    assert watch.found() == []


def test_an_open_descriptor_is_found(tmp_path: Path) -> None:
    watch = leaks.Watch(tmp_path)
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        assert watch.found() == [f"descriptor {fd} (/dev/null)"]
    finally:
        os.close(fd)


def test_a_descriptor_opened_again_under_the_same_number_is_found(tmp_path: Path) -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        watch = leaks.Watch(tmp_path)
        other = os.open("/dev/zero", os.O_RDONLY)
        os.dup2(other, fd)
        os.close(other)
        assert watch.found() == [f"descriptor {fd} (/dev/zero)"]
    finally:
        os.close(fd)


def test_a_file_is_found_and_removed(tmp_path: Path) -> None:
    watch = leaks.Watch(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    assert watch.found() == ["temporary file folder"]
    assert os.listdir(tmp_path) == []


def test_a_child_nobody_waited_for_is_found_and_reaped(tmp_path: Path) -> None:
    watch = leaks.Watch(tmp_path)
    pid = os.posix_spawn("/bin/true", ["true"], {})
    assert watch.found() == [f"process {pid}, ended but never waited for"]
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


def test_a_process_that_detached_itself_is_found_by_its_mark_and_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_PATIENCE_MS", 0)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "watched").mkdir()
    watch = leaks.Watch(tmp_path / "watched")
    # A subshell that is never written to. It executes nothing: in the middle of execve(2) a process has no environment to read.
    command = ["/bin/sh", "-c", '(read line <"$0") >/dev/null 2>&1 & echo $!', str(fifo)]
    pid = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    (said,) = watch.found()
    assert said.startswith(f"process {pid} (/bin/sh -c")
    assert watch.found() == []


def test_a_thread_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_PATIENCE_MS", 0)
    watch = leaks.Watch(tmp_path)
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="left behind")
    thread.start()
    try:
        assert watch.found() == ["thread left behind"]
    finally:
        done.set()
        thread.join()
