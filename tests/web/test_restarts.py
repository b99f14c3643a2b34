"""Requests and deploys: nobody waits for new code in vain, nobody is cut off by it, and what cannot serve is refused."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from tests.restart.stage import many
from tests.web.stage import ASGI, WSGI, Difficult, Kept, Load, get, port, row, served, site, web_workers


class Releases:
    """Versions of an application, each in a folder of its own; the daemon's folder is a link to one of them."""

    def __init__(self, daemon: Daemon, text: str) -> None:
        self._link, self._text = daemon.app, HOLDS.format(daemon.folder) + text
        self._folder = daemon.folder / "releases"
        self._folder.mkdir()
        os.rename(self._link, self._folder / "0")
        os.symlink("releases/0", self._link)

    def release(self, number: int) -> None:
        """From now on this is the one."""
        release = self._folder / str(number)
        shutil.copytree(self._folder / "0", release, ignore=shutil.ignore_patterns("__pycache__"))
        (release / "website.py").write_text(self._text.replace("VERSION = 1", f"VERSION = {number}"))
        os.symlink(f"releases/{number}", self._folder / "next")
        os.rename(self._folder / "next", self._link)


HOLDS = """
import os, time
while os.path.exists("{0}/hold"):
    open("{0}/loading", "w").close()
    time.sleep(0.005)
"""
"""An application that takes as long to load as the test wants."""
ONE, TWO = 'pm = "static"\nmax_workers = 1', 'pm = "static"\nmax_workers = 2'
SHOWN = {
    "asgi": (ASGI, TWO),
    "wsgi": (WSGI, ONE),
    **({"asgi, one worker": (ASGI, ONE), "wsgi, two": (WSGI, TWO)} if many(0, 1) else {}),
}


@pytest.mark.long
@pytest.mark.timeout(many(120, 3000))
@pytest.mark.parametrize(("name", "text", "pool"), [(name, *shown) for name, shown in SHOWN.items()], ids=SHOWN)
def test_p1_restarts_and_recycles_fail_no_request_and_close_no_connection(
    tmp_path: Path, name: str, text: str, pool: str
) -> None:
    pool += '\ngrace = "30s"\nmax_jobs = 150\nmax_jobs_jitter = 50'
    daemon = site(tmp_path, text, interface=name[:4], pool=pool)
    releases = Releases(daemon, text)
    with daemon, Load(daemon) as load, Load(daemon, 4, port(daemon)) as tcp, Difficult(daemon, 3) as cut:
        loads = [load, tcp, cut]
        for number in range(2, many(2, 100) + 2):
            releases.release(number)
            (tmp_path / "hold").touch()
            talk = daemon.talk()
            talk.send("restart")
            until((tmp_path / "loading").exists, "the new code to be loaded")
            for one in loads:
                one.more(10)
            (tmp_path / "hold").unlink()
            (tmp_path / "loading").unlink(missing_ok=True)
            assert talk.line() == b'{"error_text":"Restarted successfully"}'
            talk.close()
            for one in loads:
                one.more(10)
        until(lambda: row(daemon)["recycled"] >= many(2, 100) or any(one.failed for one in loads), "workers to be recycled")
        until(lambda: str(many(2, 100) + 1) in load.versions or any(one.failed for one in loads), "answers of the newest code")
        assert [failed for one in loads for failed in one.failed] == []
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
