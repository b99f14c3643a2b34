"""HTTP as frameworks use it, over the wire: ranges, conditions, HEAD, expectations, chunks both ways, uploads.

Of one daemon that serves an application of each framework; each is asked over one connection, which has to stay in step.
"""

from __future__ import annotations

import http.client
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon
from tests.restart.stage import many
from tests.web.stage import connect

pytest.importorskip("django")
pytest.importorskip("flask")
pytest.importorskip("fastapi")

FILE = bytes(range(256)) * 1000
PARTS = [b"one ", b"two ", b"x" * 100_000, b" end"]
SHARED = """
import os, zlib
FILE = os.path.abspath("file.bin")
PARTS = [b"one ", b"two ", b"x" * 100_000, b" end"]

def summed(parts):
    size = crc = 0
    for part in parts:
        size, crc = size + len(part), zlib.crc32(part, crc)
    return f"{size} {crc}"
"""
DJANGO = """
from django.conf import settings
settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, FILE_UPLOAD_TEMP_DIR=".",
    MIDDLEWARE=["django.middleware.http.ConditionalGetMiddleware", "django.middleware.common.CommonMiddleware"],
)
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import etag
from shared import FILE, PARTS, summed

@etag(lambda request: '"one"')
def conditional(request):
    return HttpResponse("conditional")

urlpatterns = [
    path("file", lambda request: FileResponse(open(FILE, "rb"))),
    path("conditional", conditional),
    path("stream", lambda request: StreamingHttpResponse(iter(PARTS))),
    path("body", lambda request: HttpResponse(summed(iter(lambda: request.read(65536), b"")))),
    path("upload", lambda request: HttpResponse(summed(request.FILES["file"].chunks()))),
    path("unread", lambda request: HttpResponse("unread")),
]
app = get_wsgi_application()
"""
FLASK = """
from flask import Flask, Response, request, send_file
from shared import FILE, PARTS, summed
app = Flask(__name__)

@app.get("/file")
def file():
    return send_file(FILE)

@app.get("/conditional")
def conditional():
    response = Response("conditional")
    response.set_etag("one")
    return response.make_conditional(request)

@app.get("/stream")
def stream():
    return Response(iter(PARTS))

@app.post("/body")
def body():
    return summed(iter(lambda: request.stream.read(65536), b""))

@app.post("/upload")
def upload():
    return summed(iter(lambda: request.files["file"].stream.read(65536), b""))

@app.post("/unread")
def unread():
    return "unread"
"""
FASTAPI = """
import zlib
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from shared import FILE, PARTS
app = FastAPI()
app.mount("/static", StaticFiles(directory="static"))

@app.api_route("/file", methods=["GET", "HEAD"])
async def file():
    return FileResponse(FILE)

@app.api_route("/stream", methods=["GET", "HEAD"])
async def stream():
    return StreamingResponse(iter(PARTS))

@app.post("/body")
async def body(request: Request):
    size = crc = 0
    async for part in request.stream():
        size, crc = size + len(part), zlib.crc32(part, crc)
    return Response(f"{size} {crc}")

@app.post("/unread")
async def unread(request: Request):
    return Response("unread")
"""
CONFIG = """
[apps.{name}]
path = "app"
[apps.{name}.web]
{interface} = "{name}site:app"
listen = ["unix://{name}.sock"]
max_body = "0"
timeout = "0"
{more}
[apps.{name}.pools.web]
pm = "static"
max_workers = 1
grace = "2s"
"""
SITES = {
    "django": ("wsgi", DJANGO, "threads = 1"),
    "flask": ("wsgi", FLASK, "threads = 2"),
    "fastapi": ("asgi", FASTAPI, ""),
}
RANGES = ["flask", "fastapi"]
"""Those that know ranges themselves; Django leaves them to the proxy."""
CHUNKED = ["flask", "fastapi"]
"""Those that read a body whose length is not said; Django takes one over WSGI for empty, whatever serves it."""
CONDITIONAL = {"fastapi": "/static/conditional"}


@contextmanager
def sites(folder: Path) -> Iterator[Daemon]:
    """A daemon that serves all of them."""
    apps = "".join(CONFIG.format(name=name, interface=kind, more=more) for name, (kind, _, more) in SITES.items())
    daemon = Daemon(folder, config='listen = ["unix://d.sock"]\nstate_dir = "var"\n' + apps)
    (daemon.app / "static").mkdir()
    (daemon.app / "static" / "conditional").write_bytes(b"conditional")
    (daemon.app / "file.bin").write_bytes(FILE)
    (daemon.app / "shared.py").write_text(SHARED)
    for name, (_, text, _) in SITES.items():
        (daemon.app / f"{name}site.py").write_text(text)
    with daemon:
        yield daemon


