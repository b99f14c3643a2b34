"""Libraries that are looked after by themselves, each with the library itself."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.process.zygotes import Zygote

ENGINES = """
    import sqlalchemy as sa
    from sqlalchemy import orm
    from rocksyd import job

    engine = sa.create_engine("sqlite:///data.sqlite3", poolclass=sa.QueuePool)
    Session = orm.scoped_session(orm.sessionmaker(engine))
    opened = []
    sa.event.listen(engine, "connect", lambda connection, _: opened.append(id(connection)))
    with engine.begin() as connection:
        connection.execute(sa.text("create table if not exists things (name text)"))
    Session.execute(sa.text("select 1"))   # and not given back

    @job
    def query():
        at_fork = engine.pool.checkedin() + engine.pool.checkedout()
        with engine.begin() as connection:
            connection.execute(sa.text("insert into things values ('a')"))
        return [at_fork, len(opened), Session.execute(sa.text("select count(*) from things")).scalar()]
"""


def test_sqlalchemys_engines_have_nothing_open_at_the_fork(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    with Zygote(tmp_path, {"shop": ENGINES}, jobs=("shop",)) as zygote:
        zygote.ready()
        assert not [name for name in _open_files(zygote.pid) if name.endswith("data.sqlite3")]
        results = [zygote.run("shop:query")[0].value for _ in range(2)]
    # One connection of the preload and one of each worker's own, which engine and session take in turns.
    assert results == [[0, 2, 1], [0, 2, 2]]


CACHES = """
    import django
    from django.conf import settings
    settings.configure(CACHES={"default": {"BACKEND": "shop_cache.Remembering"}})
    django.setup()
    from django.core.cache import cache
    from rocksyd import job
    cache.get("anything")

    @job
    def closed():
        cache.get("anything")
        import shop_cache
        return list(shop_cache.closed)
"""
CACHE = """
    import os
    from django.core.cache.backends.locmem import LocMemCache
    closed = []
    class Remembering(LocMemCache):
        def close(self, **kwargs): closed.append(os.getpid())
"""


def test_djangos_caches_are_closed_before_the_fork_and_between_jobs(tmp_path: Path) -> None:
    pytest.importorskip("django")
    with Zygote(tmp_path, {"shop": CACHES, "shop_cache": CACHE}, jobs=("shop",)) as zygote:
        zygote.ready()
        worker = zygote.fork()
        assert worker.run("shop:closed", last=False).value == [zygote.pid]
        assert worker.run("shop:closed").value == [zygote.pid, worker.pid]
        zygote.exited(worker)


LOGS = """
    import atexit, logging, logging.handlers, os, queue, sys, threading
    from rocksyd import job

    class Writing(logging.FileHandler):
        def emit(self, record):
            record.msg = f"{record.msg} in {os.getpid()} by {threading.current_thread().name}"
            super().emit(record)

    handler = logging.handlers.QueueHandler(queue.Queue())
    listener = logging.handlers.QueueListener(handler.queue, Writing("queued.log"))
    listener.start()
    atexit.register(listener.stop)
    logging.getLogger("queued").addHandler(handler)

    gathered = logging.handlers.MemoryHandler(1000, target=logging.FileHandler("gathered.log"))
    logging.getLogger("gathered").addHandler(gathered)
    for name in ("queued", "gathered"):
        logging.getLogger(name).setLevel(logging.INFO)
        logging.getLogger(name).info("loading")

    sent = logging.handlers.SocketHandler("127.0.0.1", int(os.environ["LOG_PORT"]))
    logging.getLogger("sent").addHandler(sent)
    logging.getLogger("sent").warning("loading")

    @job
    def writes():
        for name in ("queued", "gathered"):
            logging.getLogger(name).info("working")
        logging.getLogger("sent").warning("working")
