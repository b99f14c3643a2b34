"""P10: Under systemd a restart is a reload: same main PID, RELOADING=1 with MONOTONIC_USEC, READY=1. And other ways to start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import rocksyd
from rocksyd.client import Client
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, edited, until
from tests.restart.stage import JOBS, restart


def test_p10_what_the_service_manager_hears(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        start = daemon.notified[-1]
        assert f"MAINPID={daemon.pid}" in start.split("\n")
        talk = daemon.talk()
        for order in ("restart", signal.SIGHUP, signal.SIGUSR2):
            before = time.monotonic_ns() // 1000
            daemon.notified.clear()
            if isinstance(order, str):
                talk.send(order)
            else:
                os.kill(daemon.pid, order)
            reloading = _assignments(daemon.wait_notified("RELOADING=1"))
            ready = _assignments(daemon.wait_notified("READY=1"))
            assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            assert ready["MAINPID"] == str(daemon.pid)
            assert daemon.process is not None
            assert daemon.process.poll() is None
            if isinstance(order, str):
                assert json.loads(talk.line()) == {"error_text": "Restarted successfully"}
        with edited(daemon.app / "jobs.py", "raise RuntimeError('broken')"):
            daemon.notified.clear()
            until(lambda: not _restarting(daemon), "the last restart to be over")
            assert "broken" in talk.ask("restart")["error_text"]
            daemon.wait_notified("RELOADING=1")
            assert "broken" in _assignments(daemon.wait_notified("READY=1"))["STATUS"]
        os.kill(daemon.pid, signal.SIGTERM)
        daemon.wait_notified("STOPPING=1")
        daemon.wait(0)


def _assignments(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.split("\n"))


def _restarting(daemon: Daemon) -> bool:
    return len(daemon.children("rocksyd: master")) > 1


LAUNCHER = """
import os, sys
count = int(sys.argv[1])
for number in range(count):
    os.dup2(int(sys.argv[2 + number]), 100 + number)
for number in range(count):
    os.dup2(100 + number, 3 + number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES=":".join("ab"[:count]))
os.execv(sys.argv[2 + count], sys.argv[2 + count:])
"""


class Activated(Daemon):
    """A daemon that is given its sockets, as systemd does it."""

    sockets: tuple[socket.socket, ...] = ()

    def spawn(self, *arguments: str) -> None:
        words = [
            sys.executable,
            "-I",
            "-S",
            str(self.package / "boot.py"),
            "keeper",
            "--config",
            str(self._link / "rocksyd.toml"),
        ]
        fds = [opened.fileno() for opened in self.sockets]
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(len(fds)), *map(str, fds), *words, *arguments]
        environment = {**os.environ, "NOTIFY_SOCKET": str(self._short / "n")}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                launcher, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.folder, pass_fds=fds
            )


def test_p10_sockets_of_the_service_manager_are_served_and_stay_its_own(tmp_path: Path) -> None:
    """Socket activation: who connects before the start, over restarts, and between a stop and the next start is served."""
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        port = tcp.getsockname()[1]
        daemon = Activated(tmp_path, JOBS, parts={"top": 'auth = "none"', "pool": 'pm = "ondemand"'})
        daemon.config.write_text(daemon.config.read_text().replace('d.sock"]', f'd.sock", "tcp://127.0.0.1:{port}"]'))
        unix.bind(str(daemon._link / "d.sock"))
        unix.listen()
        daemon.sockets = (unix, tcp)
        early = daemon.talk()
        early.send('early {"n":1}')
        with daemon:
            assert b"request_early" in early.line()
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                talk = Conversation(connection)
                for _ in range(2):
                    restart(daemon)
                    assert talk.rpc("call", target="version")["result"] == 1
                listening = {target for target in daemon.descriptors(daemon.master_pid).values() if target.startswith("socket:")}
                for opened in daemon.sockets:
                    assert f"socket:[{os.fstat(opened.fileno()).st_ino}]" in listening
            daemon.stop()
            between = [daemon.talk(), Conversation(socket.create_connection(("127.0.0.1", port), timeout=30))]
            for number, talk in enumerate(between):
                talk.send(f'between {{"n":{number}}}')
            daemon.start()
            for number, talk in enumerate(between):
                assert f'{{\\"n\\":{number}}}'.encode() in talk.line()
                talk.close()


def serve(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rocksyd.cli", "serve", "-c", "rocksyd.toml", *words]
    path = str(Path(next(iter(rocksyd.__path__))).parent)
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def unstarted(tmp_path: Path) -> Any:
    """A daemon's folder, and nothing that runs in it."""
    daemon = Daemon(tmp_path, JOBS)
    yield daemon
    daemon.close()


def test_serve_as_a_daemon_returns_when_it_is_ready_and_restarts_keep_its_pid(tmp_path: Path, unstarted: Daemon) -> None:
    done = serve(tmp_path, "--daemon", "--pid-file", "pid")
    assert done.returncode == 0, done.stderr
    pid = int((tmp_path / "pid").read_text())
    end = os.pidfd_open(pid)
    try:
        with Client(unstarted.address) as client:
            assert client.call("version") == 1
            for generation in (2, 3):
                assert client.restart() == generation
            assert client.request("stats")["pid"] == pid
        assert int((tmp_path / "pid").read_text()) == pid
        second = serve(tmp_path, "--daemon", "--pid-file", "pid")
        assert second.returncode == 1
        assert str(pid) in second.stderr
        with Client(unstarted.address) as client:
            assert client.call("version") == 1
    finally:
        signal.pidfd_send_signal(end, signal.SIGTERM)
        until(lambda: not os.path.exists(f"/proc/{pid}/exe"), "its end")
        os.close(end)
    assert not (tmp_path / "pid").exists()
    assert not (tmp_path / "d.sock").exists()


def test_serve_as_a_daemon_that_cannot_start_says_why(tmp_path: Path, unstarted: Daemon) -> None:
    (unstarted.app / "jobs.py").write_text("import no_such_module_anywhere")
    done = serve(tmp_path, "--daemon", "--pid-file", "pid")
    assert done.returncode == 1
    assert "no_such_module_anywhere" in done.stderr
    assert "jobs.py" in done.stderr
    until(lambda: not (tmp_path / "pid").exists(), "the daemon, which has said so, to be gone")
    assert not (tmp_path / "d.sock").exists()