class Talk(http.client.HTTPConnection):
    """One connection to a site; it never connects a second time."""

    def __init__(self, daemon: Daemon, site: str) -> None:
        super().__init__("localhost")
        self.sock = connect(daemon, f"{site}.sock")
        self.auto_open = 0

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, Any, bytes]:
        """One request over it: status, headers and body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.request(method, path, body, named, encode_chunked="Transfer-Encoding" in named)
        answer = self.getresponse()
        return answer.status, answer.headers, answer.read()


def summed(data: bytes) -> bytes:
    return f"{len(data)} {zlib.crc32(data)}".encode()


def a_file_and_ranges_of_it(talk: Talk, site: str) -> None:
    status, headers, body = talk.ask("/file")
    assert (status, body, headers["Content-Length"]) == (200, FILE, str(len(FILE)))
    for said, first, last in (("5-9", 5, 9), ("255990-", 255990, 255999), ("-3", 255997, 255999)):
        status, headers, body = talk.ask("/file", Range=f"bytes={said}")
        if site not in RANGES:
            assert (status, body) == (200, FILE)
            continue
        assert (status, body) == (206, FILE[first : last + 1])
        assert (headers["Content-Range"], headers["Content-Length"]) == (f"bytes {first}-{last}/256000", str(len(body)))
    assert talk.ask("/file", Range="bytes=256000-")[0] == (416 if site in RANGES else 200)


def what_has_not_changed_has_no_body(talk: Talk, site: str) -> None:
    path = CONDITIONAL.get(site, "/conditional")
    status, headers, body = talk.ask(path)
    assert (status, body) == (200, b"conditional")
    for method in ("GET", "HEAD", "GET"):
        status, now, body = talk.ask(path, method, If_None_Match=headers["ETag"])
        assert (status, body, now["ETag"]) == (304, b"", headers["ETag"])
        assert now["Transfer-Encoding"] is None
    assert talk.ask(path, If_None_Match='"another"')[::2] == (200, b"conditional")


def head_says_what_get_would_without_a_body(talk: Talk, site: str) -> None:
    for path in ("/file", CONDITIONAL.get(site, "/conditional"), "/stream"):
        _, expected, _ = talk.ask(path)
        status, headers, body = talk.ask(path, "HEAD")
        assert (status, body) == (200, b"")
        assert headers["Content-Length"] == expected["Content-Length"]


def chunks_both_ways(talk: Talk, site: str) -> None:
    status, headers, body = talk.ask("/stream")
    assert (status, headers["Transfer-Encoding"], body) == (200, "chunked", b"".join(PARTS))
    for parts in ([b"one"], [b"a" * 70_000, b"b", b"c" * 200_000], []):
        body = b"".join(parts)
        assert talk.ask("/body", "POST", body, Content_Length=str(len(body)))[::2] == (200, summed(body))
        if site in CHUNKED:
            assert talk.ask("/body", "POST", iter(parts), Transfer_Encoding="chunked")[::2] == (200, summed(body))


def http_1_0_has_no_chunks_and_ends_with_the_connection(daemon: Daemon, site: str) -> None:
    with connect(daemon, f"{site}.sock") as connection:
        connection.sendall(b"GET /stream HTTP/1.0\r\n\r\n")
        head, _, body = everything(connection).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body == b"".join(PARTS)


def everything(connection: Any) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def who_asks_whether_to_send_a_body_is_told(daemon: Daemon, site: str) -> None:
    head = b"POST /%s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 300000\r\nConnection: close\r\n\r\n"
    with connect(daemon, f"{site}.sock") as connection:
        connection.sendall(head % b"body")
        said = b""
        while not said.endswith(b"\r\n\r\n"):
            said += connection.recv(1)
        assert said.startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"x" * 300_000)
        final, _, body = everything(connection).partition(b"\r\n\r\n")
    assert final.startswith(b"HTTP/1.1 200 ")
    assert body.endswith(summed(b"x" * 300_000))
    if SITES[site][0] == "asgi":  # nobody wants it: the answer comes without it, and the connection ends
        with connect(daemon, f"{site}.sock") as connection:
            connection.sendall(head % b"unread")
            answer = everything(connection)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"unread")


def anonymous(pid: int) -> int:
    """Bytes of a process's memory that no file holds."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def a_large_upload_is_in_memory_nowhere(daemon: Daemon, site: str) -> None:
    """As a form's file, or where a framework reads none by itself as the body."""
    (pool,) = (one for one in daemon.talk().rpc("pools") if one["pool"] == f"{site}/web")
    (process,) = pool["processes"]
    megabytes, part = many(64, 1024), bytes(range(256)) * 4096
    first, last, path = b"", b"", "/body"
    kind = "application/octet-stream"
    if site != "fastapi":
        path, kind = "/upload", "multipart/form-data; boundary=cut"
        first = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="f"\r\nContent-Type: a/b\r\n\r\n'
        last = b"\r\n--cut--\r\n"
    with Talk(daemon, site).sock as connection:
        length = len(first) + (megabytes << 20) + len(last)
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + first)
        connection.sendall(part)
        before, most, crc = anonymous(process["pid"]), 0, zlib.crc32(part)
        for _ in range(megabytes - 1):
            connection.sendall(part)
            most, crc = max(most, anonymous(process["pid"])), zlib.crc32(part, crc)
        if last:  # else it may have been answered, and the connection be closed
            connection.sendall(last)
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(f"{megabytes << 20} {crc}".encode())
    assert max(most, anonymous(process["pid"])) < before + (24 << 20)


STEPS = (a_file_and_ranges_of_it, what_has_not_changed_has_no_body, head_says_what_get_would_without_a_body, chunks_both_ways)
"""Of one connection, which has to be in step after each."""


@pytest.mark.long
@pytest.mark.timeout(many(120, 1800))
def test_what_frameworks_make_of_http_comes_out_as_they_mean_it(tmp_path: Path) -> None:
    with sites(tmp_path) as daemon:
        for site in SITES:
            talk = Talk(daemon, site)
            for step in STEPS:
                step(talk, site)
                assert talk.ask("/stream")[::2] == (200, b"".join(PARTS)), "it is in step"
            talk.close()
            http_1_0_has_no_chunks_and_ends_with_the_connection(daemon, site)
            who_asks_whether_to_send_a_body_is_told(daemon, site)
            a_large_upload_is_in_memory_nowhere(daemon, site)
