"""What a caller has around it is written alike by both clients, and read by any version."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import surroundings
from rocksyd.surroundings import Surroundings
from tests.exec.stage import launcher

WORDS = st.lists(st.binary(max_size=20).map(lambda word: word.replace(b"\0", b"")))
TEXT = st.text(st.characters(exclude_characters="\0"), max_size=20).filter(lambda text: text.isprintable())


@given(argv=WORDS, env=WORDS, app=TEXT, cwd=TEXT)
def test_what_is_written_is_read(argv: list[bytes], env: list[bytes], app: str, cwd: str) -> None:
    given_ = Surroundings(argv, env, app=app, cwd=cwd, key="k", umask="63", opened="02", ignored="1 2", priority="-3")
    read = surroundings.decode(given_.encode())
    assert all(getattr(read, name) == getattr(given_, name) for name in Surroundings.__slots__)


@given(st.binary())
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="caller"):
        surroundings.decode(data)


def test_unknown_fields_are_ignored_and_missing_ones_take_their_default() -> None:
    read = surroundings.decode(b"rocksyd-exec 1\0key=k\0colour=blue\0argc=1\0\0a.py\0A=1\0")
    assert (read.key, read.umask, read.opened, read.argv, read.env) == ("k", "18", "012", [b"a.py"], [b"A=1"])


def test_both_clients_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = launcher(tmp_path)
    if not program:
        pytest.skip("there is no compiler here")
    said = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as daemon:
        monkeypatch.chdir(tmp_path)
        daemon.bind("d.sock.exec")
        daemon.listen()
        daemon.settimeout(30)
        for words in (program.split(), [sys.executable, "-m", "rocksyd.cli", "exec", "--"]):
            env = {"A": "1", "B": "", "ROCKSYD_ADDRESS": "unix://d.sock", "LC_ALL": "C.UTF-8"}
            options = ["--app", "shop", "--priority", "-4", "--"]
            command = [*words[:-1], *options, "manage.py", "", "ü", b"\xff"]
            caller = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, umask=0o27, stdout=2, stderr=2)
            connection, _ = daemon.accept()
            with connection:
                data, fds, _, _ = socket.recv_fds(connection, 100, 10)
                around = surroundings.decode(os.pread(fds[0], 1 << 20, 0))
                for fd in fds:
                    os.close(fd)
                connection.send(b"refused 7 no")
            assert caller.wait(30) == 7
            assert around.key.startswith("exec-")
            around.key = ""
            around.ignored = " ".join(around.ignored.split())
            said.append(
                [data, len(fds), *(getattr(around, name) for name in Surroundings.__slots__ if name != "env"), sorted(around.env)]
            )
    assert said[0] == said[1]
