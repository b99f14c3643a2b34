"""The journal cannot be written, cannot be read, or is an old one."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from rocksyd.testing import Conversation, Daemon, DaemonError, until
from tests.faults.crowd import JOBS, POOL, ended, kill_master, open_gate, the_master, traced


class SmallDisk:
    """The folder of the journal is a file system of its own; ``full`` fills it."""

    def __init__(self, folder: Path, size: str = "4m") -> None:
        self.folder = folder / "var"
        self.folder.mkdir()
        if os.geteuid() != 0:
            pytest.skip("needs the rights of root to mount a file system")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", self.folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.decode()}")

    def full(self, daemon: Daemon) -> None:
        with (self.folder / "ballast").open("wb", buffering=0) as file:
            size = 65536
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2

    def empty(self, daemon: Daemon) -> None:
        (self.folder / "ballast").unlink()

    def close(self) -> None:
        subprocess.run(["umount", self.folder], check=True)


class SmallFiles:
    """The master may not make files larger; the disk itself has room."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "var"
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(self, daemon: Daemon) -> None:
        resource.prlimit(the_master(daemon), resource.RLIMIT_FSIZE, (1024, self._before[1]))

    def empty(self, daemon: Daemon) -> None:
        resource.prlimit(the_master(daemon), resource.RLIMIT_FSIZE, self._before)

    def close(self) -> None:
        pass


@contextmanager
def small(kind: type[SmallDisk] | type[SmallFiles], folder: Path) -> Iterator[SmallDisk | SmallFiles]:
    disk = kind(folder)
    try:
        yield disk
    finally:
        disk.close()


def health(talk: Conversation) -> str:
    problems: list[str] = talk.rpc("health")["problems"]
    return "; ".join(problems)


@pytest.mark.parametrize("kind", [SmallDisk, SmallFiles])
def test_p2_while_the_journal_cannot_be_written_new_runs_wait_or_are_refused_and_the_rest_goes_on(
    tmp_path: Path, kind: type[SmallDisk] | type[SmallFiles]
) -> None:
    with small(kind, tmp_path) as disk, Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        first, other = daemon.talk(), daemon.talk()
        assert first.ask('run {"hash":1,"class":"held","params":[]}') == {"error_text": "OK"}
        until(lambda: traced(daemon)["1"], "the run to begin")
        disk.full(daemon)
        first.send('run {"hash":2,"class":"good","params":[]}')  # not answered before it is written down
        until(lambda: health(other), "the daemon to notice")
        assert "var/journal.sqlite" in health(other)
        assert other.ask('check {"hash":1}') == {"error_text": "Still running"}
        assert other.ask('check {"hash":9}') == {"error_text": "Hash not found"}
        assert other.ask('run {"hash":3,"class":"good","params":[]}') == {"error_text": "Too busy"}
        reply = other.ask('{"jsonrpc":"2.0","id":1,"method":"run","params":{"target":"good","key":"4"}}')
        assert "journal" in reply["error"]["message"]
        assert "var/journal.sqlite" in reply["error"]["data"]
        open_gate(daemon)  # a run ends meanwhile
        disk.empty(daemon)
        assert json.loads(first.line()) == {"error_text": "OK"}
        assert ended(daemon, "1")["result"] == "1"
        assert ended(daemon, "2")["result"] == "2"
        assert health(other) == ""
        assert other.ask('run {"hash":3,"class":"good","params":[]}') == {"error_text": "OK"}
        assert ended(daemon, "3")["result"] == "3"
        assert traced(daemon) == {"1": 1, "2": 1, "3": 1}


def test_p11_a_master_that_dies_while_the_disk_is_full_comes_back_and_nothing_is_lost(tmp_path: Path) -> None:
    with small(SmallDisk, tmp_path) as disk, Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk = daemon.talk()
        for key in (1, 2):
            assert talk.ask(f'run {{"hash":{key},"class":"held","params":[]}}') == {"error_text": "OK"}
        until(lambda: traced(daemon).total() == 2, "the runs to begin")
        daemon.wait_shelved(1)
        disk.full(daemon)
        kill_master(daemon)
        assert talk.ask('check {"hash":1}') == {"error_text": "Still running"}
        open_gate(daemon)
        kill_master(daemon)
        disk.empty(daemon)
        for key in ("1", "2"):
            assert ended(daemon, key)["result"] == key
        assert traced(daemon) == {"1": 1, "2": 1}


def test_p3_a_restart_with_a_full_disk_changes_nothing_and_says_why(tmp_path: Path) -> None:
    with small(SmallDisk, tmp_path) as disk, Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk = daemon.talk()
        disk.full(daemon)
        reply = talk.ask("restart")["error_text"]
        assert reply.startswith("Restart failed: ")
        assert "/var" in reply
        assert "room" in reply
        disk.empty(daemon)
        assert talk.ask("restart") == {"error_text": "Restarted successfully"}


