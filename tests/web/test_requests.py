"""What is said over a connection, and what is answered: of one daemon that serves ASGI and one that serves WSGI."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksyd.master.desk import methods
from rocksyd.testing import Daemon, until
from tests.files import lines, wait_lines, whole
from tests.web import checked
from tests.web.stage import ASGI, Kept, connect, get, port, row, served

SPECIAL = """
    if scope["path"] == "/boom":
        raise RuntimeError("boom")
    if scope["path"] == "/who":
        import json
        from rocksyd import current
        current().finish(lambda: open("finished", "a").write(f"{current().request_id}\\n"))
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        said = {"client": scope["client"], "scheme": scope["scheme"], "id": current().request_id, "headers": headers}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(said).encode()})
        return
    if scope["path"] == "/rest":
        from rocksyd import current
        async def rest():
            while not os.path.exists("open"):
                await asyncio.sleep(0.01)
            open("rested", "a").write(f"{VERSION}\\n")
        current().finish(rest)
    if scope["path"] == "/late":
        await asyncio.sleep(60)
"""
START = '    await send({"type": "http.response.start", "status": 200'
APP = ASGI.replace(START, SPECIAL + START, 1) + "\nfrom checked import checked\napplication = checked(application)\n"
WEB = """
max_body = 50000
max_head = 4096
status = "/status"
ping = "/ping"
access_log = "access.log"
trusted_proxies = ["10.0.0.0/8"]
"""
HURRIED = """
[apps.hurried]
path = "app"
jobs = ["jobs"]
[apps.hurried.web]
asgi = "website:application"
listen = ["unix://hurried.sock"]
head_timeout = "100ms"
timeout = "100ms"
[apps.hurried.pools.web]
pm = "static"
max_workers = 1
grace = "1m"
"""
"""Where what takes too long is asked for, and nothing else: no other request is held against so little time."""
VALIDATED = """
import os, threading
from wsgiref.validate import validator
from rocksyd import current

def plain(environ, start_response):
    size = 0
    while part := environ["wsgi.input"].read(65536):
        size += len(part)
    path = environ["PATH_INFO"]
    if path == "/parts":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (f"{number}\\n".encode() for number in range(5))
    if path == "/empty":
        start_response("204 No Content", [])
        return []
    if path == "/boom":
        raise RuntimeError("boom")
    if path == "/caught":
        try:
            raise ValueError("caught")
        except ValueError:
            import sys
            start_response("200 OK", [("Content-Type", "text/plain")])
            start_response("500 Oh", [("Content-Type", "text/plain")], sys.exc_info())
            return [b"oh"]
    if path == "/written":
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"one ")
        write(b"two ")
        return [b"three"]
    if path == "/id":
        start_response("200 OK", [("Content-Type", "text/plain")])
        current().finish(lambda: open("finished", "a").write(f"{current().request_id}\\n"))
        return [current().request_id.encode()]
    text = f"{environ['REQUEST_METHOD']} {path} {environ['QUERY_STRING']} {size}".encode("latin-1")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [text]

application = validator(plain)
"""


def integers(said: Any) -> Iterator[int]:
    """All whole numbers of a reply."""
    if isinstance(said, dict | list):
        for one in said.values() if isinstance(said, dict) else said:
            yield from integers(one)
    elif isinstance(said, int):
        yield said


def memcached(daemon: Daemon, said: str) -> str:
    """What memcached's dialect answers."""
    with connect(daemon, "d.sock") as connection:
        connection.sendall(f"{said}\r\nquit\r\n".encode())
        data = b""
        while part := connection.recv(65536):
            data += part
    return data.decode()


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """All that comes until the other end closes: the status and everything behind the head."""
    data = b""
    while part := connection.recv(65536):
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


