"""Start, stop, and what the keeper is started with."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.keeper_stage import SOURCE, Stage, alive, descendants, wait_for


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def test_a_start_that_fails_says_why_and_exits_with_1(stage: Stage) -> None:
    stage.start()
    master = stage.master()
    master.prepare("start")
    zygote = stage.spawn(master, "zygote:shop@1")
    master.say("PrepareFailed", reason="rocksyd.toml:3: unknown key 'lisen'\nexpected: listen")
    assert stage.wait() == 1
    assert "rocksyd: cannot start: rocksyd.toml:3: unknown key 'lisen'\nexpected: listen\n" in stage.log.read_text()
    assert not alive(zygote)


def test_a_master_that_dies_before_it_serves_ends_the_start(stage: Stage) -> None:
    stage.start()
    stage.master().order(exit=4)
    assert stage.wait() == 1
    assert "exited with status 4 before it said HELLO" in stage.log.read_text()


def test_a_master_that_cannot_be_imported_ends_the_start(stage: Stage) -> None:
    (stage.package / "master" / "main.py").write_text("def main(:\n")
    stage.start()
    assert stage.wait() == 1
    assert "SyntaxError" in stage.log.read_text()


def test_arguments_nobody_knows_are_refused(stage: Stage) -> None:
    stage.start("--colour", "red")
    assert stage.wait() == 1
    assert "does not know the argument '--colour'" in stage.log.read_text()


def test_a_master_gets_a_clean_process(stage: Stage) -> None:
    """Descriptors 0-3 and no other, default signals, every path absolute and as it was given."""
    listing = os.open(".", os.O_RDONLY)
    link = stage.folder / "current"
    link.symlink_to(stage.package)
    command = [sys.executable, "-I", "-S", str(link / "boot.py"), "keeper", "--config", "rocksyd.toml"]
    with open(stage.log, "ab") as log:
        stage.process = subprocess.Popen(command, stderr=log, cwd=stage.folder, env=stage.environment(), pass_fds=[listing])
    stage.pid = stage.process.pid
    os.close(listing)
    master = stage.master()
    report = master.report
    assert report["argv"][1:] == ["-I", "-S", str(link / "boot.py"), "master"]
    assert report["open"] == 5  # 0-3, and the one to the test
    assert report["mask"] == 0
    assert master.prepare("start")[0]["config"] == str(stage.config)
    assert set(os.listdir(f"/proc/{stage.pid}/fd")).isdisjoint({str(listing)}) or listing < 8
    assert Path(f"/proc/{stage.pid}/cmdline").read_text().rstrip("\0") == "rocksyd: keeper"
    ignored = int(next(line for line in status_lines(master.pid) if line.startswith("SigIgn")).split()[1], 16)
    assert ignored & (1 << (signal.SIGCHLD - 1)) == 0


def status_lines(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/status").read_text().splitlines()


def test_memory_stays_small(stage: Stage) -> None:
    """Memory that is its own: how much of files is mapped says what else runs, and how Python was built."""
    master = stage.start().serving()
    master.say("Restart")
    stage.master().prepare("restart")
    code = "import sys; sys.stdout.write(open('/proc/self/status').read())"
    bare = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True).stdout.decode().splitlines()
    own, interpreter = memory(status_lines(stage.pid), "RssAnon"), memory(bare, "RssAnon")
    assert own - interpreter <= 3.75 * 1024
    assert own <= 6.5 * 1024


def memory(status: list[str], name: str) -> int:
    """KiB."""
    return int(next(line for line in status if line.startswith(name)).split()[1])


def test_an_idle_keeper_sleeps(stage: Stage) -> None:
    """No tick: between two moments with nothing in between, it has not been scheduled."""
    master = stage.start().serving()
    stage.spawn(master, "zygote:shop@1")
    stage.settled(master)
    wait_for(lambda: "S (sleeping)" in Path(f"/proc/{stage.pid}/status").read_text(), "sleep")
    before = switches(stage.pid)
    signal.sigtimedwait([], 1.0)  # long enough for any tick there could be
    assert switches(stage.pid) == before


def switches(pid: int) -> list[str]:
    return [line for line in status_lines(pid) if "ctxt_switches" in line]


def test_stopped_ends_what_is_left(stage: Stage) -> None:
    master = stage.start("--pid-file", str(stage.folder / "pid")).serving()
    assert int((stage.folder / "pid").read_text()) == stage.pid
    zygote = stage.spawn(master, "zygote:shop@1", "orphan")
    family = descendants(stage.pid)
    assert len(family) == 3
    master.say("Stopped", status=7, reason="as ordered")
    assert stage.wait() == 7
    assert not any(alive(pid) for pid in (*family, zygote))
    assert not (stage.folder / "pid").exists()
    assert "exiting with status 7: as ordered" in stage.log.read_text()


def test_passed_sockets_are_on_the_shelf(stage: Stage) -> None:
    """As a service manager does it: descriptors from 3 on, LISTEN_PID is the keeper's."""
    one, two, stray = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    inodes = [os.fstat(sock.fileno()).st_ino for sock in (one, two)]
    script = (
        "import os, sys; fds = [int(word) for word in sys.argv[1:4]]\n"
        "high = [os.dup(os.dup(os.dup(fd))) for fd in fds]\n"
        "[os.dup2(fd, number) for number, fd in enumerate(high, 3)]\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "os.execv(sys.argv[4], sys.argv[4:])\n"
    )
    fds = [sock.fileno() for sock in (one, two, stray)]
    environment = stage.environment(LISTEN_FDS="2", LISTEN_FDNAMES="web:admin")
    with open(stage.log, "ab") as log:
        command = [sys.executable, "-c", script, *map(str, fds), *stage.command()]
        stage.process = subprocess.Popen(command, stderr=log, env=environment, pass_fds=fds)
    stage.pid = stage.process.pid
    for sock in (one, two, stray):
        sock.close()
    master = stage.master()
    _, shelf = master.prepare("start")
    assert {name: inode for name, (inode, _) in shelf.items()} == {
        "sd:0": inodes[0],
        "sd:1": inodes[1],
        "sd:web": inodes[0],
        "sd:admin": inodes[1],
    }
    assert not {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} & set(master.report["env"])


