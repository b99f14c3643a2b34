"""Requests and deploys: nobody waits for new code in vain, nobody is cut off by it, and what cannot serve is refused."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from rocksyd.testing import until
from tests.restart.stage import many
from tests.web.stage import ASGI, WSGI, Kept, Load, get, port, row, served, site, web_workers


@pytest.mark.long
@pytest.mark.parametrize(("interface", "text"), [("asgi", ASGI), ("wsgi", WSGI)])
def test_p1_restarts_and_recycles_fail_no_request_and_close_no_connection(tmp_path: Path, interface: str, text: str) -> None:
    pool = 'pm = "static"\nmax_workers = 2\ngrace = "2s"\nmax_jobs = 150\nmax_jobs_jitter = 50'
    started = served(tmp_path, text, interface=interface, pool=pool)
    with started as daemon, Load(daemon) as load, Load(daemon, 4, port(daemon)) as tcp:
        for number in range(many(2, 100)):
            (daemon.app / "website.py").write_text(text.replace("VERSION = 1", f"VERSION = {number + 2}"))
            assert daemon.restart() == {"error_text": "Restarted successfully"}
            load.more()
            tcp.more()
        until(lambda: row(daemon)["recycled"] >= many(2, 100) or load.failed, "workers to be recycled")
        until(lambda: str(many(2, 100) + 1) in load.versions or load.failed, "answers of the newest code")
        assert load.failed + tcp.failed == []
        assert row(daemon)["adopted"]


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.long
def test_p11_deaths_beside_requests(tmp_path: Path) -> None:
    """Of the master: nobody notices. Of the zygote: nobody. Of a worker: only its own connections end."""
    with served(tmp_path, ASGI) as daemon:
        with Load(daemon) as load:
            before = daemon.master_pid
            _kill(before)
            until(lambda: daemon.master_pid != before, "another master")
            load.more()
            assert daemon.restart() == {"error_text": "Restarted successfully"}
            load.more()
            (zygote,) = (z["pid"] for z in daemon.talk().rpc("health")["zygotes"].values() if z["state"] == "ready")
            generation = row(daemon)["generation"]
            _kill(zygote)
            until(lambda: row(daemon)["generation"] > generation, "workers of another zygote")
            load.more()
            assert load.failed == []
        until(lambda: len(daemon.children("rocksyd: worker app/web")) == 2, "the workers of before to have left")
        until(lambda: len(web_workers(daemon)) == 2, "those of the other zygote to serve")
        one, two = web_workers(daemon)
        kept = {}
        tried = []
        while len(kept) < 2:
            tried.append(Kept(daemon))
            kept.setdefault(int(tried[-1].ask()[1].split()[1]), tried[-1])
        _kill(one)
        with pytest.raises((ConnectionError, OSError)):
            kept[one].ask()
        assert kept[two].ask()[1].split()[1] == str(two)
        until(lambda: len(web_workers(daemon)) == 2, "a worker in its place")
        for connection in tried:
            connection.close()


BROKEN: dict[str, tuple[str, str, list[str]]] = {
    "import": ("import nothing_of_that_name", "", ["website", "nothing_of_that_name"]),
    "lifespan": (
        ASGI.replace('await send({"type": message["type"] + ".complete"})',
                     'await send({"type": "lifespan.startup.failed", "message": "no database"})'),
        "", ["lifespan", "no database"],
    ),
    "smoke": (ASGI.replace('"status": 200', '"status": 500'), 'smoke_request = "/health"', ["/health", "500"]),
    "name": (ASGI.replace("async def application", "async def something_else"), "", ["application"]),
}  # fmt: skip


def test_p3_code_that_cannot_serve_is_refused(tmp_path: Path) -> None:
    with served(tmp_path, ASGI, web='smoke_request = "/health"') as daemon, Load(daemon, 4) as load:
        for text, _, expected in BROKEN.values():
            (daemon.app / "website.py").write_text(text)
            reply: str = daemon.restart()["error_text"]
            assert reply.startswith("Restart failed: "), reply
            assert [word for word in expected if word not in reply] == [], reply
            load.more(10)
        (daemon.app / "website.py").write_text(ASGI.replace("VERSION = 1", "VERSION = 2"))
        assert daemon.talk().rpc("reload")["generation"]
        until(lambda: get(daemon)[1].startswith("2 "), "new code after a reload")
        load.more(10)
        assert load.failed == []


def test_without_uvicorn_it_says_what_to_install(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "uvicorn.py").write_text("raise ModuleNotFoundError(\"No module named 'uvicorn'\", name='uvicorn')")
    daemon = site(tmp_path, ASGI)
    try:
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace('jobs = ["jobs"]', f'env = {{ PYTHONPATH = "{blocked}" }}'))
        daemon.spawn()
        assert daemon.wait(None) != 0
        assert "pip install 'rocksyd[web]'" in daemon.log()
    finally:
        daemon.close()
