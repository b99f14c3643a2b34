"""The memcached dialect on a live daemon, as monitoring tools speak it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocksyd import __version__
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation
from tests.originals.stage import JOBS, OK, ended


def stats(talk: Conversation, *words: str) -> dict[str, str]:
    """What `stats` answers; every line of it is as memcached writes it."""
    talk.send(" ".join(["stats", *words]))
    found: dict[str, str] = {}
    while (line := talk.line()) != b"END\r":
        assert line.endswith(b"\r")
        word, name, value = line[:-1].decode().split(" ", 2)
        assert word == "STAT"
        assert name not in found
        found[name] = value
    return found


def test_stats_counts_what_has_happened(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        for number, target in enumerate(("Nothing", "Throws")):
            assert talk.ask(f'run {{"hash":{number},"class":"{target}"}}') == OK
            ended(talk, number)
        talk.ask('run {"hash":9,"class":"NoSuchClass"}')
        found = stats(talk)
        expected = {
            "pid": str(daemon.pid),
            "version": __version__,
            "generation": "1",
            "curr_connections": "1",
            "runs_submitted": "2",
        }
        expected |= {"runs_ended_ok": "1", "runs_ended_failed": "1", "runs_refused": "1", "runs_running": "0", "restarts": "0"}
        assert expected.items() <= found.items()
        daemon.restart()
        after = stats(talk)
        assert {"restarts": "1", "generation": "2", "runs_submitted": "2", "runs_ended_ok": "1"}.items() <= after.items()
        assert (after["pid"], after["master_pid"] == found["master_pid"]) == (found["pid"], False)


def test_stats_restarts_and_stats_pools(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        daemon.restart()
        daemon.restart()
        restarts = stats(talk, "restarts")
        assert (restarts["0:kind"], restarts["0:from"], restarts["0:to"], restarts["1:to"]) == ("restart", "2", "3", "2")
        assert float(restarts["0:waited_ms"]) > 0
        assert {"app:pm": "dynamic", "app:max_workers": "4", "app:waiting": "0"}.items() <= stats(talk, "pools").items()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_version_and_quit(tmp_path: Path, end: str) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        talk.socket.sendall(f'version{end}check {{"hash":1}}{end}quit{end}version{end}'.encode())
        assert talk.line() == f"VERSION 1.4.0-rocksyd-{__version__}\r".encode()
        assert talk.line() == b'{"error_text":"Hash not found"}'
        assert talk.line() == b""
