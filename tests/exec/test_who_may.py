"""The socket for callers: who may use it, and what is said there that makes no sense."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rocksyd.surroundings import Surroundings
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until
from tests.exec.stage import POOL, environment

ASK = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
try:
    caller.connect(sys.argv[1])
    print(caller.recv(1000).decode())
except OSError as error:
    print(type(error).__name__)
"""


def path_of(daemon: Daemon) -> str:
    return daemon.address.removeprefix("unix://") + ".exec"


def say(daemon: Daemon, data: bytes, fds: list[int] | None = None) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
        caller.settimeout(30)
        caller.connect(path_of(daemon))
        socket.send_fds(caller, [data], fds or [])
        return caller.recv(4096).decode()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="takes the rights of root")
def test_nobody_but_the_daemons_user_and_root_may_exec(tmp_path: Path) -> None:
    with Daemon(tmp_path, parts={"pool": POOL}) as daemon:
        path = os.path.realpath(path_of(daemon))
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        ask = [sys.executable, "-I", "-S", "-c", ASK]
        said = []
        os.chmod(os.path.dirname(path), 0o711)
        for mode in (0o600, 0o666):
            os.chmod(path, mode)
            words = [*ask, os.path.basename(path)]
            done = subprocess.run(words, cwd=os.path.dirname(path), capture_output=True, text=True, check=True)
            said.append(done.stdout)
        assert said[0].strip() == "PermissionError"
        assert said[1].startswith("refused 1 exec is for the daemon's own user and root")


def test_p12_what_makes_no_sense_is_refused_and_disturbs_nobody(tmp_path: Path) -> None:
    def order(data: bytes) -> int:
        fd = os.memfd_create("order")
        os.write(fd, data)
        return fd

    with Daemon(tmp_path, parts={"pool": POOL}) as daemon:
        line, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        folder = os.open("/", os.O_PATH)
        good = Surroundings([b"x.py"], [], key="k", opened="")
        orders = [order(b""), order(b"nonsense"), order(good.encode()[:-9]), order(Surroundings([], [], key="").encode())]
        orders += [
            order(Surroundings([], [], key="k" * 129, opened="").encode()),
            order(Surroundings([], [], key="k", priority="x").encode()),
            order(Surroundings([], [], key="k\udcff", opened="").encode()),  # no UTF-8
        ]
        before = len(daemon.descriptors(daemon.master_pid))
        with line, other:
            try:
                assert say(daemon, b"nonsense").startswith("refused 2 ")
                assert say(daemon, b"exec 1").startswith("refused 2 descriptors are missing")
                assert say(daemon, b"exec 1", [folder] * 9).startswith("refused 2 ")
                assert say(daemon, b"exec 1", [line.fileno(), folder, other.fileno()]).startswith("refused 2 ")
                for fd in orders:
                    assert say(daemon, b"exec 1", [fd, folder, other.fileno()]).startswith("refused 2 "), os.pread(fd, 100, 0)
                assert say(daemon, b"ended nobody") == "unknown"
                assert daemon.talk().rpc("list") == []
                assert daemon.talk().rpc("health")["faults"] == {}
                until(lambda: len(daemon.descriptors(daemon.master_pid)) <= before + 2, "nothing more open than two connections")
            finally:
                for fd in [folder, *orders]:
                    os.close(fd)
        assert "Traceback" not in daemon.log()


def test_of_several_applications_the_one_whose_folder_this_is_is_taken(tmp_path: Path) -> None:
    config = 'listen = ["unix://d.sock"]\nstate_dir = "var"\n'
    for name in ("one", "two"):
        (tmp_path / name / "inside").mkdir(parents=True)
        (tmp_path / name / f"{name}_loaded.py").write_text("def f():\n    pass\n")
        config += f'[apps.{name}]\npath = "{name}"\npreload = ["{name}_loaded"]\nallow = ["{name}_loaded:*"]\n'
        config += f"[apps.{name}.pool]\n{POOL}\n"
    code = "import sys; print(*[n for n in sys.modules if n.endswith('_loaded')])"
    with Daemon(tmp_path, config=config) as daemon:
        said = []
        for folder, options in (("one", []), ("two/inside", []), ("one", ["--app", "two"]), (".", [])):
            words = [sys.executable, "-m", "rocksyd.cli", "exec", *options, "--", "-c", code]
            done = subprocess.run(
                words, cwd=tmp_path / folder, env=environment(daemon), capture_output=True, text=True, check=False
            )
            said.append(done.stdout.strip() or done.stderr.strip())
    assert said[:3] == ["one_loaded", "two_loaded", "two_loaded"]
    assert said[3] == "rocksyd: there are several applications (one, two): say which with --app"