BAD = {
    "no HTTP": (b"hello\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "length and chunks": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "a length with a sign": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400),
    "a chunk's size": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
    "a blank before a colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "an encoding that is none": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n", 400),
    "a zero byte": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    "a large head": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000, 431),
    "a large body": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n", 413),
    "large chunks": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nEA60\r\n" + b"a" * 60000, 413),
}  # fmt: skip
LATE = {
    "a slow head": (b"GET / HTTP/1.1\r\nHo", 408),
    "no response in time": (b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n", 503),
}


def refused_and_how(asgi: Daemon) -> None:
    log = asgi.folder / "access.log"
    found = {}
    for what, (said, _) in BAD.items():
        with connect(asgi) as connection:
            connection.sendall(said)
            found[what] = answer(connection)[0]
        assert get(asgi)[0] == 200
    for what, (said, _) in LATE.items():
        with connect(asgi, "hurried.sock") as connection:
            connection.sendall(said)
            found[what] = answer(connection)[0]
    assert found == {what: status for what, (_, status) in (BAD | LATE).items()}
    refused = re.findall(r'^- - - \[.*\] "(.*)" (4\d\d) \d+ "-" "-" \d+\.\d+ (?:-|[0-9a-f]{24})$', whole(log), re.MULTILINE)
    assert [(line, int(status)) for line, status in refused[:-2]] == [
        (said.partition(b"\r")[0].decode(), status) for said, status in list(BAD.values())[:-2]
    ]
    assert refused[-2:] == [("POST / HTTP/1.1", "413")] * 2


def an_error_of_the_application_is_its_own(asgi: Daemon) -> None:
    assert get(asgi, "/boom")[0] == 500
    assert get(asgi)[0] == 200


def one_head_in_pieces_many_in_one_and_bodies_cut_anywhere(asgi: Daemon) -> None:
    request = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    last = b"GET /z HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    for size in (1, 7, 50, 1000):
        with connect(asgi) as connection:
            everything = request * 3 + last
            for at in range(0, len(everything), size):
                connection.sendall(everything[at : at + size])
            data = b""
            while part := connection.recv(65536):
                data += part
            assert re.findall(rb"(/[az] \d)", data) == [b"/a 5"] * 3 + [b"/z 0"]


def methods_expectations_and_chunks(asgi: Daemon) -> None:
    assert get(asgi, method="HEAD") == (200, "")
    with connect(asgi) as connection:
        connection.sendall(
            b"POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"abc")
        assert b"/e 3" in answer(connection)[1]
    with connect(asgi) as connection:
        connection.sendall(b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                           b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n")  # fmt: skip
        assert b"/c 7" in answer(connection)[1]


def for_whom_a_request_is_only_who_is_trusted_may_say(asgi: Daemon) -> None:
    said = {"X_Forwarded_For": "6.6.6.6, 1.2.3.4, 10.1.1.1", "X_Forwarded_Proto": "https", "X_Request_ID": "from-the-proxy.1"}
    believed = json.loads(get(asgi, "/who", **said)[1])
    assert (believed["client"], believed["scheme"], believed["id"]) == (["1.2.3.4", 0], "https", "from-the-proxy.1")
    assert wait_lines(asgi.app / "finished") == ["from-the-proxy.1"]
    made = json.loads(get(asgi, "/who", X_Request_ID="what ever")[1])
    assert re.fullmatch("[0-9a-f]{24}", made["id"])
    stranger = Kept(asgi, port(asgi))
    doubted = json.loads(stranger.ask("/who", **said)[1])
    stranger.close()
    assert (doubted["client"][0], doubted["scheme"]) == ("127.0.0.1", "http")
    assert doubted["id"] != "from-the-proxy.1"
    assert not [name for name in doubted["headers"] if name.startswith("x-forwarded")]
    line = r'^1\.2\.3\.4 - - \[.*\] "GET /who HTTP/1\.1" 200 \d+ "-" "-" \d+\.\d+ from-the-proxy\.1$'
    log = asgi.folder / "access.log"
    until(lambda: re.search(line, whole(log), re.MULTILINE), "a line in the access log")
    os.rename(log, asgi.folder / "access.log.1")
    until(lambda: get(asgi) and lines(log), "a log of the old name")


def settle(asgi: Daemon, path: str) -> None:
    """Wait until all that was answered is counted: a request is when its response is out, and in the log after that."""
    assert get(asgi, path)[0] == 200
    until(lambda: f'"GET {path} ' in whole(asgi.folder / "access.log"), "the line of the last request")


def a_run_knows_the_request_that_it_comes_from(asgi: Daemon) -> None:
    talk = asgi.talk()
    assert talk.rpc("call", target="asked", app="app", labels={"request_id": "r-1"})["result"] == "r-1"
    assert talk.rpc("call", target="asked", app="app", labels={"of": "nobody"})["result"] == ""


def pages_and_numbers(asgi: Daemon) -> None:
    assert get(asgi, "/ping") == (200, "pong")
    settle(asgi, "/before")
    before = row(asgi)
    for _ in range(5):
        assert get(asgi)[0] == 200
    assert get(asgi, "/boom")[0] == 500
    settle(asgi, "/after")
    now = row(asgi)
    assert now["status"]["2xx"] - before["status"]["2xx"] == 6
    assert now["status"]["5xx"] - before["status"]["5xx"] == 1
    assert now["served"] - before["served"] == 7
    assert 0 < now["latency"]["p50"] <= now["latency"]["p99"]
    assert sum(now["durations"]["counts"]) >= now["served"] > 0
    described = methods.METHODS["pools"].result["items"]["properties"]
    assert {name for name, known in described.items() if known["description"].startswith("of a web pool")} <= now.keys()
    assert [one["title"] for one in now["processes"]] == [f"{one['generation']}.{one['worker']}" for one in now["processes"]]
    stats = asgi.talk().rpc("stats")
    assert max(integers([now, stats, asgi.talk().rpc("health")])) < 2**53, "what JavaScript reads is what was said"
    assert stats["web_workers"] == 2
    assert stats["web_requests"] >= now["served"]
    assert stats["web_status_5xx"] >= now["status"]["5xx"] > 0
    flat = dict(re.findall(r"STAT app/web:(\S+) (\S+)", memcached(asgi, "stats pools")))
    assert int(flat["status_5xx"]) == now["status"]["5xx"]
    assert float(flat["latency_p50"]) > 0
    until(lambda: row(asgi)["connections"] == 0, "connections that were closed not to be counted")
    said = json.loads(get(asgi, "/status?json")[1])
    assert said["pool"] == "app/web"
    assert said["requests"] >= 6
    assert said["process manager"] == "static"
    assert "accepted conn:" in get(asgi, "/status")[1]


def _frame(text: bytes) -> bytes:
    return bytes([0x81, 0x80 | len(text)]) + b"\0\0\0\0" + text


def streams_and_websockets_go_on_in_old_code(asgi: Daemon) -> None:
    """Last, because it restarts: what was begun ends in the code it began with, and what comes is the new code's."""
    (asgi.app / "website.py").write_text(APP.replace("VERSION = 1", "VERSION = 2"))
    with connect(asgi) as web, connect(asgi) as stream:
        web.sendall(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")  # fmt: skip
        assert web.recv(4096).startswith(b"HTTP/1.1 101 ")
        stream.sendall(b"GET /stream?40 HTTP/1.1\r\nHost: a\r\n\r\n")
        head = b""
        while b"1 0\n" not in head:
            head += stream.recv(4096)
        half = Kept(asgi)
        assert half.ask("/before")[1].startswith("1 ")
        assert half.ask("/rest")[1].startswith("1 ")
        half.sock.sendall(b"GET /half HTTP/1.1\r\nHo")
        assert asgi.restart() == {"error_text": "Restarted successfully"}
        web.sendall(_frame(b"still"))
        assert web.recv(4096)[2:] == b"1 still"
        (asgi.app / "open").touch()
        assert wait_lines(asgi.app / "rested") == ["1"]
        half.sock.sendall(b"st: a\r\nConnection: close\r\n\r\n")
        assert b"/half 0" in answer(half.sock)[1]
        while not head.endswith(b"0\r\n\r\n"):
            head += stream.recv(4096)
        assert re.findall(rb"1 (\d+)\n", head) == [b"%d" % number for number in range(40)]
        stream.sendall(b"GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        status, body = answer(stream)
        assert (status, b"2 " in body) == (200, True)
        web.sendall(_frame(b"and on"))
        assert web.recv(4096)[2:] == b"1 and on"
        half.close()
    log = asgi.folder / "access.log"
    line = r'^- - - \[.*\] "GET /ws HTTP/1\.1" 101 \d+ "-" "-" \d+\.\d+ [0-9a-f]{24}$'
    until(lambda: re.search(line, whole(log), re.MULTILINE), "the line of the WebSocket, which has ended")


def wsgi_as_the_validator_wants_it(wsgi: Daemon) -> None:
    connection = Kept(wsgi)
    assert connection.ask("/a%20b?c=d") == (200, "GET /a b c=d 0")
    assert connection.ask("/p", "POST", b"x" * 300_000) == (200, "POST /p  300000")
    assert connection.ask("/h", "HEAD") == (200, "")
    assert connection.ask("/parts") == (200, "0\n1\n2\n3\n4\n")
    assert connection.ask("/empty") == (204, "")
    assert connection.ask("/written") == (200, "one two three")
    assert connection.ask("/caught") == (500, "oh")
    status, text = connection.ask("/id", X_Request_ID="abc")
    assert (status, text) == (200, "abc")
    assert wait_lines(wsgi.app / "finished") == ["abc"]
    connection.close()
    assert get(wsgi, "/boom")[0] == 500
    assert get(wsgi, "/a")[0] == 200
    assert "AssertionError" not in wsgi.log()


HOSTILE = {
    b"/plain": (b"a/1.0", "a/1.0"),
    b'/q"uo\\te': (b'say "\\", {"agent": 1}', 'say "\\", {"agent": 1}'),
    b"/%22%0a%00?a=%ff&b=\\u0041": (b"\\n\\x41\\u0022\ttab", "\\n\\x41\\u0022\ttab"),
    b"/utf-8": ("Zoë 😀 \u2028 \u202e".encode(), "Zoë 😀 \u2028 \u202e"),
    b"/no-utf-8": (b"caf\xe9 \xff\xfe \xed\xa0\x80", "caf\\xe9 \\xff\\xfe \\xed\\xa0\\x80"),
    b"/long": (b"x" * 8000, "x" * 8000),
}
"""Addresses, and values of headers with what JSON is to say of them."""


def an_access_log_in_json_says_what_was_said(wsgi: Daemon) -> None:
    def found() -> list[str]:
        """Theirs, by the id: lines of requests before may still be on their way."""
        return [line for line in lines(wsgi.folder / "access.log") if json.loads(line)["request_id"] == "here"]

    for url, (said, _) in HOSTILE.items():
        with connect(wsgi) as connection:
            head = [b"HEAD %s HTTP/1.1" % url, b"Host: a", b"User-Agent: " + said, b"Referer: " + said, b"Connection: close"]
            connection.sendall(b"\r\n".join([*head, b"X-Request-ID: here", b"", b""]))
            assert answer(connection) == (200, b"")
    until(lambda: len(found()) >= len(HOSTILE), "a line of each")
    (process,) = row(wsgi)["processes"]
    for line, (url, (_, expected)) in zip(found(), HOSTILE.items(), strict=True):
        assert line.isascii()
        entry = json.loads(line)
        assert entry.pop("seconds") >= 0 < entry.pop("at")
        assert entry == {
            "client": "-", "method": "HEAD", "url": url.decode(), "version": "1.1", "status": 200, "bytes": 0,
            "referer": expected, "agent": expected, "request_id": "here", "pid": process["pid"],
        }  # fmt: skip


def bodies_are_streamed(wsgi: Daemon) -> None:
    """Larger than what is ever held: the worker's memory does not follow."""
    size = 64 << 20
    with connect(wsgi) as connection:
        connection.sendall(b"POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size)
        for _ in range(size >> 20):
            connection.sendall(b"x" * (1 << 20))
        assert answer(connection)[1].endswith(b"POST /big  %d" % size)
    (process,) = (one for one in row(wsgi)["processes"] if one["stage"] == "accepting")
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process['pid']}/status").read_text())
    assert peak is not None
    assert int(peak[1]) * 1024 < process["rss"] + (40 << 20)


ONE = 'pm = "static"\nmax_workers = 1\ngrace = "30s"'
STEPS = (
    refused_and_how, an_error_of_the_application_is_its_own, one_head_in_pieces_many_in_one_and_bodies_cut_anywhere,
    methods_expectations_and_chunks, for_whom_a_request_is_only_who_is_trusted_may_say,
    a_run_knows_the_request_that_it_comes_from, pages_and_numbers,
    streams_and_websockets_go_on_in_old_code,
)  # fmt: skip


@pytest.mark.long
def test_what_is_said_over_a_connection_and_what_is_answered(tmp_path: Path) -> None:
    """Of one daemon, because its start costs more than all of this."""
    with served(tmp_path, APP, top=HURRIED, web=WEB, pool=ONE, more={"checked.py": checked.TEXT}) as daemon:
        for step in STEPS:
            step(daemon)
        assert set(lines(daemon.app / "checked")) == {"lifespan", "http", "websocket"}
        assert lines(daemon.app / "faults") == []


@pytest.mark.parametrize("threads", [1, 4])
def test_wsgi_in_the_main_thread_and_in_several(tmp_path: Path, threads: int) -> None:
    web = f'threads = {threads}\nmax_body = "0"\ntimeout = "20s"\naccess_log = "access.log"\naccess_format = "json"'
    with served(tmp_path, VALIDATED, interface="wsgi", web=web, pool=ONE) as daemon:
        wsgi_as_the_validator_wants_it(daemon)
        an_access_log_in_json_says_what_was_said(daemon)
        bodies_are_streamed(daemon)
