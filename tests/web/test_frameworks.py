"""What frameworks make, served: the example shop (Django), Flask, FastAPI; and nginx in front, with posts over a deploy."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from rocksyd.testing.project import for_tests
from tests.web.proxy import HOW_TO, needs_nginx, nginx
from tests.web.stage import ASGI, Kept, served

SHOP = Path(__file__).parents[2] / "examples" / "shop"


def pages(name: str) -> dict[str, str]:
    """The files that a how-to prints."""
    return dict(re.findall(r"^```(?:python|toml)\n# ([\w.]+)\n(.*?)^```$", (HOW_TO / name).read_text(), re.MULTILINE | re.DOTALL))


def kept(daemon: Daemon) -> Kept:
    """A kept connection to the application ``shop``."""
    (row,) = (row for row in daemon.talk().rpc("pools") if row.get("kind") == "web")
    (where,) = (one for one in row["listen"] if one.startswith("http"))
    return Kept(daemon, int(where.rpartition(":")[2]))


@pytest.mark.parametrize("framework", ["flask", "fastapi"])
def test_the_how_to_of_a_framework(tmp_path: Path, framework: str) -> None:
    pytest.importorskip(framework)
    project = tmp_path / "project"
    project.mkdir()
    for name, text in pages("web.md").items():
        (project / name).write_text(text)
    config = for_tests(project / f"{framework}.toml")
    with Daemon(tmp_path / "daemon", config=config) as daemon:
        connection = kept(daemon)
        status, text = connection.ask("/hello/ada", X_Request_ID="x")
        assert (status, "ada" in text) == (200, True)
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        assert connection.ask("/hello/bob")[0] == 200
        status, text = connection.ask("/order", "POST", b"")
        assert status in (200, 202), text
        connection.close()
        (run,) = daemon.talk().rpc("list")
        assert len(run["labels"]["request_id"]) == 24
        assert daemon.talk().rpc("wait", key=run["key"])["result"] == "an order is confirmed"


def test_the_example_shop_has_pages(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(SHOP, shop, ignore=shutil.ignore_patterns("var", "__pycache__"))
    for command in (["migrate", "--verbosity", "0"], ["seed"]):
        (shop / "var").mkdir(exist_ok=True)
        subprocess.run([sys.executable, "manage.py", *command], cwd=shop, check=True, capture_output=True)
    with Daemon(tmp_path / "daemon", config=for_tests(shop / "rocksyd.toml")) as daemon:
        connection = kept(daemon)
        status, text = connection.ask("/")
        assert (status, "/products/" in text) == (200, True)
        sku = re.search(r"/products/([\w-]+)/", text)
        assert sku is not None
        assert connection.ask(f"/products/{sku[1]}/")[0] == 200
        connection.request("GET", f"/order/?sku={sku[1]}")
        answer = connection.getresponse()
        cookie = (answer.getheader("set-cookie") or "").partition(";")[0]
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', answer.read().decode())
        assert token is not None
        form = f"csrfmiddlewaretoken={token[1]}&sku={sku[1]}&quantity=1&email=a@example.com".encode()
        status, text = connection.ask("/order/", "POST", form, Cookie=cookie, Content_Type="application/x-www-form-urlencoded")
        assert (status, "is placed" in text) == (201, True)
        assert "data: " in connection.ask("/live/orders?limit=1")[1]
        assert connection.ask("/status")[0] == 200
        connection.close()


@needs_nginx
def test_p1_nginx_in_front_with_posts_over_restarts(tmp_path: Path) -> None:
    with served(tmp_path, ASGI) as daemon, nginx(daemon, tmp_path) as front:
        wrong: list[str] = []
        asked = [0]
        over = threading.Event()

        def post() -> None:
            import socket

            while not over.is_set():
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(30)
                    client.connect(str(front))
                    client.sendall(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
                    data = b""
                    while part := client.recv(4096):
                        data += part
                if not data.startswith(b"HTTP/1.1 200") or b"/p 5" not in data:
                    wrong.append(repr(data[:200]))
                asked[0] += 1

        threads = [threading.Thread(target=post) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(2):
            assert daemon.restart() == {"error_text": "Restarted successfully"}
            before = asked[0]
            until(lambda before=before: asked[0] > before + 20 or wrong, "more posts")
        over.set()
        for thread in threads:
            thread.join()
        assert wrong == []
