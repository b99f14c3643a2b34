"""Who may say what: tokens over tcp, users over a unix socket, addresses that are refused (P12)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import TIMEOUT, Conversation, until
from tests.originals.stage import JOBS, NOT_FOUND, OK, ended

LOCKED = {"error_text": 'Not authorised: say auth {"token":"..."} first'}
TOKEN = "a secret"
AUTH = f'auth {{"token":"{TOKEN}"}}'
RPC_AUTH = f'{{"jsonrpc":"2.0","id":1,"method":"auth","params":{{"token":"{TOKEN}"}}}}'


def guarded(folder: Path, more: str = "") -> Daemon:
    """A daemon that listens at a tcp port as well, with a token."""
    listen = f'listen = ["unix://d.sock", "tcp://127.0.0.1:0"]\nstate_dir = "var"\ntoken_file = "token"\n{more}\n'
    (folder / "token").write_text(f"{TOKEN}\n")
    (folder / "token").chmod(0o600)
    return Daemon(folder, JOBS, config=listen + '[apps.app]\npath = "app"\njobs = ["jobs"]\n')


def tcp(daemon: Daemon) -> Conversation:
    """A conversation over the tcp port."""
    with daemon.talk() as talk:
        (address,) = [address for address in talk.rpc("health")["listen"] if address.startswith("tcp://")]
    return Conversation(socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), TIMEOUT))


@pytest.mark.parametrize("auth", [AUTH, RPC_AUTH], ids=["classic", "JSON-RPC"])
def test_p12_with_the_token_everything_is_served(tmp_path: Path, auth: str) -> None:
    with guarded(tmp_path) as daemon, tcp(daemon) as talk:
        assert talk.ask('check {"hash":1}') == LOCKED
        reply = talk.ask(auth)
        assert reply == OK or reply["result"] == {"authorised": True}
        assert talk.ask('run {"hash":1,"class":"Exits","params":[3]}') == OK
        assert ended(talk, 1) == {"retcode": 3}
        assert talk.ask("restart") == {"error_text": "Restarted successfully"}
        assert talk.ask('check {"hash":1}') == {"retcode": 3}


def test_who_does_not_show_the_token_in_time_is_dropped_and_nobody_else(tmp_path: Path) -> None:
    with guarded(tmp_path, 'auth_timeout = "3s"') as daemon, tcp(daemon) as known:
        assert known.ask(AUTH) == OK
        with tcp(daemon) as busy:
            assert busy.ask('check {"hash":1}') == LOCKED
            with tcp(daemon) as silent:
                assert silent.line() == busy.line() == b""
        assert known.ask("restart") == {"error_text": "Restarted successfully"}
        with tcp(daemon) as later:
            assert later.line() == b""
        assert known.ask('check {"hash":1}') == {"error_text": "Hash not found"}
        assert daemon.talk().rpc("stats")["dropped_connections"] >= 1
        assert "did not show the token within 3s: dropped" in daemon.log()


def test_who_has_not_shown_the_token_yet_may_show_it_after_a_restart(tmp_path: Path) -> None:
    with guarded(tmp_path, 'auth_timeout = "10m"') as daemon, tcp(daemon) as silent:
        daemon.wait_shelved(1)
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        assert silent.ask('check {"hash":1}') == LOCKED
        assert silent.ask(AUTH) == OK


@pytest.mark.parametrize(
    "auth",
    ['auth {"token":"another"}', 'auth {"token":""}', RPC_AUTH.replace(TOKEN, "another"), f"[{RPC_AUTH.replace(TOKEN, '')}]"],
)
def test_p12_a_wrong_token_is_told_and_nothing_behind_it_is_read(tmp_path: Path, auth: str) -> None:
    with guarded(tmp_path) as daemon, tcp(daemon) as talk:
        talk.send('check {"hash":1}', auth, AUTH, 'run {"hash":1,"class":"Nothing"}')
        assert json.loads(talk.line()) == LOCKED
        assert b"rong token" in talk.line()
        assert talk.line() == b""
        assert daemon.talk().ask('check {"hash":1}') == NOT_FOUND


def test_p12_before_the_token_every_dialect_refuses_and_nothing_is_done(tmp_path: Path) -> None:
    refused: dict[str, bytes] = {
        'run {"hash":1,"class":"Nothing"}': b'"error_text":"Not authorised',
        "restart": b'"error_text":"Not authorised',
        "stop": b'"error_text":"Not authorised',
        "stats": b"CLIENT_ERROR Not authorised",
        '{"jsonrpc":"2.0","id":7,"method":"stop"}': b'"code":-32003',
        '{"jsonrpc":"2.0","id":7,"method":"no such method"}': b'"code":-32003',
        '[{"jsonrpc":"2.0","id":7,"method":"stop"},{"jsonrpc":"2.0","method":"stop"}]': b'[{"jsonrpc":"2.0","error":{"code":-320',
        '{"jsonrpc":"2.0","method":"stop"}\nversion': b"VERSION ",
        'auth {"token":5}': b"token is not a string",
        '{"jsonrpc":"2.0","id":7,"method":"auth","params":{"token":5}}': b'"code":-32602',
        "auth": b"token is not a string",
        "{bad": b'"code":-32700',
    }
    with guarded(tmp_path) as daemon, tcp(daemon) as talk:
        got = {}
        for line in refused:
            talk.send(line)
            got[line] = talk.line()
        assert {line: reply for line, reply in got.items() if refused[line] not in reply} == {}
        assert TOKEN.encode() not in b"".join(got.values())
        talk.send("bye")
        assert talk.line() == b""
        assert daemon.talk().rpc("stats")["runs_submitted"] == 0


@pytest.mark.parametrize("what", ["restart", "SIGKILL of the master"])
def test_p11_who_is_authorised_stays_so_and_nobody_else_becomes_it(tmp_path: Path, what: str) -> None:
    with guarded(tmp_path) as daemon, tcp(daemon) as known, tcp(daemon) as stranger:
        assert known.ask(AUTH) == OK
        assert stranger.ask('check {"hash":1}') == LOCKED
        daemon.wait_shelved(2)
        master = daemon.master_pid
        if what == "restart":
            daemon.restart()
        else:
            os.kill(master, signal.SIGKILL)
        until(lambda: daemon.master_pid != master, "another master")
        assert known.ask('check {"hash":1}') == NOT_FOUND
        assert stranger.ask('check {"hash":1}') == LOCKED
        assert stranger.ask(RPC_AUTH)["result"] == {"authorised": True}
        assert stranger.ask('check {"hash":1}') == NOT_FOUND


def test_tcp_replies_leave_at_once_and_a_peer_that_has_vanished_is_noticed(tmp_path: Path) -> None:
    with guarded(tmp_path) as daemon, tcp(daemon) as talk:
        assert talk.ask(AUTH) == OK
        # The daemon's end: towards another server, another connection may have our port, too.
        ends = (_in_table(talk.socket.getpeername()), _in_table(talk.socket.getsockname()))
        (timer,) = [words[5] for words in _tcp_table() if (words[1], words[2]) == ends]
        assert timer.startswith("02:"), "proc(5): the keepalive timer"


def _in_table(address: tuple[str, int]) -> str:
    host, port = address
    return f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{port:04X}"


def _tcp_table() -> list[list[str]]:
    return [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_p12_another_user_at_the_unix_socket_may_run_jobs_and_give_no_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = 'listen = ["unix://d.sock?mode=0666"]\nstate_dir = "var"\n[apps.app]\npath = "app"\njobs = ["jobs"]\n'
    tmp_path.chmod(0o711)
    monkeypatch.chdir(tmp_path)  # so that the folders above need not be open to others
    with Daemon(tmp_path, JOBS, config=config) as daemon:
        with as_nobody():
            connection = socket.socket(socket.AF_UNIX)
            connection.connect("d.sock")
        with Conversation(connection) as talk:
            assert talk.ask('run {"hash":1,"class":"Exits","params":[3]}') == OK
            assert ended(talk, 1) == {"retcode": 3}
            for _ in range(2):
                for order in ("restart", "reload", "stop", "drain"):
                    for line in (order, f'{{"jsonrpc":"2.0","id":1,"method":"{order}"}}'):
                        assert "only the daemon's own user or root may order that" in str(talk.ask(line)), line
                daemon.restart()  # and so it is with the next master
            assert daemon.talk().rpc("stats")["generation"] == 3


@contextmanager
def as_nobody() -> Iterator[None]:
    """What is connected meanwhile is somebody else's (unix(7): SO_PEERCRED is of the moment of connect)."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("mode", ["0600", "0660"])