def test_a_failed_spawn_names_the_cause_and_the_cure(stage: Stage) -> None:
    master = stage.start().serving()
    master.say("Spawn", name="a", argv=["/nowhere/python"], fds=["memfd:x"])
    fields, _ = master.expect("Spawned")
    assert fields == {"name": "a", "pid": 0, "reason": fields["reason"]}
    assert "cannot execute /nowhere/python: No such file or directory; check" in fields["reason"]
    master.say("Spawn", name="b", argv=[sys.executable], cwd="/nowhere")
    assert "in /nowhere: No such file or directory; the folder must" in master.expect("Spawned")[0]["reason"]
    pid = stage.spawn(master, "c")
    master.say("Spawn", name="c", argv=[sys.executable])
    assert f"lives already (PID {pid})" in master.expect("Spawned")[0]["reason"]
    stage.settled(master)
    assert master.silent()  # what never ran is not reported as ended


def test_ends_are_repeated_until_they_are_acknowledged(stage: Stage) -> None:
    master = stage.start().serving()
    first = stage.spawn(master, "zygote:a@1")
    second = stage.spawn(master, "zygote:b@1", "orphan")
    orphan = next(pid for pid in descendants(stage.pid) if pid not in (first, second, master.pid))
    os.kill(first, signal.SIGKILL)
    fields, _ = master.expect("Exited")
    assert (fields["pid"], fields["status"], fields["name"]) == (first, 9, "zygote:a@1")
    assert fields["max_rss"] > 1_000_000
    master.say("Signal", pid=second, number=9)
    assert master.expect("Exited")[0]["name"] == "zygote:b@1"
    # The orphan is the keeper's child now: the master may signal it and is told of its end.
    master.say("Signal", pid=orphan, number=15, group=True)
    assert master.expect("Exited")[0]["pid"] == orphan
    master.say("ExitAck", pids=[second])
    stage.settled(master)
    master.kill()
    new = stage.master()
    new.prepare("crash")
    new.say("Prepared")
    new.expect("Adopt")
    new.say("Adopted", generation=1)
    assert [new.expect("Exited")[0]["pid"] for _ in range(2)] == [first, orphan]
    new.say("ExitAck", pids=[first, orphan])
    stage.settled(new)
    assert new.silent()


def test_a_signal_never_goes_to_a_stranger(stage: Stage) -> None:
    master = stage.start().serving()
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        for pid in (stranger.pid, stage.pid, 0, -1, 1):
            master.say("Signal", pid=pid, number=9)
        stage.settled(master)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_ten_thousand_descriptors(stage: Stage) -> None:
    """More than any socket buffer takes at once, to a master that does not read at first."""
    master = stage.start().serving()
    count, batch = 10_000, 200
    for start in range(0, count, batch):
        names = [f"conn:{number}:{number}" for number in range(start, start + batch)]
        master.say("Shelve", names=names, fds=[f"memfd:{number}" for number in range(start, start + batch)])
    stage.settled(master)
    master.say("Restart")
    new = stage.master()
    new.say("Hello")
    new.expect("Prepare")
    new.order(deaf=True)
    while new.hear() != "deaf":
        pass
    stage.settled(master)  # the serving one is served meanwhile
    new.kill()
    master.expect("RestartFailed")
    master.say("Restart")
    _, shelf = stage.master().prepare("restart")
    assert len(shelf) == count
    assert all(name == f"conn:{text}:{text}" for name, (_, text) in shelf.items())


