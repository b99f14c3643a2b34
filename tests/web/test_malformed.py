"""Bytes that are no HTTP, or nearly, said to a daemon and to nginx in front of it: each has its fate, and nobody else notices."""

from __future__ import annotations

import re
import socket
from collections import Counter
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from tests.files import lines
from tests.restart.stage import many
from tests.web.malformed import CASES, INNER, SERVED
from tests.web.proxy import needs_nginx, nginx
from tests.web.stage import ASGI, WSGI, connect, get, served

AFTER = b"GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
ONE = 'pm = "static"\nmax_workers = 1\ngrace = "30s"'
SEEN = 'open("seen", "a").write(f"{%s} {%s}\\n")\n    '
START = 'await send({"type": "http.response.start", "status": 200'
APPS = {
    "asgi": ASGI.replace(START, SEEN % ("scope['method']", "scope['path']") + START, 1),
    "wsgi": WSGI.replace("start_response(", SEEN % ("environ['REQUEST_METHOD']", "path") + "start_response(", 1),
}
"""Applications that write down which requests they see."""
NO_WEBSOCKETS = {name: case._replace(fate=SERVED) for name, case in CASES.items() if name.startswith("a WebSocket")}
"""What WSGI makes of it: a request as any other."""


def seen(daemon: Daemon) -> list[str]:
    return lines(daemon.app / "seen")


def everything(connection: socket.socket) -> bytes:
    """All that comes until the other end closes it."""
    data = b""
    try:
        while part := connection.recv(65536):
            data += part
    except ConnectionError:
        data += b"<reset>"
    return data


def statuses(data: bytes) -> list[bytes]:
    return re.findall(rb"^HTTP/1\.1 (\d+) ", data, re.MULTILINE)


@pytest.mark.parametrize("interface", ["asgi", "wsgi"][: many(1, 2)])
def test_what_is_no_http_is_refused_and_what_is_unusual_is_served(tmp_path: Path, interface: str) -> None:
    cases = CASES if interface == "asgi" else {**CASES, **NO_WEBSOCKETS}
    found, expected, count = {}, {}, 0
    with served(tmp_path, APPS[interface], interface=interface, pool=ONE) as daemon:
        for number, (name, case) in enumerate(cases.items()):
            with connect(daemon) as connection:
                connection.sendall(case.said + (AFTER if case.fate == SERVED else INNER))
                answered = statuses(everything(connection))
            assert get(daemon, f"/marker/{number}")[0] == 200
            count += 2 * (case.fate == SERVED) + 1
            refused = [b"505"] if answered == [b"505"] else [b"400"]
            found[name] = answered, seen(daemon)[count - 1 :]
            expected[name] = [b"200", b"200"] if case.fate == SERVED else refused, [f"GET /marker/{number}"]
        assert found == expected
        assert "GET /inner" not in seen(daemon)
        assert "Traceback" not in daemon.log()


@needs_nginx
def test_p1_nginx_and_a_worker_read_the_same_requests(tmp_path: Path) -> None:
    """Whatever is said to nginx: the application sees only what nginx has passed on, and everybody gets their own answer."""
    with served(tmp_path, APPS["asgi"], pool=ONE) as daemon:
        with nginx(daemon, tmp_path) as front, socket.socket(socket.AF_UNIX) as kept:
            kept.settimeout(30)
            kept.connect(str(front))
            for number, case in enumerate(CASES.values()):
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(30)
                    connection.connect(str(front))
                    try:
                        connection.sendall(case.said + INNER)
                        connection.shutdown(socket.SHUT_WR)
                    except OSError:
                        continue  # it has been refused before all of it was said
                    everything(connection)
                kept.sendall(b"GET /marker/%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
                data = b""
                while not data.endswith(b"0\r\n\r\n"):
                    part = kept.recv(65536)
                    assert part, data
                    data += part
                assert re.findall(rb"1 \d+ (/\S+) 0\r\n", data) == [b"/marker/%d" % number]
        passed = Counter((tmp_path / "passed.log").read_text().splitlines())
        assert Counter(seen(daemon)) - passed == Counter()
        assert "Traceback" not in daemon.log()
