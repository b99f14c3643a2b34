"""How many workers there are follows what is asked of them; what is too much is refused at once."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from rocksyd.testing import until
from tests.web.stage import Kept, connect, get, row, served

HELD = """
import asyncio, os
async def application(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError(scope["type"])
    if scope["path"] == "/held":
        while not os.path.exists("open"):
            await asyncio.sleep(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


def test_dynamic_grows_with_what_is_in_flight_refuses_what_is_too_much_and_shrinks(tmp_path: Path) -> None:
    pool = 'pm = "dynamic"\nmax_workers = 3\nmin_spare = 1\nmax_spare = 1\nmax_queue = 5\ngrace = "30s"'
    with served(tmp_path, HELD, pool=pool, web='concurrency = 2\ntimeout = "0"') as daemon:
        assert row(daemon)["workers"] == 1
        answers: list[int] = []
        held: list[threading.Thread] = []
        while [process["running"] >= 2 for process in row(daemon)["processes"]] != [True] * 3:
            held.append(threading.Thread(target=lambda: answers.append(get(daemon, "/held")[0])))
            held[-1].start()
            until(lambda: row(daemon)["in_flight"] == len(held), "it to be in flight")
            assert len(held) < 20
        crowd = [connect(daemon) for _ in range(30)]
        for connection in crowd:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        until(lambda: row(daemon)["refused"] == 30 - 5, "those that are too many to be refused")
        refused = row(daemon)["refused"]
        (daemon.app / "open").touch()
        said = []
        for connection in crowd:
            data = b""
            while part := connection.recv(4096):
                data += part
            said.append(data)
            connection.close()
        for thread in held:
            thread.join()
        assert answers == [200] * len(held)
        assert sum(b" 503 " in one and b"retry-after" in one for one in said) == refused
        assert sum(b" 200 " in one for one in said) == 30 - refused
        until(lambda: row(daemon)["workers"] == 1, "the pool to be small again")


def test_ondemand_has_nobody_until_somebody_comes(tmp_path: Path) -> None:
    pool = 'pm = "ondemand"\nmax_workers = 2\nidle_timeout = "200ms"\ngrace = "30s"'
    with served(tmp_path, HELD, pool=pool) as daemon:
        until(lambda: row(daemon)["workers"] == 0, "nobody to be there")
        assert get(daemon)[0] == 200
        until(lambda: row(daemon)["workers"] == 0, "nobody to be there again")
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        until(lambda: row(daemon)["workers"] == 0, "nobody to be there after a restart")
        before = daemon.master_pid
        os.kill(before, signal.SIGKILL)
        until(lambda: daemon.master_pid != before, "another master")
        kept = Kept(daemon)
        assert kept.ask()[0] == 200
        kept.close()


def test_one_that_is_stuck_is_killed_and_another_comes(tmp_path: Path) -> None:
    text = HELD.replace("await asyncio.sleep(0.01)", "import time; time.sleep(0.01)")
    pool = 'pm = "static"\nmax_workers = 1\ngrace = "200ms"'
    with served(tmp_path, text, pool=pool, web='timeout = "1s"') as daemon:
        stuck = connect(daemon)
        stuck.sendall(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
        assert stuck.recv(100) == b""
        stuck.close()
        until(lambda: get(daemon)[0] == 200, "another in its place")
        assert "has not ended a request" in daemon.log()
