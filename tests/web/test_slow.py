"""Requests that take long, and workers that crash: who says so, and what becomes of them. Of one daemon with two applications."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from threading import Thread
from typing import Any

from rocksyd.testing import Daemon, until
from tests.files import whole
from tests.web.stage import connect, get, row, served

ASGI = """
import asyncio, os, time
async def waits_in_a_task():
    while not os.path.exists("open"):
        await asyncio.sleep(0.01)
def blocks():
    while not os.path.exists("open"):
        time.sleep(0.01)
async def application(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError(scope["type"])
    if scope["path"] == "/waits":
        await asyncio.create_task(waits_in_a_task())
    if scope["path"] == "/blocks":
        blocks()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""
WSGI = """
import os, time
def stays():
    while not os.path.exists("open"):
        time.sleep(0.01)
def application(environ, start_response):
    if environ["PATH_INFO"] == "/stays":
        stays()
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""
OTHER = """
[apps.other]
path = "app"
jobs = ["jobs"]
emergency_restart = { workers = 2, within = "1h" }
[apps.other.web]
wsgi = "wsgisite:application"
listen = ["unix://other.sock"]
threads = 2
timeout = "100ms"
[apps.other.pools.web]
pm = "static"
max_workers = 2
grace = "1m"
"""


def entry(daemon: Daemon, *words: str) -> str:
    """The entry of the slow log that has all these words, as soon as there is one."""
    file = daemon.folder / "var" / "slow.log"
    found: list[str] = []

    def look() -> bool:
        entries = re.split(r"^(?=\d{4}-\d\d-\d\dT)", whole(file), flags=re.MULTILINE)
        found[:] = [one for one in entries if all(word in one for word in words)]
        return bool(found)

    until(look, f"an entry of the slow log with {words}")
    return found[0]


def other(daemon: Daemon) -> dict[str, Any]:
    (found,) = (one for one in daemon.talk().rpc("pools") if one["pool"] == "other/web")
    return dict(found)


def pids(pool: dict[str, Any]) -> list[int]:
    return [one["pid"] for one in pool["processes"]]


def ask(daemon: Daemon, path: str) -> bytes:
    with connect(daemon, "other.sock") as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())
        data = b""
        while part := connection.recv(4096):
            data += part
        return data


def a_slow_request_says_where_it_is_also_where_it_lets_nobody_look(daemon: Daemon) -> None:
    for path, function in (("/waits", "waits_in_a_task"), ("/blocks", "blocks")):
        answers: list[int] = []
        thread = Thread(
            target=lambda path=path, answers=answers: answers.append(get(daemon, path, X_Request_ID=f"slow{path}")[0])
        )
        thread.start()
        said = entry(daemon, f"request slow{path} (GET {path})")
        (daemon.app / "open").touch()
        thread.join()
        (daemon.app / "open").unlink()
        assert answers == [200]
        assert f" in {function}\n" in said
        assert " in application\n" in said
        assert "pool app/web, worker 1.1, process" in said
        assert "slow_after = 100ms" in said
    until(lambda: row(daemon)["slow"] == 2, "both to be counted")


def a_thread_that_goes_on_has_its_worker_replaced(daemon: Daemon) -> None:
    before = pids(other(daemon))
    assert b" 503 " in ask(daemon, "/stays").partition(b"\r\n")[0]
    said = entry(daemon, "(GET /stays) has reached its timeout of 100ms")
    assert " in stays\n" in said
    until(lambda: other(daemon)["recycled"] == 1, "its worker to be replaced")
    (daemon.app / "open").touch()
    stuck = int(re.findall(r"process (\d+)", said)[0])
    assert stuck in before
    until(lambda: stuck not in pids(other(daemon)), "the thread to have gone with its process")


def workers_that_crash_have_the_application_loaded_afresh(daemon: Daemon) -> None:
    generation = other(daemon)["generation"]
    crashed: set[int] = set()

    def crash() -> bool:
        now = other(daemon)
        if now["generation"] != generation:
            return True
        for one in now["processes"]:
            if one["stage"] == "accepting" and one["pid"] not in crashed and len(crashed) < 2:
                crashed.add(one["pid"])
                os.kill(one["pid"], signal.SIGSEGV)
        return False

    until(crash, "the application to be loaded afresh")
    assert len(crashed) == 2
    assert row(daemon)["generation"] == 1
    until(lambda: b" 200 " in ask(daemon, "/").partition(b"\r\n")[0], "an answer, which may take too long at first")


def test_what_takes_long_is_told_and_what_cannot_be_ended_is_replaced(tmp_path: Path) -> None:
    pool = 'pm = "static"\nmax_workers = 1\ngrace = "30s"\nslow_after = "100ms"'
    with served(tmp_path, ASGI, top=OTHER, pool=pool, web='timeout = "0"', more={"wsgisite.py": WSGI}) as daemon:
        a_slow_request_says_where_it_is_also_where_it_lets_nobody_look(daemon)
        a_thread_that_goes_on_has_its_worker_replaced(daemon)
        workers_that_crash_have_the_application_loaded_afresh(daemon)
