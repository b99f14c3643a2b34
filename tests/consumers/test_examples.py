"""The examples of docs/how-to/queues.md, as they stand there, with real servers: nothing is lost, whoever is killed."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon, until
from tests.consumers import servers
from tests.files import lines
from tests.schedule.stage import scheduler

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "queues.md"
FILE = re.compile(r"^```python\n# ([\w.]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOP = """
import os

HERE = os.path.dirname(__file__)

def note(name, what):
    fd = os.open(os.path.join(HERE, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{what}\\n".encode())
    os.close(fd)

def deliver(what):
    note("begun", os.getpid())
    gate = os.open(os.path.join(HERE, "gate"), os.O_RDONLY)  # until the test lets all go on
    os.read(gate, 1)
    os.close(gate)
    note("delivered", what)
"""
NUMBER = 60


def daemon(folder: Path, module: str, env: dict[str, str], params: str = "[]", target: str = "work") -> Daemon:
    """A daemon with the page's files, and a consumer of this one."""
    table = (
        f'[consumers.mail]\ntarget = "{module}:{target}"\ndepth = "{module}:depth"\nmax = 3\nparams = {params}\n'
        'per_instance = 10\nlook_every = "100ms"\nshrink_after = "1s"\n'
    )
    config = (
        f'listen = ["unix://d.sock"]\n{table}[apps.app]\npath = "app"\njobs = ["{module}"]\n'
        f"env = {{ {', '.join(f'{name} = {json.dumps(value)}' for name, value in env.items())} }}\n"
        '[apps.app.pool]\npm = "dynamic"\nmax_workers = 8\nmin_spare = 1\nmax_spare = 2\n'
    )
    made = Daemon(folder, "", config=config)
    for name, text in FILE.findall(PAGE.read_text()):
        (made.app / name).write_text(text)
    (made.app / "shop.py").write_text(SHOP)
    os.mkfifo(made.app / "gate")
    return made


def noted(served: Daemon, name: str = "delivered") -> Counter[str]:
    return Counter(lines(served.app / name))


def ask(served: Daemon, module: str, **params: Any) -> Any:
    return served.talk().rpc("call", target=f"{module}:depth", **params)["result"]


def held(served: Daemon) -> list[dict[str, Any]]:
    """Consumers that run."""
    found: list[dict[str, Any]] = served.talk().rpc("list", labels={"script": "mail"}, state="running")
    return found


def let_all_go(served: Daemon) -> int:
    """Whoever waits in ``deliver`` goes on, and nobody waits there any more; to be closed when all have."""
    gate, fifo = served.app / "gate", served.app / "fifo"
    os.link(gate, fifo)
    (served.app / "open").write_text("open")
    (served.app / "open").rename(gate)
    writer = os.open(fifo, os.O_RDWR)
    os.write(writer, b"." * 1000)
    return writer


def works_it_off(served: Daemon, put: Callable[[list[str]], object], *, once: bool = False) -> None:
    """Items are put in; a consumer is killed in the middle of one, the daemon restarted; in the end each was delivered."""
    put([f"item-{number}" for number in range(NUMBER)])
    until(lambda: len(held(served)) == 3, "three consumers")
    until(lambda: len(noted(served, "begun")) == 3, "each to be at an item")
    victim = held(served)[0]
    os.kill(victim["pid"], signal.SIGKILL)
    assert served.talk().rpc("wait", key=victim["key"])["outcome"] == "killed"
    assert served.restart() == {"error_text": "Restarted successfully"}
    writer = let_all_go(served)
    try:
        until(lambda: len(noted(served)) == NUMBER, "all to be delivered", 60)
        until(lambda: not held(served), "the consumers to find nothing more")
    finally:
        os.close(writer)
    assert not once or set(noted(served).values()) == {1}


def test_redis(tmp_path: Path) -> None:
    redis = pytest.importorskip("redis")
    with (
        servers.redis_server() as url,
        redis.Redis.from_url(url) as server,
        daemon(tmp_path, "redis_queue", {"REDIS_URL": url}, params="[0.2]") as served,
    ):
        works_it_off(served, lambda items: [server.xadd("mail", {"what": item}) for item in items])
        assert ask(served, "redis_queue") == 0


def test_postgresql(tmp_path: Path) -> None:
    psycopg = pytest.importorskip("psycopg")
    with servers.postgres_server() as url, psycopg.connect(url, autocommit=True) as db:
        db.execute(SQL[0])
        with daemon(tmp_path, "postgres_queue", {"DATABASE": url}) as served:
            assert ask(served, "postgres_queue") == [0, None]
            put = "INSERT INTO mail (what) SELECT unnest(%s::text[])"
            works_it_off(served, lambda items: db.execute(put, [items]), once=True)


def test_rabbitmq(tmp_path: Path) -> None:
    pika = pytest.importorskip("pika")
    with servers.rabbit_server() as url, pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.queue_declare("mail", durable=True)

        def put(items: list[str]) -> None:
            for item in items:
                channel.basic_publish("", "mail", item.encode(), pika.BasicProperties(delivery_mode=2))

        with daemon(tmp_path, "rabbit_queue", {"AMQP_URL": url}) as served:
            works_it_off(served, put)
            assert ask(served, "rabbit_queue") == 0


def test_the_depth_of_gearman(tmp_path: Path) -> None:
    with servers.gearman_server() as port, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        for number in range(3):
            said = b"mail\0" + str(number).encode() + b"\0x"
            client.sendall(b"\0REQ" + (18).to_bytes(4, "big") + len(said).to_bytes(4, "big") + said)  # SUBMIT_JOB_BG
            client.recv(100)
        env = {"GEARMAN_HOST": "127.0.0.1", "GEARMAN_PORT": str(port)}
        with daemon(tmp_path, "gearman_queue", env, target="depth") as served:
            assert ask(served, "gearman_queue") == 3
            assert ask(served, "gearman_queue", params=["other"]) == 0


def test_the_depth_of_tarantool(tmp_path: Path) -> None:
    pytest.importorskip("tarantool")
    with servers.tarantool_server() as port:
        env = {"TARANTOOL_HOST": "127.0.0.1", "TARANTOOL_PORT": str(port)}
        with daemon(tmp_path, "tarantool_queue", env, target="depth") as served:
            assert ask(served, "tarantool_queue") == 3


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """The page's web application, in this process."""

    def load(url: str) -> Any:
        monkeypatch.setenv("REDIS_URL", url)
        home = tmp_path / "web"
        home.mkdir()
        (home / "web.py").write_text(dict(FILE.findall(PAGE.read_text()))["web.py"])
        monkeypatch.syspath_prepend(str(home))
        return import_module("web")

    yield load
    sys.modules.pop("web", None)


def test_p1_writes_behind_a_web_request_are_neither_lost_nor_made_twice(tmp_path: Path, web: Callable[[str], Any]) -> None:
    """Three browsers ask, and each asks again now and then; meanwhile daemon, scheduler, master and writers are ended."""
    psycopg = pytest.importorskip("psycopg")
    pytest.importorskip("redis")
    with ExitStack() as stack:
        url, database = stack.enter_context(servers.redis_server()), stack.enter_context(servers.postgres_server())
        db = stack.enter_context(psycopg.connect(database, autocommit=True))
        db.execute(SQL[1])
        db.execute("INSERT INTO accounts SELECT id, 0 FROM generate_series(0, 4) id")
        page = web(url)
        stack.callback(page.SERVER.close)
        served = stack.enter_context(
            daemon(tmp_path, "bookings", {"REDIS_URL": url, "DATABASE": database}, params="[0.2]", target="write")
        )
        accepted: Counter[int] = Counter()
        over, lock = threading.Event(), threading.Lock()

        def post(name: str) -> None:
            number = 0
            while not over.is_set():
                number += 1
                body = json.dumps({"account": number % 5, "amount": number}).encode()
                for _ in range(1 + (number % 7 == 0)):
                    environ = {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body),
                               "HTTP_IDEMPOTENCY_KEY": f"{name}-{number}"}  # fmt: skip
                    statuses: list[str] = []
                    page.application(environ, lambda status, headers, statuses=statuses: statuses.append(status))
                    assert statuses == ["202 Accepted"]
                with lock:
                    accepted[number % 5] += number
                over.wait(0.005)

        def written() -> int:
            return int(db.execute("SELECT count(*) FROM booked").fetchone()[0])

        browsers = [threading.Thread(target=post, args=(name,)) for name in "abc"]
        for browser in browsers:
            browser.start()
        try:
            for victim in ("writer", "daemon", "scheduler", "writer", "master"):
                before = written()
                until(lambda before=before: written() > before, "more to be written", 60)
                if victim == "daemon":
                    assert served.restart() == {"error_text": "Restarted successfully"}
                elif victim == "writer":
                    until(lambda: held(served), "a writer at work")
                    if runs := held(served):
                        os.kill(runs[0]["pid"], signal.SIGKILL)
                else:
                    os.kill(scheduler(served) if victim == "scheduler" else served.master_pid, signal.SIGKILL)
        finally:
            over.set()
            for browser in browsers:
                browser.join()
        until(lambda: page.SERVER.xlen("bookings") == 0, "all to be written", 60)
        assert dict(db.execute("SELECT id, balance FROM accounts").fetchall()) == dict(accepted)


SQL = re.findall(r"^```sql\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
"""The tables of the page."""