def test_the_sockets_file_has_the_mode_that_was_asked_for_also_after_a_restart(tmp_path: Path, mode: str) -> None:
    config = f'listen = ["unix://d.sock?mode={mode}"]\nstate_dir = "var"\n[apps.app]\npath = "app"\njobs = ["jobs"]\n'
    with Daemon(tmp_path, JOBS, config=config) as daemon:
        for _ in range(2):
            assert (tmp_path / "d.sock").stat().st_mode & 0o777 == int(mode, 8)
            daemon.restart()


# probe -> the file's first lines, the line that is named, a part of the reason
UNSAFE: dict[str, tuple[str, int, str]] = {
    "every address without a token": ('listen = ["tcp://0.0.0.0:0"]', 1, "token_file"),
    "loopback without token or auth": ('listen = ["tcp://127.0.0.1:0"]', 1, "token_file"),
    "auth none on every address": ('listen = ["tcp://0.0.0.0:0"]\nauth = "none"', 1, "loopback"),
    "a token that everybody may read": ('listen = ["tcp://127.0.0.1:0"]\ntoken_file = "open"', 2, "chmod 600"),
    "a token that is not there": ('listen = ["tcp://127.0.0.1:0"]\ntoken_file = "nowhere"', 2, "no such file"),
    "no address": ('listen = ["nonsense"]', 1, "expected an address"),
    "a path that is no socket": ('listen = ["unix://open"]', 1, "is no socket"),
}


@pytest.mark.parametrize("probe", UNSAFE)
def test_p12_serve_refuses_what_is_unsafe_or_no_address_and_names_file_and_line(tmp_path: Path, probe: str) -> None:
    top, line, reason = UNSAFE[probe]
    (tmp_path / "open").write_text("x\n")
    (tmp_path / "open").chmod(0o644)
    path = tmp_path / "rocksyd.toml"
    path.write_text(top + '\n[apps.app]\npath = "."\njobs = ["jobs"]\n')
    command = [sys.executable, "-m", "rocksyd.cli", "serve", "-c", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (message,) = done.stderr.splitlines()
    assert message.startswith(f"rocksyd: {path}:{line}: ")
    assert reason in message
