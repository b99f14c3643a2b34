"""What happens to the service itself: signals, its log, a second one, its end."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, descendants, until
from tests.originals.stage import JOBS, NOT_FOUND, OK, RUNNING, ended, gone

RESTARTED = {"error_text": "Restarted successfully"}
IMPATIENT = 'pm = "ondemand"\nmax_workers = 4\ngrace = "300ms"'


@contextmanager
def log_pipe() -> Iterator[tuple[int, int]]:
    """A pipe of 64 KiB to log into."""
    read, write = os.pipe()
    ends = [read, write]
    try:
        yield read, write
    finally:
        for fd in ends:
            try:
                os.close(fd)
            except OSError:
                pass  # the test has closed it


def fill(pipe: int) -> None:
    """Write until nothing more fits, through an open file of our own: the flags of the daemon's are not touched."""
    fd = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(fd, bytes(4096))
    except BlockingIOError:
        return
    finally:
        os.close(fd)


@pytest.mark.parametrize("reader", ["goes away", "stops reading"])
def test_the_reader_of_the_log_may_go_away_or_stop_reading(tmp_path: Path, reader: str) -> None:
    with log_pipe() as (read, write), Daemon(tmp_path, JOBS, stderr=write) as daemon:
        if reader == "goes away":
            os.close(read)
        else:
            fill(write)
        talk = daemon.talk()
        assert all(talk.ask('check {"hash":1}') == NOT_FOUND for _ in range(1000))
        assert talk.ask('run {"hash":1,"class":"Exits","params":[5]}') == OK
        assert ended(talk, 1) == {"retcode": 5}
        os.kill(daemon.pid, signal.SIGUSR1)
        assert talk.ask("restart") == RESTARTED
        (daemon.app / "jobs.py").write_text("no python")
        assert "SyntaxError" in talk.ask("restart")["error_text"]
        (daemon.app / "jobs.py").write_text(JOBS)
        daemon.wait_shelved(1)
        os.kill(daemon.master_pid, signal.SIGKILL)
        assert daemon.talk().ask('check {"hash":1}') == {"retcode": 5}
        assert talk.ask("restart") == RESTARTED
        assert talk.ask('run {"hash":2,"class":"Exits","params":[6]}') == OK
        assert ended(talk, 2) == {"retcode": 6}


def test_the_log_says_how_many_lines_nobody_read(tmp_path: Path) -> None:
    with log_pipe() as (read, write), Daemon(tmp_path, JOBS, stderr=write) as daemon:
        fill(write)
        assert daemon.restart() == RESTARTED
        bad = "restart ordered"  # a failed one is worth a line
        (daemon.app / "jobs.py").write_text("no python")
        assert "SyntaxError" in daemon.restart()["error_text"]
        fcntl.fcntl(read, fcntl.F_SETFL, os.O_NONBLOCK)
        while True:
            try:
                os.read(read, 1 << 20)
            except BlockingIOError:
                break
        assert "SyntaxError" in daemon.restart()["error_text"]
        text = b""

        def told() -> bool:
            nonlocal text
            try:
                text += os.read(read, 1 << 20)
            except BlockingIOError:
                pass
            return b"could not be written)" in text and bad.encode() in text

        until(told, "the lines that were lost are counted in the log")


@pytest.mark.parametrize("who", ["rocksyd: keeper", "rocksyd: master", "rocksyd: zygote"])
def test_a_stopped_process_answers_when_it_goes_on(tmp_path: Path, who: str) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        pid = daemon.pid if who == "rocksyd: keeper" else daemon.children(who)[0]
        os.kill(pid, signal.SIGSTOP)
        talk.send('check {"hash":1}', 'run {"hash":1,"class":"Exits","params":[4]}')
        os.kill(pid, signal.SIGCONT)
        assert [talk.line(), talk.line()] == [b'{"error_text":"Hash not found"}', b'{"error_text":"OK"}']
        assert ended(talk, 1) == {"retcode": 4}


