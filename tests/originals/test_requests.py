"""What the original does with requests at the edges: the same where it was right, the right thing where it was not (P12).

Rows of one table share a daemon: that it serves the next one is part of what each of them proves.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from tests.originals.stage import JOBS, NOT_FOUND, OK, RUNNING, everything, exchange

INVALID = b'{"error_text":"Invalid JSON"}\n'
NOT_NUMERIC = b'{"error_text":"Hash is not numeric"}\n'
UNKNOWN = b'{"error_text":"Hash not found"}\n'
CHECK = b'check {"hash":77}\n'
DEEP = b"[" * 600 + b"]" * 600

# probe -> what is said, what is answered until the end of the connection
ANSWERS: dict[str, tuple[bytes, bytes]] = {
    "invalid JSON in check": (b"check {bad\n", INVALID),
    "invalid JSON in run": (b"run {bad\n", INVALID),
    "a JSON string as argument of check": (b'check "abc"\n', INVALID),
    "a JSON string as argument of run": (b'run "abc"\n', INVALID),
    "null": (b"check null\n", INVALID),
    "a number": (b"check 5\n", INVALID),
    "an array": (b"check []\n", INVALID),
    "nesting deeper than 512": (b"check " + DEEP + b"\n", INVALID),
    "nesting deeper than 512 as a member": (b'check {"hash":' + DEEP + b"}\n", INVALID),
    "a NUL byte behind the JSON": (b'check {"hash":77}\0\n', INVALID),
    "a NUL byte in the command": (b"che\0ck\n", b'{"error_text":"UNKNOWN REQUEST \'request_che\\u0000ck\': {}"}\n'),
    "an unknown command": (b'frobnicate {"a": 1}\n', b'{"error_text":"UNKNOWN REQUEST \'request_frobnicate\': {\\"a\\": 1}"}\n'),
    "a command in the wrong case": (b"CHECK\n", b'{"error_text":"UNKNOWN REQUEST \'request_CHECK\': {}"}\n'),
    "hash missing in check": (b"check {}\n", NOT_NUMERIC),
    "hash missing in free": (b"free {}\n", NOT_NUMERIC),
    "hash missing in terminate": (b"terminate\n", NOT_NUMERIC),
    "hash missing in run": (b'run {"class":"Nothing"}\n', b'{"error_text":"hash is not numeric"}\n'),
    "a hash that is text": (b'check {"hash":"abc"}\n', NOT_NUMERIC),
    "hash 1.5": (b'check {"hash":1.5}\n', NOT_NUMERIC),
    "hash 1.0": (b'check {"hash":1.0}\n', NOT_NUMERIC),
    'hash "1e3"': (b'check {"hash":"1e3"}\n', NOT_NUMERIC),
    "hash 1e30": (b'check {"hash":1e30}\n', NOT_NUMERIC),
    "hash of more than 64 bits": (b'check {"hash":99999999999999999999}\n', NOT_NUMERIC),
    "hash true": (b'check {"hash":true}\n', NOT_NUMERIC),
    "hash -1": (b'check {"hash":-1}\n', UNKNOWN),
    "hash 0": (b'check {"hash":0}\n', UNKNOWN),
    "class missing": (b'run {"hash":77}\n', b'{"error_text":"Class not found"}\n'),
    "class that does not exist": (b'run {"hash":77,"class":"NoSuchClass"}\n', b'{"error_text":"Class not found"}\n'),
    "class that is not allowed": (b'run {"hash":77,"class":"os:system"}\n', b'{"error_text":"Class not allowed"}\n'),
    "a run that was refused is not there": (CHECK, UNKNOWN),
    "the first byte is a newline": (b"\n" + CHECK, UNKNOWN),
    "an empty line between": (CHECK + b"\n\r\n" + CHECK, UNKNOWN * 2),
    "CRLF": (CHECK[:-1] + b"\r\n", UNKNOWN),
    "two spaces": (b'check  {"hash":77}\n', UNKNOWN),
    "several in one write": (CHECK * 3, UNKNOWN * 3),
    "check and bye in one write": (CHECK + b"bye\n", UNKNOWN),
    "bye and check in one write": (b"bye\n" + CHECK, b""),
    "quit and check in one write": (b"quit\n" + CHECK, b""),
    "half a line at the end": (CHECK + b"check", UNKNOWN),
    "100,000 requests in one write": (CHECK * 100_000, UNKNOWN * 100_000),
    "a line of 1 MiB": (b'check {"hash":77' + b" " * (2**20 - 17) + b"}\n", UNKNOWN),
    "8 MB of blank lines": (b"\n" * (8 << 20) + CHECK, UNKNOWN),
}
CLOSED: dict[str, tuple[bytes, str]] = {
    "a line of 2 MB": (CHECK + b"check " + b"1" * (2 << 20) + b"\n" + CHECK, "a line is longer than 1048576 bytes"),
    "not UTF-8": (CHECK + b'check {"hash":"\xff"}\n' + CHECK, "a line is not UTF-8"),
}


def test_p12_every_probe_of_a_request_gets_its_answer_and_the_daemon_lives(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        wrong = {}
        for probe, (said, expected) in ANSWERS.items():
            got = exchange(daemon.connect(), said)
            if got != expected:
                wrong[probe] = (got[:200], expected[:200])
        assert wrong == {}


def test_p12_a_line_that_cannot_be_read_ends_its_connection_and_no_other(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        other = daemon.talk()
        for probe, (said, reason) in CLOSED.items():
            with daemon.connect() as connection:
                connection.sendall(said)
                first, second = everything(connection).splitlines()
                assert first + b"\n" == UNKNOWN, probe
                assert json.loads(second)["error_text"].startswith(reason), probe
            assert other.ask(CHECK[:-1]) == NOT_FOUND, probe


@pytest.mark.parametrize("cut", [1, 5, 17])
def test_half_a_line_and_the_rest_later_is_one_request(tmp_path: Path, cut: int) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk, other = daemon.talk(), daemon.talk()
        talk.socket.sendall(CHECK[:cut])
        assert other.ask(CHECK[:-1]) == NOT_FOUND  # the daemon has had a turn since
        talk.socket.sendall(CHECK[cut:])
        assert json.loads(talk.line()) == NOT_FOUND


def test_a_client_that_resets_after_run_loses_nothing_but_its_connection(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        other = daemon.talk()
        connection = daemon.connect()
        connection.sendall(b'run {"hash":1,"class":"Exits","params":[7]}\n')
        connection.shutdown(socket.SHUT_RD)
        connection.close()
        while other.ask('check {"hash":1}') == NOT_FOUND:
            pass
        assert other.rpc("wait", key="1")["retcode"] == 7


def test_requests_are_answered_in_any_order_by_their_ids(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        assert talk.ask(f'run {{"hash":1,"class":"Waits","params":["{gate}"]}}') == OK
        talk.send(
            '{"jsonrpc":"2.0","id":"slow","method":"wait","params":{"key":"1"}}',
            '{"jsonrpc":"2.0","id":"fast","method":"status","params":{"key":"1"}}',
        )
        assert json.loads(talk.line())["id"] == "fast"
        assert talk.ask('check {"hash":1}') == RUNNING
        gate.touch()
        assert json.loads(talk.line())["id"] == "slow"
