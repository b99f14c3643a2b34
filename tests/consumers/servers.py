"""The servers that the examples of queues are for: Debian's, each on loopback with ports and a folder of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from glob import glob
from pathlib import Path

import pytest

from rocksyd.testing import until
from tests.ports import free_port

ROOT = os.geteuid() == 0


def program(*names: str) -> str:
    """Where the program is; the test is skipped where it is not."""
    for name in names:
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or next(iter(sorted(glob(name))), None)
        if found:
            return found
    pytest.skip(f"{names[0]} is not installed (.ci/run installs it)")


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def folder(user: str = "") -> Iterator[Path]:
    """A folder with a short name, for a server that runs as this user."""
    path = Path(tempfile.mkdtemp(prefix="rocksyd-s-", dir="/tmp"))
    try:
        if user and ROOT:
            shutil.chown(path, user)
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def process(command: Sequence[str], home: Path, ready: Callable[[], object], *, user: str = "", **env: str) -> Iterator[None]:
    """A server from when it is ready until it has ended."""
    as_user = {"user": user, "group": user, "extra_groups": []} if user and ROOT else {}
    with open(home / "log", "wb") as log:
        server = subprocess.Popen(
            command,
            cwd=home,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **env},
            **as_user,
        )  # type: ignore[call-overload]
    try:
        until(lambda: server.poll() is not None or ready(), f"{command[0]} to be ready", 180)
        assert server.poll() is None, (home / "log").read_text(errors="replace")
        yield
    finally:
        server.terminate()
        server.wait(60)


@contextmanager
def redis_server() -> Iterator[str]:
    """Its address."""
    command, port = program("redis-server"), free_port()
    with folder() as home:
        words = (command, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--dir", str(home))
        with process(words, home, lambda: answers(port)):
            yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def postgres_server() -> Iterator[str]:
    """How to connect to it."""
    server, port = program("/usr/lib/postgresql/*/bin/postgres"), free_port()
    with folder("postgres") as home:
        as_user = {"user": "postgres", "group": "postgres", "extra_groups": []} if ROOT else {}
        words = [f"{os.path.dirname(server)}/initdb", "--no-sync", "-A", "trust", "-U", "shop", "-D", f"{home}/data"]
        subprocess.run(words, cwd=home, check=True, capture_output=True, **as_user)  # type: ignore[call-overload]
        words = [server, "-D", f"{home}/data", "-p", str(port), "-h", "127.0.0.1", "-k", str(home), "-c", "fsync=off"]
        asked = [f"{os.path.dirname(server)}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        with process(words, home, lambda: subprocess.run(asked, check=False).returncode == 0, user="postgres"):
            yield f"postgresql://shop@127.0.0.1:{port}/postgres"


@contextmanager
def rabbit_server() -> Iterator[str]:
    """Its address. It needs a name server of Erlang's, which would outlive it: it has one of its own."""
    program("rabbitmq-server")
    server = program("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server")
    names, port, between, epmd = program("epmd"), free_port(), free_port(), free_port()
    with folder() as home:
        env = {
            "HOME": str(home), "RABBITMQ_NODENAME": f"rocksyd{port}@localhost", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port), "RABBITMQ_DIST_PORT": str(between), "RABBITMQ_MNESIA_BASE": f"{home}/data",
            "RABBITMQ_LOG_BASE": f"{home}/logs", "RABBITMQ_LOGS": "-", "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq", "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_CONF_ENV_FILE": f"{home}/env",
            "ERL_EPMD_PORT": str(epmd), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +A 2",
        }  # fmt: skip
        (home / "plugins").write_text("[].\n")
        (home / "env").write_text("")
        (home / "rabbitmq.conf").write_text("loopback_users = none\n")
        names_home = home / "names"
        names_home.mkdir()
        with (
            process((names, "-port", str(epmd), "-address", "127.0.0.1"), names_home, lambda: answers(epmd)),
            process((server,), home, lambda: answers(port), **env),
        ):
            yield f"amqp://guest:guest@127.0.0.1:{port}/%2F"


@contextmanager
def gearman_server() -> Iterator[int]:
    """Its port."""
    command, port = program("gearmand"), free_port()
    with folder() as home:
        words = (command, "--listen", "127.0.0.1", "--port", str(port), "--log-file", "stderr", *(("-u", "root") if ROOT else ()))
        with process(words, home, lambda: answers(port)):
            yield port


@contextmanager
def tarantool_server() -> Iterator[int]:
    """Its port; it has a space ``mail`` with three tuples, and everybody may do everything."""
    command, port = program("tarantool"), free_port()
    with folder() as home:
        (home / "init.lua").write_text(
            f"box.cfg{{work_dir = '{home}', memtx_memory = 33554432}}\n"
            "box.schema.user.grant('guest', 'super', nil, nil, {if_not_exists = true})\n"
            "local mail = box.schema.space.create('mail', {if_not_exists = true})\n"
            "mail:create_index('primary', {if_not_exists = true})\n"
            "for i = 1, 3 do mail:replace{i} end\n"
            f"box.cfg{{listen = '127.0.0.1:{port}'}}\n"
        )
        with process((command, str(home / "init.lua")), home, lambda: answers(port)):
            yield port