@pytest.mark.parametrize("daemon", [True, False])
def test_serve(stage: Stage, daemon: bool) -> None:
    """As the command line calls it: in the foreground the PID stays, as a daemon it returns when the daemon is ready."""
    pid_file = stage.folder / "pid"
    code = (
        f"import sys; sys.path.insert(0, {str(stage.folder)!r})\n"
        "from rocksyd.keeper.launch import serve\n"
        f"sys.exit(serve('rocksyd.toml', daemon={daemon}, pid_file='pid', log_file='daemon.log'))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=stage.folder, env=stage.environment(), stderr=subprocess.PIPE)
    try:
        master = stage.master()
        assert process.poll() is None
        stage.pid = int(pid_file.read_text())
        master.prepare("start")
        master.say("Prepared")
        master.expect("Adopt")
        master.say("Adopted")
        if daemon:
            assert process.wait(30) == 0
            assert os.readlink(f"/proc/{stage.pid}/cwd") == "/"
            assert os.getsid(stage.pid) != os.getsid(0)
        else:
            assert stage.pid == process.pid
        assert os.readlink(f"/proc/{stage.pid}/fd/2") == str(stage.folder / "daemon.log")
        # A second one finds the file held.
        second = subprocess.run(
            [sys.executable, "-c", code], cwd=stage.folder, env=stage.environment(), stderr=subprocess.PIPE, check=False
        )
        assert second.returncode == 1
        assert f"held by the running process {stage.pid}" in second.stderr.decode()
        assert int(pid_file.read_text()) == stage.pid
        # Rotation: both the renamed file and the new one are complete.
        (stage.folder / "daemon.log").rename(stage.folder / "daemon.log.1")
        os.kill(stage.pid, signal.SIGUSR1)
        assert master.expect("Signalled")[0]["number"] == signal.SIGUSR1
        assert (stage.folder / "daemon.log").exists()
        master.say("Stopped")
        wait_for(lambda: not pid_file.exists(), "the removal of the PID file")
        wait_for(lambda: not alive(stage.pid), "the keeper's end")
        assert "exiting with status 0" in (stage.folder / "daemon.log").read_text()
    finally:
        assert process.stderr is not None
        process.stderr.close()
        if not daemon:
            process.terminate()
        process.wait(30)


def test_a_daemon_that_cannot_start_says_why_to_its_caller(stage: Stage) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(stage.folder)!r})\n"
        "from rocksyd.keeper.launch import serve\n"
        f"sys.exit(serve('rocksyd.toml', daemon=True))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=stage.folder, env=stage.environment(), stderr=subprocess.PIPE)
    master = stage.master()
    master.prepare("start")
    master.say("PrepareFailed", reason="no such application")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said == b"rocksyd: cannot start: no such application\n"


def test_a_stale_pid_file_is_taken_over(stage: Stage) -> None:
    (stage.folder / "pid").write_text("4194303\nold")
    stage.start("--pid-file", str(stage.folder / "pid")).serving()
    assert (stage.folder / "pid").read_text() == f"{stage.pid}\n"


def test_a_log_nobody_reads_stops_nothing(stage: Stage) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        stage.start(stderr=writer)
        master = stage.serving()
        while True:
            try:
                os.write(writer, b"x" * 4096)
            except BlockingIOError:
                break
        os.set_blocking(writer, True)  # shared by all who have this pipe: the keeper must not count on it
        for _ in range(3):
            master.say("Restart")
            new = stage.master()
            new.prepare("restart")
            new.say("PrepareFailed", reason="x" * 5000)
            master.expect("RestartFailed")
    finally:
        os.close(reader)
        os.close(writer)
    master.say("Restart")
    stage.master().order(exit=1)
    master.expect("RestartFailed")
    stage.settled(master)


def test_the_package_needs_only_what_it_says() -> None:
    """What the keeper never loads is what keeps it small."""
    code = f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); import rocksyd.keeper.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True).stdout.decode().split()
    forbidden = {
        "dataclasses",
        "argparse",
        "socket",
        "selectors",
        "logging",
        "subprocess",
        "ctypes",
        "hashlib",
        "tempfile",
        "asyncio",
    }
    assert not forbidden & set(loaded)