@pytest.mark.parametrize("shared", ["address", "state_dir", "tcp port"])
def test_a_second_daemon_is_refused_with_a_reason_and_the_first_is_unharmed(tmp_path: Path, shared: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with Daemon(first, JOBS, parts={"top": 'auth = "none"'}) as daemon:
        socket = daemon.address.removeprefix("unix://")
        texts = {
            "address": f'listen = ["unix://{socket}"]\nstate_dir = "var"\n',
            "state_dir": f'listen = ["unix://d.sock"]\nstate_dir = "{first}/var"\n',
            "tcp port": 'listen = ["unix://d.sock"]\nstate_dir = "var"\n',
        }
        reasons = {
            "address": f"cannot listen on unix://{socket}: Address already in use; another program listens there",
            "state_dir": f"another rocksyd (pid {daemon.pid}) uses state_dir {first}/var",
        }
        talk = daemon.talk()
        if shared == "tcp port":
            port = listening_tcp(daemon)
            texts[shared] = texts[shared].replace('"unix://d.sock"', f'"tcp://127.0.0.1:{port}"') + 'auth = "none"\n'
            reasons[shared] = f"cannot listen on tcp://127.0.0.1:{port}: Address already in use"
        other = Daemon(second, JOBS, config=texts[shared] + '[apps.app]\npath = "app"\njobs = ["jobs"]\n')
        try:
            other.spawn()
            other.wait(1)
            assert reasons[shared] in other.log()
        finally:
            other.close()
        assert talk.ask('check {"hash":1}') == NOT_FOUND
        assert daemon.talk().ask('run {"hash":1,"class":"Nothing"}') == OK
        assert ended(talk, 1) == {"retcode": 0}
        assert talk.ask("restart") == RESTARTED


def listening_tcp(daemon: Daemon) -> int:
    """Let the daemon listen on a free tcp port as well, from its next restart on; the port."""
    daemon.config.write_text(daemon.config.read_text().replace('"unix://d.sock"', '"unix://d.sock", "tcp://127.0.0.1:0"'))
    assert daemon.restart() == RESTARTED
    (tcp,) = [address for address in daemon.talk().rpc("health")["listen"] if address.startswith("tcp://")]
    return int(tcp.rpartition(":")[2])


def three_jobs(talk: Conversation) -> list[int]:
    """Three jobs that run; the PIDs of their processes, with that of a child of one of them."""
    for number, target in ((1, "Sleeps"), (2, "Parent"), (3, "Deaf")):
        assert talk.ask(f'run {{"hash":{number},"class":"{target}"}}') == OK
    until(lambda: talk.rpc("logs", key="2")["text"], "the child of a job")
    until(lambda: talk.rpc("logs", key="3")["text"], "the deaf job")
    pids = [talk.rpc("status", key=str(number))["pid"] for number in (1, 2, 3)]
    return [*pids, int(talk.rpc("logs", key="2")["text"])]


@pytest.mark.parametrize("how", ["stop", "SIGTERM", "SIGINT"])
def test_stop_with_running_jobs_answers_and_leaves_no_orphans(tmp_path: Path, how: str) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": IMPATIENT}) as daemon:
        talk, other = daemon.talk(), daemon.talk()
        pids = three_jobs(talk)
        family = [daemon.pid, *descendants(daemon.pid)]
        if how == "stop":
            assert talk.ask("stop") == OK
        else:
            os.kill(daemon.pid, getattr(signal, how))
        assert talk.line() == b""
        assert other.line() == b""
        daemon.wait(0)
        assert not [pid for pid in {*pids, *family} if not gone(pid)]
        daemon.start()
        talk = daemon.talk()
        assert all(ended(talk, number)["reason"] == "cancelled" for number in (1, 2, 3))


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_signals_that_killed_the_original_leave_jobs_and_connections_alone(tmp_path: Path, name: str) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": IMPATIENT}) as daemon:
        talk = daemon.talk()
        pids = three_jobs(talk)
        os.kill(daemon.pid, getattr(signal, name))
        if name != "SIGUSR1":
            until(lambda: talk.rpc("stats")["generation"] == 2, "the restart")
        assert [talk.ask(f'check {{"hash":{number}}}') for number in (1, 2, 3)] == [RUNNING] * 3
        assert not any(map(gone, pids))


def test_after_kill_9_of_the_service_no_job_is_an_orphan_and_the_next_one_knows_them(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": IMPATIENT}) as daemon:
        talk = daemon.talk()
        pids = three_jobs(talk)
        talk.ask('run {"hash":4,"class":"Exits","params":[9]}')
        assert ended(talk, 4) == {"retcode": 9}
        family = descendants(daemon.pid)
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait(-signal.SIGKILL)
        assert talk.line() == b""
        until(lambda: all(map(gone, [*pids, *family])), "every process of the service has ended")
        daemon.start()
        talk = daemon.talk()
        assert all(ended(talk, number)["reason"] == "lost" for number in (1, 2, 3))
        assert talk.ask('check {"hash":4}') == {"retcode": 9}