"""


def test_logging_writes_each_record_once_whatever_gathers_or_sends_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        with Zygote(tmp_path, {"shop": LOGS}, jobs=("shop",), env={"LOG_PORT": port}) as zygote:
            zygote.ready()
            workers = [zygote.fork() for _ in range(2)]
            for worker in workers:
                worker.run("shop:writes")
                assert zygote.exited(worker).status == 0
            assert _accepted(server) == 3
        assert zygote.wait() == 0
    pids = {zygote.pid, *(worker.pid for worker in workers)}
    queued = (zygote.path / "queued.log").read_text().splitlines()
    assert queued[0].startswith(f"loading in {zygote.pid} by ")
    assert {int(line.split()[2]) for line in queued} == pids
    assert len(queued) == 3
    assert not [line for line in queued if line.endswith("MainThread")]
    assert sorted((zygote.path / "gathered.log").read_text().split()) == ["loading", "working", "working"]
    assert "Traceback" not in zygote.stderr.read_text()


LOCKED = """
    import logging
    from pathlib import Path
    from rocksyd import job
    logger = logging.getLogger("shop")
    logger.addHandler(logging.FileHandler("shop.log"))

    @job
    def logs(text): logger.warning(text)
    @job
    def forks_beside_a_thread_that_logs():
        import os, threading
        handler, forked = logger.handlers[0], threading.Event()
        def hold():
            with handler.lock:
                held.set()
                forked.wait(0.2)
        held = threading.Event()
        threading.Thread(target=hold).start()
        held.wait()
        pid = os.fork()
        if pid == 0:
            logger.warning("child")
            os._exit(0)
        forked.set()
        return os.waitpid(pid, 0)[1]
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_locks_of_handlers_are_never_inherited_held(tmp_path: Path) -> None:
    with Zygote(tmp_path, {"shop": LOCKED}, jobs=("shop",)) as zygote:
        zygote.ready()
        assert zygote.run("shop:forks_beside_a_thread_that_logs")[0].value == 0
        zygote.run("shop:logs", ["worker"])
        assert (zygote.path / "shop.log").read_text() == "child\nworker\n"


CHANCE = """
    import os, random, secrets, tempfile, uuid
    import numpy
    from rocksyd import job
    tempfile.mktemp()
    numpy.random.random(), random.random(), uuid.uuid4()

    @job
    def draws():
        names = tempfile._get_candidate_names()
        return [next(names), random.random(), float(numpy.random.random()), int(numpy.random.randint(1 << 62)), str(uuid.uuid4()),
                str(uuid.uuid1()), secrets.token_hex()]
"""


def test_no_two_workers_draw_the_same_numbers_or_names(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    # OpenBLAS starts its threads while numpy is imported, before anybody can stop it.
    with Zygote(tmp_path, {"shop": CHANCE}, jobs=("shop",), settings={"unsafe": "warn"}) as zygote:
        zygote.ready()
        drawn = [zygote.run("shop:draws")[0].value for _ in range(3)]
    for each in zip(*drawn, strict=True):
        assert len(set(each)) == 3


BROKEN = """
    import django
    from django.conf import settings
    settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "data.sqlite3"}})
    django.setup()
    from django.db import connections
    from rocksyd import job
    def close_all(): raise OSError("no route to the database")
    connections.close_all = close_all

    @job
    def nothing(): pass
"""


def test_a_library_that_cannot_be_made_fit_for_forks_fails_the_loading_by_name(tmp_path: Path) -> None:
    pytest.importorskip("django")
    with Zygote(tmp_path, {"shop": BROKEN}, jobs=("shop",)) as zygote:
        failed = zygote.failed()
    assert failed.reason == "making django.db fit for forks failed: OSError: no route to the database"


def _open_files(pid: int) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]


def _accepted(server: socket.socket) -> int:
    """How many connections wait to be accepted."""
    server.setblocking(False)
    count = 0
    try:
        while True:
            server.accept()[0].close()
            count += 1
    except BlockingIOError:
        return count