def other_program(daemon: Daemon) -> sqlite3.Connection:
    """Somebody who works on the journal beside the daemon."""
    return sqlite3.connect(daemon.folder / "var" / "journal.sqlite", isolation_level=None, timeout=30.0)


def test_p2_a_lock_on_the_journal_is_waited_for_beside_the_work_and_lasting_it_refuses_new_runs(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon, closing(other_program(daemon)) as admin:
        first, second, other = daemon.talk(), daemon.talk(), daemon.talk()
        assert first.ask('run {"hash":1,"class":"held","params":[]}') == {"error_text": "OK"}
        until(lambda: traced(daemon)["1"], "the run to begin")
        admin.execute("BEGIN IMMEDIATE")
        first.send('run {"hash":2,"class":"good","params":[]}')
        for _ in range(100):  # a loop that waits for the lock turns once in five seconds: longer than a test may take
            assert other.ask('check {"hash":1}') == {"error_text": "Still running"}
        until(lambda: health(other), "the lock to be more than a moment's")
        assert "another program is writing to it" in health(other)
        reply = second.ask('{"jsonrpc":"2.0","id":1,"method":"run","params":{"target":"good","key":"3"}}')
        assert "fuser" in reply["error"]["data"]
        assert second.ask('run {"hash":3,"class":"good","params":[]}') == {"error_text": "Too busy"}
        open_gate(daemon)
        admin.execute("ROLLBACK")
        assert json.loads(first.line()) == {"error_text": "OK"}
        assert ended(daemon, "1")["result"] == "1"
        assert ended(daemon, "2")["result"] == "2"
        assert traced(daemon) == {"1": 1, "2": 1}


@pytest.mark.parametrize("signals", [1, 2])
def test_a_stop_does_not_wait_for_ever_for_a_journal_that_cannot_be_written(tmp_path: Path, signals: int) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon, closing(other_program(daemon)) as admin:
        talk = daemon.talk()
        for key, target in (("1", "good"), ("2", "held")):
            assert talk.ask(f'run {{"hash":{key},"class":"{target}","params":[]}}') == {"error_text": "OK"}
        assert ended(daemon, "1")["result"] == "1"
        until(lambda: traced(daemon).get("2"), "the run to begin")
        admin.execute("BEGIN IMMEDIATE")
        for number in range(signals):
            os.kill(daemon.pid, signal.SIGTERM)
            until(lambda number=number: daemon.log().count("stopping") > number, "it to have heard that")
        daemon.wait(1)
        assert "stopped, but the journal could not be written (" in daemon.log()
        admin.execute("ROLLBACK")
        daemon.start()
        assert ended(daemon, "1")["result"] == "1"
        assert ended(daemon, "2")["outcome"] == "lost"


def test_p2_a_short_lock_on_the_journal_refuses_nobody(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon, closing(other_program(daemon)) as admin:
        talk, other = daemon.talk(), daemon.talk()
        for number in range(1, 20, 2):
            long_ones = daemon.log().count("the journal cannot be written")
            admin.execute("BEGIN IMMEDIATE")
            talk.send(*(f'run {{"hash":{key},"class":"good","params":[]}}' for key in (number, number + 1)))
            assert other.ask('check {"hash":99}') == {"error_text": "Hash not found"}
            admin.execute("COMMIT")
            replies = [json.loads(talk.line()) for _ in range(2)]
            if daemon.log().count("the journal cannot be written") == long_ones:
                break
            until(lambda: not health(other), "the journal to be written")  # this machine was too busy for a short lock
        assert replies == [{"error_text": "OK"}] * 2
        for key in (str(number), str(number + 1)):
            assert ended(daemon, key)["result"] == key


@pytest.mark.parametrize("sync", ["full", "normal"])
def test_p2_a_write_ahead_log_that_was_removed_is_made_again_and_nothing_is_lost(tmp_path: Path, sync: str) -> None:
    top = f'[journal]\nsync = "{sync}"'
    with Daemon(tmp_path, JOBS, parts={"pool": POOL, "top": top}) as daemon:
        talk = daemon.talk()
        assert talk.ask('run {"hash":1,"class":"good","params":[]}') == {"error_text": "OK"}
        assert ended(daemon, "1")["result"] == "1"
        (tmp_path / "var" / "journal.sqlite-wal").unlink()
        assert talk.ask('run {"hash":2,"class":"good","params":[]}') == {"error_text": "OK"}
        assert ended(daemon, "2")["result"] == "2"
        assert talk.ask("restart") == {"error_text": "Restarted successfully"}
        kill_master(daemon)
        for key in (1, 2):
            assert talk.ask(f'check {{"hash":{key}}}') == {"retcode": 0}
        assert health(talk) == ""
        assert "nothing is lost" in daemon.log()


DAMAGES = {
    "no database": b"this is not a database, but it is long enough to be looked at as if it were one" * 100,
    "truncated": b"SQLite format 3\0" + bytes(2000),
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_a_damaged_journal_refuses_the_start_and_names_the_cure(tmp_path: Path, damage: str) -> None:
    daemon = Daemon(tmp_path, JOBS, parts={"pool": POOL})
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "journal.sqlite").write_bytes(DAMAGES[damage])
    with pytest.raises(DaemonError, match="READY"), daemon:
        pass
    assert "journal.sqlite" in daemon.log()
    assert "move it away" in daemon.log()
    assert "Traceback" not in daemon.log()
    daemon = Daemon(tmp_path, JOBS, parts={"pool": POOL})
    (tmp_path / "var" / "journal.sqlite").rename(tmp_path / "var" / "away")
    with daemon:
        assert daemon.talk().ask('check {"hash":1}') == {"error_text": "Hash not found"}


@pytest.mark.parametrize("name", ["runs", "runs_changed", "meta", "restarts"])
def test_a_damage_that_shows_late_refuses_the_start_in_the_same_words(tmp_path: Path, name: str) -> None:
    """The file is opened, and one of its trees cannot be read."""
    daemon, path = Daemon(tmp_path, JOBS, parts={"pool": POOL}), tmp_path / "var" / "journal.sqlite"
    with daemon:
        daemon.talk().rpc("run", target="good", key="late", delay="1h")
        daemon.stop()
        with closing(sqlite3.connect(path)) as db:
            ((page, size),) = db.execute(
                "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_schema WHERE name = ?", (name,)
            ).fetchall()
        with path.open("r+b") as file:
            file.seek((page - 1) * size)
            file.write(b"\xff" * 8)
        said = len(daemon.log())
        try:
            daemon.start()
        except DaemonError:
            assert "journal repair" in daemon.log()[said:]
        assert "Traceback" not in daemon.log()[said:]


def test_p2_a_damaged_journal_is_repaired_and_what_can_be_read_is_kept(tmp_path: Path) -> None:
    daemon, path = Daemon(tmp_path, JOBS, parts={"pool": POOL}), tmp_path / "var" / "journal.sqlite"
    repair = [sys.executable, "-m", "rocksyd.cli", "journal", "repair", "-c", str(daemon.config)]
    with daemon:
        talk = daemon.talk()
        for key in range(300):
            assert talk.ask(f'run {{"hash":{key},"class":"good","labels":{{"l":"{"x" * 1000}"}}}}') == {"error_text": "OK"}
        refused = subprocess.run(repair, capture_output=True, text=True, check=False)
        assert (refused.returncode, "stop it first" in refused.stderr) == (1, True)
        for key in range(300):
            ended(daemon, str(key))
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 20_000)
    damaged = path.read_bytes()
    done = subprocess.run(repair, capture_output=True, text=True, check=True)
    saved = int(done.stdout.split(": ")[1].split()[0])
    assert 100 < saved < 300
    (kept,) = [one for one in path.parent.iterdir() if "damaged" in one.name and one.name[-1] == "Z"]
    assert kept.read_bytes() == damaged
    assert str(kept) in done.stdout
    daemon = Daemon(tmp_path, JOBS, parts={"pool": POOL})
    with daemon:
        talk = daemon.talk()
        answers = [talk.ask(f'check {{"hash":{key}}}') for key in range(300)]
        assert answers.count({"retcode": 0}) == saved
        assert talk.ask('run {"hash":1000,"class":"good","params":[]}') == {"error_text": "OK"}


def test_p2_the_journal_of_a_crashed_service_is_read_back(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": 'pm = "ondemand"\nmax_workers = 2'}) as daemon:
        talk = daemon.talk()
        for key, target in [(1, "good"), (2, "end"), (3, "held"), (4, "held"), (5, "good")]:
            params = '["exit"]' if target == "end" else "[]"
            assert talk.ask(f'run {{"hash":{key},"class":"{target}","params":{params}}}') == {"error_text": "OK"}
        until(lambda: {"3", "4"} <= traced(daemon).keys(), "the pool to be full")
        for pid in (daemon.pid, the_master(daemon)):
            os.kill(pid, 9)
        daemon.wait(-9)
        until(lambda: not any(f"{tmp_path}" in text for text in _folders()), "all processes of the service to end")
        daemon.start()
        talk = daemon.talk()
        assert talk.ask('check {"hash":1}') == {"retcode": 0}
        assert talk.ask('check {"hash":2}') == {"retcode": 3}
        assert talk.ask('check {"hash":3}') == {"retcode": 255, "reason": "lost"}
        assert ended(daemon, "5")["result"] == "5"
        assert traced(daemon) == {"1": 1, "2": 1, "3": 1, "4": 1, "5": 1}


def _folders() -> Iterator[str]:
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            yield os.readlink(f"/proc/{name}/cwd")
        except OSError:
            continue
